"""The numbers that journaled servers have in the journal, by name.

A number is given at a server's first start and is its own until the server is forgotten. It stands
here once it is recorded: of a server whose first `init` fails the journal knows nothing. While a
node runs no number is given twice; the next start may give one again that was given back, for
behind a FORGET record it is nobody's.

Does not know: records.
"""

from __future__ import annotations

from typing import final


@final
class Numbers(dict[str, int]):
    """Server name -> number, from 1.

    Attributes:
        is_final: The journal was read to its end; what is read once more tells nothing new.
    """

    is_final = False

    def __init__(self) -> None:
        super().__init__()
        self._highest = 0
        self._promised: dict[str, int] = {}

    def of(self, name: str) -> int:
        """Return a server's number; of one that has none, what it is to be if its init returns.

        Nobody else gets that meanwhile: an init may start others.
        """
        if name in self:
            return self[name]
        if name not in self._promised:
            self._highest += 1
            self._promised[name] = self._highest
        return self._promised[name]

    def record(self, name: str, number: int) -> None:
        """A server begins, and its number is recorded."""
        self[name] = number
        self._promised.pop(name, None)
        self._highest = max(self._highest, number)

    def take(self, name: str, number: int) -> None:
        """Take note of a number that the journal names."""
        if not self.is_final:
            self.record(name, number)

    def drop(self, name: str) -> None:
        """Take note of a server that the journal has forgotten."""
        if not self.is_final:
            self.pop(name, None)
