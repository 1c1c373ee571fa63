"""Search by meaning through two workers: of clients and graphs, and beside a model that hangs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client

from runwait.runs.service import EMBEDDING
from tests.servers import PATIENCE, PROJECTS, Server, ServerFactory, eventually

CONFIG = str(PROJECTS / "indexed" / "langgraph.json")


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers that serve a project with an index."""
    return shared(LANGGRAPH_CONFIG=CONFIG, WEB_CONCURRENCY=2)


def run(server: Server, graph: str, **given: str) -> Any:
    """What a graph finds: the keys and scores of all items."""
    body = {"assistant_id": graph, "input": given}
    return httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE).json()["found"]


def test_the_sdk_and_graphs_of_both_kinds_find_the_same(server: Server) -> None:
    with get_sync_client(url=server.url) as client:
        client.store.put_item(["recall"], "tea", {"text": "tea"})
        client.store.put_item(["recall"], "kept out", {"text": "rain"}, index=False)
        assert run(server, "recall", key="rain", text="rain rain", query="rain")[0] == ["rain", 1.0]
        found = run(server, "arecall", key="both", text="tea tea tea rain", query="tea rain")
        assert [key for key, _ in found] == ["both", "tea", "rain", "kept out"]
        assert [score for _, score in found][1:] == [pytest.approx(0.7071, abs=1e-4)] * 2 + [None]
        items = client.store.search_items(["recall"], query="tea rain")["items"]
    assert [[each["key"], each["score"]] for each in items] == found


def test_a_model_that_hangs_holds_up_no_other_client(
    server: Server, tmp_path: Path, in_thread: Callable[..., Any]
) -> None:
    files = [tmp_path / str(i) for i in range(2 * EMBEDDING)]

    def put(file: Path) -> int:
        item = {"namespace": ["slow"], "key": file.name, "value": {"text": f"HANG {file}"}}
        answer = httpx.put(f"{server.url}/store/items", json=item, timeout=PATIENCE)
        return answer.status_code

    with ThreadPoolExecutor(len(files)) as pool:
        puts = {each: pool.submit(put, each) for each in files}
        eventually(lambda: all(each.exists() or puts[each].done() for each in files))
        # Whatever the workers were given, of each no more than its places are taken.
        refused = sum(put.done() for put in puts.values())
        for _ in range(4):
            assert run(server, "recall", query="tea") is not None
            plain = httpx.post(f"{server.url}/store/items/search", json={}, timeout=PATIENCE)
            assert plain.status_code == 200
        for each in files:
            each.unlink(missing_ok=True)
        answers = [put.result() for put in puts.values()]
    assert answers.count(503) == refused
    assert answers.count(204) == len(files) - refused
