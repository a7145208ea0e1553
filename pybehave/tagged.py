"""Inputs told apart by what they begin with, as tagged tuples in Erlang and commands in RESP are.

Does not know: who asks (inputs.py, src/_uring/gate.pyx).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

from pybehave.errors import show


@final
class Tagged:
    """Lists and tuples whose first item is one of these: `ephemeral = Tagged("balance", "size")`.

    It stands where a class does in `accepts` and `ephemeral`, also beside classes in a tuple.

    Args:
        tags: Values that can be hashed: strings, bytes, numbers.

    Raises:
        TypeError: There is none, or one that cannot be hashed.

    Attributes:
        tags: All of them.
    """

    __slots__ = ("tags",)

    def __init__(self, *tags: Hashable) -> None:
        if not tags:
            raise TypeError('Tagged() is not allowed; name the tags, as in Tagged("get", "size")')
        self.tags = frozenset(tags)

    def __instancecheck__(self, message: Any) -> bool:
        """Whether a message is one of those: `isinstance(message, Tagged("get"))`."""
        if not isinstance(message, (list, tuple)) or not message:
            return False
        try:
            return message[0] in self.tags
        except TypeError:  # no tag is a list
            return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and self.tags == other.tags

    def __hash__(self) -> int:
        return hash(self.tags)

    def __repr__(self) -> str:
        return f"Tagged({', '.join(sorted(show(tag) for tag in self.tags))})"
