"""The store as langgraph.json has it: its index, and how long its items live."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.store.base import TTLConfig
from langgraph.store.base.embed import ensure_embeddings

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.graphs.loader import load_object
from runwait.storage.embedding import Embedder
from runwait.storage.store import MAX_TTL_MINUTES
from runwait.storage.vectors import TEXTS_MAX, Index

DIMS_MAX = 16_384


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
    section = config.section("store")
    return StoreOptions(_index(config, section.get("index")), _ttl(config, section.get("ttl")))


def _index(config: LanggraphConfig, given: Any) -> Index | None:
    if given is None:
        return None
    where = (config.path, "store.index")
    if not isinstance(given, Mapping):
        raise GraphLoadError(*where, "must be an object with embed, dims and, if need be, fields")
    embed, dims, fields = given.get("embed"), given.get("dims"), given.get("fields")
    if not isinstance(dims, int) or isinstance(dims, bool) or not 1 <= dims <= DIMS_MAX:
        reason = f"must be an integer from 1 to {DIMS_MAX}"
        raise GraphLoadError(config.path, "store.index.dims", reason)
    fields = ["$"] if fields is None else fields
    if (
        not isinstance(fields, list)
        or not 1 <= len(fields) <= TEXTS_MAX
        or not all(isinstance(each, str) and each for each in fields)
    ):
        reason = f"must be a list of 1 to {TEXTS_MAX} paths, such as text, or $ for the whole value"
        raise GraphLoadError(config.path, "store.index.fields", reason)
    if not isinstance(embed, str) or ":" not in embed:
        reason = "must be like ./folder/file.py:function, or provider:model"
        raise GraphLoadError(config.path, "store.index.embed", reason)
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


def _ttl(config: LanggraphConfig, given: Any) -> TTLConfig | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise GraphLoadError(
            config.path, "store.ttl", "must be an object, such as one with default_ttl"
        )
    default, refresh = given.get("default_ttl"), given.get("refresh_on_read", True)
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if default is not None and not (number and 0 < default <= MAX_TTL_MINUTES):
        reason = f"must be minutes above 0, at most {MAX_TTL_MINUTES:.0f}, or null"
        raise GraphLoadError(config.path, "store.ttl.default_ttl", reason)
    if not isinstance(refresh, bool):
        raise GraphLoadError(config.path, "store.ttl.refresh_on_read", "must be true or false")
    return TTLConfig(default_ttl=default, refresh_on_read=refresh)
