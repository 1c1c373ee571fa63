import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runwait.graphs.config import GraphLoadError, read
from runwait.graphs.graph import Graph
from runwait.graphs.loader import load, report

# A module with a graph whose output is `says`, which it may compute before.
GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    said: str

def build(says):
    builder = StateGraph(State)
    builder.add_node("say", lambda state: {"said": says})
    builder.add_edge(START, "say")
    return builder.compile()
"""


@pytest.fixture(autouse=True)
def unspoilt(monkeypatch, tmp_path):
    """Undo what an import leaves in the process."""
    modules, path, environment = dict(sys.modules), list(sys.path), dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


class Project:
    """A folder with a langgraph.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def says(self, name: str, expression: str, imports: str = "") -> Path:
        """A module with a graph that says the expression's value."""
        return self.file(name, f"{imports}\n{GRAPH}\ngraph = build(str({expression}))\n")

    def load(self, graphs: Any, modules: Sequence[str] = (), **config: Any) -> dict[str, Graph]:
        config = {"dependencies": ["."], "graphs": graphs, **config}
        return load(read(self.file("langgraph.json", json.dumps(config))), modules)

    def said(self, target: str, **config: Any) -> str:
        return said(self.load({"agent": target}, **config)["agent"])

    def error(self, target: str, **config: Any) -> GraphLoadError:
        with pytest.raises(GraphLoadError) as raised:
            self.load({"agent": target}, **config)
        assert "\n" not in str(raised.value)
        return raised.value


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


def said(graph: Graph) -> str:
    with graph.make({"configurable": {}}, {}, None) as made:  # type: ignore[arg-type]
        return str(made.invoke({})["said"])


def test_graphs_come_in_the_order_of_the_file_with_what_it_says_of_them(project):
    project.says("agent.py", "'hello'")

    graphs = project.load(
        {
            "second": "./agent.py:graph",
            "first": {"path": "./agent.py:graph", "description": "First.", "execution": "async"},
        }
    )

    assert list(graphs) == ["second", "first"]
    assert [g.graph_id for g in graphs.values()] == ["second", "first"]
    assert [g.description for g in graphs.values()] == [None, "First."]
    assert [g.execution for g in graphs.values()] == ["sync", "async"]
    first, second = graphs["first"].compiled, graphs["second"].compiled
    assert first is not None and second is not None
    assert first.nodes is second.nodes


def test_a_module_can_be_named_instead_of_a_file(project):
    project.file("agents/__init__.py")
    project.says("agents/support.py", "__name__")

    assert project.said("agents.support:graph") == "agents.support"


class TestEnvironment:
    def test_is_set_before_a_graph_is_imported(self, project):
        project.says("agent.py", "os.environ['RUNWAIT_TEST_KEY']", imports="import os")

        assert project.said("./agent.py:graph", env={"RUNWAIT_TEST_KEY": "value"}) == "value"

    def test_of_the_process_wins(self, project, monkeypatch):
        monkeypatch.setenv("RUNWAIT_TEST_KEY", "deployed")
        project.file(".env", "RUNWAIT_TEST_KEY=laptop")
        project.says("agent.py", "os.environ['RUNWAIT_TEST_KEY']", imports="import os")

        assert project.said("./agent.py:graph", env=".env") == "deployed"


class TestPackage:
    def test_of_a_src_layout_needs_no_installation(self, project):
        project.file("src/react_agent/__init__.py", "from react_agent.graph import graph")
        project.file("src/react_agent/context.py", "WHO = 'absolute'")
        project.file("src/react_agent/tools.py", "WHAT = 'relative'")
        project.says(
            "src/react_agent/graph.py",
            "(__name__, WHO, WHAT)",
            imports="from react_agent.context import WHO\nfrom .tools import WHAT",
        )

        assert project.said("./src/react_agent/graph.py:graph") == (
            "('react_agent.graph', 'absolute', 'relative')"
        )

    def test_is_imported_under_its_whole_name(self, project):
        for folder in ("agents", "agents/support"):
            project.file(f"{folder}/__init__.py")
        project.file("agents/shared.py", "WORD = 'shared'")
        project.says(
            "agents/support/graph.py",
            "(__name__, WORD)",
            imports="from ..shared import WORD",
        )

        assert project.said("./agents/support/graph.py:graph") == (
            "('agents.support.graph', 'shared')"
        )

    def test_can_be_a_dependency_by_itself(self, project):
        project.file("my_agent/__init__.py")
        project.file("my_agent/tools.py", "WORD = 'tools'")
        project.says(
            "my_agent/agent.py",
            "(__name__, WORD)",
            imports="from my_agent.tools import WORD",
        )

        assert project.said("./my_agent/agent.py:graph", dependencies=["./my_agent"]) == (
            "('my_agent.agent', 'tools')"
        )

    def test_can_have_its_graph_in_the_package_itself(self, project):
        project.says("src/agent/__init__.py", "__name__")

        assert project.said("./src/agent/__init__.py:graph") == "agent"

    def test_may_do_without_an_init_file(self, project):
        project.file("src/agent/state.py", "WORD = 'state'")
        project.says(
            "src/agent/graph.py", "(__name__, WORD)", imports="from agent.state import WORD"
        )

        assert project.said("./src/agent/graph.py:graph") == "('agent.graph', 'state')"

    def test_of_langgraph_json_itself_can_be_used_by_name(self, project):
        package = Project(project.folder / "my_agent")
        package.file("__init__.py")
        package.file("tools.py", "WORD = 'tools'")
        package.says("graph.py", "(__name__, WORD)", imports="from my_agent.tools import WORD")

        assert package.said("./graph.py:graph") == "('my_agent.graph', 'tools')"

    def test_wins_over_an_installed_copy_of_it(self, project, tmp_path):
        installed = Project(tmp_path / "site-packages")
        installed.file("some_agent/__init__.py")
        installed.says("some_agent/graph.py", "'installed'")
        sys.path.append(str(installed.folder))
        project.file("src/some_agent/__init__.py")
        project.file("src/some_agent/word.py", "WORD = 'here'")
        project.says("src/some_agent/graph.py", "WORD", imports="from some_agent.word import WORD")

        assert project.said("./src/some_agent/graph.py:graph") == "here"

    def test_that_is_installed_from_here_is_used_as_it_is(self, project):
        project.file("src/some_agent/__init__.py")
        project.says("src/some_agent/graph.py", "__name__")
        sys.path.append(str(project.folder / "src"))  # what an editable install does
        before = len(sys.path)

        assert project.said("./src/some_agent/graph.py:graph") == "some_agent.graph"
        assert sys.path[before:] == [str(project.folder)]

    @pytest.mark.parametrize("name", ["runwait", "json"])
    def test_with_the_name_of_another_in_use_is_told_so(self, project, name):
        project.file(f"{name}/__init__.py")
        project.says(f"{name}/graph.py", "'hello'")

        error = project.error(f"./{name}/graph.py:graph")

        assert f"its package {name!r} has the name of one in use" in str(error)
        assert f"{os.sep}{name}{os.sep}__init__.py: rename it" in str(error)


class TestLoneFile:
    def test_imports_its_neighbours_where_its_folder_is_a_dependency(self, project):
        project.file("agents/helpers.py", "WORD = 'help'")
        project.says("agents/graph.py", "WORD", imports="from helpers import WORD")

        assert project.said("./agents/graph.py:graph", dependencies=["./agents"]) == "help"

    def test_beside_langgraph_json_needs_no_dependencies(self, project):
        project.file("helpers.py", "WORD = 'help'")
        project.says("graph.py", "WORD", imports="from helpers import WORD")

        assert project.said("./graph.py:graph", dependencies=[]) == "help"

    def test_can_have_the_name_of_another(self, project):
        for folder in ("a", "b", "c-d", "c_d", "v1.2"):
            project.says(f"{folder}/graph.py", "__file__")

        graphs = project.load(
            {folder: f"./{folder}/graph.py:graph" for folder in ("a", "b", "c-d", "c_d", "v1.2")},
            dependencies=["./a", "./b"],
        )

        assert [Path(said(graph)).parent.name for graph in graphs.values()] == list(graphs)

    @pytest.mark.parametrize("name", ["langgraph", "json", "types", "runwait", "my-graph"])
    def test_can_have_any_name(self, project, name):
        before = sys.modules.get(name)
        project.says(f"{name}.py", f"'this {name}'")

        assert project.said(f"./{name}.py:graph") == f"this {name}"
        if before is not None:
            assert sys.modules[name] is before

    def test_can_be_outside_the_project(self, project, tmp_path):
        Project(tmp_path / "elsewhere").says("graph.py", "'outside'")

        assert project.said("../elsewhere/graph.py:graph") == "outside"

    @pytest.mark.parametrize("file", ["graph.py", "agents/graph.py", "v1.2/graph.py", "json.py"])
    def test_is_a_module_that_the_rest_of_python_finds(self, project, file):
        project.file(
            file,
            f"""
            from __future__ import annotations
            from dataclasses import dataclass
            from typing import get_type_hints
            {GRAPH.replace(chr(10), chr(10) + " " * 12)}
            @dataclass
            class Note:
                text: State

            get_type_hints(Note)
            graph = build("hello")
            graph.note = Note({{"said": "hi"}})
            """,
        )

        note = project.load({"agent": f"./{file}:graph"})["agent"].compiled.note

        assert pickle.loads(pickle.dumps(note)) == note

    def test_has_the_same_name_wherever_its_project_is(self, tmp_path):
        names = set()
        for place in ("here", "there"):
            project = Project(tmp_path / place)
            project.says("v1.2/graph.py", "__name__")
            names.add(project.said("./v1.2/graph.py:graph"))

        assert len(names) == 1


class TestNoModuleIsLoadedTwice:
    COUNT = "import builtins\nbuiltins.loads = getattr(builtins, 'loads', 0) + 1"

    @pytest.fixture(autouse=True)
    def loads(self, monkeypatch):
        monkeypatch.setattr("builtins.loads", 0, raising=False)

    @pytest.mark.parametrize(
        "file", ["graph.py", "agents/graph.py", "src/agent/graph.py", "v1.2/graph.py"]
    )
    def test_when_two_graphs_name_the_same_file(self, project, file):
        project.says(file, "loads", imports=self.COUNT)
        project.file(f"{Path(file).parent}/other.py")

        graphs = project.load({"one": f"./{file}:graph", "two": f"{file}:graph"})

        assert [said(graph) for graph in graphs.values()] == ["1", "1"]

    @pytest.mark.parametrize(
        ("files", "imports"),
        [
            (("one.py", "two.py"), "from one import graph as other"),
            (("agents/one.py", "agents/two.py"), "from agents.one import graph as other"),
            (("a/one.py", "b/two.py"), "from a.one import graph as other"),
            (("src/agent/one.py", "src/agent/two.py"), "from agent.one import graph as other"),
            (("src/agent/one.py", "src/agent/two.py"), "from .one import graph as other"),
        ],
    )
    def test_when_a_graph_imports_anothers_module(self, project, files, imports):
        first, second = files
        if first.startswith("src"):
            project.file("src/agent/__init__.py")
        project.says(first, "loads", imports=self.COUNT)
        project.says(second, "loads", imports=imports)

        graphs = project.load({"two": f"./{second}:graph", "one": f"./{first}:graph"})

        assert [said(graph) for graph in graphs.values()] == ["1", "1"]


class TestOtherModules:
    def test_are_imported_after_the_graphs(self, project):
        project.says("graph.py", "1")
        project.file("kinds.py", "import sys\nassert 'graph' in sys.modules")
        project.load({"agent": "./graph.py:graph"}, modules=["kinds"])
        assert "kinds" in sys.modules

    def test_that_cannot_be_imported_stop_the_start(self, project):
        project.says("graph.py", "1")
        with pytest.raises(GraphLoadError, match=r"STATE_MODULES: 'gone': can't be imported: Mod"):
            project.load({"agent": "./graph.py:graph"}, modules=["gone"])


class TestError:
    def test_names_the_graph_the_file_and_what_was_raised(self, project):
        file = project.file("agent.py", "1 / 0")

        error = project.error("./agent.py:graph")

        assert str(error) == f"{file}: graph 'agent': ZeroDivisionError: division by zero"
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert error.__cause__.__traceback__ is not None

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("import sys; sys.exit('no key')", "SystemExit: no key"),
            ("raise BaseException('odd')", "BaseException: odd"),
            ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
            ("def graph(:", "SyntaxError: invalid syntax (agent.py, line 1)"),
            (
                "import not_there",
                "ModuleNotFoundError: No module named 'not_there'; install the package that has it"
                " into the service's environment, or name its folder in dependencies, such as",
            ),
            (
                "from .tools import price",
                "ImportError: attempted relative import with no known parent package; for relative"
                " imports put an __init__.py into /",
            ),
            ("from json import nothing", "ImportError: cannot import name 'nothing' from 'json'"),
            ("x = 1", "AttributeError: module 'agent' has no attribute 'graph'"),
            ("graph = 5", "TypeError: an int is neither a graph nor a function that makes one"),
            ("def graph(config, model): ...", "TypeError: a factory can be given a RunnableConfig"),
            (
                "def __getattr__(name): raise RuntimeError('made on demand')",
                "RuntimeError: made on demand",
            ),
            (
                "from langgraph.graph import StateGraph\ngraph = StateGraph(dict)",
                "ValueError: Graph must have an entrypoint",
            ),
        ],
    )
    def test_tells_what_is_wrong_with_the_module(self, project, text, reason):
        file = project.file("agent.py", text)

        assert str(project.error("./agent.py:graph")).startswith(f"{file}: graph 'agent': {reason}")

    def test_says_which_lines_raised_and_from_what(self, project):
        helper = project.file(
            "helper.py",
            """\
            def key(found):
                try:
                    return found["KEY"]
                except KeyError as error:
                    raise ValueError("no key") from error
            """,
        )
        agent = project.file("agent.py", "from helper import key\n\ngraph = key({})\n")
        lines = [
            f"{agent}: graph 'agent': ValueError: no key",
            f"  {agent}:3: graph = key({{}})",
            f'  {helper}:5: raise ValueError("no key") from error',
            "  raised from KeyError: 'KEY'",
            f'  {helper}:3: return found["KEY"]',
        ]

        error = project.error("./agent.py:graph")

        assert report(error).splitlines() == lines
        whole = report(error, whole=True)
        assert whole.startswith(f"{lines[0]}\nTraceback (most recent call last):\n")
        assert whole.count("Traceback") == 2

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("x = 1\ndef graph(:", "2: def graph(:"),
            ("import not_there", "1: import not_there"),
            (
                "from langgraph.graph import StateGraph\n\nStateGraph(dict).compile()",
                "3: StateGraph(dict).compile()",
            ),
            ("import json\ngraph = json.loads('{')", "2: graph = json.loads('{')"),
        ],
    )
    def test_says_which_line_of_the_project_had_it_raised(self, project, text, line):
        file = project.file("agent.py", text)

        told = report(project.error("./agent.py:graph")).splitlines()

        assert told[1:] == [f"  {file}:{line}"]

    @pytest.mark.parametrize("text", ["graph = 5", "x = 1"])
    def test_has_no_line_where_none_raised(self, project, text):
        project.file("agent.py", text)
        error = project.error("./agent.py:graph")

        assert report(error) == str(error)

    def test_names_a_file_that_is_not_there(self, project):
        error = project.error("./agent.py:graph")

        assert str(error) == f"{project.folder / 'agent.py'}: graph 'agent': there is no such file"

    def test_names_a_file_that_is_not_python(self, project):
        project.file("agent.ts", "export const graph = 1")

        assert str(project.error("./agent.ts:graph")).endswith("is not a Python file")

    def test_names_a_module_that_is_not_there(self, project):
        assert "ModuleNotFoundError: No module named 'nowhere'" in str(
            project.error("nowhere.graph:graph")
        )

    def test_of_an_async_factory_that_is_forced_to_be_sync(self, project):
        project.file("agent.py", "async def graph(): ...")

        with pytest.raises(GraphLoadError, match="an async factory can't have the execution sync"):
            project.load({"agent": {"path": "./agent.py:graph", "execution": "sync"}})

    def test_leaves_nothing_half_loaded(self, project):
        file = project.file("v1.2/graph.py", "1 / 0")
        project.error("./v1.2/graph.py:graph")
        file.write_text(GRAPH + "graph = build('mended')")

        assert project.said("./v1.2/graph.py:graph") == "mended"

    def test_lets_an_interrupt_of_the_keyboard_through(self, project):
        project.file("agent.py", "raise KeyboardInterrupt")

        with pytest.raises(KeyboardInterrupt):
            project.load({"agent": "./agent.py:graph"})


@pytest.mark.parametrize("ending", ["", "\n1 / 0"])
def test_the_working_directory_is_what_it_was(project, tmp_path, ending):
    project.says("agent.py", "'hello'", imports=f"import os; os.chdir('/'){ending}")

    if ending:
        project.error("./agent.py:graph")
    else:
        project.load({"agent": "./agent.py:graph"})

    assert Path.cwd() == tmp_path


def test_files_that_have_just_been_written_are_found(project):
    project.says("agent.py", "'first'")
    project.load({"agent": "./agent.py:graph"})
    project.says("other.py", "'second'")

    assert project.said("./other.py:graph") == "second"


# Projects in the shape of the official templates, each with a model that needs no network.

STATE = """
    from __future__ import annotations

    from dataclasses import dataclass, field
    from typing import Sequence

    from langchain_core.messages import AnyMessage
    from langgraph.graph import add_messages
    from langgraph.managed import IsLastStep
    from typing_extensions import Annotated


    @dataclass
    class InputState:
        messages: Annotated[Sequence[AnyMessage], add_messages] = field(default_factory=list)


    @dataclass
    class State(InputState):
        is_last_step: IsLastStep = field(default=False)
"""


def new_project(project: Project) -> dict[str, Any]:
    project.file("src/agent/__init__.py", "from agent.graph import graph\n__all__ = ['graph']")
    project.file(
        "src/agent/graph.py",
        """
        from __future__ import annotations

        from dataclasses import dataclass
        from typing import Any, Dict

        from langgraph.graph import StateGraph
        from langgraph.runtime import Runtime
        from typing_extensions import TypedDict


        class Context(TypedDict):
            parameter: str


        @dataclass
        class State:
            text: str = "example"


        async def call_model(state: State, runtime: Runtime[Context]) -> Dict[str, Any]:
            return {"text": f"{state.text} with {(runtime.context or {}).get('parameter')}"}


        graph = (
            StateGraph(State, context_schema=Context)
            .add_node(call_model)
            .add_edge("__start__", "call_model")
            .compile(name="New Graph")
        )
        """,
    )
    return {"input": {"text": "a"}, "context": {"parameter": "b"}}


def react_agent(project: Project) -> dict[str, Any]:
    project.file("src/react_agent/__init__.py", "from react_agent.graph import graph")
    project.file("src/react_agent/state.py", STATE)
    project.file("src/react_agent/prompts.py", "SYSTEM_PROMPT = 'Be brief.'")
    project.file(
        "src/react_agent/context.py",
        """
        from __future__ import annotations

        import os
        from dataclasses import dataclass, field, fields
        from typing import Annotated

        from . import prompts


        @dataclass(kw_only=True)
        class Context:
            system_prompt: str = field(default=prompts.SYSTEM_PROMPT)
            model: Annotated[str, {"kind": "llm"}] = field(default="none/at-all")

            def __post_init__(self) -> None:
                for f in fields(self):
                    if f.init and getattr(self, f.name) == f.default:
                        setattr(self, f.name, os.environ.get(f.name.upper(), f.default))
        """,
    )
    project.file(
        "src/react_agent/tools.py",
        """
        from langgraph.runtime import get_runtime

        from react_agent.context import Context


        async def search(query: str) -> str:
            "Search for it."
            return f"{query} for {get_runtime(Context).context.model}"


        TOOLS = [search]
        """,
    )
    project.file(
        "src/react_agent/graph.py",
        """
        from typing import Literal

        from langchain_core.messages import AIMessage
        from langgraph.graph import StateGraph
        from langgraph.prebuilt import ToolNode
        from langgraph.runtime import Runtime

        from react_agent.context import Context
        from react_agent.state import InputState, State
        from react_agent.tools import TOOLS


        async def call_model(state: State, runtime: Runtime[Context]) -> dict[str, list[AIMessage]]:
            if state.is_last_step or len(state.messages) > 1:
                return {"messages": [AIMessage(runtime.context.system_prompt)]}
            call = {"name": "search", "args": {"query": "x"}, "id": "1"}
            return {"messages": [AIMessage("", tool_calls=[call])]}


        async def route(state: State) -> Literal["__end__", "tools"]:
            return "tools" if state.messages[-1].tool_calls else "__end__"


        builder = StateGraph(State, input_schema=InputState, context_schema=Context)
        builder.add_node(call_model)
        builder.add_node("tools", ToolNode(TOOLS))
        builder.add_edge("__start__", "call_model")
        builder.add_conditional_edges("call_model", route)
        builder.add_edge("tools", "call_model")
        graph = builder.compile(name="ReAct Agent")
        """,
    )
    return {"input": {"messages": [("user", "hi")]}, "context": {"model": "m"}}


def memory_agent(project: Project) -> dict[str, Any]:
    project.file("src/memory_agent/__init__.py", "from memory_agent.graph import graph")
    project.file("src/memory_agent/state.py", STATE)
    project.file("src/memory_agent/utils.py", "def words(text): return text.split()")
    project.file(
        "src/memory_agent/context.py",
        """
        import os
        from dataclasses import dataclass, fields

        from memory_agent import utils


        @dataclass(kw_only=True, init=False)
        class Context:
            user_id: str = "default"

            def __init__(self, **kwargs):
                for f in fields(self):
                    given = kwargs.get(f.name, f.default)
                    setattr(self, f.name, os.environ.get(f.name.upper(), given))
        """,
    )
    project.file(
        "src/memory_agent/graph.py",
        """
        from typing import cast

        from langchain_core.messages import AIMessage
        from langgraph.graph import END, StateGraph
        from langgraph.runtime import Runtime
        from langgraph.store.base import BaseStore

        from memory_agent import utils
        from memory_agent.context import Context
        from memory_agent.state import State


        async def call_model(state: State, runtime: Runtime[Context]) -> dict:
            found = await cast(BaseStore, runtime.store).asearch((runtime.context.user_id,))
            return {"messages": [AIMessage(" ".join(item.value["text"] for item in found))]}


        async def store_memory(state: State, runtime: Runtime[Context]):
            memory = {"text": utils.words(state.messages[0].content)[0]}
            await cast(BaseStore, runtime.store).aput((runtime.context.user_id,), "1", memory)
            return {}


        def route_message(state: State):
            return END if state.messages[-1].content else "store_memory"


        builder = StateGraph(State, context_schema=Context)
        builder.add_node(call_model)
        builder.add_node(store_memory)
        builder.add_edge("__start__", "call_model")
        builder.add_conditional_edges("call_model", route_message, ["store_memory", END])
        builder.add_edge("store_memory", "call_model")
        graph = builder.compile()
        graph.name = "MemoryAgent"
        """,
    )
    return {"input": {"messages": [("user", "remember me")]}, "context": {"user_id": "ann"}}


# Run as a program of its own: an official template meets a fresh interpreter, too.
SERVE = """
import asyncio, json, sys
from pathlib import Path
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from runwait.graphs.config import read
from runwait.graphs.context import coerce_context
from runwait.graphs.loader import load

async def main(path, input, context):
    graph = load(read(Path(path)))["agent"]
    store = InMemoryStore()
    async with graph.amake({"configurable": {}}, context, store) as made:
        context = coerce_context(graph.context_schema, context)
        runtime = Runtime(context=context, store=store)
        config = {"configurable": {"__pregel_runtime": runtime}}
        output = await made.ainvoke(input, config, context=context)
    if "messages" in output:
        output["messages"] = [message.content for message in output["messages"]]
    print(json.dumps([graph.execution, sorted(graph.nodes), made.name, output]))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("installed", [False, True], ids=["not installed", "installed"])
@pytest.mark.parametrize(
    ("template", "package", "expected"),
    [
        (
            new_project,
            "agent",
            ["async", ["call_model"], "New Graph", {"text": "a with b"}],
        ),
        (
            react_agent,
            "react_agent",
            [
                "async",
                ["call_model", "tools"],
                "ReAct Agent",
                {"messages": ["hi", "", "x for m", "Be brief."]},
            ],
        ),
        (
            memory_agent,
            "memory_agent",
            [
                "async",
                ["call_model", "store_memory"],
                "MemoryAgent",
                {"messages": ["remember me", "", "remember"]},
            ],
        ),
    ],
    ids=["new-langgraph-project", "react-agent", "memory-agent"],
)
def test_an_official_template_runs_as_it_is(project, template, package, expected, installed):
    run = template(project)
    document = {
        "$schema": "https://langgra.ph/schema.json",
        "dependencies": ["."],
        "graphs": {"agent": f"./src/{package}/graph.py:graph"},
        "env": ".env",
        "image_distro": "wolfi",
    }
    path = project.file("langgraph.json", json.dumps(document))
    root = Path(__file__).parents[2]
    import_path = [str(root), *([str(project.folder / "src")] if installed else [])]

    done = subprocess.run(
        [sys.executable, "-c", SERVE, json.dumps([str(path), run["input"], run["context"]])],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(import_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
