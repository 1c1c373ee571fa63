"""A person in the loop: the run stops at interrupt() and goes on with the person's answer.

The thread must outlive the first run, hence on_completion. The answer holds `__interrupt__` with
the draft, and its Location header names the thread.

    curl -i http://localhost:8000/runs/wait -d '{
      "assistant_id": "approval",
      "input": {"request": "lunch on Friday"},
      "on_completion": "keep"
    }'

Then approve the draft, or have it revised with {"approved": false, "feedback": "friendlier"}:

    curl http://localhost:8000/threads/$THREAD_ID/runs/wait -d '{
      "assistant_id": "approval",
      "command": {"resume": {"approved": true}}
    }'
"""

from typing import Literal, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt


class State(TypedDict, total=False):
    request: str
    feedback: str
    draft: str
    sent: bool


def write(state: State) -> State:
    draft = f"Dear all, I propose {state['request']}."
    if feedback := state.get("feedback"):
        draft += f" (Revised: {feedback})"
    return {"draft": draft, "sent": False}


def approve(state: State) -> Command[Literal["write", "send"]]:
    # On resume this function runs again from the top, and interrupt() returns the answer.
    answer = interrupt({"question": "Send this?", "draft": state["draft"]})
    if answer["approved"]:
        return Command(goto="send")
    return Command(goto="write", update={"feedback": answer.get("feedback", "please improve")})


def send(state: State) -> State:
    return {"sent": True}


builder = StateGraph(State)
builder.add_node(write)
builder.add_node(approve)
builder.add_node(send)
builder.add_edge(START, "write")
builder.add_edge("write", "approve")
graph = builder.compile(name="approval")
