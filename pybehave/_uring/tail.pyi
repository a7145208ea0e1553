from typing import final

from typing_extensions import Buffer

from pybehave.journal.codec import Coder

@final
class Tail:
    def __init__(
        self, pages: Buffer, journal_id: bytes, lsn: int, coder: Coder | None = None
    ) -> None: ...
    @property
    def area_bytes(self) -> int: ...
    @property
    def next_lsn(self) -> int: ...

def read_tail(
    pages: Buffer, journal_id: bytes, last_lsn: int, coder: Coder
) -> list[tuple[int, int, bytes]]: ...
def tail_end(pages: Buffer, journal_id: bytes, last_lsn: int) -> int | None: ...
def marks_in(body: Buffer, lsn: int, records: int) -> list[tuple[int, int, int, bytes]]: ...
