"""The prompts that the context begins with."""

SYSTEM_PROMPT = "You search before you answer. It is {system_time}."
