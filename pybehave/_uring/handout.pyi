from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

_Stopped = TypeVar("_Stopped")

def events_in(messages: list[Any], mark: str) -> list[Any] | None: ...

@final
class Batch:
    sequence: int
    is_last: bool

@final
class HandOut(Generic[_Stopped]):
    def __new__(
        cls,
        special: frozenset[type],
        stopped: Callable[[int, int, int, Any, Exception | None], _Stopped],
    ) -> HandOut[_Stopped]: ...
    def __call__(
        self, entries: list[Any], events: list[Any], first: int, batch: Batch
    ) -> _Stopped | None: ...
    def batches(
        self, entries: list[Any], events: list[Any], first: int, batch: Batch
    ) -> _Stopped | None: ...
