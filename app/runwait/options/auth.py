"""Which access there is, by the settings and langgraph.json's `auth`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from runwait.auth.access import Access, KeyAccess
from runwait.auth.keys import ApiKeys
from runwait.graphs.config import KNOWN, GraphLoadError, LanggraphConfig
from runwait.options.http import http_options
from runwait.options.section import Section
from runwait.settings import Settings


def access_of(settings: Settings, config: LanggraphConfig) -> Access | None:
    """Who decides who is let in; the project's own auth is imported. None where nobody does.

    Raises:
        GraphLoadError: `auth` is not as it must be, or cannot be imported.
    """
    keys = ApiKeys(settings.api_keys) if settings.api_keys else None
    target = config.section("auth").get("path")
    if target is None:
        if _protects_nothing(config, keys):
            reason = "protects nothing without auth.path: give it, remove auth, or set API_KEYS"
            raise GraphLoadError(config.path, "auth", reason)
        return KeyAccess(keys, isolates=settings.isolate_keys) if keys else None
    # Not at the start: most services have no auth of their own.
    from langgraph_sdk import Auth

    from runwait.auth.custom import CustomAccess
    from runwait.graphs.loader import load_object

    if not isinstance(target, str):
        raise GraphLoadError(config.path, "auth.path", "must be like ./folder/file.py:name")
    if settings.isolate_keys:
        reason = "says by itself what is whose; unset ISOLATE_KEYS"
        raise GraphLoadError(config.path, "auth.path", reason)
    auth = load_object(config, "auth.path", target)
    if not isinstance(auth, Auth):
        reason = f"{target} must be a langgraph_sdk.Auth, not {type(auth).__name__}"
        raise GraphLoadError(config.path, "auth.path", reason)
    try:
        return CustomAccess(
            auth,
            keys,
            _cache(config),
            guards_own_routes=http_options(settings, config).authenticates_app,
        )
    except ValueError as error:
        raise GraphLoadError(config.path, "auth.path", f"{target}: {error}") from error


def notes(settings: Settings, config: LanggraphConfig) -> Iterator[str]:
    """What whoever starts the service should know of who is let in."""
    auth = config.section("auth")
    if not settings.api_keys and not auth.get("path") and not is_loopback(settings.host):
        yield (
            f"WHOEVER REACHES {settings.host}:{settings.port} CAN RUN GRAPHS AND READ ALL THREADS: "
            "nothing says who is let in; set API_KEYS (`runwait keys` makes one), or auth.path in "
            "langgraph.json, or HOST=127.0.0.1"
        )
    if settings.api_keys and auth.get("path"):
        yield (
            "API_KEYS is of no effect where auth.path has a handler for authenticate, which "
            "decides alone who is let in"
        )
    if auth and not auth.get("path"):
        yield f"{config.path}: auth is of no effect without auth.path"
    if auth.get("disable_studio_auth") is False:
        yield f"{config.path}: auth.disable_studio_auth: nobody is let in for using Studio"


def _protects_nothing(config: LanggraphConfig, keys: ApiKeys | None) -> bool:
    """Whether whoever wrote an `auth` without a path counts on a protection that is not there."""
    auth = config.section("auth")
    return bool(auth) and (keys is None or not auth.keys() <= {*KNOWN["auth"]})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is served at a host, a name or an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cache(config: LanggraphConfig) -> Any:
    from runwait.auth.custom import CacheOptions

    given = Section.of(config, "auth").inner("cache")
    if not given.given:
        return None
    names = given.items("cache_keys", "header names", lambda each: isinstance(each, str))
    if not names:
        raise given.wrong("cache_keys", "must be a list of header names")
    seconds = given.number("ttl_seconds", "a number above 0", 60)
    most = given.number("max_size", "a number above 0", CacheOptions.most)
    return CacheOptions([each.lower() for each in names], seconds, int(most))
