"""Webhooks as the environment and langgraph.json have them together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.settings import Settings
from runwait.webhooks.targets import WebhookRules, is_host_entry

ENV_PREFIX = "LG_WEBHOOK_"
HEADERS_MAX = 100

_TEMPLATE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
# Visible ASCII, and spaces within.
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
# What a delivery says itself.
_OURS = {
    "host",
    "content-type",
    "content-length",
    "connection",
    "transfer-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
}


@dataclass(frozen=True)
class WebhookOptions:
    """Where webhooks may go, and what headers they have besides those that all have."""

    rules: WebhookRules
    headers: tuple[tuple[str, str], ...] = ()


def webhook_options(settings: Settings, config: LanggraphConfig) -> WebhookOptions:
    """What the settings say of webhooks, and beyond that langgraph.json.

    Raises:
        GraphLoadError: langgraph.json says what cannot be done.
        ValueError: a setting does; the text names it.
    """
    rules = WebhookRules.parse(
        settings.webhook_base_url, settings.webhook_allowed_hosts, settings.webhook_require_https
    )
    section = config.section("webhooks")
    read = _Reader(config)
    url = read.mapping("webhooks.url", section.get("url"))
    ports = read.list("webhooks.url.allowed_ports", url.get("allowed_ports"), "ports", _is_port)
    hosts = read.list(
        "webhooks.url.allowed_domains",
        url.get("allowed_domains"),
        "host names, such as hooks.example.com or *.example.com",
        lambda each: isinstance(each, str) and is_host_entry(each.lower()),
    )
    longest = url.get("max_url_length")
    if longest is not None and (type(longest) is not int or longest < 1):
        read.refuse("webhooks.url.max_url_length", "must be a number of characters, at least 1")
    rules = replace(
        rules,
        base_url=None if read.flag(url, "disable_loopback") else rules.base_url,
        require_https=rules.require_https or read.flag(url, "require_https"),
        only_hosts=tuple(each.lower() for each in hosts),
        only_ports=frozenset(ports),
        longest=longest,
        off=bool(config.section("http").get("disable_webhooks")),
    )
    return WebhookOptions(rules, tuple(_headers(read, section, config.env | os.environ)))


def _headers(
    read: _Reader, section: Mapping[str, Any], env: Mapping[str, str]
) -> list[tuple[str, str]]:
    prefix = section.get("env_prefix", ENV_PREFIX)
    if not isinstance(prefix, str) or not prefix:
        read.refuse("webhooks.env_prefix", f"must be a text, such as {ENV_PREFIX}")
    headers = read.mapping("webhooks.headers", section.get("headers"))
    if len(headers) > HEADERS_MAX:
        read.refuse("webhooks.headers", f"must be at most {HEADERS_MAX}")
    found = []
    for name, value in headers.items():
        key = f"webhooks.headers.{name}"
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            read.refuse(key, "must be the name of a header that deliveries do not set themselves")
        if not isinstance(value, str):
            read.refuse(key, "must be a text")

        def filled(match: re.Match[str], key: str = key) -> str:
            variable = match[1]
            if not variable.startswith(prefix):
                read.refuse(key, f"may only have variables that begin with {prefix}")
            if variable not in env:
                read.refuse(key, f"{variable} is not set")
            return env[variable]

        value = _TEMPLATE.sub(filled, value)
        # The value is not shown: it may be a secret.
        if "${{" in value or not _VALUE.fullmatch(value):
            read.refuse(key, "must be of visible ASCII, with variables as ${{ env.NAME }}")
        found.append((name, value))
    return found


def _is_port(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 65535


class _Reader:
    """Takes values of langgraph.json apart; what is wrong is told by its key."""

    def __init__(self, config: LanggraphConfig) -> None:
        self._path = config.path

    def refuse(self, key: str, reason: str) -> None:
        raise GraphLoadError(self._path, key, reason)

    def mapping(self, key: str, value: Any) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, dict):
            self.refuse(key, "must be an object")
        return value or {}

    def list(self, key: str, value: Any, what: str, is_one: Any) -> list[Any]:
        if value is not None and not (isinstance(value, list) and all(map(is_one, value))):
            self.refuse(key, f"must be a list of {what}")
        return value or []

    def flag(self, section: Mapping[str, Any], name: str) -> bool:
        value = section.get(name, False)
        if not isinstance(value, bool):
            self.refuse(f"webhooks.url.{name}", "must be true or false")
        return bool(value)
