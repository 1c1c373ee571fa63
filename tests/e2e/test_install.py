"""Runwait is installed beside projects, which may be called anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runwait.version import __version__
from tests.e2e.calls import output
from tests.e2e.programs import require
from tests.servers import PATIENCE, ROOT, Server, free_port

RUNWAIT = Path(sysconfig.get_path("scripts")) / "runwait"

Start = Callable[..., Server]


class Installed(Server):
    """A server that is started by a command in a project's folder."""

    def __init__(self, folder: Path, command: list[str], cwd: Path, settings: dict[str, str]):
        super().__init__(folder, {"WEB_CONCURRENCY": "1", "RUN_CONCURRENCY": "20", **settings})
        self.command = command
        self.cwd = cwd

    def launch(self) -> None:
        """Start it there."""
        self.process = subprocess.Popen(
            self.command,
            cwd=self.cwd,
            env={name: value for name, value in self.environment.items() if name != "PYTHONPATH"},
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server by a command in a folder, and ends it with the test."""
    servers = []

    def started(cwd: Path, *command: str, **settings: str) -> Server:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        server = Installed(folder, list(command), cwd, settings)
        servers.append(server)
        server.start()
        return server

    yield started
    for server in servers:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        server.http.close()


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files, with the folders that they are in."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def project(folder: Path, graphs: dict[str, str], files: dict[str, str]) -> Path:
    """A project of these graphs and files, and the folder that it is in."""
    write(folder, files)
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return folder


GRAPH = """
from typing import Any, TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    value: Any

def node(state: State) -> State:
    return {{"value": {value}}}

graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
"""


class TestAProjectMayUseAnyName:
    @pytest.fixture
    def shop(self, tmp_path: Path) -> Path:
        """What a Flask shop has: all of it packages, some by relative imports."""
        return project(
            tmp_path / "shop",
            {
                "by_file": "./app/graphs/agent.py:graph",
                "by_name": "server.flow:graph",
                "of_tests": "./tests/fixtures/fake.py:graph",
            },
            {
                "app/__init__.py": "NAME = 'the app of the shop'\n",
                "app/graphs/__init__.py": "",
                "app/graphs/agent.py": "from .. import NAME\nfrom config import settings\n"
                + GRAPH.format(value="[NAME, settings.COLOUR]"),
                "config/__init__.py": "",
                "config/settings.py": "COLOUR = 'blue'\n",
                "config/gunicorn.py": "raise SystemExit('the config of the shop')\n",
                "server/__init__.py": "",
                "server/flow.py": "from . import prices\nfrom app.graphs import agent\n"
                + GRAPH.format(value="[prices.TEA, agent.NAME]"),
                "server/prices.py": "TEA = 3\n",
                "tests/__init__.py": "",
                "tests/fixtures/__init__.py": "",
                "tests/fixtures/fake.py": "from .. import __name__ as own\n"
                + GRAPH.format(value="own"),
                "wsgi.py": "raise SystemExit('the wsgi of the shop')\n",
            },
        )

    def check(self, server: Server) -> None:
        assert output(server, "by_file") == {"value": ["the app of the shop", "blue"]}
        assert output(server, "by_name") == {"value": [3, "the app of the shop"]}
        assert output(server, "of_tests") == {"value": "tests"}

    def test_where_runwait_serves_its_folder(self, shop: Path, start: Start) -> None:
        self.check(start(shop, str(RUNWAIT), "serve"))

    def test_where_gunicorn_runs_in_the_checkout(self, shop: Path, start: Start) -> None:
        gunicorn = [str(RUNWAIT.with_name("gunicorn")), "-c", "config/gunicorn.py", "wsgi:app"]
        self.check(start(ROOT, *gunicorn, LANGGRAPH_CONFIG=str(shop / "langgraph.json")))

    def test_of_modules_that_others_use(self, tmp_path: Path, start: Start) -> None:
        """What the folder calls calendar, redis, flask or logging hides nobody's."""
        names = ["calendar", "click", "flask", "gunicorn", "json", "logging", "redis", "runwait"]
        odd = project(
            tmp_path / "odd",
            {"agent": "./agent.py:graph"},
            {
                **{f"{name}.py": f"raise SystemExit('hides {name}')\n" for name in names},
                "agent.py": f"import {', '.join(names)}\n" + GRAPH.format(value="redis.Redis"),
            },
        )

        checked = subprocess.run(
            [RUNWAIT, "check"], cwd=odd, capture_output=True, text=True, timeout=PATIENCE
        )
        server = start(odd, str(RUNWAIT), "serve")

        assert (checked.returncode, checked.stderr) == (0, "")
        assert "redis.client.Redis" in output(server, "agent")["value"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is built from: a copy, since building leaves files behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "app", folder / "app", ignore=left_out)
    return folder


def pip(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """What pip says. It asks no index, and builds with what is installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


BUILDING = ["--no-deps", "--no-index", "--no-build-isolation", "--use-pep517"]


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `pip wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", *BUILDING, "--wheel-dir", folder, source)
    (wheel,) = folder.iterdir()
    return wheel


class TestFromAWheel:
    def test_it_has_every_file_of_the_package(self, wheel: Path, source: Path) -> None:
        files = {
            str(each.relative_to(source / "app"))
            for each in (source / "app" / "runwait").rglob("*")
            if each.is_file()
        }

        built = set(zipfile.ZipFile(wheel).namelist())

        assert {
            "runwait/py.typed",
            "runwait/storage/lua/runs/admit.lua",
            "runwait/api/pages/workbench/index.html",
            "runwait/api/pages/workbench/main.js",
        } <= files
        assert files == {name for name in built if not name.startswith("runwait-")}

    def test_it_serves_a_folder_with_a_langgraph_json(
        self, wheel: Path, tmp_path: Path, start: Start
    ) -> None:
        environment = tmp_path / "venv"
        venv.create(environment, with_pip=False, symlinks=True)
        python = environment / "bin" / "python"
        # All that Runwait needs is taken from the environment of the tests, but not Runwait.
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
        pip("--python", python, "install", "--no-deps", "--no-index", wheel)
        folder = project(
            tmp_path / "project",
            {"agent": "./agent.py:graph"},
            {"agent.py": "import runwait\n" + GRAPH.format(value="runwait.__file__")},
        )

        server = start(folder, str(environment / "bin" / "runwait"), "serve")

        curl = subprocess.run(
            [
                require("curl"),
                "-s",
                server.url + "/runs/wait",
                "-d",
                '{"assistant_id": "agent", "input": {}}',
            ],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        assert json.loads(curl.stdout) == {"value": str(packages / "runwait" / "__init__.py")}


DEPLOYING = (ROOT / "docs" / "deploying.md").read_text().partition("## Heroku")[2]


def printed(start: str) -> str:
    """The block in the part on Heroku that starts with this."""
    (found,) = re.findall(rf"^```\w+\n({re.escape(start)}.*?)^```$", DEPLOYING, re.M | re.S)
    assert isinstance(found, str)
    return found


class TestAProjectOnHeroku:
    """What docs/deploying.md prints, as far as it can be tried on any machine."""

    @pytest.mark.parametrize("kind", ["a wheel", "a git URL"])
    def test_has_runwait_from_its_requirements(
        self,
        kind: str,
        wheel: Path,
        source: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if kind == "a wheel":
            requirements = printed("./vendor/")
            (tmp_path / "vendor").mkdir()
            shutil.copy(wheel, tmp_path / "vendor")
        else:
            requirements = printed("runwait @ git+")
            [(url, tag)] = re.findall(r"git\+(https://\S+)@(\S+)", requirements)
            assert tag == f"v{__version__}"
            repository = tmp_path / "repository"
            shutil.copytree(source, repository, ignore=shutil.ignore_patterns("build"))
            git = [require("git"), "-c", "user.name=x", "-c", "user.email=x@example.com"]
            for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", tag]):
                subprocess.run([*git, *command], cwd=repository, check=True, capture_output=True)
            # Instead of the example's host git asks this folder.
            monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
            monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repository.as_uri()}.insteadOf")
            monkeypatch.setenv("GIT_CONFIG_VALUE_0", url)
        (tmp_path / "requirements.txt").write_text(requirements)

        report = pip(
            *("install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"),
            *(*BUILDING, "-r", "requirements.txt"),
            cwd=tmp_path,
        )

        (found,) = json.loads(report)["install"]
        assert found["metadata"]["name"] == "runwait"
        assert found["metadata"]["version"] == __version__

    def test_serves_by_its_procfile(self, tmp_path: Path, start: Start) -> None:
        folder = tmp_path / "project"
        write(
            folder,
            {
                "Procfile": printed("web: runwait serve\n"),
                "langgraph.json": printed("{"),
                "agent.py": GRAPH.format(value="3"),
            },
        )
        honcho = str(RUNWAIT.with_name("honcho"))
        port = free_port()

        start(
            folder,
            *(honcho, "start", "--port", str(port)),
            PORT=str(port),
            PATH=f"{RUNWAIT.parent}{os.pathsep}{os.environ['PATH']}",
        )

        answer = httpx.post(
            f"http://127.0.0.1:{port}/runs/wait",
            json={"assistant_id": "agent", "input": {}},
            timeout=PATIENCE,
        )
        assert answer.json() == {"value": 3}
