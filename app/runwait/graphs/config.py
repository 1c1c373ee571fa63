"""langgraph.json, the file that names a project's graphs.

It is read as the official tools read it: keys that are about images (`python_version`,
`dockerfile_lines`, ...) are left alone. What is not supported yet is refused where it would keep
somebody out, and else told of at the start. One key is ours: a graph given as an object may
say `"execution": "sync"` or `"async"`, which overrides how it would be run.
"""

import json
import logging
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dotenv.main import DotEnv

Execution = Literal["sync", "async"]

logger = logging.getLogger("runwait.graphs")


# Keys inside others that would change an answer elsewhere.
_UNSUPPORTED = {
    "http": ("logging_headers", "middleware_order"),
    "checkpointer": ("path", "serde"),
    "priority": ("path",),
}

# All that these sections may hold, and all that `Section` can be asked for; a key that is none of
# these is most likely misspelt.
KNOWN = {
    "http": (
        *("app", "enable_custom_route_auth", "mount_prefix", "cors"),
        *("configurable_headers", *_UNSUPPORTED["http"]),
        *("disable_assistants", "disable_threads", "disable_runs", "disable_store", "disable_mcp"),
        *("disable_a2a", "disable_meta", "disable_webhooks", "disable_ui"),
    ),
    "http.cors": (
        *("allow_origins", "allow_origin_regex", "allow_methods", "allow_headers"),
        *("allow_credentials", "expose_headers", "max_age"),
    ),
    "http.configurable_headers": ("includes", "include", "excludes", "exclude"),
    "store": ("index", "ttl"),
    "store.index": ("embed", "dims", "fields"),
    "store.ttl": ("default_ttl", "refresh_on_read", "sweep_interval_minutes", "omit_expired"),
    "auth": ("path", "cache", "openapi", "disable_studio_auth"),
    "auth.cache": ("cache_keys", "ttl_seconds", "max_size"),
    "checkpointer": ("ttl", *_UNSUPPORTED["checkpointer"]),
    "checkpointer.ttl": ("strategy", "default_ttl", "sweep_interval_minutes", "sweep_limit"),
    "webhooks": ("env_prefix", "url", "headers"),
    "webhooks.url": (
        "require_https",
        "allowed_domains",
        "allowed_ports",
        "max_url_length",
        "disable_loopback",
    ),
}

# Keys at the top that mean something. There may be keys of other tools too, so that only what is
# almost one of these is most likely misspelt.
_TOP = (
    "graphs",
    "dependencies",
    "env",
    "ui",
    "priority",
    *(key for key in KNOWN if "." not in key),
)
_OF_A_GRAPH = ("path", "description", "execution")

# Of these, the keys that keep somebody out, or something in: misspelt, they would keep out nobody.
_KEEPS_OUT = {
    "": ("auth", "encryption"),
    "auth": ("path",),
    "http": tuple(each for each in KNOWN["http"] if each.startswith(("disable_", "enable_"))),
    "http.configurable_headers": ("excludes", "exclude"),
    "webhooks": ("url",),
    "webhooks.url": KNOWN["webhooks.url"],
}


class GraphLoadError(Exception):
    """A project that can't be served. `str()` is one line; `loader.report` says where it raised.

    Args:
        place: the file that is at fault, or that names what is.
        parts: where in it, from the outside in, and last the reason.
    """

    def __init__(self, place: Path | str, *parts: object) -> None:
        super().__init__(" ".join(": ".join(str(part) for part in (place, *parts)).split()))


@dataclass(frozen=True)
class GraphSpec:
    """One entry of `graphs`: the object `name` of `module`, which is a .py file's path, relative to
    langgraph.json's folder, or a dotted module name."""

    module: str
    name: str
    description: str | None = None
    execution: Execution | None = None

    @property
    def target(self) -> str:
        """The target as langgraph.json has it."""
        return f"{self.module}:{self.name}"

    @property
    def is_file(self) -> bool:
        return "/" in self.module or self.module.endswith(".py")


@dataclass(frozen=True)
class LanggraphConfig:
    """What langgraph.json says.

    Attributes:
        path: where it is; absolute.
        env: what it sets, whether or not the process's environment already has it.
        sections: its other keys whose value is an object, as they are; see `section`.
        unsupported: keys that would change an answer elsewhere, and do nothing here.
    """

    path: Path
    graphs: dict[str, GraphSpec]
    dependencies: tuple[str, ...]
    env: dict[str, str]
    unsupported: tuple[str, ...] = ()
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def section(self, key: str) -> dict[str, Any]:
        """The object that the file has under `key`, such as `http`; empty if there is none."""
        return self.sections.get(key, {})

    @property
    def warning(self) -> str | None:
        """What whoever starts the service should know, or None."""
        if not self.unsupported:
            return None
        return f"{self.path}: of no effect yet: {', '.join(self.unsupported)}"

    @property
    def local_dependencies(self) -> list[Path]:
        """The folders among the dependencies. By the official tools' rule those start with a dot;
        the others are names for pip."""
        return [self.path.parent / name for name in self.dependencies if name.startswith(".")]


def read(path: Path) -> LanggraphConfig:
    """Read the langgraph.json at `path`.

    Raises:
        GraphLoadError: for whatever keeps it from being served, before any graph is imported.
    """
    # Not resolve(): a module found through a symlink keeps the name that the link gives it.
    path = path.absolute()
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as exc:
        hint = "there is no such file (LANGGRAPH_CONFIG says which one is served)"
        raise GraphLoadError(path, hint) from exc
    except OSError as exc:
        raise GraphLoadError(path, exc.strerror or exc) from exc
    except ValueError as exc:
        raise GraphLoadError(path, f"not valid JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise GraphLoadError(path, "must hold a JSON object")
    _refuse_what_keeps_out(path, document)
    return LanggraphConfig(
        path=path,
        graphs=_graphs(path, document.get("graphs")),
        dependencies=_dependencies(path, document.get("dependencies", [])),
        env=_env(path, document.get("env", {})),
        unsupported=tuple(_unsupported(document)),
        sections=_sections(path, document),
    )


def _refuse_what_keeps_out(path: Path, document: dict[str, Any]) -> None:
    """Refuse a file that relies on a protection which is not there, or not under this name."""
    if asked := [key for key in ("encryption",) if document.get(key)]:
        reason = "not supported yet, and without it more would be let in than is meant: remove it"
        raise GraphLoadError(path, ", ".join(asked), reason)
    for key, names in _KEEPS_OUT.items():
        for name, value in _inner(document, key).items():
            # At the top there may be keys of other tools.
            if name in KNOWN.get(key, names) or not (key or isinstance(value, dict)):
                continue
            for meant in get_close_matches(name.lower(), names, 1, 0.7):
                reason = f"is no key; if {meant} is meant, more would be let in than that allows"
                raise GraphLoadError(path, f"{key}.{name}" if key else name, reason)


def _sections(path: Path, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects in the file; of those that mean something here, none may be anything else."""
    for key in KNOWN:
        # Passed over, `auth` would let everybody in.
        if not isinstance(document.get(key), dict | None):
            raise GraphLoadError(path, key, "must be an object")
    return {key: value for key, value in document.items() if isinstance(value, dict)}


def _unsupported(document: dict[str, Any]) -> list[str]:
    found = [key for key in ("ui",) if document.get(key)]
    for key, names in _UNSUPPORTED.items():
        found += [f"{key}.{name}" for name in names if _object(document.get(key)).get(name)]
    for key, names in KNOWN.items():
        found += [f"{key}.{name}" for name in _inner(document, key) if name not in names]
    for graph_id, graph in _object(document.get("graphs")).items():
        found += [f"graphs.{graph_id}.{name}" for name in _object(graph) if name not in _OF_A_GRAPH]
    for name in document:
        if name not in _TOP and get_close_matches(name.lower(), _TOP, 1, 0.8):
            found.append(name)
    return found


def _inner(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The object at a key such as store.index, the document itself at none; empty if it is none."""
    section = document
    for part in key.split(".") if key else ():
        section = _object(section.get(part))
    return section


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _graphs(path: Path, graphs: Any) -> dict[str, GraphSpec]:
    if not isinstance(graphs, dict):
        raise GraphLoadError(path, "graphs", "must be an object of graph names and their targets")
    if not graphs:
        raise GraphLoadError(path, "graphs", "must name at least one graph")
    return {graph_id: _graph(path, graph_id, value) for graph_id, value in graphs.items()}


def _graph(path: Path, graph_id: str, value: Any) -> GraphSpec:
    where = f"graph {graph_id!r}"
    if not graph_id:
        raise GraphLoadError(path, where, "must have a name")
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict):
        raise GraphLoadError(path, where, "must be a target or an object with a path")

    target = value.get("path")
    if not isinstance(target, str):
        raise GraphLoadError(path, where, "path", "must be a string")
    module, _, name = target.rpartition(":")
    if not module or not name:
        raise GraphLoadError(
            path, where, "path", f"must be like ./folder/file.py:name, not {target!r}"
        )
    description = value.get("description")
    if not isinstance(description, str | None):
        raise GraphLoadError(path, where, "description", "must be a string")
    execution = value.get("execution")
    if execution not in ("sync", "async", None):
        raise GraphLoadError(path, where, "execution", "must be one of: sync, async")
    return GraphSpec(module, name, description, execution)


def _dependencies(path: Path, dependencies: Any) -> tuple[str, ...]:
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise GraphLoadError(path, "dependencies", "must be a list of strings")
    for name in dependencies:
        if name.startswith(".") and not (path.parent / name).is_dir():
            raise GraphLoadError(path, "dependencies", f"{name} is not a folder")
    return tuple(dependencies)


def _env(path: Path, env: Any) -> dict[str, str]:
    if isinstance(env, str):
        return _env_file(path, env) if env else {}
    if not isinstance(env, dict):
        raise GraphLoadError(path, "env", "must be the path of an env file, or an object")
    for name, value in env.items():
        if not isinstance(value, str):
            raise GraphLoadError(path, "env", name, "must be a string")
    return env


def _env_file(path: Path, name: str) -> dict[str, str]:
    file = path.parent / name
    if not file.is_file():
        # The official templates say ".env" and keep it out of git, so where the environment is set
        # by other means there is none.
        if file.name == ".env":
            logger.info("%s: there is no file %s; the environment alone counts", path, name)
            return {}
        raise GraphLoadError(path, "env", f"there is no file {name}")
    try:
        # override=False: where the file refers to ${NAME}, the process's own NAME comes first, as
        # it does when the loader sets what is read here.
        values = DotEnv(file, encoding="utf-8", override=False).dict()
    except (OSError, ValueError) as exc:
        raise GraphLoadError(path, "env", f"{name} can't be read: {exc}") from exc
    return {key: value for key, value in values.items() if value is not None}
