"""What a project and its deployment say: langgraph.json's sections, and the settings beside them.

Each section has a module that makes typed options of it. Where both say something of the same, the
module says which one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from runwait.auth.access import Access
from runwait.graphs.config import LanggraphConfig
from runwait.options.auth import access_of
from runwait.options.checkpointer import completed
from runwait.options.http import HttpOptions, http_options
from runwait.options.store import StoreOptions, store_options
from runwait.options.webhooks import WebhookOptions, webhook_options
from runwait.settings import Settings


@dataclass(frozen=True)
class Options:
    """The settings, completed by langgraph.json, and what each part is told.

    Attributes:
        access: None where nobody is asked who they are.
    """

    settings: Settings
    http: HttpOptions
    webhooks: WebhookOptions
    store: StoreOptions
    access: Access | None


def options_of(settings: Settings, config: LanggraphConfig) -> Options:
    """Read all of it; the project's auth and its embedding function are imported.

    Raises:
        GraphLoadError: langgraph.json says what cannot be done.
        ValueError: a setting does; the text names it.
    """
    return Options(
        completed(settings, config),
        http_options(settings, config),
        webhook_options(settings, config),
        store_options(config),
        access_of(settings, config),
    )
