"""A chat model that needs no provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


class ScriptedChatModel(BaseChatModel):
    """Keeps each part of "remember A; B" by a tool call; else repeats its system prompt."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Callable[..., Any]], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._reply(messages)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, HumanMessage) and last.text.startswith("remember "):
            calls = [
                ToolCall(
                    name="upsert_memory",
                    args={"content": content.strip(), "context": "in conversation"},
                    id=f"call_{len(messages)}_{number}",
                )
                for number, content in enumerate(last.text.removeprefix("remember ").split(";"))
            ]
            return AIMessage("", tool_calls=calls)
        remembered = "I will remember. " if isinstance(last, ToolMessage) else ""
        return AIMessage(remembered + messages[0].text)


def load_chat_model(fully_specified_name: str) -> BaseChatModel:
    """The model of a name such as "scripted/memory"; any other provider is a ValueError."""
    provider, _, _ = fully_specified_name.partition("/")
    if provider != "scripted":
        raise ValueError(f"unknown provider: {provider}")
    return ScriptedChatModel()
