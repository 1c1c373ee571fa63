"""What langgraph.json says of the store, read, and refused where it cannot be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runwait.graphs.config import GraphLoadError, LanggraphConfig, read
from runwait.options.store import store_options

CODE = """
from langchain_core.embeddings import Embeddings

def embed(texts):
    return [[1.0, 2.0] for _ in texts]

async def aembed(texts):
    return embed(texts)

class Model(Embeddings):
    def embed_documents(self, texts):
        return embed(texts)

    def embed_query(self, text):
        return [2.0, 1.0]

model, none = Model(), 5
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[[Any], LanggraphConfig]:
    """Makes a project whose langgraph.json has this `store`."""

    def make(store: Any) -> LanggraphConfig:
        (tmp_path / "embeddings.py").write_text(CODE)
        path = tmp_path / "langgraph.json"
        path.write_text(json.dumps({"graphs": {"a": "./a.py:graph"}, "store": store}))
        return read(path)

    return make


@pytest.mark.parametrize("store", [{}, {"index": None}, {"ttl": None}])
def test_without_them_there_is_no_index_and_no_end_of_items(project, store):
    options = store_options(project(store))
    assert (options.index, options.ttl) == (None, None)


@pytest.mark.parametrize("name", ["embed", "aembed", "model"])
def test_a_model_is_a_function_of_the_project_or_an_object_of_langchain(project, name):
    index = store_options(
        project({"index": {"embed": f"./embeddings.py:{name}", "dims": 2, "fields": ["text"]}})
    ).index
    assert index is not None
    assert index.texts({"text": "a", "more": "b"}, 1, None) == ["a"]
    assert len(index.embedder.documents(["a", "b"])) == 2
    assert len(index.embedder.query("a")) == 2


def test_all_of_a_value_is_embedded_where_no_fields_are_named(project):
    index = store_options(project({"index": {"embed": "./embeddings.py:embed", "dims": 2}})).index
    assert index is not None
    assert index.texts({"a": "b"}, 1, None) == ['{"a": "b"}']


EMBED = {"embed": "./embeddings.py:embed", "dims": 2}


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ({"index": 5}, "store.index: must be an object"),
        ({"index": {"embed": EMBED["embed"]}}, "store.index.dims: must be an integer from 1"),
        ({"index": {**EMBED, "dims": True}}, "store.index.dims: must be an integer from 1"),
        ({"index": {**EMBED, "dims": 10**6}}, "store.index.dims: must be an integer from 1"),
        ({"index": {**EMBED, "fields": "text"}}, "store.index.fields: must be a list"),
        ({"index": {**EMBED, "fields": []}}, "store.index.fields: must be a list"),
        ({"index": {**EMBED, "fields": [""]}}, "store.index.fields: must be a list"),
        ({"index": {"dims": 2}}, "store.index.embed: must be like ./folder/file.py:function"),
        ({"index": {**EMBED, "embed": "openai"}}, "store.index.embed: must be like"),
        ({"index": {**EMBED, "embed": "./no.py:embed"}}, "store.index.embed: there is no such"),
        ({"index": {**EMBED, "embed": "./embeddings.py:no"}}, "store.index.embed: AttributeError"),
        ({"index": {**EMBED, "embed": "./embeddings.py:none"}}, "must be a function from texts"),
        ({"ttl": 5}, "store.ttl: must be an object"),
        ({"ttl": {"default_ttl": 0}}, "store.ttl.default_ttl: must be minutes above 0"),
        ({"ttl": {"default_ttl": "5"}}, "store.ttl.default_ttl: must be minutes above 0"),
        ({"ttl": {"default_ttl": True}}, "store.ttl.default_ttl: must be minutes above 0"),
        ({"ttl": {"refresh_on_read": 1}}, "store.ttl.refresh_on_read: must be true or false"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_key(project, store, reason):
    with pytest.raises(GraphLoadError) as got:
        store_options(project(store))
    assert reason in str(got.value)


def test_a_provider_is_found_through_langchain_or_said_to_need_it(project, monkeypatch):
    config = project({"index": {"dims": 2, "embed": "azure_openai:text-embedding-3-small"}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("runwait.options.store.ensure_embeddings", refuse)
    with pytest.raises(GraphLoadError) as got:
        store_options(config)
    reason = "store.index.embed: needs LangChain: pip install langchain langchain-azure-openai"
    assert str(got.value) == f"{config.path}: {reason}"


def test_what_langchain_says_of_a_provider_is_passed_on(project, monkeypatch):
    config = project({"index": {"dims": 2, "embed": "openai:text-embedding-3-small"}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("runwait.options.store.ensure_embeddings", refuse)
    with pytest.raises(GraphLoadError, match=r"small: ValueError: pip install langchain-openai$"):
        store_options(config)


def refuse(embed: str) -> Any:
    raise ValueError("pip install langchain-openai")


def test_items_live_as_long_as_the_project_says(project):
    ttl = {"default_ttl": 30, "refresh_on_read": False, "sweep_interval_minutes": 10}
    assert store_options(project({"ttl": ttl})).ttl == {
        "default_ttl": 30,
        "refresh_on_read": False,
    }
    assert store_options(project({"ttl": {}})).ttl == {
        "default_ttl": None,
        "refresh_on_read": True,
    }
