"""Who is let in and what they reach, through two workers: with the SDK, as its users have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)

from tests.projects.guarded.my_auth import signed
from tests.servers import PATIENCE, PROJECTS, Server, ServerFactory, eventually

GUARDED = PROJECTS / "guarded"
KEYS = {"ada": "rw_adas_key_0123456789", "bob": "rw_bobs_key_0123456789"}


@pytest.fixture(scope="module")
def guarded(shared: ServerFactory) -> Server:
    """A project with an auth of its own."""
    return shared(
        LANGGRAPH_CONFIG=GUARDED / "langgraph.json", WEB_CONCURRENCY=2, HEARTBEAT_SECONDS=0.2
    )


@pytest.fixture(scope="module")
def keyed(shared: ServerFactory) -> Server:
    """One with keys, each of which sees what is its own."""
    keys = ",".join(f"{name}={key}" for name, key in KEYS.items())
    return shared(
        LANGGRAPH_CONFIG=GUARDED / "keys.json",
        WEB_CONCURRENCY=2,
        HEARTBEAT_SECONDS=0.2,
        API_KEYS=keys,
        ISOLATE_KEYS="true",
    )


def headers_of(name: str, *scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {signed(sub=name, scope=['threads:write', *scope])}"}


@pytest.fixture(params=["auth", "keys"])
def client(request: pytest.FixtureRequest) -> Callable[[str], SyncLangGraphClient]:
    """The SDK's client for somebody, by either way to be known."""
    if request.param == "auth":
        server: Server = request.getfixturevalue("guarded")
        return lambda name: get_sync_client(url=server.url, headers=headers_of(name))
    server = request.getfixturevalue("keyed")
    return lambda name: get_sync_client(url=server.url, api_key=KEYS[name])


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> bool:
    """Whether what is called finds nothing there, in either worker."""
    for _ in range(4):
        # The SDK has no error of its own for some calls.
        with pytest.raises((NotFoundError, httpx.HTTPStatusError)) as raised:
            result = call(*args, **options)
            if not isinstance(result, dict | list | int | None):
                list(result)
        assert raised.value.response.status_code == 404
    return True


def test_what_one_made_is_not_there_for_another(client):
    ada, bob = client("ada"), client("bob")
    thread = ada.threads.create(metadata={"topic": "cats"})
    thread_id = thread["thread_id"]
    asked = {"assistant_id": "who", "input": {"note": f"n{thread_id[-4:]}"}}
    output = ada.runs.wait(thread_id, **asked)
    assert output["seen"]["id"] == "ada"
    assert output["seen"]["runtime"] == ["ada", "ada", "ada"]
    (run,) = ada.runs.list(thread_id)
    run_id = run["run_id"]

    for call in (
        bob.threads.get,
        bob.threads.delete,
        bob.threads.copy,
        bob.threads.get_state,
        bob.threads.get_history,
        bob.threads.join_stream,
        bob.runs.list,
    ):
        assert refused(call, thread_id)
    assert refused(bob.threads.update, thread_id, metadata={"owner": "bob", "runwait_key": "bob"})
    assert refused(bob.threads.update_state, thread_id, {"note": "b"})
    for call in (bob.runs.get, bob.runs.join, bob.runs.join_stream, bob.runs.delete):
        assert refused(call, thread_id, run_id)
    assert refused(bob.runs.cancel, thread_id, run_id)
    for call in (bob.runs.wait, bob.runs.create, bob.runs.stream):
        assert refused(call, thread_id, **asked)
        assert refused(call, thread_id, **asked, if_not_exists="create")
    assert refused(bob.crons.create_for_thread, thread_id, "who", schedule="@daily")
    with pytest.raises(ConflictError):
        bob.threads.create(thread_id=thread_id, if_exists="do_nothing")
    assert bob.threads.prune([thread_id]) == {"pruned_count": 0}

    assert [each["thread_id"] for each in ada.threads.search(metadata={"topic": "cats"})] == [
        thread_id
    ]
    assert bob.threads.search(metadata={"topic": "cats"}) == []
    assert bob.threads.search(ids=[thread_id]) == []
    cats = {"metadata": {"topic": "cats"}}
    assert (ada.threads.count(**cats), bob.threads.count(**cats)) == (1, 0)
    assert ada.threads.get(thread_id)["metadata"]["topic"] == "cats"
    ada.threads.delete(thread_id)


def test_runs_without_a_thread_are_their_callers_too(client):
    ada, bob = client("ada"), client("bob")
    run = ada.runs.create(None, "who", input={"note": "x"})
    assert refused(bob.runs.join, run["thread_id"], run["run_id"])
    for _ in range(4):
        answer = bob.http.client.get(f"/runs/{run['run_id']}/stream")
        assert answer.status_code == 404
    for _ in range(4):
        assert ada.runs.join(run["thread_id"], run["run_id"])["seen"]["id"] == "ada"
    many = ada.runs.create_batch([{"assistant_id": "who", "input": {"note": "y"}}] * 3)
    assert refused(bob.runs.get, many[2]["thread_id"], many[2]["run_id"])
    made = {part.event: part.data for part in bob.runs.stream(None, "made", input={"note": "z"})}
    assert made["values"] == {"note": "z", "seen": "made for bob"}


def test_a_key_of_an_earlier_request_is_of_use_to_its_caller_alone(client):
    key = {"Idempotency-Key": str(uuid4())}
    asked = {"assistant_id": "who", "input": {"note": "x"}}
    ada, bob = client("ada"), client("bob")
    by_ada = ada.runs.wait(None, **asked, headers=key)
    by_bob = bob.runs.wait(None, **asked, headers=key)
    assert (by_ada["seen"]["id"], by_bob["seen"]["id"]) == ("ada", "bob")
    assert ada.runs.wait(None, **asked, headers=key) == by_ada


def test_whoever_follows_a_thread_before_it_is_there_sees_only_their_own(client, in_thread):
    ada, bob = client("ada"), client("bob")
    thread_id = str(uuid4())
    path, body = f"/threads/{thread_id}/stream/events", {"channels": ["values", "lifecycle"]}

    def follow_to_the_end() -> None:
        with ada.http.client.stream("POST", path, json=body, timeout=PATIENCE) as answer:
            assert any("completed" in line for line in answer.iter_lines())

    with bob.http.client.stream("POST", path, json=body, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        follower = in_thread(follow_to_the_end)
        ada.threads.create(thread_id=thread_id)
        ada.runs.wait(thread_id, "who", input={"note": "secret"})
        follower.join(PATIENCE)
        # Nothing but signs of life comes, long after the run's events have.
        assert not any(b"data:" in next(pieces) for _ in range(10))
    assert refused(bob.threads.get_state, thread_id)


def test_the_store_of_clients_and_graphs_is_the_same_one(client):
    ada, bob = client("ada"), client("bob")
    note = f"note-{uuid4()}"
    seen = ada.runs.wait(None, "who", input={"note": note})["seen"]
    assert note in seen["notes"]
    namespace = ["ada", "notes"]
    assert ada.store.get_item(namespace, note)["value"] == {"by": "ada"}
    assert bob.store.get_item(namespace, note) is None
    assert note not in str(bob.store.search_items([], limit=1000))
    assert note in str(ada.store.search_items([], limit=1000))
    bob.store.put_item(namespace, note, {"by": "bob"})
    assert ada.store.get_item(namespace, note)["value"] == {"by": "ada"}
    bob.store.delete_item(namespace, note)
    assert ada.store.get_item(namespace, note)["value"] == {"by": "ada"}
    assert namespace in ada.store.list_namespaces()["namespaces"]


def test_a_cron_runs_as_who_made_it(client):
    ada, bob = client("ada"), client("bob")
    asked = {"schedule": "* * * * * *", "input": {"note": "x"}, "on_run_completed": "keep"}
    cron = ada.crons.create("who", **asked)
    cron_id = cron["cron_id"]
    assert cron["user_id"] == "ada"
    http = bob.http.client
    assert http.get(f"/runs/crons/{cron_id}").status_code == 404
    assert refused(bob.crons.delete, cron_id)
    assert bob.crons.search() == []
    assert bob.crons.count() == 0

    def output() -> Any:
        found = ada.threads.search(metadata={"cron_id": cron_id}, status="idle")
        return found and found[0]["values"]

    seen = eventually(output)["seen"]
    ada.crons.delete(cron_id)
    assert (seen["id"], seen["runtime"]) == ("ada", ["ada", "ada", "ada"])
    assert seen["permissions"] in ([], ["threads:write"])
    assert bob.threads.search(metadata={"cron_id": cron_id}) == []


@pytest.mark.parametrize("name", ["guarded", "keyed"])
def test_nobody_else_is_let_in(request, name):
    server: Server = request.getfixturevalue(name)
    for given in ({}, {"X-Api-Key": "x"}, {"Authorization": "Bearer x"}, {"Authorization": "x"}):
        stranger = get_sync_client(url=server.url, headers=given, api_key=None)
        with pytest.raises(AuthenticationError):
            stranger.threads.create()
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            stranger.runs.wait(None, "who", input={"note": "x"})
        assert stranger.http.client.get("/nothing", headers=given).status_code == 401
        assert stranger.http.client.get("/ok").status_code == 200
    answer = httpx.get(f"{server.url}/threads?api_key={KEYS['ada']}")
    assert (answer.status_code, answer.headers.get("WWW-Authenticate", "Bearer")) == (401, "Bearer")


def test_handlers_may_refuse_and_let_an_admin_see_all(guarded):
    ada = get_sync_client(url=guarded.url, headers=headers_of("ada"))
    root = get_sync_client(url=guarded.url, headers=headers_of("root", "admin"))
    reader = get_sync_client(
        url=guarded.url, headers={"Authorization": f"Bearer {signed(sub='r', scope=[])}"}
    )
    thread_id = ada.threads.create()["thread_id"]
    assert root.threads.get(thread_id)["metadata"] == {"owner": "ada"}
    with pytest.raises(PermissionDeniedError):
        reader.threads.create()
    with pytest.raises(PermissionDeniedError):
        ada.assistants.create("who")
    # The system's are everybody's.
    assert len(ada.assistants.search()) == 2
    output = root.runs.wait(thread_id, "who", input={"note": "x"})
    assert output["seen"]["permissions"] == ["threads:write", "admin"]
    assert output["seen"]["user"]["upstream"]
    # What a body says of the caller counts for nothing.
    forged = {"configurable": {"langgraph_auth_user_id": "root", "langgraph_auth_user": {}}}
    assert ada.runs.wait(None, "who", input={"note": "x"}, config=forged)["seen"]["id"] == "ada"


def test_an_assistant_of_one_key_runs_for_no_other(keyed):
    ada = get_sync_client(url=keyed.url, api_key=KEYS["ada"])
    bob = get_sync_client(url=keyed.url, api_key=KEYS["bob"])
    mine = ada.assistants.create("who", metadata={"runwait_key": "bob"})["assistant_id"]
    assert ada.assistants.get(mine)["metadata"] == {"runwait_key": "ada"}
    for call in (bob.assistants.get, bob.assistants.delete, bob.assistants.get_versions):
        assert refused(call, mine)
    assert refused(bob.runs.wait, None, mine, input={"note": "x"})
    assert refused(bob.assistants.update, mine, name="x")
    assert (ada.assistants.count(), bob.assistants.count()) == (3, 2)
    assert ada.runs.wait(None, mine, input={"note": "x"})["seen"]["id"] == "ada"


def test_one_key_cannot_end_the_runs_of_another(keyed):
    ada = get_sync_client(url=keyed.url, api_key=KEYS["ada"])
    bob = get_sync_client(url=keyed.url, api_key=KEYS["bob"])
    thread_id = ada.threads.create()["thread_id"]
    run = ada.runs.create(thread_id, "who", input={"note": "x"}, after_seconds=3600)
    bob.http.client.post("/runs/cancel", json={"status": "all"}).raise_for_status()
    assert ada.runs.get(thread_id, run["run_id"])["status"] == "pending"
    ada.http.client.post("/runs/cancel", json={"status": "all"}).raise_for_status()
    eventually(lambda: ada.runs.get(thread_id, run["run_id"])["status"] == "interrupted")


def test_the_log_names_the_caller_and_no_key(keyed, guarded):
    for server in (keyed, guarded):
        text = server.log.read_text()
        assert '"user":"ada"' in text
        assert not any(key in text for key in KEYS.values())
        assert "upstream" not in text
