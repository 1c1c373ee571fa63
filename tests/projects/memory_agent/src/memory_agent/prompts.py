"""The prompts that the context begins with."""

SYSTEM_PROMPT = "You are {name}. You know: {user_info}"
