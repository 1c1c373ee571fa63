"""Texts become vectors, by a model of the project's: bounded in time, and off all event loops."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base.embed import EmbeddingsLambda

from runwait.pool import Loop, Pool

log = logging.getLogger("runwait.store")

# How long one call may take; proxies give up a request after 30 seconds.
EMBEDDING_SECONDS = 25.0
# Calls under way at once. One that hangs keeps its thread.
THREADS = 32
# Texts given to one call, at most.
TEXTS = 500


class EmbeddingFailed(Exception):
    """The project's embedding function raised, or returned what are no vectors; nothing was stored.

    The text names the class of what it raised. The rest may hold secrets, and is only logged.
    """


class EmbeddingTimedOut(Exception):
    """The project's embedding function took too long; nothing was stored."""


class Embedder:
    """Calls an embedding model for any thread. It starts threads of its own when it is first used.

    A model that is synchronous runs on one of them, one that is asynchronous on an event loop that
    is for embeddings alone: what it blocks is nobody else's.
    """

    def __init__(
        self, embeddings: Embeddings, dims: int, seconds: float = EMBEDDING_SECONDS
    ) -> None:
        """Prepare.

        Args:
            embeddings: the model.
            dims: numbers in each vector.
            seconds: how long a call may take.
        """
        self._embeddings = embeddings
        self._dims = dims
        self._seconds = seconds
        self._is_async = isinstance(embeddings, EmbeddingsLambda) and hasattr(embeddings, "afunc")
        self._pool = Pool(THREADS, "embedding")
        self._loop = Loop("embeddings")

    def documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of these texts, each of length 1, or of zeros alone.

        Raises:
            EmbeddingFailed, EmbeddingTimedOut.
        """
        vectors: list[list[float]] = []
        model = self._embeddings
        for start in range(0, len(texts), TEXTS):
            page = list(texts[start : start + TEXTS])
            if self._is_async:
                answer = self._answer(self._loop.submit(partial(model.aembed_documents, page)))
            else:
                answer = self._answer(self._pool.submit(model.embed_documents, page))
            vectors += self._checked(answer, len(page))
        return vectors

    def query(self, text: str) -> list[float]:
        """Return the vector of what is searched for.

        Raises:
            EmbeddingFailed, EmbeddingTimedOut.
        """
        model = self._embeddings
        if self._is_async:
            answer = self._answer(self._loop.submit(partial(model.aembed_query, text)))
        else:
            answer = self._answer(self._pool.submit(model.embed_query, text))
        return self._checked([answer], 1)[0]

    def _answer(self, future: Future[Any]) -> Any:
        try:
            error = future.exception(self._seconds)
        except TimeoutError:
            future.cancel()
            text = f"the store's embedding function took more than {self._seconds:g} seconds"
            log.warning(text)
            raise EmbeddingTimedOut(text) from None
        if error is not None:
            log.warning("embedding failed: %s: %s", type(error).__name__, error)
            text = f"the store's embedding function failed: {type(error).__name__}"
            raise EmbeddingFailed(text) from error
        return future.result()

    def _checked(self, answer: Any, count: int) -> list[list[float]]:
        try:
            vectors = [[float(number) for number in vector] for vector in answer]
        except (TypeError, ValueError, OverflowError):
            raise _no_vectors("what are no lists of numbers") from None
        if len(vectors) != count:
            raise _no_vectors(f"{len(vectors)} vectors for {count} texts")
        for vector in vectors:
            if len(vector) != self._dims:
                raise _no_vectors(
                    f"a vector of {len(vector)} numbers, and store.index.dims is {self._dims}"
                )
            if not all(map(math.isfinite, vector)):
                raise _no_vectors("a vector with a number that is not finite")
        return [_of_length_1(vector) for vector in vectors]


def _no_vectors(what: str) -> EmbeddingFailed:
    log.warning("embedding failed: the function returned %s", what)
    return EmbeddingFailed(f"the store's embedding function returned {what}")


def _of_length_1(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    # What is too large or too small to be divided has no direction to speak of.
    return [x / length for x in vector] if 0 < length < math.inf else [0.0] * len(vector)


@functools.cache
def numpy() -> Any:
    """Return numpy if it can be imported, else None. Nothing of Runwait needs it."""
    try:
        import numpy
    except Exception:
        return None
    return numpy
