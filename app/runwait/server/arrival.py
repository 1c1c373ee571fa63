"""A request on its way in: how much of it is here, and whether that is all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A parser that is fed more at a time copies what it does not need yet again and again.
PIECE_BYTES = 65536

_HEAD_END = re.compile(rb"\n\r?\n")
_FIELD = re.compile(
    rb"\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE
)
_LENGTH = re.compile(rb"[0-9]{1,18}[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;|\Z)")


@dataclass(frozen=True)
class Limits:
    """What is not waited for any longer, in bytes.

    Attributes:
        head: of the request line with the headers, and of a chunked body's trailers.
        line: of one line of them, and of one that says how long a chunk is.
        body: of the body.
    """

    head: int
    line: int
    body: int


class Arrival:
    """The bytes of one request, and what came behind it on the same connection.

    This finds where a request ends (RFC 9112, section 6), and no more: whether it is valid is
    for the server's parser to say, which is given the bytes up to there and nothing else. That
    parser refuses whatever could be understood in two ways, such as two lengths.

    Attributes:
        whole: all of the request is here.
        doomed: it will be refused, whatever else comes: it is too long, or makes no sense.
        expects_continue: its body comes only after a `100 Continue`.
        rest: what came behind it; known once the request was taken.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin, with nothing there yet."""
        self.whole = False
        self.doomed = False
        self.expects_continue = False
        self.rest = b""
        self._limits = limits
        self._data = bytearray()
        self._searched = 0
        # Where the body begins; in a chunked one, the next chunk.
        self._at: int | None = None
        self._chunked = False
        self._unchunked = 0
        # Where the request ends, once that is known.
        self._end = 0

    def feed(self, data: bytes) -> None:
        """Add what came, until the request is whole or doomed."""
        self._data += data
        if self._at is None:
            self._read_head()
        if self._at is not None and not self.doomed:
            if self._chunked:
                self._walk_chunks(self._at)
            else:
                self.whole = len(self._data) >= self._end

    def take(self) -> Iterator[bytes]:
        """What is here of the request, in pieces that are let go once they were read."""
        end = self._end if self.whole else len(self._data)
        # A list, the first piece last: who waits for the answer keeps what is left of it.
        pieces = [
            bytes(self._data[at : min(at + PIECE_BYTES, end)]) for at in range(0, end, PIECE_BYTES)
        ]
        pieces.reverse()
        self.rest = bytes(self._data[end:])
        self._data.clear()
        return _emptied(pieces)

    def _read_head(self) -> None:
        found = _HEAD_END.search(self._data, self._searched)
        if found is None:
            self._searched = max(0, len(self._data) - 2)
            self.doomed = len(self._data) > self._limits.head
            return
        self._at = found.end()
        head = bytes(self._data[: self._at])
        fields = {name.lower(): value for name, value in _FIELD.findall(head)}
        coding = fields.get(b"transfer-encoding")
        length = fields.get(b"content-length", b"0")
        self._chunked = coding is not None
        if coding is not None:
            last = coding.lower().strip().endswith(b"chunked")
            self.doomed = not last or b"content-length" in fields
        else:
            self.doomed = not _LENGTH.fullmatch(length) or int(length) > self._limits.body
            self._end = self._at if self.doomed else self._at + int(length)
        expected = fields.get(b"expect", b"").strip().lower()
        self.expects_continue = expected == b"100-continue" and b" HTTP/1.1\r\n" in head

    def _walk_chunks(self, at: int) -> None:
        """Go over the chunks that are here (RFC 9112, section 7.1)."""
        here = len(self._data)
        while True:
            line_end = self._data.find(b"\r\n", at)
            if line_end < 0:
                self.doomed = here - at > self._limits.line
                break
            size = _CHUNK_SIZE.match(self._data, at, line_end)
            if size is None:
                self.doomed = True
                break
            begin, length = line_end + 2, int(size[1], 16)
            if length == 0:
                end = self._data.find(b"\r\n\r\n", line_end)
                self.whole = end >= 0
                self._end = end + 4
                self.doomed = not self.whole and here - begin > self._limits.head
                break
            if begin + length + 2 > here:
                self.doomed = self._unchunked + min(length, here - begin) > self._limits.body
                break
            self._unchunked += length
            at = begin + length + 2
        self._at = at
        # Tiny chunks are mostly wrapping.
        self.doomed |= not self.whole and here > 2 * self._limits.body + self._limits.head


def _emptied(pieces: list[bytes]) -> Iterator[bytes]:
    while pieces:
        yield pieces.pop()
