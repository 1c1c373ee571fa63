"""What handlers answer, as a condition for metadata."""

from __future__ import annotations

import pytest

from runwait.auth.filters import filters_of, permits

METADATA = {"owner": "ada", "team": ["a", "b"], "level": 3, "org": {"id": 1}}


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        ({}, True),
        ({"owner": "ada"}, True),
        ({"owner": "bob"}, False),
        ({"owner": {"$eq": "ada"}}, True),
        ({"owner": {"$eq": "ad"}}, False),
        ({"owner": {"$contains": "ada"}}, False),
        ({"team": {"$contains": "a"}}, True),
        ({"team": {"$contains": "c"}}, False),
        ({"team": {"$contains": ["b", "a"]}}, True),
        ({"team": {"$contains": ["b", "c"]}}, False),
        ({"team": "a"}, False),
        ({"level": 3, "owner": "ada"}, True),
        ({"level": True}, False),
        ({"level": 3, "owner": "bob"}, False),
        ({"lacking": None}, False),
        ({"org": 1}, False),
    ],
)
def test_a_filter_is_a_condition(found, fits):
    assert permits(filters_of(found), METADATA) is fits


@pytest.mark.parametrize(
    "found",
    [
        {"owner": {"$ne": "ada"}},
        {"owner": {"$eq": "ada", "$contains": "a"}},
        {"owner": {}},
        {"owner": ["ada"]},
        {"owner": {"$eq": {"a": 1}}},
        {"owner": {"$contains": [["a"]]}},
        {"$or": [{"owner": "ada"}]},
        {5: "ada"},
    ],
)
def test_what_is_no_filter_lets_nobody_through(found):
    with pytest.raises(ValueError, match="filter"):
        filters_of(found)


def test_an_empty_filter_is_none():
    assert filters_of({}) is None
