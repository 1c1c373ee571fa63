"""A checkpointer for LangGraph on core commands of Redis 6.2: no module is needed.

It depends on LangGraph and redis-py alone.
"""

from .errors import Fenced, StateLost, UnrevivableValue, UnstorableValue
from .reached import allowlist_of
from .runner import ClientRunner, ScriptRunner
from .saver import RedisSaver
from .serializer import Serializer, serializer

__all__ = [
    "ClientRunner",
    "Fenced",
    "RedisSaver",
    "ScriptRunner",
    "Serializer",
    "StateLost",
    "UnrevivableValue",
    "UnstorableValue",
    "allowlist_of",
    "serializer",
]
