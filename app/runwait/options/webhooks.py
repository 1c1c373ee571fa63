"""Webhooks as the environment and langgraph.json have them together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runwait.graphs.config import LanggraphConfig
from runwait.options.section import Section
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
    section = Section.of(config, "webhooks")
    url = section.inner("url")
    ports = url.items("allowed_ports", "ports", _is_port)
    hosts = url.items(
        "allowed_domains",
        "host names, such as hooks.example.com or *.example.com",
        lambda each: isinstance(each, str) and is_host_entry(each.lower()),
    )
    longest = url.whole("max_url_length", "a number of characters, at least 1", 1, None)
    rules = replace(
        rules,
        base_url=None if url.flag("disable_loopback") else rules.base_url,
        require_https=rules.require_https or url.flag("require_https"),
        only_hosts=tuple(each.lower() for each in hosts),
        only_ports=frozenset(ports),
        longest=longest,
        off=bool(config.section("http").get("disable_webhooks")),
    )
    return WebhookOptions(rules, tuple(_headers(section, config.env | os.environ)))


def _headers(section: Section, env: Mapping[str, str]) -> list[tuple[str, str]]:
    prefix = section.given.get("env_prefix", ENV_PREFIX)
    if not isinstance(prefix, str) or not prefix:
        raise section.wrong("env_prefix", f"must be a text, such as {ENV_PREFIX}")
    headers = section.inner("headers")
    if len(headers.given) > HEADERS_MAX:
        raise section.wrong("headers", f"must be at most {HEADERS_MAX}")
    found = []
    for name, value in headers.given.items():
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise headers.wrong(
                name, "must be the name of a header that deliveries do not set themselves"
            )
        if not isinstance(value, str):
            raise headers.wrong(name, "must be a text")

        def filled(match: re.Match[str], name: str = name) -> str:
            variable = match[1]
            if not variable.startswith(prefix):
                raise headers.wrong(name, f"may only have variables that begin with {prefix}")
            if variable not in env:
                raise headers.wrong(name, f"{variable} is not set")
            return env[variable]

        value = _TEMPLATE.sub(filled, value)
        # The value is not shown: it may be a secret.
        if "${{" in value or not _VALUE.fullmatch(value):
            raise headers.wrong(name, "must be of visible ASCII, with variables as ${{ env.NAME }}")
        found.append((name, value))
    return found


def _is_port(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 65535
