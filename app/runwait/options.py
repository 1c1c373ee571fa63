"""What langgraph.json and the settings say together, of all but graphs and HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from runwait.auth.access import Access
from runwait.auth.loading import access_of
from runwait.graphs.config import LanggraphConfig
from runwait.settings import Settings
from runwait.store import StoreOptions, store_options
from runwait.webhooks.options import WebhookOptions, webhook_options


@dataclass(frozen=True)
class Options:
    """The settings, completed by langgraph.json, and what each part is told.

    Attributes:
        access: None where nobody is asked who they are.
    """

    settings: Settings
    webhooks: WebhookOptions
    store: StoreOptions
    access: Access | None


def options_of(settings: Settings, config: LanggraphConfig) -> Options:
    """Read all of it; the project's auth and its embedding function are imported.

    Raises:
        GraphLoadError: langgraph.json says what cannot be done.
        ValueError: a setting does; the text names it.
    """
    settings = settings.completed_by(config)
    return Options(
        settings,
        webhook_options(settings, config),
        store_options(config),
        access_of(settings, config),
    )
