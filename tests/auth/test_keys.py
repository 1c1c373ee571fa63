"""API keys: how the setting is read, and who is let in."""

from __future__ import annotations

from hashlib import sha256

import pytest

from runwait.auth.errors import Refused
from runwait.auth.keys import ApiKeys, InvalidKeys, new_key
from runwait.auth.request import URL, Headers, QueryParams, Request

HASH = sha256(b"hashed").hexdigest()
KEYS = ApiKeys(f"plain, ada=named,bob=sha256:{HASH}, ada=second,YWJj==,sha256:{HASH[::-1]}")


def request(**headers: str) -> Request:
    return Request(
        method="GET",
        url=URL("http", "localhost", "/", "", ""),
        headers=Headers([(name.replace("_", "-"), value) for name, value in headers.items()]),
        query_params=QueryParams([("api_key", "plain")]),
        path_params={},
        client=None,
    )


@pytest.mark.parametrize(
    ("key", "identity"),
    [
        ("plain", f"key-{sha256(b'plain').hexdigest()[:8]}"),
        ("named", "ada"),
        ("second", "ada"),
        ("hashed", "bob"),
        # Base64, not a key "=" of YWJj.
        ("YWJj==", f"key-{sha256(b'YWJj==').hexdigest()[:8]}"),
    ],
)
def test_a_key_is_known_in_either_header(key, identity):
    for each in ({"X_Api_Key": key}, {"Authorization": f"Bearer {key}"}):
        assert KEYS.caller(request(**each)).identity == identity
        assert KEYS.caller(request(x_api_key=key, authorization="Bearer x")).identity == identity


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_api_key": "other"},
        {"x_api_key": ""},
        {"x_api_key": "ada=named"},
        {"x_api_key": HASH},
        {"x_api_key": f"sha256:{HASH}"},
        {"x_api_key": "plain\u00e9"},
        {"x_api_key": "PLAIN"},
        {"authorization": "plain"},
        {"authorization": "Basic plain"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer other"},
    ],
)
def test_nobody_else_is_let_in(headers):
    with pytest.raises(Refused) as refused:
        KEYS.caller(request(**headers))
    assert refused.value.status == 401
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}
    assert not any(value and value in str(refused.value) for value in headers.values())


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("a,", "entry 2"),
        ("a,b c", "entry 2"),
        ("ada=sha256:12", "64 hexadecimal digits"),
        ("s\u00e9cret", "visible ASCII"),
        ("a" * 513, "1 to 512"),
    ],
)
def test_a_setting_that_is_none_is_refused_without_showing_it(setting, text):
    with pytest.raises(InvalidKeys, match=text) as unfit:
        ApiKeys(setting)
    assert not any(each in str(unfit.value) for each in ("b c", "s\u00e9cret", "aaa", "ada"))


def test_a_new_key_is_known_by_its_hash_alone():
    key, hashed = new_key()
    assert ApiKeys(f"new={hashed}").caller(request(x_api_key=key)).identity == "new"
    assert new_key()[0] != key
    assert len(key) > 40
