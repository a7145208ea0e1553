from collections.abc import Callable, Iterable
from typing import Any, final

from typing_extensions import Buffer

from pybehave._uring.dispatch import Dispatcher
from pybehave._uring.servers import Server
from pybehave.errors import NonDeterminism

@final
class Replayer:
    def __init__(
        self,
        dispatcher: Dispatcher,
        on_record: Callable[[int, int, bytes, int], Server | None],
        *,
        is_strict: bool = True,
        skipped: Iterable[int] = (),
    ) -> None: ...
    @property
    def inputs(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def lsn(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def differences(self) -> list[NonDeterminism]: ...
    def bind(self, number: int, server: Server | None) -> None: ...
    def feed(
        self, segment: Buffer, journal_id: bytes, block_end: int, lsn_from: int, lsn_to: int
    ) -> None: ...
    def feed_body(self, body: Buffer, lsn: int, records: int) -> None: ...
    def initial(self, server: Server, state: Any, actions: tuple[Any, ...]) -> None: ...
