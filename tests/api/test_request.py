"""Reading requests."""

from __future__ import annotations

import io
from types import SimpleNamespace
from urllib.parse import quote
from uuid import UUID

import pytest
from flask import Flask

from runwait.api import request as reading
from runwait.api.errors import BodyTooLarge, BrokenRequest, InvalidRequest

MOST = 20


@pytest.fixture
def app() -> Flask:
    """An app with settings."""
    app = Flask("request")
    settings = SimpleNamespace(max_request_bytes=MOST)
    app.extensions["runwait"] = SimpleNamespace(settings=settings)
    return app


class TestBody:
    def test_is_parsed_whatever_its_type_is_said_to_be(self, app):
        for kind in (None, "text/plain", "application/x-www-form-urlencoded"):
            with app.test_request_context(method="POST", data=b'{"a": [1]}', content_type=kind):
                assert reading.json_body() == {"a": [1]}

    def test_that_is_not_json_is_refused_with_the_reason(self, app):
        with (
            app.test_request_context(method="POST", data=b"[NaN]"),
            pytest.raises(InvalidRequest, match=r"^the body is not JSON as it must be: .*NaN"),
        ):
            reading.json_body()

    @pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
    def test_may_be_so_large_and_no_larger(self, app, known):
        def read(body: bytes):
            environ = self.streamed(body, length=len(body) if known else None)
            with app.test_request_context(environ_overrides=environ):
                return reading.json_body()

        assert read(b"1".ljust(MOST)) == 1
        for more in (1, 2, 1000):
            with pytest.raises(BodyTooLarge, match=f"larger than {MOST} bytes"):
                read(b"1".ljust(MOST + more))

    def test_that_is_said_to_be_too_large_is_not_read(self, app):
        environ = self.streamed(b"", length=MOST + 1)
        environ["wsgi.input"] = None
        with app.test_request_context(environ_overrides=environ), pytest.raises(BodyTooLarge):
            reading.json_body()

    def test_that_is_shorter_than_it_is_said_to_be_breaks_off(self, app):
        with (
            app.test_request_context(environ_overrides=self.streamed(b"1", length=3)),
            pytest.raises(BrokenRequest, match="the body breaks off after 1 of 3 bytes"),
        ):
            reading.json_body()

    @pytest.mark.parametrize(
        ("error", "text"),
        [(OSError("gone"), "breaks off"), (RuntimeError("no such chunk"), "no such chunk")],
    )
    def test_that_cannot_be_read_is_refused(self, app, error, text):
        class Broken:
            def read(self, size: int) -> bytes:
                raise error

        environ = self.streamed(b"", length=None)
        environ["wsgi.input"] = Broken()
        with (
            app.test_request_context(environ_overrides=environ),
            pytest.raises(BrokenRequest, match=text),
        ):
            reading.json_body()

    @staticmethod
    def streamed(body: bytes, length: int | None) -> dict[str, object]:
        """What gunicorn says of a body, with its length or without."""
        environ: dict[str, object] = {
            "REQUEST_METHOD": "POST",
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
        }
        if length is None:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        else:
            environ["CONTENT_LENGTH"] = str(length)
        return environ


class TestIds:
    @pytest.fixture
    def ids(self, app):
        """Asks for a path, and returns the ids that its view is given."""
        given = []
        app.register_error_handler(InvalidRequest, lambda error: (str(error), 422))
        reading.register(app)

        @app.get("/<thread_id>/<run_id>")
        def view(**ids: str) -> str:
            given.append(ids)
            return "ok"

        def ask(*path: str) -> dict[str, str] | str:
            response = app.test_client().get("/" + "/".join(map(quote, path)))
            return given.pop() if response.status_code == 200 else response.text

        return ask

    def test_that_are_uuids_reach_the_view_in_lower_case(self, ids):
        thread_id, run_id = str(UUID(int=10**20)), str(UUID(int=2**120 - 1))
        found = ids(thread_id, run_id.upper())
        assert found == {"thread_id": thread_id, "run_id": run_id}

    @pytest.mark.parametrize(
        "bad", ["x", UUID(int=1).hex, f"{{{UUID(int=1)}}}", f"{UUID(int=1)}\n"]
    )
    def test_that_are_none_are_named(self, ids, bad):
        assert ids(str(UUID(int=1)), bad) == "run_id: must be a UUID"

    def test_that_are_words_of_another_method_are_refused_with_that(self, app, ids):
        app.add_url_rule("/search/<run_id>", view_func=lambda run_id: "ok", methods=["POST"])
        response = app.test_client().get(f"/search/{UUID(int=1)}")
        assert response.status_code == 405
        assert response.headers["Allow"] == "OPTIONS, POST"
        assert ids("other", str(UUID(int=1))) == "thread_id: must be a UUID"

    def test_that_are_words_of_another_method_count_for_no_method(self, app, ids):
        app.add_url_rule("/search/all", view_func=str, methods=["POST"])
        response = app.test_client().put("/search/all")
        assert (response.status_code, {*response.allow}) == (405, {"OPTIONS", "POST"})
        response = app.test_client().put("/search/some")
        assert (response.status_code, {*response.allow}) == (405, {"GET", "HEAD", "OPTIONS"})

    def test_are_all_named_at_once(self, ids):
        assert ids("x", "y") == "thread_id: must be a UUID; run_id: must be a UUID"


class TestRequestId:
    @pytest.mark.parametrize("given", ["x", "request 1", "~" * 255])
    def test_is_the_headers(self, app, given):
        with app.test_request_context(headers={"X-Request-ID": given}):
            assert reading.request_id() == given

    @pytest.mark.parametrize("given", [None, "", "\xe9", "\x9b", "a\tb", "~" * 256])
    def test_is_made_where_there_is_none_that_is_safe_to_log(self, app, given):
        headers = {} if given is None else {"X-Request-ID": given}
        with app.test_request_context(headers=headers):
            made = [UUID(reading.request_id()) for _ in range(2)]
        assert made[0] != made[1]
