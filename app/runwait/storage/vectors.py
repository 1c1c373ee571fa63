"""What of an item is embedded, its vectors as bytes, and how near they are to a query.

An item's vectors are one string: the mark of the index that made them, then float32s, the machine's
own, each vector of length 1. Vectors of another index, of another model or of other dimensions,
count as none until their item is put again.
"""

from __future__ import annotations

import hashlib
import math
import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from langgraph.store.base.embed import get_text_at_path

from runwait.storage.embedding import Embedder, numpy

# Texts of one item, and their characters together, at most: an embedding costs money.
TEXTS_MAX = 100
CHARACTERS_MAX = 1 << 20
# Characters of an item's paths together, at most.
PATHS_MAX = 10_000
# Bytes that are gone through for the paths of one item, at most: each path goes through its value,
# and one with a wildcard as slowly as so many.
WALK_MAX = 1 << 26
WILDCARD = 16

_MARK = 8
_NUMBER = 4


class Unembeddable(ValueError):
    """Of a value nothing can be embedded as asked; the text says what to do."""


class Index:
    """The index of a store: its model, and which of an item's fields it is given."""

    def __init__(
        self, embedder: Embedder, name: str, dims: int, fields: Sequence[str] = ("$",)
    ) -> None:
        """Prepare.

        Args:
            embedder: calls the model.
            name: which model it is; with another, vectors are others.
            dims: numbers in each vector.
            fields: what is embedded of items that do not say it themselves: paths, as
                LangGraph's `get_text_at_path` reads them; `$` is the whole value.
        """
        self.embedder = embedder
        self._fields = fields
        self._dims = dims
        self._mark = hashlib.sha256(f"{name} {dims}".encode()).digest()[:_MARK]

    def texts(
        self, value: Mapping[str, Any], size: int, index: Literal[False] | list[str] | None
    ) -> list[str]:
        """The texts of an item that are to be embedded, none of them twice.

        Args:
            value: the item's.
            size: how large that is, in bytes, about.
            index: what its put said: False for none, paths, or None for the index's own.

        Raises:
            Unembeddable: they are too many or too large.
        """
        if index is False:
            return []
        paths = self._fields if index is None else index
        if sum(map(len, paths)) > PATHS_MAX:
            raise Unembeddable(f"index: must have at most {PATHS_MAX} characters")
        if size * sum((1 + p.count(",")) * (WILDCARD if "*" in p else 1) for p in paths) > WALK_MAX:
            raise Unembeddable("index: names too many fields of a value as large as this")
        try:
            found = [text for path in paths for text in get_text_at_path(value, path)]
        except ValueError:  # an integer beyond `sys.set_int_max_str_digits`
            raise Unembeddable("index: a number is too long to be embedded") from None
        texts = [text for text in dict.fromkeys(found) if text.strip()]
        if len(texts) > TEXTS_MAX or sum(map(len, texts)) > CHARACTERS_MAX:
            raise Unembeddable(
                f"index: at most {TEXTS_MAX} texts of an item, of {CHARACTERS_MAX} characters "
                "together, are embedded: name fewer fields, or none with false"
            )
        return texts

    def packed(self, vectors: Iterable[Sequence[float]]) -> bytes:
        """The vectors of an item as they are stored; of none, b""."""
        numbers = array("f")
        for vector in vectors:
            numbers.extend(vector)
        return self._mark + numbers.tobytes() if numbers else b""

    def count(self, packed: bytes) -> int:
        """How many vectors an item has, about."""
        return len(packed) // (self._dims * _NUMBER)

    def nearness(self, query: Sequence[float]) -> Callable[[bytes], float | None]:
        """A function from an item's vectors to the cosine of the nearest one to `query`.

        It returns None for what has no vectors of this index.
        """
        largest = _with_numpy(query) if numpy() else _without(query)
        stride = self._dims * _NUMBER

        def near(packed: bytes) -> float | None:
            vectors = memoryview(packed)[_MARK:]
            if not vectors or packed[:_MARK] != self._mark or len(vectors) % stride:
                return None
            return max(-1.0, min(1.0, largest(vectors)))

        return near


def _with_numpy(query: Sequence[float]) -> Callable[[memoryview], float]:
    np = numpy()
    wanted = np.array(query, dtype="f4")
    return lambda vectors: float(
        (np.frombuffer(vectors, dtype="f4").reshape(-1, len(wanted)) @ wanted).max()
    )


def _without(query: Sequence[float]) -> Callable[[memoryview], float]:
    wanted, dims = list(query), len(query)
    # Python has the one from 3.12 on.
    product: Callable[[list[float], list[float]], float]
    product = getattr(math, "sumprod", _sum_of_products)

    def largest(vectors: memoryview) -> float:
        read = array("f")
        read.frombytes(vectors)
        numbers = read.tolist()
        starts = range(0, len(numbers), dims)
        return max(product(wanted, numbers[start : start + dims]) for start in starts)

    return largest


def _sum_of_products(a: list[float], b: list[float]) -> float:
    total: float = sum(map(operator.mul, a, b))
    return total
