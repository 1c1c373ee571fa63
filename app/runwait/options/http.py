"""What a project and its deployment say of the HTTP edge: `http` of langgraph.json, and settings.

Where both say something of the same, langgraph.json's `http.cors` counts, since it says more, and
the variable MOUNT_PREFIX, since where a service is mounted is the deployment's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from runwait.graphs.config import KNOWN, LanggraphConfig
from runwait.options.section import Section
from runwait.settings import Settings, is_origin, prefix_problem

_OFF = "disable_"
# What can be turned off, each by a key.
GROUPS = [each[len(_OFF) :] for each in KNOWN["http"] if each.startswith(_OFF)]
_META = ("info", "metrics", "docs", "openapi.json")
# What follows runs, or starts them, below a path that has no "runs" in it.
_OF_RUNS = re.compile(r"/threads/[^/]+/(stream|commands)(/|\Z)")
# Secrets, which no graph is given unless a pattern without a wildcard names them; and the keys of
# the service itself, which none is given.
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_KEYS = frozenset({"x-api-key", "x-service-key"})


@dataclass(frozen=True)
class Cors:
    """Which pages of other origins may call the service, and how; see Flask-Cors for the names."""

    origins: list[str]
    origin_regex: str | None = None
    methods: list[str] | None = None
    headers: list[str] = field(default_factory=lambda: ["*"])
    credentials: bool = False
    expose: list[str] = field(default_factory=list)
    max_age: int = 600


@dataclass(frozen=True)
class Headers:
    """Which headers of a request are meant, by patterns: `*` stands for any text."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def of(self, given: Any) -> dict[str, str]:
        """Those of a request's headers that are meant, by their names in lower case."""
        if not self.includes:
            return {}
        return {name.lower(): value for name, value in given.items() if self._has(name.lower())}

    def lasting(self, given: Any) -> dict[str, str]:
        """Those of them that may be kept for requests that are not sent yet: not what somebody
        proves with who they are, which ends before a cron does."""
        return {name: value for name, value in self.of(given).items() if name not in _SECRET}

    def _has(self, name: str) -> bool:
        if name in _KEYS or any(fnmatchcase(name, each) for each in self.excludes):
            return False
        if name in _SECRET:
            return name in self.includes
        return any(fnmatchcase(name, each) for each in self.includes)


@dataclass(frozen=True)
class HttpOptions:
    """How the service is reached.

    Attributes:
        disabled: those of GROUPS whose paths are not there.
        app: where the user's own app is, as langgraph.json has it.
        authenticates_app: whether callers of that have to say who they are, too.
        prefix: the path below which all others are; empty for none.
        cors: None where no page of another origin may call.
        configurable_headers: those that a run's configurable has.
    """

    disabled: frozenset[str] = frozenset()
    app: str | None = None
    authenticates_app: bool = False
    prefix: str = ""
    cors: Cors | None = None
    configurable_headers: Headers = field(default_factory=Headers)

    def has(self, path: str) -> bool:
        """Whether a path of the API is there."""
        return group_of(path) not in self.disabled


def group_of(path: str) -> str:
    """Which of GROUPS a path of the API is of; its first part, if of none."""
    parts = path.strip("/").split("/")
    if "runs" in parts or _OF_RUNS.match(path):
        return "runs"
    if parts[0] in _META:
        return "meta"
    return "ui" if parts[0] in ("", "workbench") else parts[0]


def http_options(settings: Settings, config: LanggraphConfig) -> HttpOptions:
    """What the settings and langgraph.json say; nothing is imported.

    Raises:
        GraphLoadError: langgraph.json says what cannot be done.
    """
    section = Section.of(config, "http")
    return HttpOptions(
        disabled=frozenset(each for each in GROUPS if section.flag(_OFF + each)),
        app=section.text("app"),
        authenticates_app=section.flag("enable_custom_route_auth"),
        prefix=settings.mount_prefix or _prefix(section),
        cors=_cors(settings, section),
        configurable_headers=_headers(section),
    )


def _prefix(section: Section) -> str:
    prefix = section.text("mount_prefix")
    if prefix is None or prefix == "/":
        return ""
    if problem := prefix_problem(prefix):
        raise section.wrong("mount_prefix", problem)
    return prefix


def _cors(settings: Settings, http: Section) -> Cors | None:
    section = http.inner("cors")
    if not section.is_there:
        origins = settings.cors_allow_origins
        return Cors(origins) if origins else None
    origins, regex = section.texts("allow_origins"), section.text("allow_origin_regex")
    if wrong := [each for each in origins if not is_origin(each)]:
        problem = f"must be such as https://a.example, without a path or a slash, not {wrong[0]!r}"
        raise section.wrong("allow_origins", problem)
    if not (origins or regex):
        return None
    try:
        re.compile(regex or "")
    except re.error as error:
        problem = f"must be a regular expression: {error}"
        raise section.wrong("allow_origin_regex", problem) from None
    credentials = section.flag("allow_credentials")
    if credentials and "*" in origins:
        problem = "cannot be had with the origin *: any page could act for whoever looks at it"
        raise section.wrong("allow_credentials", problem)
    methods = [each.upper() for each in section.texts("allow_methods")]
    return Cors(
        origins,
        regex,
        methods if methods and "*" not in methods else None,
        section.texts("allow_headers") or ["*"],
        credentials,
        section.texts("expose_headers"),
        section.whole("max_age", "a number of seconds, whole and not negative", 0, Cors.max_age),
    )


def _headers(http: Section) -> Headers:
    section = http.inner("configurable_headers")
    # LangGraph's pages have both forms of the names.
    include, exclude = (
        tuple(each.lower() for name in (f"{verb}s", verb) for each in section.texts(name))
        for verb in ("include", "exclude")
    )
    return Headers(include, exclude)
