"""What can go wrong with a checkpoint, beside the storage itself."""

from __future__ import annotations


class Fenced(Exception):
    """The thread is not what its writer takes it for: nothing was changed.

    Someone with a higher token claimed it, it was deleted, or Redis has lost a part of it.
    """


class StateLost(Fenced):
    """Redis has lost a part of the thread's state, as where it evicts keys."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"Redis has lost a part of the state of thread {thread_id}")


class UnstorableValue(Exception):
    """A value cannot be stored in a checkpoint.

    Attributes:
        channel: the channel that it was written to.
        type: the name of the type that cannot be stored: the value's own, or of one inside it.
    """

    def __init__(self, channel: str, type: str, reason: str) -> None:
        super().__init__(f"channel {channel!r}: a value of type {type} cannot be stored: {reason}")
        self.channel = channel
        self.type = type


class UnrevivableValue(Exception):
    """What is stored for a channel cannot be made a value again.

    Attributes:
        channel: the channel that it was written to.
        type: the name of the type that cannot be revived.
    """

    def __init__(self, channel: str, type: str, reason: str) -> None:
        super().__init__(f"channel {channel!r}: a stored {type} cannot be revived: {reason}")
        self.channel = channel
        self.type = type
