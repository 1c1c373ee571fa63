"""What langgraph.json and the settings say of the HTTP edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.options.http import GROUPS, Cors, Headers, HttpOptions, group_of, http_options
from runwait.settings import Settings


def options(http: dict[str, Any], **settings: Any) -> HttpOptions:
    config = LanggraphConfig(Path("/p/langgraph.json"), {}, (), {}, sections={"http": http})
    return http_options(Settings(**settings), config)


def test_nothing_is_open_turned_off_or_passed_on_unless_it_is_said():
    assert options({}) == HttpOptions()
    assert HttpOptions().cors is None


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/assistants/search", "assistants"),
        ("/threads/<thread_id>/state", "threads"),
        ("/threads/<thread_id>/runs/<run_id>/join", "runs"),
        ("/threads/<thread_id>/stream", "runs"),
        ("/threads/<thread_id>/stream/events", "runs"),
        ("/threads/<thread_id>/commands", "runs"),
        ("/runs/crons", "runs"),
        ("/store/items", "store"),
        ("/mcp", "mcp"),
        ("/a2a/<assistant_id>", "a2a"),
        ("/openapi.json", "meta"),
        ("/info", "meta"),
        ("/", "ui"),
        ("/workbench/<name>", "ui"),
        ("/ok", "ok"),
        ("/ready", "ready"),
    ],
)
def test_a_path_is_of_one_group(path, group):
    assert group_of(path) == group


def test_what_is_turned_off_is_not_there_and_all_else_is():
    found = options({"disable_threads": True, "disable_meta": True, "disable_mcp": False})
    assert found.disabled == {"threads", "meta"} < {*GROUPS}
    assert not found.has("/threads/<thread_id>") and not found.has("/info")
    assert found.has("/threads/<thread_id>/runs") and found.has("/ok") and found.has("/mcp")


def test_cors_of_the_file_comes_before_that_of_the_environment():
    given = {
        "allow_origins": ["https://a.example"],
        "allow_origin_regex": "https://.*[.]a[.]example",
        "allow_methods": ["get"],
        "allow_headers": ["X-One"],
        "allow_credentials": True,
        "expose_headers": ["X-Two"],
        "max_age": 5,
    }
    environment = ["https://b.example"]
    found = options({"cors": given}, cors_allow_origins=environment).cors
    assert found == Cors(
        ["https://a.example"],
        "https://.*[.]a[.]example",
        ["GET"],
        ["X-One"],
        True,
        ["X-Two"],
        5,
    )
    assert options({}, cors_allow_origins=environment).cors == Cors(environment)
    assert options({"cors": {}}, cors_allow_origins=environment).cors is None


def test_the_prefix_of_the_environment_comes_before_that_of_the_file():
    assert options({"mount_prefix": "/v1.0"}).prefix == "/v1.0"
    assert options({"mount_prefix": "/a"}, mount_prefix="/b").prefix == "/b"
    assert options({"mount_prefix": "/"}).prefix == ""


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ({"disable_runs": "yes"}, "http.disable_runs: must be true or false"),
        ({"app": 5}, "http.app: must be a string"),
        ({"mount_prefix": "api"}, "http.mount_prefix: must be a path such as /api"),
        ({"mount_prefix": "/api/"}, "http.mount_prefix: must be a path such as /api"),
        ({"mount_prefix": "/a/../b"}, "http.mount_prefix: must be a path such as /api"),
        ({"mount_prefix": "/a%2Fb"}, "http.mount_prefix: must be a path such as /api"),
        ({"mount_prefix": "/a\n"}, "http.mount_prefix: must be a path such as /api"),
        ({"cors": ["*"]}, "http.cors: must be an object"),
        ({"cors": {"allow_origins": "*"}}, "http.cors.allow_origins: must be a list of strings"),
        ({"cors": {"allow_origins": [1]}}, "http.cors.allow_origins: must be a list of strings"),
        (
            {"cors": {"allow_origins": ["https://a.example/"]}},
            "http.cors.allow_origins: must be such as https://a.example",
        ),
        (
            {"cors": {"allow_origins": ["a.example"]}},
            "http.cors.allow_origins: must be such as https://a.example",
        ),
        ({"cors": {"allow_origin_regex": "("}}, "http.cors.allow_origin_regex: must be a regular"),
        (
            {"cors": {"allow_origins": ["*"], "max_age": True}},
            "http.cors.max_age: must be a number of seconds",
        ),
        (
            {"cors": {"allow_origins": ["*"], "allow_credentials": True}},
            "http.cors.allow_credentials: cannot be had with the origin *",
        ),
        (
            {"configurable_headers": {"includes": "x-a"}},
            "http.configurable_headers.includes: must be a list of strings",
        ),
    ],
)
def test_what_cannot_be_done_is_told_by_its_key(http, problem):
    with pytest.raises(GraphLoadError) as raised:
        options(http)
    assert str(raised.value).startswith(f"/p/langgraph.json: {problem}")


class TestHeaders:
    GIVEN: ClassVar = {
        "X-Api-Key": "k",
        "X-Service-Key": "k",
        "X-User-Id": "ada",
        "X-Secret": "s",
        "Authorization": "Bearer k",
        "Cookie": "c",
        "User-Agent": "curl",
    }

    @pytest.mark.parametrize(
        ("includes", "excludes", "found"),
        [
            ([], [], []),
            (["x-user-id"], [], ["x-user-id"]),
            (["X-*"], ["x-s*"], ["x-user-id"]),
            (["*"], [], ["x-user-id", "x-secret", "user-agent"]),
            (["x-api-key", "x-service-key"], [], []),
            (["authorization"], [], ["authorization"]),
            (["auth*", "cookie"], [], ["cookie"]),
            (["authorization"], ["*"], []),
        ],
    )
    def test_are_those_that_are_included_and_not_excluded(self, includes, excludes, found):
        headers = options(
            {"configurable_headers": {"includes": includes, "excludes": excludes}}
        ).configurable_headers
        assert [*headers.of(self.GIVEN)] == found

    def test_may_be_named_in_either_form(self):
        given = {"include": ["a"], "exclude": ["b"]}
        assert options({"configurable_headers": given}).configurable_headers == Headers(
            ("a",), ("b",)
        )
