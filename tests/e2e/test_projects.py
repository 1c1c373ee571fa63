"""Projects as users have them, served as they are; and those that cannot be served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.calls import output
from tests.servers import (
    PATIENCE,
    PROJECTS,
    ROOT,
    RedisServer,
    Server,
    ServerFactory,
    eventually,
)


def config_of(project: str) -> str:
    return str(PROJECTS / project / "langgraph.json")


def said(message: str) -> dict[str, Any]:
    """An input in which the user says something."""
    return {"messages": [{"role": "user", "content": message}]}


def last(answer: Any) -> str:
    """The last thing that was said."""
    text: str = answer["messages"][-1]["content"]
    return text


class TestTemplates:
    """Each is shaped like one of LangGraph's templates, async nodes, src layout, .env and all."""

    def test_new_langgraph_project(self, serve: ServerFactory, valkey: RedisServer) -> None:
        config = config_of("new_langgraph_project")
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=1)
        assert output(server, "agent", context={"my_configurable_param": "blue"}) == {
            "changeme": "example, set to blue",
            "greeting": "hello from .env",
        }
        configurable = {"configurable": {"my_configurable_param": "red", "other": 1}}
        answer = output(server, "agent", input={"changeme": "mine"}, config=configurable)
        assert answer["changeme"] == "mine, set to red"
        assert output(server, "agent")["changeme"] == "example, set to None"

    def test_react_agent(self, serve: ServerFactory, valkey: RedisServer) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config_of("react_agent"))
        answer = output(server, "agent", input=said("search Rome"))
        kinds = [message["type"] for message in answer["messages"]]
        assert kinds == ["human", "ai", "tool", "ai"]
        (call,) = answer["messages"][1]["tool_calls"]
        assert (call["name"], call["args"]) == ("search", {"query": "Rome"})
        # As many as the .env file says.
        assert last(answer) == 'I found ["an atlas of Rome", "a history of Rome"]'
        context = {"max_search_results": 1, "system_prompt": "Be brief."}
        answer = output(server, "agent", input=said("search Rome"), context=context)
        assert last(answer) == 'I found ["an atlas of Rome"]'
        answer = output(server, "agent", input=said("hello"), context=context)
        assert last(answer) == "Be brief. You said: hello"
        limited = {"recursion_limit": 4}
        answer = output(server, "agent", input=said("search on"), config=limited)
        assert last(answer) == "I ran out of steps."
        error = output(server, "agent", input=said("hi"), context={"model": "gpt/5"})["__error__"]
        assert error == {"error": "ValueError", "message": "unknown provider: gpt"}

    def test_memory_agent(self, serve: ServerFactory, valkey: RedisServer) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config_of("memory_agent"))
        answer = output(
            server, "agent", input=said("remember likes tea; is tall"), context={"user_id": "ada"}
        )
        assert [message["type"] for message in answer["messages"]] == (
            ["human", "ai", "tool", "tool", "ai"]
        )
        remembered = "I will remember. You are Mnemosyne. You know: is tall; likes tea"
        assert last(answer) == remembered
        answer = output(server, "agent", input=said("hello"), context={"user_id": "bob"})
        assert last(answer) == "You are Mnemosyne. You know: nothing"


class TestKindsOfGraphs:
    @pytest.mark.parametrize(
        ("graph", "given", "expected"),
        [
            ("echo", {"value": 1}, {"value": 1}),
            ("uncompiled", {"value": 1}, {"value": 1}),
            ("lambda_only_async", {"value": 1}, {"value": 1}),
            ("two_nodes", {}, {"names": ["first", "second"], "value": 1}),
            ("subgraph", {}, {"names": ["first", "third"], "value": 1}),
            ("entry", [1, 2], [1, 2]),
            ("aentry", [1, 2], [1, 2]),
            ("none_output", [1, 2], {}),
            ("no_update", {}, {}),
            ("no_update", {"value": 1}, {"value": 1}),
            ("async_branch", {"value": "left"}, {"value": "left", "names": ["start", "left"]}),
            ("async_branch", {}, {"names": ["start", "right"]}),
            ("factory", {}, {"value": "made"}),
            ("factory_async", {}, {"value": "made"}),
            ("steps_sync", {"n": 3}, {"n": 3, "steps": [1, 2, 3]}),
            ("steps_async", {"n": 3}, {"n": 3, "steps": [1, 2, 3]}),
        ],
    )
    def test_answer_with_their_output(
        self, zoo: Server, graph: str, given: Any, expected: Any
    ) -> None:
        assert output(zoo, graph, input=given) == expected

    def test_may_have_tools_that_are_only_coroutines(self, zoo: Server) -> None:
        answer = output(zoo, "mcp_like", input=said("hi"))
        assert [message["type"] for message in answer["messages"]] == ["human", "ai", "tool", "ai"]
        assert last(answer) == "The tool said HI"

    def test_may_be_made_for_each_run_from_its_config_and_its_runtime(self, zoo: Server) -> None:
        config = {"configurable": {"flavour": "mint"}}
        assert output(zoo, "factory_config", config=config) == {"value": "mint"}
        assert output(zoo, "factory_config") == {"value": None}
        facts = {
            "access_context": "threads.create_run",
            "context": {"flavour": "mint"},
            "has_store": True,
            "user": None,
        }
        assert output(zoo, "factory_runtime", context={"flavour": "mint"}) == {"value": facts}
        both = {"flavour": "mint", **facts}
        assert output(zoo, "factory_both", config=config) == {"value": both}

    @pytest.mark.parametrize("graph", ["factory_cm", "factory_cm_sync"])
    def test_may_be_made_by_a_context_manager_that_is_left_however_the_run_ends(
        self, zoo: Server, graph: str
    ) -> None:
        # Failures among them; and on connections of their own, so that both workers get some.
        for value in ["fail", None, None] * 4:
            body = {"assistant_id": graph, "input": {"value": value}}
            answer = httpx.post(f"{zoo.url}/runs/wait", json=body, timeout=PATIENCE).json()
            if value is None:
                earlier, now = answer["value"][:-1], answer["value"][-1]
                assert earlier == ["enter", "exit"] * (len(earlier) // 2)
                assert now == "enter"
            else:
                assert answer["__error__"]["message"] == "no luck"

    def test_have_a_checkpointer_for_the_run_where_a_subgraph_asks_for_one(
        self, zoo: Server
    ) -> None:
        assert [output(zoo, "ckpt_true_subgraph") for _ in range(3)] == [{"visits": 1}] * 3

    def test_do_not_use_what_is_compiled_into_them(self, zoo: Server) -> None:
        expected = {"turns": 1, "found": False}
        assert [output(zoo, "compiled_with_saver") for _ in range(3)] == [expected] * 3

    def test_have_a_store_for_the_run(self, zoo: Server) -> None:
        answer = output(zoo, "memory", input={"user": "ada", "fact": "likes tea"})
        assert answer["facts"] == ["likes tea"]

    @pytest.mark.parametrize("graph", ["context_leak", "context_leak_async"])
    def test_leave_no_context_variables_to_the_next_run(self, zoo: Server, graph: str) -> None:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: output(zoo, graph)["found"], range(40)))
        assert found == ["clean"] * 40
        assert [output(zoo, graph)["found"] for _ in range(10)] == ["clean"] * 10

    def test_that_exit_or_cancel_themselves_do_not_harm_the_worker(self, zoo: Server) -> None:
        workers = zoo.workers()
        bad = ["exits", "exits_async", "cancels_itself", "fails", "fails_async"] * 4
        with ThreadPoolExecutor(8) as pool:
            asleep = [
                pool.submit(output, zoo, graph, input={"seconds": 0.5})
                for graph in ("sleep_sync", "sleep_async")
            ]
            answers = list(pool.map(lambda graph: output(zoo, graph), bad))
        assert all("__error__" in answer for answer in answers)
        # Neither do they harm the other runs of the same loop and pool.
        assert [each.result()["done"] for each in asleep] == [True, True]
        assert zoo.workers() == workers


def stopped(server: Server) -> list[str]:
    """What a server that does not start says, line by line."""
    assert server.process is not None
    assert server.process.wait(PATIENCE) != 0
    return server.log.read_text().splitlines()


FLOW = """\
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    text: str

graph = StateGraph(State).add_node("n", lambda _: {"text": "one"}).add_edge(START, "n").compile()
"""


def project(folder: Path, text: str) -> str:
    """A project of one file; the path of its langgraph.json."""
    # Python takes what it has compiled for the same, if only so much as a second lies in between.
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / "flow.py").write_text(text)
    config = folder / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"flow": "./flow.py:graph"}}')
    return str(config)


class TestStart:
    def test_says_once_what_is_served_and_where_when_it_is(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        config = project(tmp_path, FLOW)
        server = serve(started=False, REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config)
        eventually(lambda: server.logged("serving "))
        [line] = [each for each in server.log.read_text().splitlines() if "serving " in each]
        message = json.loads(line)["message"]
        assert message == f"serving flow of {config} at http://localhost:{server.port}"
        assert httpx.get(f"{message.split()[-1]}/ok", timeout=PATIENCE).json() == {"ok": True}
        eventually(server.is_up)
        lines = server.log.read_text().splitlines()
        said = [
            {name: value for name, value in json.loads(each).items() if name != "time"}
            for each in lines
        ]
        assert all(said.count(each) == 1 for each in said)
        assert not server.logged("http://0.0.0.0")

    def test_at_a_port_in_use_ends_with_one_line(
        self, serve: ServerFactory, valkey: RedisServer
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            server = serve(started=False, REDIS_URL=valkey.url, PORT=port, HOST="127.0.0.1")
            [line] = stopped(server)
            assert line.startswith(f"runwait: 127.0.0.1:{port}: Address already in use; ")


LIVES = """
import pathlib

log = pathlib.Path(__file__).with_name("log")

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": log.read_bytes()})
        return
    if log.exists():
        await send({"type": "lifespan.startup.failed"})
        raise OSError("it was here before")
    for said in ("startup", "shutdown"):
        await receive()
        with log.open("a") as file:
            file.write(said + " ")
        await send({"type": f"lifespan.{said}.complete"})
"""


class TestLifespan:
    def test_of_an_asgi_app_is_the_workers(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        (tmp_path / "lives.py").write_text(LIVES)
        config = Path(project(tmp_path, FLOW))
        config.write_text(
            json.dumps({**json.loads(config.read_text()), "http": {"app": "./lives.py:app"}})
        )
        settings = {"REDIS_URL": valkey.url, "LANGGRAPH_CONFIG": config, "WEB_CONCURRENCY": 1}
        server = serve(**settings)
        assert server.http.get("/own").text == "startup "
        assert server.stop() == 0
        assert (tmp_path / "log").read_text() == "startup shutdown "
        lines = stopped(serve(started=False, **settings))
        reason = "its lifespan raised OSError: it was here before"
        assert [each for each in lines if each.startswith("runwait: ")] == [
            f"runwait: {config}: http.app: {reason}"
        ]


class TestGraphsThatDoNotLoad:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("import nonsense_that_nobody_has", "nonsense_that_nobody_has"),
            ("other = 1", "graph"),
        ],
        ids=lambda text: text[:12],
    )
    def test_stop_the_start_with_their_name_the_file_and_the_reason(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path, text: str, reason: str
    ) -> None:
        (tmp_path / "broken.py").write_text(text)
        config = tmp_path / "langgraph.json"
        graphs = {"graphs": {"bad_one": "./broken.py:graph"}, "dependencies": ["."]}
        config.write_text(json.dumps(graphs))
        lines = stopped(serve(started=False, REDIS_URL=valkey.url, LANGGRAPH_CONFIG=str(config)))
        told = [line for line in lines if line.startswith("runwait: ")]
        assert len(told) == 1
        for word in ("bad_one", str(tmp_path / "broken.py"), reason):
            assert word in told[0]
        assert not any("Traceback" in line for line in lines)

    def test_stop_the_start_in_one_process_after_the_other(
        self, serve: ServerFactory, tmp_path: Path
    ) -> None:
        """However long after the first another process finds that it cannot start either."""
        (tmp_path / "broken.py").write_text(
            "import signal, sys, time\n"
            "try:\n"
            "    open(__file__ + '.first', 'x').close()\n"
            "except FileExistsError:\n"
            "    told = []  # by the master, which has found that the first could not start\n"
            "    signal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
            "    while not told:\n"
            "        time.sleep(0.01)\n"
            "graph = 1 / 0\n"
        )
        config = tmp_path / "langgraph.json"
        graphs = {"graphs": {"bad_one": "./broken.py:graph"}, "dependencies": ["."]}
        config.write_text(json.dumps(graphs))
        server = serve(started=False, LANGGRAPH_CONFIG=str(config))
        lines = stopped(server)
        assert len([line for line in lines if line.startswith("runwait: ")]) == 1
        assert not any("Traceback" in line for line in lines)
        # The embedded server was ended, too.
        log = (Path(server.environment["DATA_DIR"]) / "valkey.log").read_text()
        assert "bye bye" in log

    @pytest.mark.parametrize("level", ["INFO", "DEBUG"])
    def test_are_told_with_their_line_once_and_with_the_traceback_at_debug(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path, level: str
    ) -> None:
        config = project(tmp_path, "graph = 1 / 0")
        server = serve(
            started=False, REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, LOG_LEVEL=level
        )
        told = [line for line in stopped(server) if not line.startswith("{")]
        file = tmp_path / "flow.py"
        assert told[0] == f"runwait: {file}: graph 'flow': ZeroDivisionError: division by zero"
        if level == "INFO":
            assert told[1:] == [f"  {file}:1: graph = 1 / 0"]
        else:
            assert told[1] == "Traceback (most recent call last):"
            assert told[-1] == "ZeroDivisionError: division by zero"
            assert told.count(told[1]) == 1

    def test_leave_those_that_serve_alone_when_they_are_reloaded(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=project(tmp_path, FLOW))
        assert server.process is not None
        before = set(server.workers())
        project(tmp_path, FLOW + "1 / 0\n")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.logged("not reloaded"))
        told = [line for line in server.log.read_text().splitlines() if "not reloaded" in line]
        assert len(told) == 1
        number = len(FLOW.splitlines()) + 1
        assert f"{tmp_path / 'flow.py'}:{number}: 1 / 0" in json.loads(told[0])["message"]
        assert set(server.workers()) == before
        assert output(server, "flow") == {"text": "one"}
        project(tmp_path, FLOW.replace("one", "two"))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(server.workers()) == 2 and not before & set(server.workers()))
        assert output(server, "flow") == {"text": "two"}

    @pytest.mark.parametrize(
        "text",
        [
            "import os; os._exit(0)",
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "raise SystemExit(3)",
        ],
    )
    def test_leave_those_that_serve_alone_however_they_end_a_process(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path, text: str
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=project(tmp_path, FLOW))
        assert server.process is not None
        before = set(server.workers())
        project(tmp_path, text)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.logged("not reloaded"))
        assert set(server.workers()) == before
        assert output(server, "flow") == {"text": "one"}

    def test_leave_those_that_serve_alone_when_one_of_them_is_replaced(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=project(tmp_path, FLOW))
        project(tmp_path, FLOW + "1 / 0\n")
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: server.logged("a worker cannot start"))
        assert output(server, "flow") == {"text": "one"}
        project(tmp_path, FLOW)
        eventually(lambda: server.log.read_text().count("worker serves") == 3)
        assert server.stop() == 0

    def test_are_also_those_whose_file_is_not_there(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        config = tmp_path / "langgraph.json"
        config.write_text('{"graphs": {"bad_one": "./nowhere.py:graph"}, "dependencies": ["."]}')
        lines = stopped(serve(started=False, REDIS_URL=valkey.url, LANGGRAPH_CONFIG=str(config)))
        told = next(line for line in lines if line.startswith("runwait: "))
        assert "bad_one" in told
        assert str(tmp_path / "nowhere.py") in told

    @pytest.mark.parametrize("text", ["{", '{"graphs": {"a": 5}}'])
    def test_are_all_of_a_file_that_is_no_langgraph_json(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path, text: str
    ) -> None:
        config = tmp_path / "langgraph.json"
        config.write_text(text)
        lines = stopped(serve(started=False, REDIS_URL=valkey.url, LANGGRAPH_CONFIG=str(config)))
        told = [line for line in lines if line.startswith("runwait: ")]
        assert len(told) == 1
        assert str(config) in told[0]


class TestSettingsThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PORT", "http"),
            ("WEB_CONCURRENCY", "0"),
            ("REDIS_URL", "http://localhost"),
            ("LANGGRAPH_CONFIG", "/nowhere/langgraph.json"),
            ("HEARTBEAT_SECONDS", "0"),
            ("WEBHOOK_ALLOWED_HOSTS", "http://example.com/"),
            ("WEBHOOK_REQUIRE_HTTPS", "perhaps"),
            ("LOG_LEVEL", "LOUD"),
            ("API_KEYS", "sha256:secret"),
        ],
    )
    def test_stop_the_start_with_one_line_that_names_them(
        self, serve: ServerFactory, name: str, value: str
    ) -> None:
        server = serve(started=False, **{name: value})
        lines = [line for line in stopped(server) if not line.startswith("{")]
        (told,) = lines
        assert told.startswith("runwait: ")
        assert name in told or value in told
        assert "secret" not in told

    def test_are_all_named_in_the_line(self, serve: ServerFactory) -> None:
        server = serve(started=False, PORT="http", LOG_FORMAT="xml", WAITERS_MAX="-1")
        (told,) = stopped(server)
        assert all(name in told for name in ("PORT", "LOG_FORMAT", "WAITERS_MAX"))


READER = """
from pathlib import Path
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    text: str

AT_IMPORT = Path("prompts/x.txt").read_text()

def read(state):
    return {"text": AT_IMPORT + Path("prompts/x.txt").read_text()}

graph = StateGraph(State).add_node(read).add_edge(START, "read").compile()
"""


def test_the_working_folder_is_the_projects(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / "prompts").mkdir(parents=True)
    (project / "prompts" / "x.txt").write_text("Be brief.")
    (project / "reader.py").write_text(READER)
    (project / "langgraph.json").write_text('{"graphs": {"reader": "./reader.py:graph"}}')
    # Relative to where it is started, which is another folder.
    config = os.path.relpath(project / "langgraph.json", ROOT)
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=1)
    assert output(server, "reader") == {"text": "Be brief.Be brief."}
    assert server.process is not None
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: (now := server.workers()) and not set(now) & set(before))
    assert output(server, "reader") == {"text": "Be brief.Be brief."}
    check = [sys.executable, "-m", "runwait.cli", "check", "-c", config]
    assert subprocess.run(check, cwd=ROOT, capture_output=True).returncode == 0


TALKER = """
import logging
from typing import TypedDict
from langgraph.graph import START, StateGraph

logging.basicConfig(level="ERROR", force={force})
logging.getLogger("talker").setLevel("NOTSET")

class State(TypedDict, total=False):
    text: str

def talk(state):
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger("talker"), level)("a line at %s", level)
    return {{}}

graph = StateGraph(State).add_node(talk).add_edge(START, "talk").compile()
"""


@pytest.mark.parametrize("force", [False, True])
def test_the_log_has_what_graphs_say_and_no_graph_can_silence_the_service(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path, force: bool
) -> None:
    (tmp_path / "talker.py").write_text(TALKER.format(force=force))
    (tmp_path / "langgraph.json").write_text('{"graphs": {"talker": "./talker.py:graph"}}')
    config = str(tmp_path / "langgraph.json")
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=1)
    output(server, "talker")
    eventually(lambda: server.logged('"run ended"'))
    # A graph that takes the root's handlers and level has said what it wants to see of itself.
    assert server.logged("a line at info") is not force
    assert not server.logged("a line at debug")
    assert server.logged("a line at warning") is not force
