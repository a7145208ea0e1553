"""Inputs on which a journaled server failed: kept, with all that is needed to fail again.

A deterministic step fails again on the same input and state, so the input is put aside at the first
failure. The journal's FAILED mark is what counts; the letter beside it says why, and holds the
state before, so that the failure can be repeated (`pybehave crash to-test`) and, once the code is
mended, the input be sent again (`pybehave dead-letters requeue`).

    dead-letters/<lsn, 16 hex digits>.letter    MessagePack, the fields of Letter by name
    dead-letters/<lsn, 16 hex digits>.requeue   the input to be sent when the node starts next

With codecs a file begins with the byte C1, which MessagePack never uses; what they have made
follows (docs/journal-format.md, section 12).

Does not know: servers, loops.
Source: dead letters as Akka and message brokers have them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pybehave.errors import CodecRefused, JournalRefused
from pybehave.journal.codec import PLAIN, Coder
from pybehave.journal.disk import Disk, sync_folder

FOLDER: Final = "dead-letters"
LETTER: Final = ".letter"
REQUEUE: Final = ".requeue"
KINDS: Final = {LETTER: "letter", REQUEUE: "requeue"}
"""What the contents are for a codec."""

CODED: Final = b"\xc1"
STEM: Final = re.compile("[0-9a-f]{16}")
"""Of a file of ours; what else lies in the folder is somebody else's."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One input that failed.

    Attributes:
        lsn: Its number in the journal.
        server: Whose input.
        kind: 1 call, 2 cast, 3 info, 5 timer.
        message: The input, as the journal encodes it (docs/journal-format.md, section 6).
        error: The exception's class and text.
        traceback: As Python prints it.
        crash_id: What the caller was told.
        at: Unix time, seconds.
        incarnation: Which one failed.
        module: Where the server's class is.
        qualname: Its name there.
        args: What init was given, encoded; None when it has no form.
        state: The state before, encoded after `dump`; None when it is not known.
        version: Of the server's class, when it failed.
        random: The state of `context.random` before, encoded; None when it was not used.
    """

    lsn: int
    server: str
    kind: int
    message: bytes
    error: str
    traceback: str
    crash_id: str
    at: float
    incarnation: int
    module: str
    qualname: str
    args: bytes | None = None
    state: bytes | None = None
    random: bytes | None = None
    version: int = 1


def letter_name(lsn: int) -> str:
    """Return the name of a letter, below the journal's folder."""
    return f"{FOLDER}/{lsn:016x}{LETTER}"


def put(disk: Disk, letter: Letter, coder: Coder = PLAIN) -> None:
    """Write a letter, or a more complete one in its place; blocks.

    Raises:
        OSError: The disk is full, or failed.
        CodecRefused: A codec failed.
    """
    name = letter_name(letter.lsn)
    temporary = f"{name}.{'2' if letter.state is not None else '1'}"
    disk.put(temporary, _stored(letter, coder, LETTER))
    disk.rename(temporary, name)


def numbers(path: str, suffix: str = LETTER) -> list[int]:
    """Return the lsns of the letters (or of the inputs to be sent again), oldest first."""
    folder = Path(path, FOLDER)
    if not folder.is_dir():
        return []
    return sorted(
        int(found.stem, 16)
        for found in folder.iterdir()
        if found.suffix == suffix and STEM.fullmatch(found.stem)
    )


def get(path: str, lsn: int, coder: Coder = PLAIN) -> Letter:
    """Return a letter.

    Raises:
        JournalRefused: There is none of that lsn, or it cannot be read.
        CodecRefused: It cannot be read without other codecs or keys.
    """
    try:
        return _read(Path(path, letter_name(lsn)), coder, lsn)
    except FileNotFoundError:
        raise _no_letter(path, lsn) from None


def _read(file: Path, coder: Coder, lsn: int) -> Letter:
    try:
        content = _opened(file.read_bytes(), coder, file.suffix, lsn)
        return msgspec.msgpack.decode(content, type=Letter)
    except FileNotFoundError:
        raise
    except (msgspec.MsgspecError, OSError) as error:
        raise JournalRefused(
            str(file),
            f"the dead letter cannot be read: {error}; restore it from a copy, or delete it",
        ) from error


def _no_letter(path: str, lsn: int) -> JournalRefused:
    return JournalRefused(
        path,
        f"there is no dead letter of lsn {lsn}; `pybehave dead-letters list` shows those that are "
        "there",
    )


def _stored(letter: Letter, coder: Coder, suffix: str) -> bytes:
    content = msgspec.msgpack.encode(letter)
    return CODED + coder.encode(content, KINDS[suffix], letter.lsn) if coder.is_on else content


def _opened(content: bytes, coder: Coder, suffix: str, lsn: int) -> bytes:
    is_coded = content.startswith(CODED)
    return coder.decode(content[len(CODED) :], KINDS[suffix], lsn) if is_coded else content


def encoded_again(name: str, content: bytes, coder: Coder) -> bytes:
    """Return the content of one of these files as it is stored with other codecs.

    Args:
        name: Of the file, in its folder.
        content: What is in it.
        coder: What has written it, or could have; and what is to.

    Raises:
        CodecRefused: It cannot be read without other codecs or keys.
    """
    file = Path(name)
    if not STEM.fullmatch(name[:16]):
        return content  # somebody else's
    if file.suffix not in KINDS or not STEM.fullmatch(file.stem):
        return b""  # half written: nobody reads it
    opened = _opened(content, coder, file.suffix, int(file.stem, 16))
    if not coder.is_on:
        return opened
    return CODED + coder.encode(opened, KINDS[file.suffix], int(file.stem, 16))


def requeue(path: str, letter: Letter, message: bytes | None = None, coder: Coder = PLAIN) -> None:
    """Let the node send an input again when it starts next; durable when this returns.

    Args:
        message: Another input in its place, encoded.

    Raises:
        OSError: It cannot be written.
    """
    sent = msgspec.structs.replace(letter, message=letter.message if message is None else message)
    target = Path(path, FOLDER, f"{letter.lsn:016x}{REQUEUE}")
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(_stored(sent, coder, REQUEUE))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    sync_folder(str(target.parent))


def waiting(path: str, lsn: int, coder: Coder = PLAIN) -> Letter:
    """Return what is to be sent again of an input (`numbers` with REQUEUE lists them).

    Raises:
        JournalRefused: It cannot be read.
        CodecRefused: It cannot be read without other codecs or keys.
    """
    file = Path(path, FOLDER, f"{lsn:016x}{REQUEUE}")
    try:
        return _read(file, coder, lsn)
    except FileNotFoundError:
        raise JournalRefused(str(file), "it was deleted") from None


def delete(path: str, lsn: int) -> None:
    """Forget a letter, readable or not, and that it was to be sent again.

    Raises:
        JournalRefused: There is none of that lsn.
    """
    files = [Path(path, FOLDER, f"{lsn:016x}{suffix}") for suffix in (REQUEUE, LETTER)]
    if not files[-1].exists():
        raise _no_letter(path, lsn)
    for file in files:
        file.unlink(missing_ok=True)


def forget(disk: Disk, before: Mapping[str, int], coder: Coder = PLAIN) -> int:
    """Remove the letters of servers that were forgotten; returns how many there were.

    Args:
        before: Server -> the lsn before which its letters go.

    Raises:
        OSError: One cannot be removed.
    """
    count = 0
    for name in disk.names_below(FOLDER):
        if not name.endswith(LETTER):
            continue
        try:
            content = bytes(disk.read(name, 0, disk.size(name)))
            lsn = int(Path(name).stem, 16)
            letter = msgspec.msgpack.decode(_opened(content, coder, LETTER, lsn), type=Letter)
        except (msgspec.MsgspecError, CodecRefused, FileNotFoundError):
            continue  # it cannot be read, so nobody knows whose it is; or somebody was quicker
        if letter.lsn < before.get(letter.server, 0):
            _remove(disk, name.removesuffix(LETTER))
            count += 1
    return count


def _remove(disk: Disk, stem: str) -> None:
    """First that it is to be sent again: a letter that is left is found by the next try."""
    for suffix in (REQUEUE, LETTER):
        with contextlib.suppress(FileNotFoundError):
            disk.remove(stem + suffix)
