"""The embedder: what it makes of a model's answers, and of none."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base.embed import ensure_embeddings

from runwait.storage import embedding
from runwait.storage.embedding import Embedder, EmbeddingFailed, EmbeddingTimedOut


def constant(texts: Sequence[str]) -> list[list[float]]:
    return [[3.0, 4.0] for _ in texts]


async def aconstant(texts: Sequence[str]) -> list[list[float]]:
    return constant(texts)


class Model(Embeddings):
    """A model that tells queries from documents."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [0.0, 1.0]


def embedder(model: Any, **options: Any) -> Embedder:
    return Embedder(ensure_embeddings(model), 2, **options)


@pytest.mark.parametrize("model", [constant, aconstant])
def test_vectors_are_of_length_1(model):
    assert embedder(model).documents(["a", "b"]) == [[0.6, 0.8], [0.6, 0.8]]
    assert embedder(model).query("a") == [0.6, 0.8]


def test_vectors_of_zeros_stay_zeros():
    assert embedder(lambda texts: [[0, 0]]).documents(["a"]) == [[0.0, 0.0]]
    assert embedder(lambda texts: [[1.7e308, 1.7e308]]).documents(["a"]) == [[0.0, 0.0]]


def test_a_model_is_told_what_is_a_query():
    assert embedder(Model()).documents(["a"]) == [[1.0, 0.0]]
    assert embedder(Model()).query("a") == [0.0, 1.0]


def test_no_text_is_no_call():
    def refuse(texts: Sequence[str]) -> list[list[float]]:
        raise AssertionError(texts)

    assert embedder(refuse).documents([]) == []


def test_many_texts_are_given_in_pages(monkeypatch):
    monkeypatch.setattr(embedding, "TEXTS", 2)
    calls: list[list[str]] = []

    def count(texts: Sequence[str]) -> list[list[float]]:
        calls.append(list(texts))
        return [[float(text), 0.0] for text in texts]

    assert len(embedder(count).documents(["1", "2", "3"])) == 3
    assert calls == [["1", "2"], ["3"]]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "what are no lists of numbers"),
        ([None], "what are no lists of numbers"),
        ([["x", 1]], "what are no lists of numbers"),
        ([[10**400, 1]], "what are no lists of numbers"),
        ([], "0 vectors for 1 texts"),
        ([[1, 2], [1, 2]], "2 vectors for 1 texts"),
        ([[1, 2, 3]], "a vector of 3 numbers, and store.index.dims is 2"),
        ([[1, math.nan]], "a vector with a number that is not finite"),
    ],
)
def test_what_are_no_vectors_is_refused_by_what_it_is(answer, text):
    with pytest.raises(EmbeddingFailed, match="the store's embedding function returned") as got:
        embedder(lambda texts: answer).documents(["a"])
    assert str(got.value).endswith(text)


def test_what_is_no_vector_of_a_query_is_refused_too():
    with pytest.raises(EmbeddingFailed, match="a vector of 1 numbers"):
        embedder(lambda texts: [[1.0]]).query("a")


def raises(error: BaseException) -> Callable[[Sequence[str]], Any]:
    def model(texts: Sequence[str]) -> Any:
        raise error

    return model


def araises(error: BaseException) -> Callable[[Sequence[str]], Any]:
    async def model(texts: Sequence[str]) -> Any:
        raise error

    return model


@pytest.mark.parametrize("kind", [raises, araises])
@pytest.mark.parametrize("error", [ValueError("key sk-1 is wrong"), SystemExit(3)], ids=repr)
def test_what_a_model_raises_is_named_by_its_class_and_the_rest_only_logged(kind, error, caplog):
    made = embedder(kind(error))
    for _ in range(2):  # whatever it was, the next call is made
        with caplog.at_level(logging.WARNING), pytest.raises(EmbeddingFailed) as got:
            made.query("a")
        assert str(got.value).startswith("the store's embedding function failed: ")
        assert str(error) not in str(got.value)
        assert str(error) in caplog.text


def test_a_model_that_hangs_is_given_up_and_others_go_on():
    release = threading.Event()

    def hang(texts: Sequence[str]) -> list[list[float]]:
        if texts == ["hang"]:
            release.wait()
        return constant(texts)

    async def ahang(texts: Sequence[str]) -> list[list[float]]:
        if texts == ["hang"]:
            await asyncio.Event().wait()
        return constant(texts)

    try:
        for model in (hang, ahang):
            with pytest.raises(EmbeddingTimedOut, match=r"took more than 0\.05 seconds"):
                embedder(model, seconds=0.05).query("hang")
        patient = embedder(hang, seconds=60)
        threading.Thread(target=lambda: patient.query("hang"), daemon=True).start()
        assert patient.query("a") == [0.6, 0.8]
    finally:
        release.set()
