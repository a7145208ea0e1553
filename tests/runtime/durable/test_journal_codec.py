"""Nodes whose journal is compressed or encrypted: nothing readable is left anywhere on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Once, Supervisor, Worker
from pybehave.actions import Cast, Hibernate, StartTimer
from pybehave.errors import CodecRefused, Crashed
from pybehave.journal import dead_letters
from pybehave.journal.codec import Codec, Coder, Compressed
from pybehave.journal.compact import compact
from pybehave.journal.encrypted import Encrypted, key_id
from pybehave.journal.reader import BLOCK, DATA, FRAME_FIELDS, Segment, Stop, hash_of, read_manifest
from pybehave.journal.recovery import Options
from pybehave.journal.verify import check_codec, verify
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.journal.marked import Marked
from tests.power.machine import wait_for
from tests.processes import run
from tests.snapshots import take_snapshot

Start = Callable[..., Any]

SECRET = "the-plain-text"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


class Keeper(GenServer[list[Any], Any, Any]):
    """Keeps what it is told, and lets it go wherever something of a server's can go."""

    def init(self, args: Any) -> list[Any]:
        return [args]

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "all":
            return state, list(state)
        if command == "fail":
            raise ValueError(f"{SECRET} in an error")
        state.append(command)
        if command == "tell":
            told = f"{SECRET} in a message"
            return state, None, [Cast("other", told), StartTimer(SECRET, 3e6, f"{SECRET} in time")]
        if command == "sleep":
            return state, None, [Hibernate()]
        return state, f"{SECRET} in a reply"


def app(**words: Any) -> Application:
    workers = [
        Worker(name, Keeper, f"{SECRET} in arguments", journal=True, **words)
        for name in ("keeper", "other", f"{SECRET}-server")
    ]
    return Application("test", Supervisor("one_for_one", workers, intensity=100))


def options(*codec: Codec) -> Options:
    return Options(segment_bytes=256 << 10, tail_bytes=64 << 10, codec=codec)


def live(start: Start, data: Path, *codec: Codec, **words: Any) -> Any:
    """A node that has put user data everywhere that it can; it still runs."""
    node = start(app(**words), data=data, journal_options=options(*codec))
    node.call("keeper", f"{SECRET} in a command")
    node.call("keeper", Once(SECRET, 1, f"{SECRET} by name"))
    node.call("keeper", "tell")
    with pytest.raises(Crashed):
        node.call("keeper", "fail")
    wait_for(lambda: dead_letters.numbers(str(data)), "a letter")
    take_snapshot(node)
    node.call(f"{SECRET}-server", f"{SECRET} before sleep")
    node.call(f"{SECRET}-server", "sleep")
    coder = Coder(codec, node.journal.recovery.manifest.id)
    [lsn] = dead_letters.numbers(str(data))
    dead_letters.requeue(str(data), dead_letters.get(str(data), lsn, coder), coder=coder)
    return node


def contents(data: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, and those that are open there and have no name."""
    for file in sorted(data.rglob("*")):
        if file.is_file():
            yield (
                file.name.partition("-")[0] if "-" in file.name else file.suffix or file.name,
                (file.read_bytes()),
            )
    for fd in os.listdir("/proc/self/fd"):
        place = Path("/proc/self/fd", fd)
        try:
            target = os.readlink(place)
        except FileNotFoundError:
            continue  # the one that lists them
        if target.startswith(str(data)) and target.endswith("(deleted)"):
            yield "no name", place.read_bytes()


def leaks(data: Path) -> set[str]:
    """The kinds of files in which the secret can be read."""
    return {kind for kind, content in contents(data) if SECRET.encode() in content}


def image(data: Path) -> dict[str, bytes]:
    """What is in a folder, but for the lock, which says who has looked last."""
    return {
        str(file.relative_to(data)): file.read_bytes()
        for file in sorted(data.rglob("*"))
        if file.is_file() and file.name != "LOCK"
    }


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(KEY.hex() + "\n")
    file.chmod(0o600)
    return str(file)


# --- nothing can be read -------------------------------------------------------------------------


def test_without_a_codec_user_data_is_in_all_these_files(start: Start, tmp_path: Path) -> None:
    """What the next test looks at holds what it looks for."""
    live(start, tmp_path / "data", acknowledge="os")
    assert leaks(tmp_path / "data") == {"seg", "snap", "tail", ".letter", ".requeue", "no name"}


def test_with_encryption_no_file_below_the_folder_holds_plain_text(
    start: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        node = live(start, data, Encrypted(KEY), acknowledge="os")
        assert leaks(data) == set()
        shutil.copytree(data, tmp_path / "killed", dirs_exist_ok=True)
        node.stop()
        assert leaks(data) == set()
        shutil.rmtree(data / "dead-letters")  # so that there is one letter again
    node = start(app(), data=tmp_path / "killed", journal_options=options(Encrypted(KEY)))
    assert f"{SECRET} in a command" in node.call("keeper", "all")
    assert f"{SECRET} in a message" in node.call("other", "all")
    assert f"{SECRET} before sleep" in node.call(f"{SECRET}-server", "all")
    assert leaks(tmp_path / "killed") == set()


CODECS = {
    "compressed": (Compressed(),),
    "encrypted": (Encrypted(KEY),),
    "both": (Compressed(), Encrypted(KEY)),
    "own": (Marked(),),
}


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_servers_know_what_they_knew(
    start: Start, tmp_path: Path, codec: tuple[Codec, ...]
) -> None:
    data = tmp_path / "data"
    node = live(start, data, *codec)
    expected = {name: node.call(name, "all") for name in ("keeper", "other", f"{SECRET}-server")}
    shutil.copytree(data, tmp_path / "killed")
    node.stop()
    for folder in (data, tmp_path / "killed"):
        shutil.rmtree(folder / "dead-letters")  # nothing is sent again
        for _ in range(2):
            node = start(app(), data=folder, journal_options=options(*codec))
            assert {name: node.call(name, "all") for name in expected} == expected
            node.stop()


def test_what_is_to_be_sent_again_is(start: Start, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    live(start, Path(data), Encrypted(KEY)).stop()
    [before] = dead_letters.numbers(data)
    start(app(), data=data, journal_options=options(Encrypted(KEY)))
    wait_for(lambda: not dead_letters.numbers(data, dead_letters.REQUEUE), "it is sent")
    wait_for(lambda: dead_letters.numbers(data) != [before], "and fails again")


def test_in_the_simulator_with_the_power_cut() -> None:
    disk, kept = SimDisk(1), options(Compressed(), Marked())
    world = Simulator(1, app(), disk=disk, journal_options=kept).start()
    for turn in range(20):
        world.node.call("keeper", turn)
        world.run(0.01)
    world.node.journal.snapshots.take()
    world.run(0.5)
    world.node.call("keeper", SECRET)
    world.run(0.1)
    assert not [name for name, file in disk.contents().items() if SECRET.encode() in file]
    disk = world.lose_power(Random(1))
    world = Simulator(2, app(), disk=disk, journal_options=kept).start()
    assert world.node.call("keeper", "all")[1:] == [*range(20), SECRET]


# --- without the key -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "codec, says",
    [
        ((), "no codec of that name was given"),
        ((Encrypted(OTHER),), f"it was encrypted with key {key_id(KEY).hex()}"),
    ],
)
@pytest.mark.parametrize("is_killed", [True, False])
def test_a_start_without_the_key_is_refused_and_changes_nothing(
    start: Start, tmp_path: Path, codec: tuple[Codec, ...], says: str, is_killed: bool
) -> None:
    data = tmp_path / "data"
    node = live(start, data, Encrypted(KEY))
    if is_killed:
        data = Path(shutil.copytree(data, tmp_path / "killed"))
    node.stop()
    before = image(data)
    with pytest.raises(CodecRefused, match=says):
        start(app(), data=data, journal_options=options(*codec))
    assert image(data) == before
    start(app(), data=data, journal_options=options(Encrypted(KEY)))


def test_checks_need_no_key(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    live(start, data, Compressed(), Encrypted(KEY)).stop()
    assert verify(str(data)).problems == []
    first = min(data.glob("seg-*"))
    content = bytearray(first.read_bytes())
    content[2 * BLOCK + FRAME_FIELDS.size + 50] ^= 1
    first.write_bytes(content)
    assert "the body's hash is wrong" in verify(str(data)).problems[0]


def test_a_short_look_finds_a_key_missing_of_the_oldest_and_of_the_newest_segment(
    start: Start, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    live(start, Path(data), Encrypted(KEY)).stop()
    node = start(app(), data=data, journal_options=options(Encrypted(OTHER, KEY)))
    node.call("keeper", "behind")
    check_codec(data, (Encrypted(OTHER, KEY),))
    for codec in ((), (Encrypted(KEY),), (Encrypted(OTHER),)):
        with pytest.raises(CodecRefused):
            check_codec(data, codec)
    check_codec(str(tmp_path), ())  # what is no journal is for a start to refuse


def rehash(file: Path, journal_id: bytes, change: Callable[[list[Any]], None]) -> None:
    """Change the bodies of a segment's frames, and make all of its hashes right."""
    segment = Segment(str(file.parent), int(file.stem.removeprefix("seg-"), 16), journal_id)
    frames = [frame for frame in segment.frames() if not isinstance(frame, Stop)]
    content = bytearray(segment.content)
    bodies = [(frame, bytes(content[frame.body])) for frame in frames]
    change(bodies)
    chain = frames[0].chain
    for frame, body in bodies:
        at = frame.block * BLOCK
        head = bytes(content[at : at + 80]) + chain
        header_hash = hash_of(journal_id, head)
        chain = hash_of(header_hash, body)
        content[at : at + 128] = head + header_hash + chain
        content[frame.body] = body
    file.write_bytes(content)


def test_frames_that_change_places_are_refused_though_all_hashes_are_right(
    start: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    node = start(app(), data=data, journal_options=options(Encrypted(KEY)))
    for command in ("a", "b", "c"):
        node.call("keeper", command)
    node.stop()

    def swap(bodies: list[Any]) -> None:
        sizes = [len(body) for frame, body in bodies if frame.type == DATA]
        [first, second] = [at for at, size in enumerate(sizes) if size == sizes[-1]][-2:]
        one, two = bodies[first], bodies[second]
        bodies[first], bodies[second] = (one[0], two[1]), (two[0], one[1])

    rehash(min(data.glob("seg-*")), read_manifest(str(data)).journal_id, swap)
    assert verify(str(data)).problems == []
    before = image(data)
    with pytest.raises(CodecRefused, match="somebody has changed or moved it"):
        start(app(), data=data, journal_options=options(Encrypted(KEY)))
    assert image(data) == before


# --- from one to another -------------------------------------------------------------------------


def test_a_journal_that_was_plain_goes_on_with_a_codec_and_compact_rewrites_all(
    start: Start, tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    live(start, data).stop()
    shutil.rmtree(data / "dead-letters")
    codec = options(Compressed(), Encrypted(KEY))
    node = start(app(), data=data, journal_options=codec)
    node.call("keeper", "behind")
    with pytest.raises(Crashed):
        node.call("keeper", "fail")
    expected = node.call("keeper", "all")
    wait_for(lambda: dead_letters.numbers(str(data)), "a letter")
    node.stop()
    assert leaks(data) == {"seg", "snap"}  # what was there
    compact(str(data), str(copy), now_ns=5, codec=codec.codec)
    assert leaks(copy) == set()
    for folder in (data, copy):
        node = start(app(), data=folder, journal_options=codec)
        assert node.call("keeper", "all") == expected
        node.stop()


def test_keys_are_changed_and_the_old_one_is_needed_until_all_is_rewritten(
    start: Start, tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    live(start, data, Encrypted(KEY)).stop()
    both = options(Encrypted(OTHER, KEY))
    node = start(app(), data=data, journal_options=both)
    node.call("keeper", "behind")
    expected = node.call("keeper", "all")
    node.stop()
    with pytest.raises(CodecRefused, match=key_id(KEY).hex()):
        start(app(), data=data, journal_options=options(Encrypted(OTHER)))
    compact(str(data), str(copy), now_ns=5, codec=both.codec)
    assert not [name for name, content in contents(copy) if key_id(KEY) in content]
    node = start(app(), data=copy, journal_options=options(Encrypted(OTHER)))
    assert node.call("keeper", "all") == expected


def test_a_copy_that_lacks_the_key_of_a_letter_is_none_and_may_be_made_again(
    start: Start, tmp_path: Path
) -> None:
    """It left a journal that could be served, without the letters."""
    first, data, copy = tmp_path / "first", tmp_path / "data", tmp_path / "copy"
    live(start, first, Encrypted(KEY)).stop()
    compact(str(first), str(data), now_ns=5, codec=(Encrypted(OTHER, KEY),))
    shutil.copytree(first / "dead-letters", data / "dead-letters", dirs_exist_ok=True)
    with pytest.raises(CodecRefused, match="refuses the dead letter of lsn"):
        compact(str(data), str(copy), now_ns=5, codec=(Encrypted(OTHER),))
    assert not any(copy.iterdir())
    compact(str(data), str(copy), now_ns=5, codec=(Encrypted(OTHER, KEY),))
    assert dead_letters.numbers(str(copy)) == dead_letters.numbers(str(first)) != []


# --- the tools -----------------------------------------------------------------------------------


def test_the_tools_say_what_they_need_and_take_it_from_a_file(
    start: Start, tmp_path: Path, key_file: str
) -> None:
    data = str(tmp_path / "data")
    live(start, Path(data), Compressed(), Encrypted(KEY)).stop()
    [lsn] = map(str, dead_letters.numbers(data))
    commands = [
        ("journal", "dump", data),
        ("journal", "stat", data),
        ("journal", "verify", data, "--deep"),
        ("journal", "export", data),
        ("journal", "compact", data, "--copy-to", str(tmp_path / "copy")),
        ("dead-letters", "show", lsn, "--data", data),
        ("crash", "to-test", lsn, "--data", data),
    ]
    for command in commands:
        refused = run(*command)
        assert refused.returncode == 2, command
        assert "'xaes256gcm' refuses" in refused.stderr and "--key-file" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        done = run(*command, "--key-file", key_file)
        assert done.returncode == 0, done.stderr
    assert run("journal", "verify", data).returncode == 0
    assert run("dead-letters", "count", "--data", data).stdout == "1\n"
    assert run("dead-letters", "delete", lsn, "--data", data).returncode == 0
    assert leaks(tmp_path / "copy") == set()


def test_an_export_is_plain_and_an_import_encrypts(
    start: Start, tmp_path: Path, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(tmp_path / "data")
    live(start, Path(data), Compressed(), Encrypted(KEY)).stop()
    monkeypatch.setenv("PYBEHAVE_KEY_FILE", key_file)
    lines = run("journal", "export", data).stdout
    assert SECRET in lines
    (tmp_path / "lines").write_text(lines)
    new = str(tmp_path / "new")
    assert run("journal", "import", new, str(tmp_path / "lines")).returncode == 0
    assert leaks(Path(new)) == set()
    assert run("journal", "export", new).stdout == lines
    monkeypatch.delenv("PYBEHAVE_KEY_FILE")
    plain = str(tmp_path / "plain")
    assert run("journal", "import", plain, str(tmp_path / "lines")).returncode == 0
    assert run("journal", "export", plain).stdout == lines


@pytest.mark.parametrize(
    "codec, says",
    [
        ("gzip", "write zlib, or MODULE:NAME"),
        ("tests.nowhere:CODEC", "cannot be had: ModuleNotFoundError"),
        ("tests.journal.marked:MARK_BYTES", "use a tuple of codecs"),
    ],
)
def test_a_codec_that_cannot_be_had_is_a_mistake(tmp_path: Path, codec: str, says: str) -> None:
    refused = run("journal", "dump", str(tmp_path), "--codec", codec)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert says in refused.stderr
