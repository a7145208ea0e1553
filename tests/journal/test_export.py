"""Export and import: what goes through lines of JSON is the same journal again, or is refused."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import Application, GenServer, Listener, Once, Supervisor, Worker, actions
from pybehave.errors import Crashed, JournalRefused
from pybehave.journal import reader, recovery, snapshot
from pybehave.journal.disk import FolderDisk
from pybehave.journal.export import export, parse
from pybehave.journal.import_lines import import_lines
from pybehave.journal.reader import RECORD_FIELDS, Record
from pybehave.journal.rewrite import FRAME_BODY_BYTES, Rewriter
from pybehave.journal.segments import held, records
from pybehave.journal.verify import verify
from pybehave.protocols import Lines
from tests.conftest import dial, receive
from tests.processes import run
from tests.snapshots import take_snapshot

OPTIONS = recovery.Options(segment_bytes=256 * 1024)
ID = bytes(range(16))
FIELDS = 2**16 - 1


# --- made-up records ---------------------------------------------------------------------------


@st.composite
def lists_of_records(draw: st.DrawFn) -> list[Record]:
    """Records that a journal could hold, and some that no version of us writes yet."""
    found: list[Record] = []
    now = draw(st.integers(1, 2**62))
    for lsn in range(1, draw(st.integers(0, 40)) + 1):
        now += draw(st.sampled_from((0, 0, 1, 10**9)))
        kind = draw(st.sampled_from((1, 1, 1, 1, 2, 3, 4, 5, 6, 77)))
        flags = draw(st.sampled_from((0, 0, 1, 2, 4, 8, 16, 31, 32, FIELDS)))
        size = (12 if flags & reader.CAUSE else 0) + (24 if flags & reader.REQUEST else 0)
        payload = draw(
            st.binary(max_size=60)
            | st.sampled_from((0, 100, 5000, 90_000)).map(bytes)
            | st.just(b"\x93\x01\xa1a\xc4\x01\x00")
        )
        if kind == reader.TIME:
            flags, size, payload = 0, 0, now.to_bytes(8, "little")
        found.append(
            Record(
                lsn,
                kind,
                draw(st.sampled_from((0, 1, 2, 3, 5, 9))),
                flags,
                draw(st.integers(0, 3)),
                draw(st.sampled_from((0, 1, 2**32 - 1))),
                now,
                draw(st.binary(min_size=size, max_size=size)),
                payload,
            )
        )
    return found


def write(folder: str, made: Iterable[Record], segment_bytes: int = OPTIONS.segment_bytes) -> None:
    with Rewriter(folder, ID, segment_bytes, 1, 5) as writer:
        for record in made:
            writer.add(record)
        writer.finish([])


def read(folder: str) -> list[Record]:
    with held(folder) as (_, found):
        return list(records(found))


def lines_of(folder: str | Path, **options: Any) -> list[bytes]:
    with held(str(folder)) as (manifest, found):
        return [line.encode() for line in export(str(folder), manifest, found, **options)]


def import_all(lines: list[bytes], target: str | Path) -> str:
    import_lines(lines, str(target), source="test", now_ns=7)
    return str(target)


@given(lists_of_records())
def test_any_records_are_written_and_read_and_exported_and_imported(made: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, two = f"{folder}/one", f"{folder}/two"
        write(one, made)
        assert read(one) == made
        lines = lines_of(one)
        assert len(lines) == len(made) + 2
        assert read(import_all(lines, two)) == made
        assert lines_of(two) == lines
        report = verify(two, is_deep=True)
        assert (report.problems, report.ended, report.last_lsn) == ([], "clean", len(made))
        found = recovery.recover(FolderDisk(two, is_volatile_allowed=True), OPTIONS, now_ns=9)
        assert (found.last_lsn, found.report.outcome) == (len(made), "clean")
        assert found.report.records == len(made)


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("limit", [FRAME_BODY_BYTES, 3 << 20])
def test_records_around_the_limits_of_frame_and_segment(
    tmp_path: Path, limit: int, off: int
) -> None:
    size = 4 << 20
    most = size - 3 * reader.BLOCK - reader.FRAME_FIELDS.size - RECORD_FIELDS.size
    count = (limit if limit == FRAME_BODY_BYTES else most) - RECORD_FIELDS.size * (limit < most)
    made = [Record(n, 1, 1, 0, 1, 0, 5, b"", bytes(count + off)) for n in (1, 2)]
    if count + off > most:
        with pytest.raises(JournalRefused, match="has no room for it"):
            write(str(tmp_path / "one"), made, size)
        return
    write(str(tmp_path / "one"), made, size)
    assert read(str(tmp_path / "one")) == made
    assert verify(str(tmp_path / "one")).problems == []


# --- a node's journal --------------------------------------------------------------------------


class Busy(GenServer[dict[str, Any], Any, Any]):
    """Does of everything a little that leaves a record of another kind."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"seen": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        match command:
            case "break":
                raise ValueError("a deliberate bug")
            case ("tell", value):
                return state, None, [actions.Cast("other", value)]
            case ("later", seconds):
                return state, None, [actions.StartTimer("t", seconds, TICK)]
            case "seen":
                return state, list(state["seen"])
        state["seen"].append(command)
        return state, self.context.random.random()

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["seen"].append(type(message).__name__ if type(message) is not tuple else message)
        return state, None


def application() -> Application:
    tree = [Worker(name, Busy, journal=True) for name in ("busy", "other")]
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="busy")
    return Application("e", Supervisor("one_for_one", tree, intensity=9), listeners=[listener])


VALUES = [(1, (2, "x")), {"a": {1, 2}}, 2**70, b"\x00", None, frozenset({("k", 1)}), -1.5, {1: 2}]


TICK = ("tick", b"\0")


def live(node: Any, turn: int) -> list[Any]:
    """Let a node take inputs of every kind; what its servers have seen then."""
    for value in VALUES:
        node.call("busy", value)
        node.call("busy", ("tell", value))
    with pytest.raises(Crashed):
        node.call("busy", "break")
    for number in (1, 1, 2):
        node.call("busy", Once("me", turn * 10 + number, "once"))
    node.call("busy", ("later", 0.001))
    while states(node)[0].count(TICK) < turn:
        pass
    node.call("busy", ("later", 3600))
    with dial(node) as client:
        client.sendall(b"hello\n")
        receive(client, 1)
    return states(node)


def states(node: Any) -> list[Any]:
    return [node.call(name, "seen") for name in ("busy", "other")]


@pytest.fixture
def journal(start: Callable[..., Any], tmp_path: Path) -> tuple[Path, list[Any]]:
    """A journal with two snapshots and records behind them, and the states it leads to."""
    node = start(application(), data=tmp_path / "data", journal_options=OPTIONS)
    for turn in (1, 2):
        live(node, turn)
        take_snapshot(node)
    seen = live(node, 3)
    node.stop()
    return tmp_path / "data", seen


def test_E1_a_nodes_journal_comes_back_and_serves(
    journal: tuple[Path, list[Any]], tmp_path: Path, start: Callable[..., Any]
) -> None:
    folder, seen = journal
    lines = lines_of(folder)
    text = b"".join(lines).decode()
    for word in ("cause", "request", "failed", "from", "timer", "$tuple", "$int", "snapshot"):
        assert f'"{word}"' in text, word
    assert '"raw"' not in text and "$msgpack" not in text
    copy = import_all(lines, tmp_path / "copy")
    assert lines_of(copy) == lines
    assert verify(copy, is_deep=True).snapshots == verify(str(folder)).snapshots
    node = start(application(), data=copy, journal_options=OPTIONS)
    assert states(node)[1] == seen[1]
    assert [each for each in states(node)[0] if each != "Closed"] == [
        each for each in seen[0] if each != "Closed"
    ]  # those that were open are told to be gone at a start
    assert node.call("busy", Once("me", 32, "once")) is not None
    assert states(node)[1] == seen[1]


def test_E2_from_behind_a_snapshot_is_enough_to_go_on(
    journal: tuple[Path, list[Any]], tmp_path: Path, start: Callable[..., Any]
) -> None:
    folder, seen = journal
    older = verify(str(folder)).snapshots[1]
    lines = lines_of(folder, first=older + 1)
    assert sum(json.loads(line)["type"] == "snapshot" for line in lines) == 2
    node = start(application(), data=import_all(lines, tmp_path / "copy"), journal_options=OPTIONS)
    assert states(node)[1] == seen[1]
    assert node.journal.recovery.report.snapshot_lsn > older


def test_a_journal_that_names_its_snapshot_twice_comes_back(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(), data=tmp_path / "data", journal_options=OPTIONS)
    take_snapshot(node)
    take_snapshot(node)
    node.stop()
    copy = import_all(lines_of(tmp_path / "data"), tmp_path / "copy")
    [named] = verify(str(tmp_path / "data")).snapshots
    assert verify(copy, is_deep=True).snapshots == [named]


def test_a_selection_is_what_was_asked_for(journal: tuple[Path, list[Any]]) -> None:
    folder, _ = journal
    report = verify(str(folder))
    first, last = report.snapshots[-1] + 2, report.last_lsn - 2
    options = {"first": first, "last": last, "server": "other"}
    some = [json.loads(line) for line in lines_of(folder, **options)]
    assert {line["name"] for line in some[1:-1]} == {"other"}
    assert all(first <= line["lsn"] <= last for line in some[1:-1])
    assert [line["type"] for line in (some[0], some[-1])] == ["journal", "end"]


def test_a_selection_from_which_nobody_can_go_on_is_refused(
    journal: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    newest = verify(str(journal[0])).snapshots[0]
    for options, words in (
        ({"first": newest + 2}, f"begins with lsn {newest + 2} and has no snapshot"),
        ({"server": "other"}, "an export with --server is for reading"),
    ):
        with pytest.raises(JournalRefused, match=words):
            import_all(lines_of(journal[0], **options), tmp_path / words)
        assert not (tmp_path / words / "MANIFEST").exists()


def signed(lines: list[bytes]) -> list[bytes]:
    """Lines with an end that is true of them."""
    end = json.loads(lines[-1])
    end["records"] = sum(b'"lsn":' in line and b'"snapshot"' not in line for line in lines[1:-1])
    end["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return [*lines[:-1], json.dumps(end).encode() + b"\n"]


LINE = b'{"lsn":1,"type":"input","server":1,"name":"s","time_ns":5,"kind":"call","payload":1}\n'
HEAD = b'{"type":"journal","format":1,"id":"%s","segment_bytes":65536,"first_lsn":1}\n' % (
    b"00" * 16
)
END = b'{"type":"end","records":1,"last_lsn":1,"sha256":""}\n'


def test_a_small_export_is_taken(tmp_path: Path) -> None:
    assert len(read(import_all(signed([HEAD, LINE, END]), tmp_path / "copy"))) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "it is empty"),
        ([HEAD, LINE], "cut off behind line 2"),
        ([HEAD, LINE, END], "its SHA-256 is another"),
        ([HEAD, END], "it tells of 1 records, and 0 stand before it"),
        ([LINE, END], "line 1: it is no line of an export: the first one says which"),
        ([HEAD.replace(b'"format":1', b'"format":2')], "format 2 is another version's"),
        ([HEAD.replace(b"00", b"", 1)], "an id has 16 bytes"),
        ([HEAD.replace(b"65536", b"65537"), LINE], "segments of 65537 bytes are not allowed"),
        ([HEAD, b"{\n"], "line 2: it is no line of an export: Expecting"),
        ([HEAD, b"[]\n"], "line 2: it is no line of an export"),
        ([HEAD, b"[" * 100_000 + b"\n"], "line 2: it is no line of an export"),
        (
            [HEAD, LINE.replace(b"call", b"cull")],
            "'cull' is none of call, cast, info, continue, timer",
        ),
        ([HEAD, LINE.replace(b'"server":1', b'"server":-1')], "-1 stands where a whole number"),
        ([HEAD, LINE.replace(b'"server":1', b'"server":4294967296')], "no line of an export"),
        ([HEAD, LINE.replace(b'"lsn":1,', b"")], "'lsn' is missing"),
        ([HEAD, LINE.replace(b'"payload":1', b'"payload":{"$x":1}')], r"'\$x' is not known"),
        ([HEAD, LINE.replace(b'"lsn":1', b'"lsn":2'), END], "lsn 2 comes where 1 is due"),
        ([HEAD, LINE, LINE, END], "lsn 1 comes where 2 is due"),
    ],
)
def test_what_is_no_whole_export_is_one_sentence(
    tmp_path: Path, lines: list[bytes], words: str
) -> None:
    with pytest.raises(JournalRefused, match=words):
        import_all(lines, tmp_path / "copy")
    assert not (tmp_path / "copy" / "MANIFEST").exists()
    assert import_all(signed([HEAD, LINE, END]), tmp_path / "copy")  # nothing is in the way


def test_nothing_may_stand_behind_the_end() -> None:
    with pytest.raises(JournalRefused, match="it stands behind the export's end"):
        list(parse([*signed([HEAD, LINE, END]), LINE], "test"))


def test_snapshots_that_do_not_belong_there_are_refused(tmp_path: Path) -> None:
    line = b'{"type":"snapshot","lsn":%d,"time_ns":5,"servers":[]}\n'
    for lsns, words in (((9,), "does not belong"), ((0, 1), "newest first"), ((1, 1), "newest")):
        lines = signed([HEAD, *(line % lsn for lsn in lsns), LINE, END])
        with pytest.raises(JournalRefused, match=words):
            import_all(lines, tmp_path / f"copy {lsns}")


def test_an_existing_journal_is_never_written_to(tmp_path: Path) -> None:
    write(str(tmp_path / "one"), [])
    before = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    with pytest.raises(JournalRefused, match="the folder is not empty"):
        import_all(signed([HEAD, LINE, END]), tmp_path / "one")
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    (tmp_path / "file").touch()
    with pytest.raises(JournalRefused, match="it is a file"):
        import_all([], tmp_path / "file")


def test_a_damaged_snapshot_is_left_out(journal: tuple[Path, list[Any]]) -> None:
    newest = verify(str(journal[0])).snapshots[0]
    file = journal[0] / snapshot.snapshot_name(newest)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    found = [json.loads(line) for line in lines_of(journal[0])]
    assert [line["lsn"] >= newest for line in found if line["type"] == "snapshot"] == [False]


def test_the_commands_export_and_import(tmp_path: Path) -> None:
    one, two, file = str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "lines")
    write(
        one,
        [Record(1, 1, 1, 0, 1, 0, 5, b"", b"\xa1\xff"), Record(2, 1, 1, 0, 1, 0, 5, b"", b"\1")],
    )
    printed = run("journal", "export", one)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert run("journal", "export", one, "--output", file).returncode == 0
    assert Path(file).read_text() == printed.stdout
    made = run("journal", "import", two, file)
    assert (made.returncode, made.stderr) == (0, "")
    assert f"{two} holds lsn 1 to 2 in 1 segments" in made.stdout
    assert run("journal", "export", two).stdout == printed.stdout
    again = run("journal", "import", two, file)
    assert (again.returncode, "the folder is not empty" in again.stderr) == (2, True)
    assert "Traceback" not in again.stderr


def test_an_export_that_finds_no_room_is_one_sentence(tmp_path: Path) -> None:
    """It was a traceback: the rest was written once more when the file was closed."""
    folder = str(tmp_path / "a")
    write(folder, [Record(1, reader.TIME, 0, 0, 0, 0, 1, b"", b"")])
    said = run("journal", "export", folder, "--output", "/dev/full")
    assert said.returncode == 2
    assert said.stderr == (
        "pybehave: /dev/full: No space left on device; what is left there is not whole, remove it\n"
    )


def test_a_damaged_journal_is_not_exported(tmp_path: Path) -> None:
    one = str(tmp_path / "one")
    write(one, [Record(1, 1, 1, 0, 1, 0, 5, b"", b"\1")])
    file = next(Path(one).glob("seg-*"))
    content = bytearray(file.read_bytes())
    content[2 * 4096 + 130] ^= 1
    file.write_bytes(content)
    result = run("journal", "export", one)
    assert (result.returncode, result.stdout) == (2, "")
    assert "it is damaged" in result.stderr and "pybehave journal repair" in result.stderr
