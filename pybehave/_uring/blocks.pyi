from typing import NamedTuple

from typing_extensions import Buffer

from pybehave.journal.codec import Coder

BLOCK: int
CODED: int
END_NONE: int
END_SEAL: int
END_CLOSE: int
PROBLEMS: dict[int, str]

class Manifest(NamedTuple):
    id: bytes
    counter: int
    epoch: int
    oldest: int
    current: int
    segment_bytes: int
    depth: int
    durable_seq: int
    durable_lsn: int
    is_clean: bool
    snapshots: tuple[tuple[int, bytes], ...]
    replay_lsn: int
    replay_attempts: int
    features: int = 0

class Header(NamedTuple):
    id: bytes
    number: int
    epoch: int
    first_seq: int
    first_lsn: int
    before: int
    before_seq: int
    chain: bytes
    before_end: int
    bytes: int
    made_ns: int
    features: int = 0

class Walked(NamedTuple):
    frames: int
    records: int
    block: int
    seq: int
    lsn: int
    chain: bytes
    durable_seq: int
    time_ns: int
    end: int
    problem: int

def pack_manifest(value: Manifest) -> bytes: ...
def unpack_manifest(block: Buffer) -> Manifest | None: ...
def pack_header(value: Header) -> bytes: ...
def unpack_header(block: Buffer) -> Header | None: ...
def walk(
    segment: Buffer,
    header: Header,
    last_seq: int = 0xFFFFFFFFFFFFFFFF,
    start: Walked | None = None,
) -> Walked: ...
def is_zero(data: Buffer) -> bool: ...
def claims(segment: Buffer, header: Header, block: int) -> tuple[int, int]: ...
def last_used_block(segment: Buffer, block: int) -> int: ...
def find_marks(
    segment: Buffer, journal_id: bytes, block_end: int, coder: Coder, block: int = 2
) -> list[tuple[int, int, int, bytes]]: ...
