"""What the app that answers the request is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app

if TYPE_CHECKING:
    from runwait import Runwait
    from runwait.options.http import HttpOptions
    from runwait.runs.service import Service
    from runwait.settings import Settings


def runwait() -> Runwait:
    """All of it."""
    made: Runwait = current_app.extensions["runwait"]
    return made


def service() -> Service:
    """The runs, and what belongs to them."""
    return runwait().service


def settings() -> Settings:
    """The settings."""
    return runwait().settings


def http() -> HttpOptions:
    """The section `http` of langgraph.json."""
    return runwait().http
