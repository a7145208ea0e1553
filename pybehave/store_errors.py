# ruff: noqa: N818 -- facts, not "...Error", as in errors.py
"""The exceptions of stores. Their name for the world is `pybehave.errors`, which has them all.

Does not know: stores; it only names why one has refused.
"""

from __future__ import annotations

from pybehave.error_base import PybehaveError


class StoreRefused(PybehaveError):
    """A store did not do what it was asked for; nothing was changed.

    Attributes:
        stream: Which stream it was about.
    """

    def __init__(self, stream: str, sentence: str) -> None:
        super().__init__(sentence)
        self.stream = stream


class Fenced(StoreRefused):
    """The lease is over: it has run out, was released, or another one has followed.

    Attributes:
        epoch: Of the lease that was shown.
        newest: The newest epoch of the stream; greater than `epoch` when another one has followed.
    """

    def __init__(self, stream: str, epoch: int, newest: int) -> None:
        why = f"epoch {newest} has followed" if newest > epoch else "its lease is over"
        super().__init__(
            stream,
            f"Epoch {epoch} may not write to stream {stream!r} any more, for {why}; stop serving "
            f"its state, acquire the stream again and read what has become of it",
        )
        self.epoch = epoch
        self.newest = newest


class LeaseHeld(StoreRefused):
    """The stream is somebody's.

    Attributes:
        holder: Whose.
        left_s: Seconds until the lease runs out, unless it is renewed.
    """

    def __init__(self, stream: str, holder: str, left_s: float) -> None:
        super().__init__(
            stream,
            f"Stream {stream!r} is held by {holder!r} for another {left_s:.3g} s at least; ask "
            f"again then, or let the holder release it",
        )
        self.holder = holder
        self.left_s = left_s


class SequenceMismatch(StoreRefused):
    """The stream does not end where the caller thought.

    Attributes:
        expected: Where the caller thought.
        actual: Where it ends.
    """

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(
            stream,
            f"Stream {stream!r} ends with entry {actual}, not with {expected}; read what is "
            f"there, for an earlier commit of yours may have been done, and go on behind it",
        )
        self.expected = expected
        self.actual = actual


class Trimmed(StoreRefused):
    """Entries that were asked for are gone; a snapshot holds what came of them.

    Attributes:
        oldest: The first entry that can be read.
    """

    def __init__(self, stream: str, oldest: int) -> None:
        super().__init__(
            stream,
            f"Stream {stream!r} begins with entry {oldest} by now; take its snapshot, and read "
            f"behind that",
        )
        self.oldest = oldest


class NotQueued(StoreRefused):
    """A message that was to be taken is not in the inbox.

    Attributes:
        position: Its position.
    """

    def __init__(self, stream: str, position: int) -> None:
        super().__init__(
            stream,
            f"The inbox of stream {stream!r} has no message at position {position}; it was taken "
            f"before, or never came; look at the inbox again",
        )
        self.position = position


class InboxFull(StoreRefused):
    """So many messages wait in the inbox that it takes no more.

    Attributes:
        capacity: How many it holds.
    """

    def __init__(self, stream: str, capacity: int) -> None:
        super().__init__(
            stream,
            f"The inbox of stream {stream!r} is full ({capacity} messages wait); send again when "
            f"its holder has taken some",
        )
        self.capacity = capacity
