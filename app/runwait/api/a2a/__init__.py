"""/a2a/{assistant}: assistants as agents of others, by the Agent2Agent protocol over JSON-RPC.

A context is a thread, a task is what one message began (`tasks`). Two versions of the protocol
share the path, and the name of the method tells which one a client speaks (`dialects`). Answers
that take their time follow the run (`answers`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, g, request

from runwait.api import current, fields, jsonrpc, openapi
from runwait.api.a2a import dialects
from runwait.api.a2a.answers import Updates, Waiting, Whole
from runwait.api.a2a.dialects import NEW, OLD, Data, Dialect, Json, Message, Task, Text, wrong
from runwait.api.a2a.tasks import AGENT, MESSAGE, SAID, TASK, WITHDRAWN, TaskRuns, Tasks
from runwait.api.answers import answer
from runwait.api.auth import authorize, permit_assistant, permit_thread
from runwait.api.edge import here
from runwait.api.errors import InvalidRequest, problems
from runwait.api.jsonrpc import Call, RpcError
from runwait.api.operation import Answer, operation
from runwait.api.request import said_by_headers
from runwait.api.schemas import Texts
from runwait.api.stream import pause
from runwait.assistants.tools import INPUT, Tool
from runwait.graphs.assistants import Assistant
from runwait.runs.events import RunNotFound
from runwait.runs.request import RunRequest
from runwait.runs.resume import NothingToResume
from runwait.storage.records import now
from runwait.storage.threads import ThreadBusy, ThreadNotFound

# How long a client may take a card for current, in seconds.
CARD_SECONDS = 60
# Tasks on a page of a list.
PAGE, LARGEST_PAGE = 50, 100

blueprint = Blueprint("a2a", __name__)

ANSWERED = Answer(
    "The JSON-RPC answer; server-sent events with one each, where the method streams.",
    {"type": "object", "description": "A JSON-RPC result or error."},
)
CARD = Answer(
    "The card.",
    {"type": "object", "description": "An agent card of the Agent2Agent protocol."},
    headers={"ETag": "Tells this card from others.", "Cache-Control": "How long it is current."},
)


class CardQuery(Texts):
    """Whose card is meant."""

    assistant_id = fields.text(
        load_default=None,
        about="An assistant's UUID or a graph's name; may be left out where there is one graph.",
        example="chat",
    )


@blueprint.get("/.well-known/agent-card.json")
@operation(query=CardQuery(), gives=CARD, refuses=[HTTPStatus.NOT_FOUND])
def find_card(assistant_id: str | None) -> Response:
    """The card of an agent: what it can do, and where it is asked."""
    system = current.service().assistants.system
    if assistant_id is None:
        if len(system) != 1:
            raise InvalidRequest("assistant_id: is required where there are several graphs")
        assistant_id = system[0].assistant_id
    return _card(assistant_id)


@blueprint.get("/a2a/<assistant_id>/.well-known/agent-card.json")
@operation(gives=CARD, refuses=[HTTPStatus.NOT_FOUND])
def card(assistant_id: str) -> Response:
    """The card of this agent: what it can do, and where it is asked."""
    return _card(assistant_id)


@blueprint.post("/a2a/<assistant_id>", strict_slashes=False)
@operation(gives=ANSWERED)
def post(assistant_id: str) -> Response:
    """Answer one request."""
    response = jsonrpc.serve(partial(_answer, assistant_id))
    # Clients look at the body alone.
    response.status_code = HTTPStatus.OK
    return response


def _answer(assistant_id: str, asked: Call) -> Response:
    dialects.check_version(request.headers.get("A2A-Version") or request.args.get("A2A-Version"))
    if asked.method not in _METHODS:
        raise RpcError(jsonrpc.METHOD_NOT_FOUND, f"method {asked.method!r} not found")
    dialect, method = _METHODS[asked.method]
    asked = replace(asked, params=dialect.params(asked.params))
    try:
        return method(_agent(assistant_id), asked, dialect)
    except (ThreadBusy, NothingToResume):
        text = "the task was answered meanwhile, or is at work"
        raise dialects.refusal(dialects.UNSUPPORTED, text) from None


def _agent(assistant_id: str) -> _Agent:
    """An agent, which may not be there for the caller.

    Raises:
        AssistantNotFound, UnknownGraph: it is not.
        Refused, AuthFailed, AuthBusy.
    """
    permit_assistant("read", assistant_id)
    return _Agent(current.service().assistants.resolve(assistant_id))


class _Agent:
    """An assistant, and its tasks."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.service = current.service()
        self.tasks = Tasks(self.service, assistant.assistant_id)
        self._tool = Tool("", assistant)

    @property
    def takes_text(self) -> bool:
        """Whether its graph's input has messages."""
        schemas = self.service.tools.schemas(self._tool)
        return not schemas.wraps_input and "messages" in schemas.input.get("properties", {})

    def input(self, message: Message) -> Any:
        """A graph's input, of a message that begins a task.

        Raises:
            RpcError: it does not fit the graph.
        """
        texts = [each.text for each in message.parts if isinstance(each, Text)]
        given = _data(message)
        if texts:
            if not self.takes_text:
                raise wrong("message.parts: the graph takes data, and no text")
            if not isinstance(given or {}, dict):
                raise wrong("message.parts: beside text, data must be an object")
            earlier = (given or {}).get("messages", [])
            if not isinstance(earlier, list):
                raise wrong("message.parts: data.messages must be a list")
            said = {"role": "user", "content": "\n".join(texts), "id": message.message_id}
            given = {**(given or {}), "messages": [*earlier, said]}
        wraps = self.service.tools.schemas(self._tool).wraps_input
        if not wraps and not isinstance(given, dict):
            raise wrong("message.parts: data must be an object")
        arguments = {INPUT: given} if wraps else given
        if found := self.service.tools.problems(self._tool, arguments):
            raise wrong(problems([(f"message.parts: {path}", text) for path, text in found]))
        return given

    def going_on(self, message: Message, found: TaskRuns) -> Json:
        """What the run is asked that goes on with a task, of a message."""
        texts = [each.text for each in message.parts if isinstance(each, Text)]
        given = _data(message)
        if texts and len(texts) < len(message.parts):
            raise wrong("message.parts: an answer is text or data, not both")
        waiting = self.service.waiting_on(found.latest.thread_id, self.assistant.assistant_id)
        ids = {each.id for each in waiting}
        if not ids:
            return _past_breakpoint(texts, given)
        if len(ids) > 1 and not (isinstance(given, dict) and given and given.keys() <= ids):
            raise wrong(f"message.parts: must be data with answers by their ids: {sorted(ids)}")
        if not texts and given is None:
            raise wrong("message.parts: an answer must not be null")
        return {"command": {"resume": "\n".join(texts) if texts else given}}

    def request(self, message: Message, found: TaskRuns | None, **asked: Any) -> RunRequest:
        """The run that a message asks for."""
        agent = self.assistant.assistant_id
        metadata = {AGENT: agent, MESSAGE: message.message_id}
        thread_id = message.context_id
        if found is not None:
            metadata[TASK] = found.task_id
            thread_id = found.latest.thread_id
            asked |= {**self.going_on(message, found), "multitask_strategy": "reject"}
            if "command" not in asked:
                metadata[SAID] = message.text
        else:
            asked["input"] = self.input(message)
        if thread_id is not None:
            self._mark(thread_id)
        return RunRequest(
            assistant_id=agent,
            thread_id=thread_id,
            metadata=metadata,
            if_not_exists="create",
            on_completion="keep",
            **said_by_headers(),
            **asked,
        )

    def _mark(self, thread_id: str) -> None:
        """Have a thread that is there already found among the contexts of this agent."""
        try:
            permit_thread("read", thread_id)
            metadata = self.service.threads.get(thread_id)["metadata"]
            if metadata.get(AGENT) != self.assistant.assistant_id:
                mark = {AGENT: self.assistant.assistant_id}
                self.service.threads.patch(thread_id, metadata=mark, minimal=True)
        except ThreadNotFound:
            return  # it is made with the run's metadata, or refused


def _past_breakpoint(texts: Sequence[str], given: Any) -> Json:
    """What the run is asked that goes on where a graph stopped at a breakpoint.

    What a text says is not the graph's: between a model's call of a tool and that, a message of a
    user would fit nowhere.
    """
    if texts or given in (None, {}):
        return {"input": None}
    if not isinstance(given, dict):
        raise wrong("message.parts: data must be an object, which is laid over the graph's state")
    return {"command": {"update": given}}


def _data(message: Message) -> Any:
    """What the data of a message comes to: that of one part, or the objects of all laid together.

    Raises:
        RpcError: they cannot be.
    """
    given = [each.data for each in message.parts if isinstance(each, Data)]
    if len(given) < 2:
        return given[0] if given else None
    if not all(isinstance(each, dict) for each in given):
        raise wrong("message.parts: the data of several parts must be objects")
    return {name: value for each in given for name, value in each.items()}


def _send(agent: _Agent, asked: Call, dialect: Dialect, *, streams: bool = False) -> Response:
    """Answer a message: with the task at its end, at once, or with its events."""
    message = dialect.read(asked.params.get("message"))
    configuration = asked.params.get("configuration") or {}
    if not isinstance(configuration, dict):
        raise wrong("configuration: must be an object")
    if configuration.keys() & {"pushNotificationConfig", "taskPushNotificationConfig"}:
        raise dialects.refusal(dialects.NO_PUSH, "push notifications are not supported")
    history = dialects.number(configuration, "historyLength", 0)
    at_once = dialect.returns_at_once(configuration)
    found = _answered(agent, message) if message.task_id is not None else None
    # Whoever comes to a stream later is told all of it.
    events: Json = {"stream_mode": ["messages-tuple"], "stream_resumable": True}
    run = agent.request(message, found, **(events if streams or at_once else {}))
    if at_once and not streams:
        (_, run_id), _, _ = agent.service.start_in_background(run)
        task = agent.tasks.task(agent.tasks.find(found.task_id if found else run_id))
        return asked.result(dialect.sent(dialect.task(task, history)))
    follower, _ = agent.service.stream(run) if streams else agent.service.wait(run)
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    task_id = found.task_id if found else follower.run_id
    if not streams:
        conclude = partial(_sent, agent.tasks, task_id, dialect, history)
        return Whole(follower, pause(), asked.id, agent.service, conclude).response({})
    # As it was before anything happened: all that did comes as events.
    before = agent.tasks.task(found).history if found else ()
    task = Task(
        task_id=task_id,
        context_id=follower.thread_id,
        state="submitted",
        at=now(),
        run_id=follower.run_id,
        history=[*before, (message.message_id, message.parts)],
    )
    body = Updates(follower, pause(), asked.id, agent.service, agent.tasks, dialect, task, history)
    return body.response({})


def _answered(agent: _Agent, message: Message) -> TaskRuns:
    """The task that a message goes on with.

    Raises:
        RpcError: there is no such task, or it takes no message.
    """
    found = _permitted(agent, message.task_id)
    if message.context_id not in (None, found.latest.thread_id):
        raise wrong("message.contextId: is not that of the task")
    state = agent.tasks.task(found).state
    if state != "input-required":
        text = f"task {found.task_id} is {state}; only one that requires input takes a message"
        raise dialects.refusal(dialects.UNSUPPORTED, text)
    return found


def _sent(tasks: Tasks, task_id: str, dialect: Dialect, history: int | None) -> Json:
    return dialect.sent(dialect.task(tasks.task(tasks.find(task_id)), history))


def _get(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    history = dialects.number(asked.params, "historyLength", 0)
    task = agent.tasks.task(_found(agent, asked))
    return asked.result(dialect.task(task, history))


def _found(agent: _Agent, asked: Call) -> TaskRuns:
    task_id = asked.params.get("id")
    if not isinstance(task_id, str) or not task_id:
        raise wrong("id: must be a string that is not empty")
    return _permitted(agent, task_id)


def _permitted(agent: _Agent, task_id: Any) -> TaskRuns:
    """A task, which may not be there for the caller.

    Raises:
        RpcError: it is not.
        Refused, AuthFailed, AuthBusy.
    """
    found = agent.tasks.find(task_id)
    try:
        permit_thread("read", found.latest.thread_id)
    except ThreadNotFound:
        raise dialects.unknown_task(task_id) from None
    return found


def _cancel(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    """Stop a task; answered once it is."""
    found = _found(agent, asked)
    latest, task = found.latest, agent.tasks.task(found)
    try:
        permit_thread("update", latest.thread_id, action="interrupt")
    except ThreadNotFound:
        raise dialects.unknown_task(found.task_id) from None
    if task.is_over:
        raise _not_cancelable(task)
    service = agent.service
    conclude = partial(_cancelled, agent.tasks, found.task_id, dialect)
    if task.state == "input-required":
        withdrawn = {WITHDRAWN: latest.run_id}
        service.threads.patch(latest.thread_id, metadata=withdrawn, minimal=True)
        service.threads.tell(latest.thread_id)
        return asked.result(conclude())
    follower = service.join(latest.thread_id, latest.run_id)
    try:
        service.cancel(latest.thread_id, latest.run_id, "interrupt")
    except RunNotFound:
        pass  # it has just ended: its state says how
    except BaseException:
        follower.close()
        raise
    return Whole(follower, pause(), asked.id, service, conclude).response({})


def _cancelled(tasks: Tasks, task_id: str, dialect: Dialect) -> Json:
    task = tasks.task(tasks.find(task_id))
    if task.state != "canceled":
        raise _not_cancelable(task)
    return dialect.task(task)


def _not_cancelable(task: Task) -> RpcError:
    return dialects.refusal(dialects.NOT_CANCELABLE, f"task {task.task_id} is {task.state} already")


def _subscribe(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    """Answer with the events of a task that is at work."""
    found = _found(agent, asked)
    latest, task = found.latest, agent.tasks.task(found)
    if task.is_over:
        text = f"task {found.task_id} is {task.state}; there is nothing to come of it"
        raise dialects.refusal(dialects.UNSUPPORTED, text)
    if task.state == "input-required":
        return _wait_for_answer(agent, asked, dialect, found)
    follower = agent.service.join_stream(latest.thread_id, latest.run_id, (0, 0))
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    body = Updates(follower, pause(), asked.id, agent.service, agent.tasks, dialect, task)
    return body.response({})


def _wait_for_answer(agent: _Agent, asked: Call, dialect: Dialect, found: TaskRuns) -> Response:
    """Answer with a task that requires input, and what comes of it once somebody gives that."""
    thread_id = found.latest.thread_id
    filters = authorize("threads", "read", {"thread_id": UUID(thread_id)})
    follower = agent.service.stream_thread(thread_id, None, filters)
    try:
        # It may have been answered before it was followed.
        task = agent.tasks.task(agent.tasks.find(found.task_id))
    except BaseException:
        follower.close()
        raise
    if task.state != "input-required":
        follower.close()
        return _subscribe(agent, asked, dialect)
    g.thread_id = thread_id
    body = Waiting(follower, pause(), asked.id, agent.service, agent.tasks, dialect, task)
    return body.response({})


def _list(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    """A page of the tasks that match, those first that changed last."""
    params = asked.params
    context_id = dialects.text(params, "contextId")
    size = dialects.number(params, "pageSize", 1, LARGEST_PAGE) or PAGE
    history = dialects.number(params, "historyLength", 0)
    wants_artifacts = params.get("includeArtifacts", False)
    if not isinstance(wants_artifacts, bool):
        raise wrong("includeArtifacts: must be true or false")
    status = params.get("status")
    state = dialect.state_of(status) if status not in (None, "", _UNSPECIFIED) else None
    since = dialects.time(params, "statusTimestampAfter")
    before = _place(params.get("pageToken"))
    shown: Json = {"metadata": {}}
    filters = authorize("threads", "search", shown) or {}
    tasks = agent.tasks
    found = sorted(
        (each.latest.updated_at, each.task_id, place, each)
        for place, each in enumerate(tasks.all(context_id, {**shown["metadata"], **filters}))
    )[::-1]
    matching = [
        each
        for each in found
        if (since is None or dialects.instant(each[0]) >= since)
        and (state is None or tasks.state(each[3]) == state)
    ]
    left = [each for each in matching if before is None or each[:2] < before]
    page = left[:size]
    following = _token(*page[-1][:2]) if len(left) > size else ""
    return asked.result(
        {
            "tasks": [
                dialect.task(tasks.task(each[3]), history, artifacts=wants_artifacts)
                for each in page
            ],
            "nextPageToken": following,
            "pageSize": size,
            "totalSize": len(matching),
        },
    )


def _token(at: str, task_id: str) -> str:
    """Says where the next page begins."""
    return base64.urlsafe_b64encode(json.dumps([at, task_id]).encode()).decode()


def _place(token: Any) -> tuple[str, str] | None:
    """Where a page begins.

    Raises:
        RpcError: no list was answered with such a token.
    """
    if token in (None, ""):
        return None
    try:
        at, task_id = json.loads(base64.urlsafe_b64decode(str(token)))
        if not (isinstance(at, str) and isinstance(task_id, str)):
            raise ValueError(token)
    except (binascii.Error, ValueError, TypeError):
        raise wrong("pageToken: must be one that a list was answered with") from None
    return at, task_id


def _push(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    raise dialects.refusal(dialects.NO_PUSH, "push notifications are not supported")


def _extended_card(agent: _Agent, asked: Call, dialect: Dialect) -> Response:
    code = dialects.UNSUPPORTED if dialect is NEW else dialects.NO_EXTENDED_CARD
    raise dialects.refusal(code, "there is no extended card")


_Method = Callable[[_Agent, Call, Dialect], Response]
_stream: _Method = partial(_send, streams=True)
_METHODS: dict[str, tuple[Dialect, _Method]] = {
    "SendMessage": (NEW, _send),
    "SendStreamingMessage": (NEW, _stream),
    "GetTask": (NEW, _get),
    "ListTasks": (NEW, _list),
    "CancelTask": (NEW, _cancel),
    "SubscribeToTask": (NEW, _subscribe),
    "GetExtendedAgentCard": (NEW, _extended_card),
    "message/send": (OLD, _send),
    "message/stream": (OLD, _stream),
    "tasks/get": (OLD, _get),
    "tasks/cancel": (OLD, _cancel),
    "tasks/resubscribe": (OLD, _subscribe),
    "agent/getAuthenticatedExtendedCard": (OLD, _extended_card),
    **{
        f"{verb}TaskPushNotificationConfig{'s' * (verb == 'List')}": (NEW, _push)
        for verb in ("Create", "Get", "List", "Delete")
    },
    **{
        f"tasks/pushNotificationConfig/{verb}": (OLD, _push)
        for verb in ("set", "get", "list", "delete")
    },
}
_UNSPECIFIED = "TASK_STATE_UNSPECIFIED"


def _card(assistant_id: str) -> Response:
    agent = _agent(assistant_id)
    assistant = agent.assistant
    settings = current.settings()
    root = (settings.public_url or request.host_url).rstrip("/")
    url = f"{root}{here(f'/a2a/{assistant.assistant_id}')}"
    name = assistant.name or assistant.graph_id
    about = assistant.description or f"Runs the graph {assistant.graph_id}"
    inputs = (["text/plain"] if agent.takes_text else []) + ["application/json"]
    skill = {
        "id": assistant.graph_id,
        "name": name,
        "description": about,
        "tags": [assistant.graph_id],
    }
    shown = {
        "name": name,
        "description": about,
        "version": str(assistant.version),
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": each.version}
            for each in (NEW, OLD)
        ],
        # The same, where clients of the version before look for it.
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": inputs,
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [skill],
        **dialects.known_by(openapi.guard()),
    }
    response = answer(shown)
    # Whoever keeps it for several must not: it may depend on who asks.
    response.cache_control.private = True
    response.cache_control.max_age = CARD_SECONDS
    response.add_etag()
    response.make_conditional(request)
    return response
