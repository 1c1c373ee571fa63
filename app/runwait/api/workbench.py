"""/: the workbench, a page to try graphs, look into threads and answer interrupts.

The page is these files and nothing else: all that it shows, it asks of the API as any client does,
with a key where one is needed. So the files are open to everybody.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from runwait.api import answers, fields
from runwait.api.edge import here
from runwait.api.operation import Answer, operation

_PAGES = Path(__file__).parent / "pages" / "workbench"
_FILES = {each.name for each in _PAGES.iterdir()}
# What came from a graph or a client cannot become markup, script or a request to somebody else,
# even if the page tried.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for each time, and sent again only if it is another: a new version is one page.
    "Cache-Control": "no-cache",
}

blueprint = Blueprint("workbench", __name__)


# Otherwise what is below a prefix is redirected by Werkzeug, to the host and scheme that it sees.
@blueprint.get("/", strict_slashes=False)
@operation(
    gives=[
        Answer("The page.", fields.STRING, mimetype="text/html"),
        Answer("It is at the same path with a slash.", status=HTTPStatus.PERMANENT_REDIRECT),
    ],
    stored=False,
)
def index() -> Response:
    """The workbench: a page to try graphs in."""
    if not request.environ["PATH_INFO"]:
        # It asks for its files relatively to where it is.
        where = {"Location": here("/")}
        return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=where)
    return _file("index.html")


@blueprint.get("/workbench/<file>")
@operation(
    gives=Answer("The file.", fields.STRING, mimetype="text/javascript"),
    refuses=[HTTPStatus.NOT_FOUND],
    stored=False,
)
def part(file: str) -> Response:
    """A file that the page needs."""
    if file not in _FILES:
        raise NotFound
    return _file(file)


def _file(name: str) -> Response:
    response = answers.file(_PAGES / name)
    response.headers.update(_HEADERS)
    return response
