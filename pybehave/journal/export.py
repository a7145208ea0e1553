"""A journal as lines of JSON, one record a line, and back: nothing is lost on the way.

    {"type": "journal", "format": 1, "id": ..., "segment_bytes": ..., "first_lsn": ...}
    {"type": "snapshot", "lsn": ..., "time_ns": ..., "servers": [{"facts": ..., "state": ...}]}
    {"lsn": 7, "type": "input", "server": 1, "name": "kv1", "time_ns": ..., "kind": "call", ...}
    {"type": "content", "number": ..., "sequence": ..., "facts": ..., "content": ...}
    {"type": "end", "records": ..., "last_lsn": ..., "sha256": of all lines before this one}

Payloads are values (plain.py) where they can be, and `raw` bytes where not. `name` is there for the
reader's sake and means nothing on the way back. A store's journal has the contents of its snapshots
behind its records (contents.py). The last line tells a whole export from one that was cut off.

Invariants
  (E1) The export of an import is the export that was imported, byte for byte.
  (E2) The snapshots in it are those that its own records can go on from.

Does not know: files (segments.py, rewrite.py), how a journal is checked (verify.py).
Source: docs/journal-format.md, section 9.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from pybehave.errors import JournalRefused
from pybehave.journal import reader, snapshot
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.contents import Content, Contents
from pybehave.journal.plain import Plain, from_plain, to_plain, to_plains
from pybehave.journal.progress import Progress
from pybehave.journal.reader import Manifest, Record, Segment
from pybehave.journal.segments import Walk, records
from pybehave.journal.snapshot import Snapshot

FORMAT: Final = 1
LSN_MAX: Final = 2**64 - 1
CAUSE: Final = struct.Struct("<QI")
REQUEST: Final = struct.Struct("<16sQ")
NUMBER_BYTES: Final = 8

TYPES: Final = {word: number for number, word in reader.TYPES.items()}
KINDS: Final = {word: number for number, word in reader.KINDS.items()}
FLAGS: Final = {word: bit for bit, word in reader.FLAGS.items()}
FLAG_BITS: Final = 16

WRONG: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What taking a line apart raises that somebody else has written."""


@final
class Names:
    """Which server a number is: what snapshots and SERVER records have said so far."""

    def __init__(self, snapshots: Iterable[Snapshot] = ()) -> None:
        self._names: dict[int, str] = {}
        for found in snapshots:
            for entry in found.entries:
                self._take(entry.facts)

    @property
    def known(self) -> set[str]:
        """All names so far."""
        return set(self._names.values())

    def of(self, record: Record) -> str:
        """The name of a record's server; "" is the journal itself, "#7" one without a name."""
        if record.type == reader.SERVER:
            self._take(record.payload)
        number = record.server
        return self._names.get(number, f"#{number}" if number else "")

    def _take(self, facts: bytes) -> None:
        found = to_plain(facts)
        if isinstance(found, dict) and isinstance(found.get("name"), str):
            self._names[found.get("number", 0)] = found["name"]


def snapshots_of(path: str, manifest: Manifest, codec: Iterable[Codec] = ()) -> list[Snapshot]:
    """Return the sound snapshots that a manifest names, newest first.

    Args:
        codec: What they are opened with.

    Raises:
        CodecRefused: One cannot be read without other codecs or keys.
    """
    found = []
    coder = Coder(codec, manifest.journal_id)
    for lsn, digest in dict.fromkeys(manifest.snapshots):  # one may be named twice
        file = Path(path, snapshot.snapshot_name(lsn))
        try:
            each = snapshot.decode(str(file), memoryview(file.read_bytes()), coder)
        except (OSError, JournalRefused):
            continue  # `verify` speaks of it
        if (each.lsn, each.digest, each.journal_id) == (lsn, digest, manifest.journal_id):
            found.append(each)
    return found


# --- out -----------------------------------------------------------------------------------------


def export(
    path: str,
    manifest: Manifest,
    segments: list[Segment],
    *,
    first: int = 0,
    last: int = LSN_MAX,
    server: str | None = None,
    progress: Progress | None = None,
) -> Iterator[str]:
    """Yield the lines of a journal, each with its newline.

    Args:
        path: The journal's folder.
        manifest: And `segments`: what is held of it (segments.py), with its codecs.
        first: And `last`: begin and end with these lsns.
        server: Only records of the server with that name; then there is no way back.
        progress: Is told how far it is.

    Raises:
        JournalRefused: A segment cannot be read, or of a store not the contents of its snapshots.
        CodecRefused: It cannot be read without other codecs or keys.
    """
    kept = snapshots_of(path, manifest, segments[0].coder.codecs if segments else ())
    names, contents, is_whole = Names(kept), Contents(kept), server is None
    begin = max(first, segments[0].header.first_lsn if segments else 1)
    digest, count, last_lsn = hashlib.sha256(), 0, begin - 1

    def line(value: dict[str, Plain]) -> str:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        return text

    yield line(_head_line(manifest, begin))
    for found in kept:
        if begin - 1 <= found.lsn <= last and is_whole:  # (E2)
            yield line(_snapshot_line(found))
    for record in records(segments, Walk(segments, progress, "exporting")):
        name = names.of(record)
        if record.lsn > last:
            is_whole = False
            break
        contents.take(record)
        if record.lsn >= begin and server in (None, name):
            yield line(to_line(record, name))
            count, last_lsn = count + 1, record.lsn
    for content in contents.read(path, manifest.journal_id) if is_whole else ():
        yield line(_content_line(content))
    sha256 = digest.hexdigest()
    yield line({"type": "end", "records": count, "last_lsn": last_lsn, "sha256": sha256})


def _head_line(manifest: Manifest, first_lsn: int) -> dict[str, Plain]:
    return {
        "type": "journal",
        "format": FORMAT,
        "id": manifest.journal_id.hex(),
        "segment_bytes": manifest.segment_bytes,
        "first_lsn": first_lsn,
    }


def to_line(record: Record, name: str) -> dict[str, Plain]:
    """Return one record for people and programs."""
    found: dict[str, Plain] = {
        "lsn": record.lsn,
        "type": reader.TYPES.get(record.type, record.type),
        "server": record.server,
        "name": name,
        "time_ns": record.time_ns,
    }
    if record.kind:
        found["kind"] = reader.KINDS.get(record.kind, record.kind)
    if record.outcome:
        found["outcome"] = f"{record.outcome:08x}"
    if record.flags:
        bits = [1 << bit for bit in range(FLAG_BITS) if record.flags >> bit & 1]
        found["flags"] = [reader.FLAGS.get(bit, bit) for bit in bits]
    at = 0
    if record.flags & reader.CAUSE:
        lsn, index = CAUSE.unpack_from(record.extensions)
        found["cause"], at = [lsn, index], CAUSE.size
    if record.flags & reader.REQUEST:
        client, number = REQUEST.unpack_from(record.extensions, at)
        found["request"] = [client.hex(), number]
    return {**found, **_payload(record)}


def _payload(record: Record) -> dict[str, Plain]:
    data = record.payload
    if record.type in (reader.TIME, reader.SKIP) and len(data) == NUMBER_BYTES:
        return {"number": int.from_bytes(data, "little")}
    if record.flags & reader.FROM:
        pair = to_plains(data, 2)
        if pair is not None:
            return {"payload": pair[0], "from": pair[1]}
    else:
        alone = to_plains(data, 1)
        if alone is not None:
            return {"payload": alone[0]}
    return {"raw": base64.b64encode(data).decode("ascii")}


def _snapshot_line(found: Snapshot) -> dict[str, Plain]:
    servers = [
        {"facts": to_plain(entry.facts), "state": to_plain(entry.state)} for entry in found.entries
    ]
    line: dict[str, Plain] = {"type": "snapshot", "lsn": found.lsn, "time_ns": found.time_ns}
    if found.version != snapshot.VERSION:
        line["version"] = found.version
    return line | {"servers": servers}


def _content_line(content: Content) -> dict[str, Plain]:
    found = content.file
    return {
        "type": "content",
        "number": content.number,
        "sequence": found.lsn,
        "time_ns": found.time_ns,
        "facts": to_plain(found.entries[0].facts),
        "content": base64.b64encode(found.entries[0].state).decode("ascii"),
    }


# --- and back ------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Head:
    """What the first line says.

    Attributes:
        journal_id: Of the journal that was exported.
        segment_bytes: Size of its segments.
        first_lsn: Of the first record behind this line.
    """

    journal_id: bytes
    segment_bytes: int
    first_lsn: int


@final
@dataclass(frozen=True, slots=True)
class End:
    """What the last line says, when it is true.

    Attributes:
        records: How many there were.
        last_lsn: The last one's.
    """

    records: int
    last_lsn: int


Item: TypeAlias = Head | Snapshot | Record | Content


def parse(lines: Iterable[bytes], source: str) -> Iterator[Item | End]:
    """Yield what the lines of an export say.

    Args:
        lines: Each with its newline.
        source: Where they come from, for what is said about them.

    Raises:
        JournalRefused: A line is not one of an export, or the last ones are missing or changed.
    """
    digest, count, number = hashlib.sha256(), 0, 0
    head: Head | None = None
    ended = False
    for number, line in enumerate(lines, 1):
        place = f"{source}, line {number}"
        if ended:
            raise JournalRefused(place, "it stands behind the export's end")
        try:
            found = _parsed(json.loads(line), head)
        except WRONG as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise JournalRefused(place, f"it is no line of an export: {words}") from error
        if isinstance(found, Head):
            head = found
        elif isinstance(found, tuple):
            ended = True
            _check_end(place, found, (count, digest.hexdigest()))
            yield End(count, found[1])
            continue
        count += isinstance(found, Record)
        digest.update(line)
        yield found
    if number == 0:
        raise JournalRefused(
            source, "it is empty; `pybehave journal export` writes what is imported"
        )
    if not ended:
        raise JournalRefused(source, f"it was cut off behind line {number}; export it again")


def _check_end(place: str, said: tuple[int, int, str], found: tuple[int, str]) -> None:
    if (said[0], said[2]) != found:
        raise JournalRefused(
            place,
            f"it tells of {said[0]} records, and {found[0]} stand before it; or a line was "
            "changed: its SHA-256 is another",
        )


def _parsed(line: Any, head: Head | None) -> Item | tuple[int, int, str]:
    kind = line["type"]
    if head is None:
        if kind != "journal":
            raise ValueError("the first one says which journal it is")
        if line["format"] != FORMAT:
            raise ValueError(f"format {line['format']} is another version's; use that one")
        journal_id = bytes.fromhex(line["id"])
        if len(journal_id) != len(bytes(16)):
            raise ValueError("an id has 16 bytes")
        return Head(journal_id, _whole(line["segment_bytes"]), _whole(line["first_lsn"]))
    if kind == "end":
        return _whole(line["records"]), _whole(line["last_lsn"]), str(line["sha256"])
    if kind == "snapshot":
        return _snapshot(line, head)
    if kind == "content":
        return _content(line, head)
    return from_line(line)


def from_line(line: dict[str, Plain]) -> Record:
    """Return the record that a line tells of.

    Raises:
        Exception: One of WRONG: it is none.
    """
    flags = 0
    for word in line.get("flags", ()):
        flags |= _number(word, FLAGS)
    extensions = b""
    if flags & reader.CAUSE:
        extensions += CAUSE.pack(*line["cause"])
    if flags & reader.REQUEST:
        client, number = line["request"]
        extensions += REQUEST.pack(bytes.fromhex(client), number)
    if "raw" in line:
        payload = base64.b64decode(line["raw"], validate=True)
    elif "number" in line:
        payload = _whole(line["number"]).to_bytes(NUMBER_BYTES, "little")
    else:
        payload = from_plain(line["payload"])
        payload += from_plain(line["from"]) if flags & reader.FROM else b""
    kind_of, kind = _number(line["type"], TYPES), _number(line.get("kind", 0), KINDS)
    server, outcome = _whole(line["server"]), int(line.get("outcome", "0"), 16)
    reader.RECORD_FIELDS.pack(0, kind_of, kind, flags, server, outcome)  # their ranges
    lsn, time_ns = _whole(line["lsn"]), _whole(line["time_ns"])
    return Record(lsn, kind_of, kind, flags, server, outcome, time_ns, extensions, payload)


def _number(word: Plain, names: dict[str, int]) -> int:
    if isinstance(word, str):
        if word not in names:
            raise ValueError(f"{word!r} is none of {', '.join(names)}")
        return names[word]
    return _whole(word)


def _whole(value: Plain) -> int:
    if type(value) is not int or not 0 <= value <= LSN_MAX:
        raise ValueError(f"{value!r} stands where a whole number should")
    return value


def _content(line: dict[str, Plain], head: Head) -> Content:
    state = base64.b64decode(line["content"], validate=True)
    entry = snapshot.Entry(from_plain(line["facts"]), state)
    sequence, time_ns = _whole(line["sequence"]), _whole(line["time_ns"])
    file = snapshot.encode(head.journal_id, sequence, time_ns, [entry])
    return Content(_whole(line["number"]), snapshot.decode("content", memoryview(file)))


def _snapshot(line: dict[str, Plain], head: Head) -> Snapshot:
    entries = tuple(
        snapshot.Entry(from_plain(each["facts"]), from_plain(each["state"]))
        for each in line["servers"]
    )
    lsn, time_ns = _whole(line["lsn"]), _whole(line["time_ns"])
    version = _whole(line.get("version", snapshot.VERSION))
    content = snapshot.encode(head.journal_id, lsn, time_ns, entries, version)
    return snapshot.decode("snapshot", memoryview(content))
