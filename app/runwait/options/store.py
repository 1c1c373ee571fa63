"""The store as langgraph.json has it: its index, and how long its items live."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from langgraph.store.base import TTLConfig
from langgraph.store.base.embed import ensure_embeddings

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.graphs.loader import load_object
from runwait.options.section import Section
from runwait.storage.embedding import Embedder
from runwait.storage.store import MAX_TTL_MINUTES
from runwait.storage.vectors import TEXTS_MAX, Index

DIMS_MAX = 16_384
_DIMS = f"an integer from 1 to {DIMS_MAX}"


@dataclass(frozen=True)
class StoreOptions:
    """What a project says of its store: see `RedisStore`."""

    index: Index | None = None
    ttl: TTLConfig | None = None


def store_options(config: LanggraphConfig) -> StoreOptions:
    """What langgraph.json says of the store; its embedding function is imported.

    Raises:
        GraphLoadError: it is not as it must be, or the function cannot be imported.
    """
    section = Section.of(config, "store")
    return StoreOptions(_index(config, section.inner("index")), _ttl(section.inner("ttl")))


def _index(config: LanggraphConfig, given: Section) -> Index | None:
    if not given.is_there:
        return None
    dims = given.whole("dims", _DIMS, 1, 0)
    if not 1 <= dims <= DIMS_MAX:
        raise given.wrong("dims", f"must be {_DIMS}")
    fields = given.texts("fields") if given.given.get("fields") is not None else ["$"]
    if not 1 <= len(fields) <= TEXTS_MAX:
        reason = f"must be a list of 1 to {TEXTS_MAX} paths, such as text, or $ for the whole value"
        raise given.wrong("fields", reason)
    embed = given.text("embed") or ""
    if ":" not in embed:
        raise given.wrong("embed", "must be like ./folder/file.py:function, or provider:model")
    return Index(Embedder(_embeddings(config, embed), dims), embed, dims, fields)


def _embeddings(config: LanggraphConfig, embed: str) -> Any:
    key = "store.index.embed"
    place = embed.partition(":")[0]
    if place.endswith(".py") or "/" in place:
        found = load_object(config, key, embed)
        if not callable(found) and not hasattr(found, "embed_documents"):
            reason = f"{embed} must be a function from texts to vectors, or LangChain embeddings"
            raise GraphLoadError(config.path, key, reason)
        return ensure_embeddings(found)
    try:
        return ensure_embeddings(embed)
    except Exception as error:
        raise GraphLoadError(config.path, key, _missing(embed, error)) from error


def _missing(embed: str, error: Exception) -> str:
    if importlib.util.find_spec("langchain") is None:
        package = f"langchain-{embed.partition(':')[0]}".replace("_", "-")
        return f"needs LangChain: pip install langchain {package}"
    return f"{embed}: {type(error).__name__}: {error}"


def _ttl(given: Section) -> TTLConfig | None:
    if not given.is_there:
        return None
    default = given.minutes("default_ttl", MAX_TTL_MINUTES)
    return TTLConfig(default_ttl=default, refresh_on_read=given.flag("refresh_on_read", True))
