"""The index: which texts it takes, and how near they are."""

from __future__ import annotations

import math
from typing import Any

import pytest
from langgraph.store.base.embed import ensure_embeddings

from runwait.storage import vectors
from runwait.storage.embedding import Embedder
from runwait.storage.vectors import Index, Unembeddable


def index(name: str = "model", dims: int = 2, fields: Any = ("$",)) -> Index:
    return Index(Embedder(ensure_embeddings(lambda texts: []), dims), name, dims, fields)


class TestTexts:
    @pytest.mark.parametrize(
        ("asked", "texts"),
        [
            (None, ['{"a": "x", "b": [{"c": "y"}, {"c": 5}], "e": " "}']),
            (False, []),
            ([], []),
            (["a"], ["x"]),
            (["b[*].c"], ["y", "5"]),
            (["b[-1].c", "b[0].c"], ["5", "y"]),
            (["{a,b[0].c}"], ["x"]),
            (["a", "a"], ["x"]),
            (["e", "none", "b[9]", "a.a"], []),
        ],
        ids=repr,
    )
    def test_are_those_of_the_paths_once_and_not_blank(self, asked, texts):
        value = {"a": "x", "b": [{"c": "y"}, {"c": 5}], "e": " "}
        assert index().texts(value, 100, asked) == texts

    def test_are_those_of_the_index_where_the_put_says_nothing(self):
        assert index(fields=["a"]).texts({"a": "x", "b": "y"}, 10, None) == ["x"]

    @pytest.mark.parametrize(
        ("value", "size", "asked", "text"),
        [
            ({"a": list(range(101))}, 500, ["a[*]"], "at most 100 texts of an item"),
            ({"a": "x" * (1 << 20) + "x"}, 1 << 20, ["a"], "of 1048576 characters together"),
            ({"a": "x"}, 1 << 24, ["{a,a,a,a}", "a"], "names too many fields of a value as large"),
            ({"a": "x"}, 5 << 20, ["a[*]"], "names too many fields of a value as large"),
            ({"a": [10**5000]}, 5000, ["$"], "a number is too long"),
            ({}, 2, ["a." * 5001], "at most 10000 characters"),
        ],
        ids=["texts", "characters", "walks", "wildcards", "digits", "paths"],
    )
    def test_that_are_too_many_are_refused(self, value, size, asked, text):
        with pytest.raises(Unembeddable, match=rf"^index: .*{text}"):
            index().texts(value, size, asked)

    def test_are_not_looked_for_where_a_few_bytes_of_paths_would_cost_minutes(self):
        paths = ["{" + ",".join("a" * 100) + "}"] * 1000
        with pytest.raises(Unembeddable):
            index().texts({"a": ["x"] * 100_000}, 500_000, paths)


class TestNearness:
    @pytest.fixture(params=["numpy", "without"])
    def asked(self, request, monkeypatch):
        if request.param == "without":
            monkeypatch.setattr(vectors, "numpy", lambda: None)
        return index().nearness([0.6, 0.8])

    @pytest.mark.parametrize(
        ("stored", "score"),
        [
            ([[0.6, 0.8]], 1.0),
            ([[-0.6, -0.8]], -1.0),
            ([[0.8, -0.6]], 0.0),
            ([[0.0, 0.0]], 0.0),
            ([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], 0.8),
        ],
    )
    def test_is_the_cosine_of_the_nearest_vector(self, asked, stored, score):
        found = asked(index().packed(stored))
        assert found == pytest.approx(score, abs=1e-6)
        assert -1 <= found <= 1

    @pytest.mark.parametrize(
        "packed",
        [
            b"",
            index().packed([]),
            index("another model").packed([[1.0, 0.0]]),
            index(dims=4).packed([[1.0, 0.0, 0.0, 0.0]]),
            index().packed([[1.0, 0.0]])[:-1],
        ],
        ids=["nothing", "no vectors", "another model", "other dimensions", "cut off"],
    )
    def test_is_none_of_what_has_no_vectors_of_this_index(self, asked, packed):
        assert asked(packed) is None

    def test_without_numpy_is_the_same_on_pythons_without_sumprod(self, asked, monkeypatch):
        monkeypatch.delattr(math, "sumprod", raising=False)
        again = index().nearness([0.6, 0.8])
        packed = index().packed([[0.28, 0.96]])
        assert again(packed) == pytest.approx(asked(packed), abs=1e-6)
