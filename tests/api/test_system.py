"""What a server says of itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from flask import Flask

from runwait.api import system
from runwait.options.http import HttpOptions
from runwait.settings import Settings


@pytest.mark.parametrize(
    ("disabled", "enabled", "flags"),
    [
        (set(), True, (True, True)),
        (set(), False, (True, False)),
        ({"runs"}, True, (True, False)),
        ({"assistants"}, True, (False, True)),
    ],
)
def test_the_flags_leave_out_what_is_disabled(disabled, enabled, flags):
    app = Flask(__name__)
    app.extensions["runwait"] = SimpleNamespace(
        settings=Settings(cron_enabled=enabled), http=HttpOptions(disabled=frozenset(disabled))
    )
    with app.test_request_context():
        told = system.info().json["flags"]
    assert (told["assistants"], told["crons"]) == flags
