"""An embedding model for tests: how often a text has each of four words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

WORDS = ("tea", "rain", "music", "dogs")


def embed(texts: Sequence[str]) -> list[list[float]]:
    """The vectors of these texts. Some texts make it fail."""
    for text in texts:
        if "FAIL" in text:
            raise RuntimeError("the key sk-secret is of no use")
        if "SHORT" in text:
            return [[1.0, 0.0]] * len(texts)
        if text.startswith("HANG "):
            file = Path(text.split()[1])
            file.touch()
            while file.exists():
                time.sleep(0.01)
    return [[float(text.lower().split().count(word)) for word in WORDS] for text in texts]


async def aembed(texts: Sequence[str]) -> list[list[float]]:
    """`embed`, for an event loop that it may block."""
    return embed(texts)
