"""Where a request ends, however it is cut into pieces on its way."""

from __future__ import annotations

import pytest
from gunicorn import http
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from runwait.server.arrival import Arrival, Limits
from tests.e2e.wire import chunked, request

LIMITS = Limits(head=1000, line=100, body=500)
CHUNKED = "Transfer-Encoding: chunked"

WHOLE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.0\r\n\r\n",
    request("GET", "/ok"),
    request("POST", "/", body=b""),
    request("POST", "/", body=b"x" * 500),
    request("POST", "/", "content-length:   3 \t") + b"abc",
    request("POST", "/", "X: y", "Content-Length: 3", "Z: w") + b"\r\n\r",
    request("POST", "/", CHUNKED) + chunked(),
    request("POST", "/", CHUNKED) + chunked(b"a", b"\r\n\r\n0\r\n\r\n", b"c" * 99),
    request("POST", "/", "transfer-encoding:gzip, Chunked ") + chunked(b"x"),
    request("POST", "/", CHUNKED) + b'3;a="b;c"\r\nabc\r\n000;d\r\n\r\n',
    request("POST", "/", CHUNKED) + b"0\r\nA: b\r\nC: d\r\n\r\n",
    request("POST", "/", CHUNKED) + chunked(*[b"x"] * 200),
]

DOOMED = [
    b"GET /" + b"a" * 1000,
    request("GET", "/", "X: " + "a" * 2000)[:1010],
    request("POST", "/", "Content-Length: 501"),
    request("POST", "/", "Content-Length: -1"),
    request("POST", "/", "Content-Length: 1, 1"),
    request("POST", "/", "Content-Length: \xb2"),
    request("POST", "/", "Content-Length:"),
    request("POST", "/", "Content-Length: " + "9" * 900),
    request("POST", "/", "Content-Length: 3", CHUNKED),
    request("POST", "/", "Transfer-Encoding: chunked, gzip"),
    request("POST", "/", "Transfer-Encoding: identity"),
    request("POST", "/", CHUNKED) + b"x\r\n",
    request("POST", "/", CHUNKED) + b"\r\n",
    request("POST", "/", CHUNKED) + b"-1\r\n",
    request("POST", "/", CHUNKED) + b"0x1\r\n",
    request("POST", "/", CHUNKED) + b"food\r\n",
    request("POST", "/", CHUNKED) + b"1;" + b"a" * 100,
    request("POST", "/", CHUNKED) + b"fff\r\n" + b"a" * 501,
    request("POST", "/", CHUNKED) + chunked(b"a" * 499)[:-5] + b"f\r\nab",
    request("POST", "/", CHUNKED) + b"0\r\nX: " + b"a" * 1000,
    request("POST", "/", CHUNKED) + b"1;aaaaaaaaaa\r\nx\r\n" * 120,
]


def fed(*pieces: bytes) -> Arrival:
    arrival = Arrival(LIMITS)
    for piece in pieces:
        arrival.feed(piece)
    return arrival


@pytest.mark.parametrize("data", WHOLE)
def test_a_request_is_whole_with_its_last_byte_and_not_before(data):
    for end in range(len(data)):
        arrival = fed(data[:end])
        assert (arrival.whole, arrival.doomed) == (False, False)
    bytewise = fed(*(data[at : at + 1] for at in range(len(data))))
    for arrival in (fed(data), bytewise):
        assert (arrival.whole, arrival.doomed) == (True, False)
        assert (b"".join(arrival.take()), arrival.rest) == (data, b"")


@pytest.mark.parametrize("data", DOOMED)
def test_what_will_be_refused_is_not_waited_for(data):
    arrival = fed(data)
    assert (arrival.whole, arrival.doomed) == (False, True)
    assert b"".join(arrival.take()) == data


@given(
    requests=st.lists(st.sampled_from(WHOLE), min_size=1, max_size=5),
    cuts=st.lists(st.integers(min_value=1, max_value=300), max_size=20),
)
def test_what_comes_behind_a_request_is_the_next_one(requests, cuts):
    stream = b"".join(requests)
    pieces = []
    for cut in [*cuts, len(stream)]:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    found = []
    arrival = Arrival(LIMITS)
    for piece in filter(None, pieces):
        arrival.feed(piece)
        while arrival.whole:
            found.append(b"".join(arrival.take()))
            rest, arrival = arrival.rest, Arrival(LIMITS)
            if rest:
                arrival.feed(rest)
    assert found == requests


def test_a_large_request_is_taken_in_pieces():
    body = bytes(range(256)) * 1000
    arrival = Arrival(Limits(head=1000, line=100, body=len(body)))
    data = request("POST", "/", body=body)
    arrival.feed(data)
    pieces = list(arrival.take())
    assert len(pieces) > 3
    assert b"".join(pieces) == data


@pytest.mark.parametrize(
    ("head", "expects"),
    [
        (request("POST", "/", "Expect: 100-continue", "Content-Length: 3"), True),
        (request("POST", "/", "expect:100-Continue ", CHUNKED), True),
        (request("POST", "/", "Content-Length: 3"), False),
        (request("POST", "/", "Expect: x", "Content-Length: 3"), False),
        (
            request("POST", "/", "Expect: 100-continue", "Content-Length: 3").replace(
                b"1.1", b"1.0"
            ),
            False,
        ),
    ],
)
def test_a_client_that_waits_to_be_told_to_go_on_is_known(head, expects):
    assert fed(head).expects_continue is expects
    assert fed(head[:-1]).expects_continue is False


@given(
    data=st.sampled_from([*WHOLE, *DOOMED]),
    edits=st.lists(
        st.tuples(
            st.integers(0, 200),
            st.integers(0, 3),
            st.sampled_from(
                [
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b" ",
                    b"\t",
                    b";",
                    b":",
                    b",",
                    b"0",
                    b"1",
                    b"f",
                    b"\x00",
                    b"Content-Length: 4\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"\xff",
                    b"",
                ]
            ),
        ),
        max_size=4,
    ),
)
def test_the_parser_refuses_what_it_would_end_elsewhere(data, edits):
    for at, length, new in edits:
        data = data[:at] + new + data[at + length :]
    arrival = fed(data) if data else Arrival(LIMITS)
    if arrival.whole:
        parser = http.get_parser(Config(), arrival.take(), ("127.0.0.1", 1))
        try:
            body = next(parser).body.read()
        except Exception:
            return
        assert parser.unreader.read() == b"", body
