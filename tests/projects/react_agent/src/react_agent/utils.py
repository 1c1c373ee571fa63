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
    """Answers by rule: "search X" and "which model" call tools, "search on" never stops."""

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
        question = next(m.text for m in reversed(messages) if isinstance(m, HumanMessage))
        last = messages[-1]
        if isinstance(last, ToolMessage) and question != "search on":
            return AIMessage(f"I found {last.text}")
        call_id = f"call_{len(messages)}"
        if question.startswith("search "):
            args = {"query": question.removeprefix("search ")}
            return AIMessage("", tool_calls=[ToolCall(name="search", args=args, id=call_id)])
        if question == "which model":
            return AIMessage("", tool_calls=[ToolCall(name="name_model", args={}, id=call_id)])
        return AIMessage(f"{messages[0].text} You said: {question}")


def load_chat_model(fully_specified_name: str) -> BaseChatModel:
    """The model of a name such as "scripted/librarian"; any other provider is a ValueError."""
    provider, _, _ = fully_specified_name.partition("/")
    if provider != "scripted":
        raise ValueError(f"unknown provider: {provider}")
    return ScriptedChatModel()
