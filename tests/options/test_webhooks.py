"""Webhooks as the environment and langgraph.json have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.options.webhooks import WebhookOptions, webhook_options
from runwait.settings import Settings
from runwait.webhooks.targets import WebhookRefused, WebhookRules, target_of


def options(settings: Settings | None = None, **webhooks: Any) -> WebhookOptions:
    env = {"LG_WEBHOOK_TOKEN": "s3cret", "OTHER": "x", "LG_WEBHOOK_BAD": "a\nb"}
    sections = {"webhooks": webhooks}
    config = LanggraphConfig(Path("x.json"), {}, (), env, sections=sections)
    return webhook_options(settings or Settings(), config)


def refusal(rules: WebhookRules, url: str) -> str | None:
    try:
        target_of(url, rules)
    except WebhookRefused as error:
        return str(error)
    return None


def test_without_them_they_are_as_the_settings_have_them():
    settings = Settings(
        webhook_base_url="https://a.example/",
        webhook_allowed_hosts="*.internal",
        webhook_require_https=True,
    )
    rules = WebhookRules("https://a.example/", ("*.internal",), True)
    assert options(settings) == WebhookOptions(rules)
    assert options(settings, url={"require_https": False}).rules.require_https
    assert options(url={"require_https": True}).rules.require_https


HOSTS = {"allowed_domains": ["hooks.example.com", "*.Example.org"]}


@pytest.mark.parametrize(
    ("url", "to", "allowed"),
    [
        (HOSTS, "https://hooks.example.com/x", True),
        (HOSTS, "https://hooks.example.com./x", True),
        (HOSTS, "https://a.b.example.org", True),
        (HOSTS, "https://example.org", False),
        (HOSTS, "https://xexample.org", False),
        (HOSTS, "https://hooks.example.com.evil.example", False),
        (HOSTS, "https://8.8.8.8", False),
        (HOSTS, "//evil.example/x", False),
        (HOSTS, "/relative", True),
        ({"allowed_ports": [443, 8443]}, "https://a.example", True),
        ({"allowed_ports": [443, 8443]}, "http://a.example:8443", True),
        ({"allowed_ports": [443, 8443]}, "http://a.example", False),
        ({"allowed_ports": [443]}, "/relative", True),
        ({"max_url_length": 20}, "https://a.example/12", True),
        ({"max_url_length": 20}, "https://a.example/123", False),
        ({"disable_loopback": True}, "/relative", False),
        ({"disable_loopback": True}, "https://a.example", True),
    ],
    ids=str,
)
def test_a_url_is_held_to_what_langgraph_json_says(url, to, allowed):
    rules = options(Settings(webhook_base_url="http://own.example:81/"), url=url).rules
    assert (refusal(rules, to) is None) is allowed


def test_headers_have_variables_with_the_prefix(monkeypatch):
    monkeypatch.setenv("LG_WEBHOOK_USER", "ada")
    found = options(
        headers={
            "Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}",
            "X-Who": "${{env.LG_WEBHOOK_USER}}-${{ env.LG_WEBHOOK_USER }}",
            "X-Plain": "a b",
        }
    ).headers
    assert found == (
        ("Authorization", "Bearer s3cret"),
        ("X-Who", "ada-ada"),
        ("X-Plain", "a b"),
    )
    assert options(env_prefix="OTH", headers={"X": "${{ env.OTHER }}"}).headers == (("X", "x"),)


@pytest.mark.parametrize(
    ("webhooks", "reason"),
    [
        ({"url": []}, "webhooks.url: must be an object"),
        ({"url": {"require_https": "yes"}}, "webhooks.url.require_https: must be true or false"),
        ({"url": {"disable_loopback": 1}}, "webhooks.url.disable_loopback: must be true or false"),
        ({"url": {"allowed_domains": "a"}}, "webhooks.url.allowed_domains: must be a list"),
        ({"url": {"allowed_domains": ["http://a"]}}, "webhooks.url.allowed_domains: must be a"),
        ({"url": {"allowed_ports": [0]}}, "webhooks.url.allowed_ports: must be a list of ports"),
        ({"url": {"allowed_ports": [True]}}, "webhooks.url.allowed_ports: must be a list of ports"),
        ({"url": {"max_url_length": 0}}, "webhooks.url.max_url_length: must be a number"),
        ({"env_prefix": ""}, "webhooks.env_prefix: must be a text"),
        ({"headers": ["X"]}, "webhooks.headers: must be an object"),
        ({"headers": {"X": 1}}, "webhooks.headers.X: must be a text"),
        ({"headers": {"A B": "x"}}, "webhooks.headers.A B: must be the name of a header"),
        ({"headers": {"Host": "x"}}, "webhooks.headers.Host: must be the name of a header"),
        ({"headers": {"webhook-id": "x"}}, "webhooks.headers.webhook-id: must be the name"),
        ({"headers": {"X": "${{ env.OTHER }}"}}, "may only have variables that begin with LG_"),
        ({"headers": {"X": "${{ env.LG_WEBHOOK_NO }}"}}, "X: LG_WEBHOOK_NO is not set"),
        ({"headers": {"X": "${{ LG_WEBHOOK_TOKEN }}"}}, "X: must be of visible ASCII, with"),
        ({"headers": {"X": "${{ env.LG_WEBHOOK_BAD }}"}}, "X: must be of visible ASCII, with"),
        ({"headers": {"X": "a\r\nY: b"}}, "webhooks.headers.X: must be of visible ASCII"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_key(webhooks, reason):
    with pytest.raises(GraphLoadError) as got:
        options(**webhooks)
    assert reason in str(got.value)
    assert "s3cret" not in str(got.value)
