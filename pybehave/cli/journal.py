"""`pybehave journal`: look at a journal, and save what can be saved; it is never changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from pybehave._uring.values import Values
from pybehave.cli.folder import shown
from pybehave.cli.load import Mistake
from pybehave.errors import JournalRefused
from pybehave.journal import reader
from pybehave.journal.repair import repair as make_copy
from pybehave.journal.segments import held, records
from pybehave.journal.verify import Report, verify


@click.group()
def command() -> None:
    """Look at a journal. Works beside a node that is writing it.

    Exit statuses: 0 sound, 1 damaged, 2 not a journal that can be read.
    """


def checked(directory: str, *, is_deep: bool = False) -> Report:
    """The report; a mistake when the folder holds no journal."""
    try:
        return verify(directory, is_deep=is_deep)
    except JournalRefused as error:
        raise Mistake(str(error)) from error


@command.command(name="verify")
@click.argument("directory")
@click.option("--deep", is_flag=True, help="Take each record apart too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify_command(directory: str, deep: bool, as_json: bool) -> None:
    """Check every hash, the chain, the claims and the snapshots of the journal in DIRECTORY."""
    report = checked(directory, is_deep=deep)
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
def stat(directory: str) -> None:
    """What the journal in DIRECTORY holds, as JSON."""
    report = checked(directory)
    facts = asdict(report)
    facts["records_by_server"] = _by_server(directory)
    click.echo(json.dumps(facts, indent=2))
    sys.exit(1 if report.problems else 0)


@command.command()
@click.argument("directory")
@click.option("--from", "first", type=int, default=0, metavar="LSN", help="Begin with this one.")
@click.option("--to", "last", type=int, default=2**64 - 1, metavar="LSN", help="End with it.")
@click.option("--server", metavar="NAME", help="Only records of this server.")
def dump(directory: str, first: int, last: int, server: str | None) -> None:
    """The records of the journal in DIRECTORY, one JSON object a line, to the first damage."""
    names: dict[int, str] = {}
    try:
        for record in _records(directory):
            if record.type == reader.SERVER:
                names[record.server] = Values().decode(record.payload)["name"]
            name = names.get(record.server, f"#{record.server}" if record.server else "")
            if first <= record.lsn <= last and server in (None, name):
                click.echo(json.dumps(describe(record, name)))
    except JournalRefused as error:
        raise Mistake(str(error)) from error
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.exit(0)


@command.command()
@click.argument("directory")
@click.option("--copy-to", "target", required=True, metavar="DIR", help="A folder for the copy.")
@click.option("--i-accept-loss", "is_accepted", is_flag=True, help="What is behind is given up.")
def repair(directory: str, target: str, is_accepted: bool) -> None:
    """Copy the journal in DIRECTORY up to its first damage; the original is not touched.

    What is behind the damage is lost, and it had been acknowledged.
    """
    if not is_accepted:
        raise Mistake(
            "what is behind the damage would be lost; see `pybehave journal verify`, and say "
            "--i-accept-loss if there is no copy to restore"
        )
    try:
        saved = make_copy(directory, target)
    except (JournalRefused, OSError) as error:
        raise Mistake(str(error)) from error
    if saved.is_manifest_rebuilt:
        click.echo("the manifest was made anew from the segments")
    if saved.lost:
        click.echo(f"lost from here on: {saved.lost}")
    click.echo(
        f"{target} holds lsn 1 to {saved.last_lsn} of it in {saved.segments} segments; start with "
        f"--data {target}"
    )


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
    if record.flags & reader.FROM:
        found["payload"] = record.payload.hex()
    else:
        found["payload"] = shown(record.payload)
    return found


def _records(directory: str) -> Iterator[reader.Record]:
    with held(directory) as (_, found):
        yield from records(found)


def _by_server(directory: str) -> dict[str, int]:
    counts: dict[int, int] = {}
    names: dict[int, str] = {}
    for record in _records(directory):
        if record.type == reader.SERVER:
            names[record.server] = Values().decode(record.payload)["name"]
        if record.type == reader.INPUT:
            counts[record.server] = counts.get(record.server, 0) + 1
    return {names.get(number, f"#{number}"): count for number, count in counts.items()}
