"""The files of the workbench."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait import create_app
from runwait.api import errors, workbench
from runwait.settings import Settings

FOLDER = Path(workbench.__file__).parent / "pages" / "workbench"
FILES = sorted(each.name for each in FOLDER.iterdir() if each.is_file())
SCRIPTS = [each for each in FILES if each.endswith(".js")]


@pytest.fixture
def http() -> FlaskClient:
    app = Flask("workbench", static_folder=None)
    app.register_blueprint(workbench.blueprint)
    errors.register(app)
    return app.test_client()


def test_each_file_is_served_as_what_it_is(http: FlaskClient) -> None:
    served = {
        name: http.get(f"/workbench/{name}").content_type for name in FILES if name != "__init__.py"
    }
    assert all(
        {".html": "html", ".css": "css", ".js": "javascript", ".svg": "svg+xml"}[Path(name).suffix]
        in kind
        for name, kind in served.items()
    ), served
    assert http.get("/").data == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", ["__init__.py", "..%2f__init__.py", "../errors.py", "x.js", ""])
def test_no_other_file_is(http: FlaskClient, name: str) -> None:
    assert http.get(f"/workbench/{name}").status_code == 404


def test_the_policy_allows_its_own_files_and_nothing_inline(http: FlaskClient) -> None:
    for path in ("/", "/workbench/main.js"):
        headers = http.get(path).headers
        policy = dict(
            each.strip().partition(" ")[::2]
            for each in headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert {policy[each] for each in policy if each.endswith("-src")} == {"'none'", "'self'"}
        assert policy["frame-ancestors"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_is_known_is_not_sent_again(http: FlaskClient) -> None:
    first = http.get("/")
    again = http.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_page_names_only_what_is_beside_it_and_relatively() -> None:
    page = (FOLDER / "index.html").read_text()
    named = re.findall(r"(?:href|src)=\"(.*?)\"", page)
    assert {each.removeprefix("workbench/") for each in named} <= {*FILES, "docs"}
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script>", page)
    for name in SCRIPTS:
        imported = re.findall(r"from \"(.*?)\"", (FOLDER / name).read_text())
        assert {each.removeprefix("./") for each in imported} <= {*SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_texts(name: str) -> None:
    script = (FOLDER / name).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert "://" not in script.replace("http://www.w3.org/2000/svg", "")


def test_below_a_prefix_it_is_where_its_files_are_found(http: FlaskClient) -> None:
    answer = http.open("/", environ_overrides={"SCRIPT_NAME": "/a/b", "PATH_INFO": ""})
    assert (answer.status_code, answer.headers["Location"]) == (308, "/a/b/")


@pytest.mark.parametrize("is_on", [True, False])
def test_the_workbench_can_be_turned_off(is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH", str(is_on).lower())
    http = create_app(Settings.from_env()).test_client()
    for path in ("/", "/workbench/main.js"):
        assert http.get(path).status_code == (200 if is_on else 404)
