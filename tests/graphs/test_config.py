import json
import logging
from pathlib import Path
from typing import Any

import pytest

from runwait.graphs.config import GraphLoadError, GraphSpec, read

TARGET = "./agent.py:graph"

MISSING = "there is no such file (LANGGRAPH_CONFIG says which one is served)"


@pytest.fixture
def write(tmp_path):
    def write(document: Any) -> Path:
        path = tmp_path / "langgraph.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def test_a_graph_is_a_target_or_an_object_with_one(write):
    config = read(
        write(
            {
                "graphs": {
                    "file": "./src/agent/graph.py:graph",
                    "module": "agents.support:make",
                    "object": {"path": TARGET, "description": "Answers.", "execution": "async"},
                }
            }
        )
    )

    assert config.graphs == {
        "file": GraphSpec("./src/agent/graph.py", "graph"),
        "module": GraphSpec("agents.support", "make"),
        "object": GraphSpec("./agent.py", "graph", "Answers.", "async"),
    }
    assert list(config.graphs) == ["file", "module", "object"]


@pytest.mark.parametrize(
    ("target", "is_file"),
    [("./a/b.py:g", True), ("a/b.py:g", True), ("b.py:g", True), ("a.b:g", False), ("b:g", False)],
)
def test_a_target_is_a_file_if_it_looks_like_a_path(write, target, is_file):
    spec = read(write({"graphs": {"agent": target}})).graphs["agent"]

    assert spec.is_file == is_file


def test_keys_that_only_the_official_tools_use_are_ignored(write):
    config = read(
        write(
            {
                "$schema": "https://example.com/schema.json",
                "python_version": "3.11",
                "dockerfile_lines": [],
                "graphs": {"agent": {"path": TARGET, "color": "blue"}},
            }
        )
    )

    assert config.graphs == {"agent": GraphSpec("./agent.py", "graph")}
    assert config.dependencies == ()
    assert config.env == {}


def test_local_dependencies_are_those_that_start_with_a_dot(write, tmp_path):
    (tmp_path / "libs" / "x").mkdir(parents=True)

    config = read(
        write({"graphs": {"a": TARGET}, "dependencies": [".", "langchain_openai", "./libs/x"]})
    )

    assert config.dependencies == (".", "langchain_openai", "./libs/x")
    assert [folder.resolve() for folder in config.local_dependencies] == [
        tmp_path.resolve(),
        (tmp_path / "libs" / "x").resolve(),
    ]


def test_the_path_is_made_absolute(write, tmp_path, monkeypatch):
    write({"graphs": {"a": TARGET}})
    monkeypatch.chdir(tmp_path)

    assert read(Path("langgraph.json")).path == tmp_path / "langgraph.json"


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "langgraph.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"graphs": {"a": TARGET}}).encode())

    assert list(read(path).graphs) == ["a"]


class TestEnv:
    def test_may_be_a_mapping(self, write):
        assert read(write({"graphs": {"a": TARGET}, "env": {"KEY": "value"}})).env == {
            "KEY": "value"
        }

    def test_may_be_a_file_beside_langgraph_json(self, write, tmp_path, monkeypatch):
        monkeypatch.chdir("/")
        (tmp_path / "settings.env").write_text(
            "# a comment\nexport KEY=value\nQUOTED='a b'\nEMPTY=\nNOT_SET\nPASSWORD=a$b\n"
        )

        config = read(write({"graphs": {"a": TARGET}, "env": "./settings.env"}))

        assert config.env == {"KEY": "value", "QUOTED": "a b", "EMPTY": "", "PASSWORD": "a$b"}

    def test_refers_to_the_value_that_the_process_will_have(self, write, tmp_path, monkeypatch):
        monkeypatch.setenv("HOST", "production")
        (tmp_path / ".env").write_text("HOST=laptop\nPORT=1\nURL=http://${HOST}:${PORT}\n")

        config = read(write({"graphs": {"a": TARGET}, "env": ".env"}))

        assert config.env["URL"] == "http://production:1"

    def test_may_be_empty(self, write):
        assert read(write({"graphs": {"a": TARGET}, "env": ""})).env == {}

    def test_may_name_a_dot_env_that_was_not_deployed(self, write, caplog):
        with caplog.at_level(logging.INFO, logger="runwait.graphs"):
            config = read(write({"graphs": {"a": TARGET}, "env": ".env"}))

        assert config.env == {}
        assert "there is no file .env" in caplog.text


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes"),
        ("[]", "must hold a JSON object"),
        ({}, "graphs: must be an object of graph names and their targets"),
        ({"graphs": ["./a.py:g"]}, "graphs: must be an object of graph names and their targets"),
        ({"graphs": {}}, "graphs: must name at least one graph"),
        ({"graphs": {"": TARGET}}, "graph '': must have a name"),
        ({"graphs": {"a": 1}}, "graph 'a': must be a target or an object with a path"),
        ({"graphs": {"a": {}}}, "graph 'a': path: must be a string"),
        (
            {"graphs": {"a": "./a.py"}},
            "graph 'a': path: must be like ./folder/file.py:name, not './a.py'",
        ),
        (
            {"graphs": {"a": "./a.py:"}},
            "graph 'a': path: must be like ./folder/file.py:name, not './a.py:'",
        ),
        (
            {"graphs": {"a": ":g"}},
            "graph 'a': path: must be like ./folder/file.py:name, not ':g'",
        ),
        (
            {"graphs": {"a": {"path": TARGET, "description": 1}}},
            "graph 'a': description: must be a string",
        ),
        (
            {"graphs": {"a": {"path": TARGET, "execution": "threads"}}},
            "graph 'a': execution: must be one of: sync, async",
        ),
        (
            {"graphs": {"a": {"path": TARGET, "execution": []}}},
            "graph 'a': execution: must be one of: sync, async",
        ),
        ({"graphs": {"a": TARGET}, "dependencies": "."}, "dependencies: must be a list of strings"),
        ({"graphs": {"a": TARGET}, "dependencies": [1]}, "dependencies: must be a list of strings"),
        (
            {"graphs": {"a": TARGET}, "dependencies": ["./missing"]},
            "dependencies: ./missing is not a folder",
        ),
        (
            {"graphs": {"a": TARGET}, "env": []},
            "env: must be the path of an env file, or an object",
        ),
        *[
            ({"graphs": {"a": TARGET}, key: value}, f"{key}: must be an object")
            for key in ("http", "store", "auth", "checkpointer", "webhooks")
            for value in ("./auth.py:auth", [], False)
        ],
        ({"graphs": {"a": TARGET}, "env": {"PORT": 1}}, "env: PORT: must be a string"),
        ({"graphs": {"a": TARGET}, "env": "missing.env"}, "env: there is no file missing.env"),
    ],
)
def test_a_defect_is_one_line_that_names_file_graph_and_field(write, document, reason):
    path = write(document)

    with pytest.raises(GraphLoadError) as raised:
        read(path)

    assert str(raised.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(GraphLoadError) as raised:
        read(tmp_path / "langgraph.json")

    assert str(raised.value) == f"{tmp_path / 'langgraph.json'}: {MISSING}"


def test_a_file_that_is_not_utf_8_is_one_line(tmp_path):
    path = tmp_path / "langgraph.json"
    path.write_bytes(b'{"graphs": "\xff"}')

    with pytest.raises(GraphLoadError, match="not valid JSON"):
        read(path)


def test_an_env_file_that_is_not_utf_8_is_one_line(write, tmp_path):
    (tmp_path / "latin.env").write_bytes(b"KEY=\xff")

    with pytest.raises(GraphLoadError, match=r"env: latin\.env can't be read"):
        read(write({"graphs": {"a": TARGET}, "env": "latin.env"}))


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"encryption": {"path": "./a.py:b"}}, "encryption"),
    ],
)
def test_what_would_keep_somebody_out_is_refused_until_it_works(write, document, key):
    with pytest.raises(GraphLoadError, match=f"langgraph.json: {key}: not supported yet"):
        read(write({"graphs": {"a": TARGET}, **document}))


@pytest.mark.parametrize(
    ("document", "key", "meant"),
    [
        ({"auth": {"pth": "./a.py:b"}}, "auth.pth", "path"),
        ({"auth": {"Path": "./a.py:b"}}, "auth.Path", "path"),
        ({"auth": {"path": "./a.py:b", "paths": []}}, "auth.paths", "path"),
        ({"auht": {"path": "./a.py:b"}}, "auht", "auth"),
        ({"Auth": {"path": "./a.py:b"}}, "Auth", "auth"),
        ({"encyption": {"path": "./a.py:b"}}, "encyption", "encryption"),
        ({"http": {"disable_metta": True}}, "http.disable_metta", "disable_meta"),
        (
            {"http": {"enable_custom_routes_auth": True}},
            "http.enable_custom_routes_auth",
            "enable_custom_route_auth",
        ),
        (
            {"http": {"configurable_headers": {"includes": ["*"], "exlcudes": ["x-a"]}}},
            "http.configurable_headers.exlcudes",
            "excludes",
        ),
        ({"webhooks": {"urls": {}}}, "webhooks.urls", "url"),
        (
            {"webhooks": {"url": {"allow_domains": ["a.example"]}}},
            "webhooks.url.allow_domains",
            "allowed_domains",
        ),
    ],
)
def test_what_seems_meant_to_keep_somebody_out_is_refused_if_it_is_misspelt(
    write, document, key, meant
):
    path = write({"graphs": {"a": TARGET}, **document})
    with pytest.raises(GraphLoadError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: {key}: is no key; if {meant} is meant, ")


@pytest.mark.parametrize(
    "document",
    [
        {"author": "Ada", "authors": [{"name": "Ada"}]},
        {"auth": {"path": "./a.py:b", "cache": {}, "openapi": {}, "disable_studio_auth": True}},
        {"http": {"app": "./a.py:b", "future": 1}, "tool": {"x": 1}},
    ],
)
def test_what_is_like_no_protection_stops_no_start(write, document):
    read(write({"graphs": {"a": TARGET}, **document}))


def test_what_is_of_no_effect_yet_is_named_in_one_warning(write):
    document = {
        "http": {
            "app": "./app.py:app",
            "logging_headers": {"includes": ["x-a"]},
            "cros": {},
            "cors": {"allow_origin": []},
        },
        "store": {"index": {"dims": 1536}, "ttl": {}},
        "checkpointer": {"ttl": {"default_tll": 10}, "path": "./saver.py:make"},
        "priority": {"path": "./priority.py:of"},
        "webhooks": {"url": {}, "haeders": {}},
        "ui": {"agent": "./ui.tsx"},
        "checkpoint": {},
        "Dependency": ["."],
    }
    path = write({"graphs": {"a": TARGET, "b": {"path": TARGET, "descripton": "x"}}, **document})

    names = (
        "ui, http.logging_headers, checkpointer.path, priority.path, http.cros, "
        "http.cors.allow_origin, checkpointer.ttl.default_tll, webhooks.haeders, "
        "graphs.b.descripton, checkpoint, Dependency"
    )
    assert read(path).warning == f"{path}: of no effect yet: {names}"
    of_images = [
        *("python_version", "node_version", "base_image", "image_distro", "dockerfile_lines"),
        *("pip_installer", "pip_config_file", "keep_pkg_tools", "source", "api_version", "$schema"),
    ]
    assert read(write({"graphs": {"a": TARGET}, **dict.fromkeys(of_images, "x")})).warning is None
