"""What can be set for a run."""

from dataclasses import dataclass

from memory_agent import prompts


@dataclass(kw_only=True)
class Context:
    """Whose memories they are, and how the model is addressed."""

    user_id: str = "default"
    model: str = "scripted/memory"
    system_prompt: str = prompts.SYSTEM_PROMPT
