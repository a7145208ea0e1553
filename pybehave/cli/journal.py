"""`pybehave journal`: look at a journal, copy it in other forms; it is never changed itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, BinaryIO, TypeVar

import click

from pybehave.cli.codecs import codec_options
from pybehave.cli.folder import check_journal, check_range, check_server, shown
from pybehave.cli.load import Mistake
from pybehave.cli.progress import shown_on
from pybehave.errors import CodecRefused, JournalLocked, JournalRefused
from pybehave.journal import reader
from pybehave.journal.beside import check_no_tail
from pybehave.journal.codec import Codec
from pybehave.journal.compact import compact as make_compact
from pybehave.journal.disk import unserved
from pybehave.journal.export import LSN_MAX, Names, snapshots_of
from pybehave.journal.export import export as exported
from pybehave.journal.import_lines import import_lines
from pybehave.journal.plain import from_plain, to_plains
from pybehave.journal.progress import Progress
from pybehave.journal.reader import Manifest, Segment, is_manifest_lost
from pybehave.journal.repair import repair as make_copy
from pybehave.journal.segments import held, records
from pybehave.journal.verify import Report, verify


@click.group()
def command() -> None:
    """Look at a journal, or copy it; it is never changed itself.

    verify, stat, dump and export work beside a node that is writing it.

    Exit statuses: 0 sound, 1 damaged, 2 not a journal that can be read.
    """


def checked(directory: str, *, is_deep: bool = False, codec: tuple[Codec, ...] = ()) -> Report:
    """The report; a mistake when the folder holds no journal."""
    check_journal(directory)
    try:
        with shown_on(sys.stderr) as progress:
            return verify(directory, is_deep=is_deep, progress=progress, codec=codec)
    except (JournalRefused, CodecRefused) as error:
        raise Mistake(str(error)) from error


@command.command(name="verify")
@click.argument("directory")
@click.option("--deep", is_flag=True, help="Take each record apart too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@codec_options
def verify_command(directory: str, deep: bool, as_json: bool, codec: tuple[Codec, ...]) -> None:
    """Check every hash, the chain, the claims and the snapshots of the journal in DIRECTORY.

    That takes no key; --deep does, if the records are encrypted.
    """
    report = checked(directory, is_deep=deep, codec=codec)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        for problem in report.problems:
            click.echo(f"damaged: {problem}", err=True)
        rate = report.bytes / max(report.seconds, 1e-9) / 1e6
        click.echo(
            f"{'DAMAGED' if report.problems else 'sound'}: {report.records} records in "
            f"{report.frames} frames of {report.segments} segments, lsn {report.first_lsn} to "
            f"{report.last_lsn}, end {report.ended}; {report.seconds:.2f} s, {rate:.0f} MB/s"
        )
    sys.exit(1 if report.problems else 0)


@command.command()
@click.argument("directory")
@codec_options
def stat(directory: str, codec: tuple[Codec, ...]) -> None:
    """What the journal in DIRECTORY holds, as JSON."""
    report = checked(directory)
    facts = asdict(report)
    facts["records_by_server"] = _by_server(directory, report, codec)
    click.echo(json.dumps(facts, indent=2))
    sys.exit(1 if report.problems else 0)


Command = TypeVar("Command", bound=Callable[..., Any])


LSN = click.IntRange(min=0)


def selecting(command: Command) -> Command:
    """Add `--from`, `--to` and `--server`."""
    for option in (
        click.option("--server", metavar="NAME", help="Only records of this server."),
        click.option("--to", "last", type=LSN, default=LSN_MAX, metavar="LSN", help="End with it."),
        click.option("--from", "first", type=LSN, default=0, metavar="LSN", help="Begin with it."),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def mistakes(target: str = "") -> Iterator[None]:
    """What is wrong with a journal or a disk, in one sentence; a closed pipe is no error.

    Args:
        target: What is written: the system does not name it when its disk is full.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is not None or not target:
            raise Mistake(str(error)) from error
        raise Mistake(
            f"{target}: {error.strerror}; what is left there is not whole, remove it"
        ) from error
    except (JournalRefused, CodecRefused, JournalLocked) as error:
        raise Mistake(str(error)) from error


@contextlib.contextmanager
def readable(report: Report) -> Iterator[None]:
    """What of a journal can be read: where it is damaged, and the report says so, that ends it."""
    try:
        yield
    except JournalRefused:
        if not report.problems:
            raise


@command.command()
@click.argument("directory")
@selecting
@codec_options
def dump(
    directory: str, first: int, last: int, server: str | None, codec: tuple[Codec, ...]
) -> None:
    """The records of the journal in DIRECTORY, one JSON object a line, to the first damage.

    For reading: values are shown as Python writes them. See `export` for programs.
    """
    check_range(first, last)
    report = checked(directory)
    names = Names()
    lsn = count = 0
    with mistakes(), readable(report), held(directory, codec) as (manifest, found):
        names = Names(snapshots_of(directory, manifest, codec))
        for record in records(found):
            name, lsn = names.of(record), record.lsn
            if first <= record.lsn <= last and server in (None, name):
                click.echo(json.dumps(describe(record, name)))
                count += 1
    for problem in report.problems:
        click.echo(f"damaged: {problem}", err=True)
    check_server(server, names.known)
    if not count:
        whose = "" if server is None else f" of server {server!r}"
        click.echo(f"no record{whose} was selected; the journal ends with lsn {lsn}", err=True)
    sys.exit(1 if report.problems else 0)


@command.command()
@click.argument("directory")
@selecting
@click.option("--output", type=click.File("wb"), default="-", metavar="FILE", help="Not stdout.")
@codec_options
def export(
    directory: str,
    first: int,
    last: int,
    server: str | None,
    output: BinaryIO,
    codec: tuple[Codec, ...],
) -> None:
    """Every record of the journal in DIRECTORY as a line of JSON, and nothing is lost.

    `import` makes a journal of it again, unless --server has left records out. The lines are
    neither compressed nor encrypted.
    """
    check_range(first, last)
    report = checked(directory)
    if report.problems:
        raise Mistake(
            f"it is damaged: {report.problems[0]}; export a copy that `pybehave journal repair` "
            "has made"
        )
    if server is None and last > report.last_lsn:
        with mistakes(), contextlib.suppress(JournalLocked), unserved(directory):
            check_no_tail(directory, report.last_lsn)  # of one that is served, it is on its way
    is_read_here = output.isatty()  # then the lines are what one looks at
    stream = io.StringIO() if is_read_here else sys.stderr
    with (
        mistakes(getattr(output, "name", "")),
        held(directory, codec) as held_open,
        shown_on(stream) as progress,
    ):
        if server is not None:
            check_server(server, _names(directory, *held_open, codec))
        lines = exported(
            directory,
            *held_open,
            first=first,
            last=last,
            server=server,
            progress=progress,
        )
        try:
            for line in lines:
                output.write(line.encode())
            output.flush()
        except OSError:
            with contextlib.suppress(OSError):
                output.close()  # what is left in it would fail once more, when click closes it
            raise


def counted(file: BinaryIO, progress: Progress) -> Iterator[bytes]:
    """Yield the lines of a file; where it has an end that is known, the progress is told of it."""
    done = 0
    size = os.fstat(file.fileno()).st_size if file.seekable() else 0
    if size:
        progress.begin("importing", "bytes", size, lambda: done)
    for line in file:
        done += len(line)
        yield line


@command.command(name="import")
@click.argument("directory")
@click.argument("file", type=click.File("rb"), default="-")
@codec_options
def import_command(directory: str, file: BinaryIO, codec: tuple[Codec, ...]) -> None:
    """Make a journal in DIRECTORY, which must be new, of the FILE that `export` wrote.

    Numbers of records, times, snapshots and the journal's id are kept.
    """
    with mistakes(directory), shown_on(sys.stderr) as progress:
        lines = counted(file, progress)
        made = import_lines(lines, directory, source=file.name, now_ns=time.time_ns(), codec=codec)
    click.echo(
        f"{directory} holds lsn {made.first_lsn} to {made.last_lsn} in {made.segments} segments"
        + "".join(f", a snapshot of lsn {lsn}" for lsn in made.snapshots)
        + f"; start with --data {directory}"
    )


@command.command()
@click.argument("directory")
@click.option("--copy-to", "target", required=True, metavar="DIR", help="A folder for the copy.")
@codec_options
def compact(directory: str, target: str, codec: tuple[Codec, ...]) -> None:
    """Copy what the journal in DIRECTORY needs to go on: its newest snapshot, and what is behind.

    All of the copy is written with the codecs and the newest key that are given.

    Nobody may be serving it. The original is not touched; remove it when the copy serves.
    """
    check_journal(directory)
    with mistakes(target), shown_on(sys.stderr) as progress:
        made = make_compact(
            directory, target, now_ns=time.time_ns(), progress=progress, codec=codec
        )
    since = f"the snapshot of lsn {made.snapshot_lsn}" if made.snapshot_lsn else "the beginning"
    click.echo(
        f"{target} holds {made.records} records from {since} to lsn {made.last_lsn}: "
        f"{made.bytes_before / 1e6:.1f} MB became {made.bytes_after / 1e6:.1f} MB; start with "
        f"--data {target}"
    )


@command.command()
@click.argument("directory")
@click.option("--copy-to", "target", required=True, metavar="DIR", help="A folder for the copy.")
@click.option("--i-accept-loss", "is_accepted", is_flag=True, help="What is behind is given up.")
@codec_options
def repair(directory: str, target: str, is_accepted: bool, codec: tuple[Codec, ...]) -> None:
    """Copy the journal in DIRECTORY up to its first damage; the original is not touched.

    What is behind the damage is lost, and it had been acknowledged.
    """
    check_journal(directory)
    if not is_accepted:
        _check_damaged(directory)
        raise Mistake(
            "what is behind the damage would be lost; see `pybehave journal verify`, and say "
            "--i-accept-loss if there is no copy to restore"
        )
    with mistakes(target):
        saved = make_copy(directory, target, codec)
    if saved.is_manifest_rebuilt:
        click.echo("the manifest was made anew from the segments")
    if saved.lost:
        click.echo(f"lost from here on: {saved.lost}")
    if saved.tail < 0:
        click.echo("lost as well: what the tail has, for it begins behind what is lost")
    snapshots = "".join(f", a snapshot of lsn {lsn}" for lsn in saved.snapshots)
    has_records = saved.last_lsn >= saved.first_lsn
    held = f"lsn {saved.first_lsn} to {saved.last_lsn}" if has_records else "no record"
    tail = f", and {saved.tail} records behind it in the tail" if saved.tail > 0 else ""
    click.echo(
        f"{target} holds {held} of it in {saved.segments} segments{snapshots}{tail}; start with "
        f"--data {target}"
    )


def _check_damaged(directory: str) -> None:
    """A mistake when there is nothing to repair."""
    with mistakes():
        is_sound = not is_manifest_lost(directory) and not verify(directory).problems
    if is_sound:
        raise Mistake(
            f"the journal in {directory} is sound: nothing has to be repaired; `pybehave journal "
            "compact` makes a copy"
        )


def _names(
    directory: str, manifest: Manifest, found: list[Segment], codec: tuple[Codec, ...]
) -> set[str]:
    """The servers that a journal tells of."""
    names = Names(snapshots_of(directory, manifest, codec))
    for record in records(found):
        names.of(record)
    return names.known


def describe(record: reader.Record, name: str) -> dict[str, Any]:
    """One record for people and programs; payloads as Python writes them."""
    found: dict[str, Any] = {
        "lsn": record.lsn,
        "type": reader.TYPES.get(record.type, record.type),
        "server": name,
        "time": record.time_ns / 1e9,
    }
    if record.type == reader.INPUT:
        found["kind"] = reader.KINDS.get(record.kind, record.kind)
        found["outcome"] = f"{record.outcome:08x}"
        found["flags"] = [word for bit, word in reader.FLAGS.items() if record.flags & bit]
    if record.type == reader.TIME:
        return found
    if record.type == reader.SKIP:
        found["number"] = int.from_bytes(record.payload, "little")
        return found
    pair = to_plains(record.payload, 2) if record.flags & reader.FROM else None
    if pair is not None:
        found["payload"], found["from"] = (shown(from_plain(each)) for each in pair)
    else:
        found["payload"] = shown(record.payload)
    return found


def _by_server(directory: str, report: Report, codec: tuple[Codec, ...]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with mistakes(), readable(report), held(directory, codec) as (manifest, found):
        names = Names(snapshots_of(directory, manifest, codec))
        for record in records(found):
            name = names.of(record)
            counts[name] += record.type == reader.INPUT
    return {name: count for name, count in counts.items() if name}
