"""What a kill has left in the tail goes with a copy, or it is said that it does not.

It was acknowledged at the level "os", and no segment has it. No completion source has a part in
this but the simulated one, whose disk is as slow as it has to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.journal.beside import check_no_tail, copy_tail, tail_records
from pybehave.journal.codec import Codec, Compressed
from pybehave.journal.disk import BLOCK
from pybehave.journal.reader import read_manifest
from pybehave.journal.recovery import Options
from pybehave.journal.repair import repair
from pybehave.journal.segment_files import segment_name
from pybehave.journal.tail import TAIL
from pybehave.journal.verify import verify
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.journal.folder_lives import read_folder, write_folder
from tests.processes import run

CODECS: list[tuple[Codec, ...]] = [(), (Compressed(),)]
FIRST = 5
KEPT = 2
"""The input, and the time at which it came."""


class Keeper(GenServer[list[Any], Any, Any]):
    """Keeps what it is told."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command != "all":
            state.append(command)
        return state, list(state)


APP = Application(
    "k",
    Supervisor(
        "one_for_one",
        [
            Worker("firm", Keeper, journal=True),
            Worker("soft", Keeper, journal=True, acknowledge="os"),
        ],
    ),
)


def options(codec: tuple[Codec, ...]) -> Options:
    return Options(segment_bytes=256 << 10, codec=codec)


def killed(folder: Path, codec: tuple[Codec, ...] = ()) -> str:
    """A folder as a kill leaves it: replies have left, a write has not been made."""
    with Simulator(1, APP, disk=SimDisk(1), journal_options=options(codec)) as world:
        for number in range(FIRST):
            world.node.call("firm", number)  # durable by now, so the tail begins behind it
        world.node.call("soft", "kept")
        write_folder(world.node.journal.disk.copy(), folder)
    return str(folder)


def states(folder: str, codec: tuple[Codec, ...] = ()) -> tuple[list[Any], list[Any]]:
    """What a node finds there."""
    disk = read_folder(folder, SimDisk(2), 2)
    with Simulator(2, APP, disk=disk, journal_options=options(codec)) as world:
        return world.node.call("firm", "all"), world.node.call("soft", "all")


@pytest.mark.parametrize("codec", CODECS, ids=["plain", "coded"])
def test_a_repaired_copy_has_it(tmp_path: Path, codec: tuple[Codec, ...]) -> None:
    """It had not: what the copy lacked was not even said to be lost."""
    source, target = killed(tmp_path / "data", codec), str(tmp_path / "copy")
    saved = repair(source, target, codec)
    assert (saved.lost, saved.tail) == ("", KEPT)
    assert states(target, codec) == (list(range(FIRST)), ["kept"])


def test_the_command_says_what_the_copy_holds(tmp_path: Path) -> None:
    source, target = killed(tmp_path / "data"), str(tmp_path / "copy")
    said = run("journal", "repair", source, "--copy-to", target, "--i-accept-loss")
    assert (said.returncode, said.stderr) == (0, "")
    assert f", and {KEPT} records behind it in the tail; start with" in said.stdout


def test_behind_a_damage_it_stays_where_it_is(tmp_path: Path) -> None:
    """The copy ends before: its next records get the lsns up to the tail's first one, and one day
    that would seem to go on where they end.
    """
    source, target = killed(tmp_path / "data"), str(tmp_path / "copy")
    file = Path(source, segment_name(1))
    content = bytearray(file.read_bytes())
    content[4 * BLOCK + 130] ^= 1
    file.write_bytes(content)
    said = run("journal", "repair", source, "--copy-to", target, "--i-accept-loss")
    assert said.returncode == 0, said.stderr
    assert "lost from here on: " in said.stdout
    assert "lost as well: what the tail has, for it begins behind what is lost" in said.stdout
    assert not Path(target, TAIL).exists()
    firm, soft = states(target)
    assert firm == list(range(len(firm)))
    assert len(firm) < FIRST
    assert soft == []


def test_what_is_behind_what_is_told_by_lsns_alone(tmp_path: Path) -> None:
    source = killed(tmp_path / "data", (Compressed(),))
    journal_id, last_lsn = read_manifest(source).journal_id, verify(source).last_lsn
    assert tail_records(source, journal_id, last_lsn) == KEPT
    assert tail_records(source, journal_id, last_lsn + 1) == KEPT - 1
    assert tail_records(source, journal_id, last_lsn + KEPT) == 0
    assert tail_records(source, journal_id, last_lsn - 1) == -1
    assert tail_records(source, bytes(16), last_lsn - 1) == 0, "another journal's is none"
    (tmp_path / "no").mkdir()
    assert copy_tail(source, str(tmp_path / "no"), journal_id, last_lsn - 1) == -1
    assert not list((tmp_path / "no").iterdir())
    Path(source, TAIL).write_bytes(bytes(Path(source, TAIL).stat().st_size))
    assert tail_records(source, journal_id, 0) == 0, "nothing is in it, so nothing is lost"
    Path(source, TAIL).write_bytes(b"")
    assert tail_records(source, journal_id, last_lsn) == 0
    Path(source, TAIL).unlink()
    assert tail_records(source, journal_id, last_lsn) == 0
    check_no_tail(source, last_lsn)


def test_an_export_to_the_end_is_refused(tmp_path: Path) -> None:
    """It lacked what had been acknowledged, and said that it had everything."""
    source = killed(tmp_path / "data")
    last_lsn = verify(source).last_lsn
    refused = run("journal", "export", source)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "start the node once, which takes them over" in refused.stderr
    for words in (["--to", str(last_lsn)], ["--server", "firm"]):
        assert run("journal", "export", source, *words).returncode == 0
