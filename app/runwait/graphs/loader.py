"""Imports the graphs that langgraph.json names.

A file is imported under the name by which its project would import it: as part of the package it
is in, otherwise by its path from a folder that is on `sys.path`. So relative imports work, no
module is loaded twice, and its classes can be pickled. Only a file that has no such name gets one
made up.

On `sys.path` come langgraph.json's folder and the local dependencies, as with `langgraph dev`, and
a `src` folder in each, so that a project of that layout needn't be installed. They come last, so
that a project's `calendar.py` hides nobody else's.
"""

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from runwait.graphs.config import GraphLoadError, GraphSpec, LanggraphConfig
from runwait.graphs.graph import Graph

# Whose lines are none of the project's: Runwait's, and those of packages and of Python itself.
_OURS = (str(Path(__file__).parents[1]), str(importlib.__file__), "<")
_OTHERS = tuple({sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib")})
_PACKAGES = re.compile(r"[/\\](site|dist)-packages[/\\]")


def load(config: LanggraphConfig, modules: Iterable[str] = ()) -> dict[str, Graph]:
    """Import the graphs of `config`, in its order, and then `modules`.

    The variables of its `env` are set before, except those that the environment already has: what a
    deployment sets wins over the file. (With `langgraph dev` the file wins.)

    Raises:
        GraphLoadError: a target can't be imported or is no graph, or a module can't be imported;
            its cause is what was raised.
    """
    loaded = {}
    for graph_id, found in load_each(config):
        if isinstance(found, GraphLoadError):
            raise found
        loaded[graph_id] = found
    load_modules(config, modules)
    return loaded


def load_modules(config: LanggraphConfig, modules: Iterable[str]) -> None:
    """Import the modules that STATE_MODULES names.

    Raises:
        GraphLoadError: one can't be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as exc:
            reason = f"can't be imported: {type(exc).__name__}: {exc}"
            raise GraphLoadError(config.path, f"STATE_MODULES: {name!r}", reason) from exc


def load_each(config: LanggraphConfig) -> Iterator[tuple[str, Graph | GraphLoadError]]:
    """Import the graphs one by one, and go on after one that can't be loaded."""
    roots = _enter(config)
    for graph_id, spec in config.graphs.items():
        try:
            yield graph_id, _load(config, roots, graph_id, spec)
        except GraphLoadError as error:
            yield graph_id, error


def load_object(config: LanggraphConfig, key: str, target: str) -> Any:
    """Import the object that a key of langgraph.json names in the way that it names graphs.

    Args:
        config: what langgraph.json says.
        key: the key, as in `store.index.embed`.
        target: `./path/to/file.py:name` or `package.module:name`.

    Raises:
        GraphLoadError: it cannot be imported; its cause is what was raised.
    """
    module, _, name = target.rpartition(":")
    if not module or not name:
        raise GraphLoadError(config.path, key, f"must be like ./folder/file.py:name, not {target}")
    return _object(config, _enter(config), key, GraphSpec(module, name))


def _enter(config: LanggraphConfig) -> list[Path]:
    """Set the variables of a project and put its folders on the path; the folders."""
    for name, value in config.env.items():
        os.environ.setdefault(name, value)
    roots = _roots(config)
    sys.path.extend(str(root) for root in roots if str(root) not in sys.path)
    # The import system remembers what was in its folders when it last looked.
    importlib.invalidate_caches()
    return roots


def report(error: GraphLoadError, *, whole: bool = False) -> str:
    """The error, and in lines of their own where the project's code raised it, or all of that.

    Args:
        error: what a graph, or langgraph.json, cannot be loaded for.
        whole: whether to give the whole traceback.
    """
    raised = error.__cause__
    if whole and raised is not None:
        return f"{error}\n{''.join(traceback.format_exception(raised)).rstrip()}"
    lines, told = [str(error)], set[int]()
    while raised is not None and id(raised) not in told:
        if told:
            lines.append(" ".join(f"  raised from {type(raised).__name__}: {raised}".splitlines()))
        told.add(id(raised))
        lines += _lines_of(raised)
        raised = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    return "\n".join(lines)


def _lines_of(raised: BaseException) -> Iterator[str]:
    """The project's lines that raised, from the outside in; else the last one that is not ours."""
    frames = [
        (frame.filename, frame.lineno, frame.line)
        for frame in traceback.extract_tb(raised.__traceback__)
        if not frame.filename.startswith(_OURS)
    ]
    own = [each for each in frames if not _is_anothers(each[0])] or frames[-1:]
    if isinstance(raised, SyntaxError):
        own.append((raised.filename or "?", raised.lineno, raised.text))
    for file, number, line in own:
        yield f"  {file}:{number}: {(line or '').strip()}"


def _is_anothers(file: str) -> bool:
    return file.startswith(_OTHERS) or _PACKAGES.search(file) is not None


def _roots(config: LanggraphConfig) -> list[Path]:
    """The folders that go on `sys.path`."""
    roots = []
    for folder in (config.path.parent, *config.local_dependencies):
        root = _normal(folder)
        roots.append(root)
        if (root / "src").is_dir() and not (root / "src" / "__init__.py").is_file():
            roots.append(root / "src")
    return list(dict.fromkeys(roots))


def _load(config: LanggraphConfig, roots: list[Path], graph_id: str, spec: GraphSpec) -> Graph:
    def make(target: Any) -> Graph:
        return Graph(graph_id, target, spec.description, spec.execution)

    graph: Graph = _object(config, roots, f"graph {graph_id!r}", spec, make)
    return graph


def _object(
    config: LanggraphConfig,
    roots: list[Path],
    what: str,
    spec: GraphSpec,
    make: Callable[[Any], Any] = lambda found: found,
) -> Any:
    """What `make` makes of the object that `spec` names."""
    base = config.path.parent
    file = _normal(base / spec.module) if spec.is_file else None
    where = (file or config.path, what)
    if file is not None and not file.is_file():
        raise GraphLoadError(*where, "there is no such file")
    if file is not None and file.suffix != ".py":
        raise GraphLoadError(*where, "is not a Python file")

    working_directory = Path.cwd()
    try:
        module = _import_file(file, roots, base) if file else importlib.import_module(spec.module)
        return make(getattr(module, spec.name))
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # a module may raise anything, SystemExit included
        reason = f"{type(exc).__name__}: {exc}"
        if isinstance(exc, ModuleNotFoundError):
            reason += (
                "; install the package that has it into the service's environment, or name its "
                "folder in dependencies, such as ./lib"
            )
        elif isinstance(exc, ImportError) and "no known parent package" in str(exc):
            reason += f"; for relative imports put an __init__.py into {where[0].parent}"
        raise GraphLoadError(*where, reason) from exc
    finally:
        os.chdir(working_directory)


def _import_file(file: Path, roots: list[Path], base: Path) -> ModuleType:
    top = file.parent
    while (top / "__init__.py").is_file() and top.name.isidentifier():
        top = top.parent
    package = _dotted(file, top) if top != file.parent else None
    if package is not None:
        _put_on_path(package, top, file)

    ancestors = sorted((r for r in roots if file.is_relative_to(r)), key=lambda r: -len(r.parts))
    for root in [top, *ancestors] if package else ancestors:
        name = _dotted(file, root)
        if name is not None and _leads_to(name, root, file):
            module = importlib.import_module(name)
            if not _same(module.__file__, file):
                raise ImportError(f"{name} is {module.__file__}")
            return module

    if package is not None:
        name = package.partition(".")[0]
        other = getattr(sys.modules.get(name), "__file__", None) or "Python's own"
        raise ImportError(f"its package {name!r} has the name of one in use, {other}: rename it")
    return _import_alone(file, base)


def _put_on_path(name: str, root: Path, file: Path) -> None:
    """Make a package in `root` importable, also where another copy of it is installed, but not in
    place of one that is in use."""
    top = name.partition(".")[0]
    if _leads_to(name, root, file) or top in sys.modules or top in sys.stdlib_module_names:
        return
    if importlib.util.find_spec(top) is None:
        sys.path.append(str(root))
    else:
        sys.path.insert(0, str(root))


def _dotted(file: Path, root: Path) -> str | None:
    """The name by which `file` is imported where `root` is on `sys.path`."""
    parts = file.relative_to(root).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and not any("." in part for part in parts) else None


def _leads_to(name: str, root: Path, file: Path) -> bool:
    """Whether an import of `name` begins in `root`, and not at something else of that name. This
    imports nothing."""
    top, dot, _ = name.partition(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # what Python says of a module like __main__
        return False
    if spec is None:
        return False
    if not dot:
        return _same(spec.origin, file)
    return any(_same(place, root / top) for place in spec.submodule_search_locations or ())


def _import_alone(file: Path, base: Path) -> ModuleType:
    # A checkpoint names the modules of the classes in it. So the name depends on where the file is
    # in its project, but not on where that is.
    place = os.path.relpath(file, base)
    stem = re.sub(r"\W+", "_", file.stem)
    name = f"runwait_graph_{stem}_{sha256(place.encode()).hexdigest()[:8]}"
    loaded = sys.modules.get(name)
    if loaded is not None and _same(loaded.__file__, file):
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the file ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _same(place: str | None, path: Path) -> bool:
    return place is not None and Path(place).exists() and path.samefile(place)
