"""The parts of the parent that looks after a node: notices, kept descriptors, reports."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave.behaviours.backoff import Backoff
from pybehave.behaviours.heart import End, HeartRules
from pybehave.runtime import systemd
from pybehave.runtime.heart import report as heart_report
from pybehave.runtime.heart.notices import Notice, Notices
from pybehave.runtime.heart.parent import Parent, keep_alive
from pybehave.runtime.heart.process import FDS_KEPT_MAX, LOW_FD_MAX, Shelf, Watched, start_process
from pybehave.runtime.heart.report import REPORTS_KEPT, HeartReport, core_hint, keep, why_of

AT_ONCE = Backoff(first=0.0, maximum=0.0)


def report(restarts: int = 0) -> HeartReport:
    return HeartReport(1.0, 7, "SIGSEGV", "SIGSEGV", None, False, True, 2.0, restarts, 0.5, "")


def test_a_report_says_all_in_one_line() -> None:
    assert str(report()) == "process 7 ended after 2.0 s: SIGSEGV; another one starts in 0.5 s"


def test_the_newest_reports_are_kept(tmp_path: Path) -> None:
    for restarts in range(REPORTS_KEPT + 2):
        keep(report(restarts), str(tmp_path))
    found = json.loads((tmp_path / "heart.json").read_bytes())
    assert [each["restarts"] for each in found] == [*range(2, REPORTS_KEPT + 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["heart.json"]


@pytest.mark.parametrize("content", [b"[{", b"\xff", b"{}"])
def test_reports_that_cannot_be_read_begin_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "heart.json").write_bytes(content)
    keep(report(), str(tmp_path))
    assert len(json.loads((tmp_path / "heart.json").read_bytes())) == 1


def test_no_folder_is_made_for_reports(tmp_path: Path) -> None:
    keep(report(), str(tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (End(3), "exit status 3"),
        (End(None, signal.SIGSEGV), "SIGSEGV"),
        (End(None, signal.SIGRTMIN + 1), f"signal {signal.SIGRTMIN + 1}"),
        (End(None), "nobody knows how"),
        (End(None, signal.SIGKILL, is_hung=True), "its loop did not turn for 9 s, SIGKILL ended"),
    ],
)
def test_why_in_words(end: End, why: str) -> None:
    assert why_of(end, 9.0).startswith(why)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("|/usr/lib/systemd/systemd-coredump %P", "its core dump: coredumpctl info 7"),
        ("|/usr/bin/other %p", "its core dump went to /usr/bin/other %p"),
        ("core.%p", "its core dump went to core.%p in its folder"),
    ],
)
def test_where_a_core_dump_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pattern: str, hint: str
) -> None:
    (tmp_path / "pattern").write_text(pattern + "\n")
    monkeypatch.setattr(heart_report, "CORE_PATTERN", str(tmp_path / "pattern"))
    assert core_hint(End(None, signal.SIGSEGV), 7, has_core=True) == hint


def test_hints_without_a_core_dump() -> None:
    assert "ulimit -c" in core_hint(End(None, signal.SIGABRT), 7, has_core=False)
    assert "no memory left" in core_hint(End(None, signal.SIGKILL), 7, has_core=False)
    assert core_hint(End(None, signal.SIGKILL, is_hung=True), 7, has_core=False) == ""
    assert core_hint(End(1), 7, has_core=False) == ""


def pipe_copy() -> int:
    """A descriptor that belongs to whoever gets it."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def test_descriptors_lie_above_those_of_the_next_process() -> None:
    shelf = Shelf()
    shelf.put("a", (pipe_copy(),))
    first = shelf.given()["a"]
    shelf.put("a", (pipe_copy(),))
    assert list(shelf.given()) == ["a"]
    assert min(first, shelf.given()["a"]) >= LOW_FD_MAX
    assert not os.get_inheritable(shelf.given()["a"])
    shelf.remove("a")
    shelf.remove("a")
    assert shelf.given() == {}


def test_there_is_room_for_so_many_and_not_for_one_more() -> None:
    shelf = Shelf()
    for number in range(FDS_KEPT_MAX + 1):
        shelf.put(str(number), (pipe_copy(),))
    assert len(shelf.given()) == FDS_KEPT_MAX
    shelf.put("0", (pipe_copy(),))  # one that is there may be replaced
    assert len(shelf.given()) == FDS_KEPT_MAX
    shelf.clear()
    assert shelf.given() == {}


def test_a_listener_that_is_known_by_its_number_is_not_covered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        monkeypatch.setattr(systemd, "LISTEN_FDS_START", own.fileno())
        shelf = Shelf()
        shelf.put("a", (pipe_copy(),))
        assert list(shelf.given()) == ["a"]
        own.set_inheritable(True)
        assert shelf.given() == {}
        own.set_inheritable(False)
        assert shelf.given() == {}  # the next process opens its listeners itself


def test_what_systemd_gave_is_kept_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    own = pipe_copy()
    monkeypatch.setattr(systemd, "LISTEN_FDS_START", own)
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "kv")
    monkeypatch.delenv("LISTEN_PID", raising=False)
    shelf = Shelf()
    assert list(shelf.given()) == ["kv"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(own)
    shelf.clear()


# --- a whole life, with programs of a few lines ---------------------------------------------------

TALKING = """
import json, os, sys
from pybehave.runtime import systemd
lives = len(os.listdir("lives"))
open(f"lives/{lives}", "w").write(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Look after a program; the exit status."""
    (tmp_path / "lives").mkdir()
    monkeypatch.chdir(tmp_path)

    def begin(program: str, folder: Path | None = None, **rules: float) -> int:
        words = (sys.executable, "-c", TALKING + program)
        heart_rules = HeartRules(backoff=AT_ONCE, **rules)  # type: ignore[arg-type]
        before = len(os.listdir("/proc/self/fd"))
        status = keep_alive(words, heart_rules, data=None if folder is None else str(folder))
        assert len(os.listdir("/proc/self/fd")) == before
        return status

    return begin


def lives() -> list[dict[str, str]]:
    return [json.loads(Path("lives", name).read_text()) for name in sorted(os.listdir("lives"))]


def test_what_is_said_for_one_start_is_said_until_one_has_served(
    tmp_path: Path, live: Callable[..., int]
) -> None:
    program = (
        f'{TALKING}open("said", "a").write(" ".join(sys.argv[1:]) + "|")\n'
        "if lives == 0: os.abort()\n"
        'systemd.notify("READY=1")\n'
        "if lives in (1, 2): os.abort()\n"
        'systemd.notify("STOPPING=1")\n'
    )
    words = (sys.executable, "-c", program, "app")
    rules = HeartRules(backoff=AT_ONCE)
    assert keep_alive((*words, "--reset", "a"), rules, again=words) == 0
    assert (tmp_path / "said").read_text() == "app --reset a|app --reset a|app|app|"


def test_systemd_hears_of_the_parent_what_it_would_of_the_node(
    live: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with InPlaceOfSystemd(monkeypatch) as told:
        assert live(
            'systemd.notify("STATUS=replaying\\nEXTEND_TIMEOUT_USEC=5")\n'
            'systemd.notify("READY=1")\n'
            'systemd.notify("MAINPID=1")\n'
            'os.abort() if lives == 0 else systemd.notify("STOPPING=1")\n'
        ) == 0  # fmt: skip
        notices = list(told.take())
    fields = [dict(notice.fields) for notice in notices]
    assert {notice.pid for notice in notices} == {os.getpid()}
    assert fields.count({"READY": "1"}) == 2
    assert fields.count({"STATUS": "replaying", "EXTEND_TIMEOUT_USEC": "5"}) == 2
    assert fields[-1] == {"STOPPING": "1"}
    assert {"WATCHDOG": "1"} in fields
    assert not any("MAINPID" in each for each in fields)


class InPlaceOfSystemd:
    """What systemd would hear of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notices = Notices()
        monkeypatch.setenv("NOTIFY_SOCKET", self.notices.address)
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    def __enter__(self) -> Notices:
        return self.notices

    def __exit__(self, *_: object) -> None:
        self.notices.close()


def test_a_process_is_told_what_is_its_own(
    live: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with InPlaceOfSystemd(monkeypatch) as told:
        assert live("sys.exit(3)", timeout=7) == 3
    [environment] = lives()
    assert environment["WATCHDOG_USEC"] == "7000000"
    assert "WATCHDOG_PID" not in environment
    assert environment["NOTIFY_SOCKET"] != told.address
    assert environment["PYBEHAVE_HEART"] == str(os.getpid())
    assert (environment["LISTEN_FDS"], environment["FDSTORE"]) == ("0", str(FDS_KEPT_MAX))


def test_without_a_timeout_nobody_asks_for_beats(live: Callable[..., int]) -> None:
    assert live("sys.exit(3)", timeout=0) == 3
    assert "WATCHDOG_USEC" not in lives()[0]


def test_a_socket_that_is_put_aside_comes_with_the_next_process(live: Callable[..., int]) -> None:
    assert live(
        "import socket\n"
        "if lives == 0:\n"
        '    own = socket.create_server(("127.0.0.1", 0))\n'
        '    systemd.notify("FDSTORE=1\\nFDNAME=own", (own.fileno(),))\n'
        '    systemd.notify("FDSTORE=1\\nFDNAME=other", (own.fileno(),))\n'
        '    systemd.notify("FDSTOREREMOVE=1\\nFDNAME=other")\n'
        '    systemd.notify("READY=1")\n'
        "    os.abort()\n"
        "[(_, fd)] = systemd.inherited()\n"
        "assert socket.socket(fileno=fd).getsockname()[1]\n"
        'systemd.notify("READY=1")\n'
        'systemd.notify("STOPPING=1")\n'
        "sys.exit(5)\n"
    ) == 5  # fmt: skip
    assert [each["LISTEN_FDNAMES"] for each in lives()] == ["", "own"]


def test_a_process_that_does_not_beat_is_aborted_and_then_killed(
    live: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybehave.runtime.heart.parent.ABORT_S", 0.1)
    assert live(
        "import signal, threading\n"
        "signal.signal(signal.SIGABRT, signal.SIG_IGN)\n"
        'systemd.notify("READY=1")\n'
        "if lives == 0:\n"
        "    threading.Event().wait()\n"
        'systemd.notify("STOPPING=1")\n',
        timeout=0.2,
    ) == 0  # fmt: skip
    assert len(lives()) == 2


SUCCEEDED = """
import subprocess
how = json.dumps([[sys.executable, *sys.orig_argv[1:]], ""])
successor = f'''
import sys, threading
from pybehave.runtime import systemd
for _ in range(2):
    systemd.notify("X_PYBEHAVE_SUCCESSOR=" + {json.dumps(how)})
systemd.notify("READY=1")
print()
sys.stdout.flush()
'''
def succeed(then):
    own = subprocess.Popen(
        [sys.executable, "-c", successor + then], stdout=subprocess.PIPE, text=True
    )
    own.stdout.readline()
    systemd.notify(f"MAINPID={own.pid}")
    return own
def is_watched(pid):
    fds = f"/proc/{os.getppid()}/fdinfo"
    try:
        return any(f"Pid:\\t{pid}\\n" in open(f"{fds}/{fd}").read() for fd in os.listdir(fds))
    except FileNotFoundError:  # one was closed meanwhile
        return True
"""
"""How a process is followed by another one of its own, whose father it stays."""


@pytest.mark.parametrize("is_reaped", [False, True])
def test_a_successor_that_is_killed_while_its_father_lives(
    tmp_path: Path, live: Callable[..., int], *, is_reaped: bool
) -> None:
    """Its end is not told to the parent: it may be reaped by the father, or by nobody as yet."""
    assert live(
        SUCCEEDED + 'systemd.notify("READY=1")\n'
        "if lives == 0:\n"
        '    own = succeed("threading.Event().wait()")\n'
        "    while is_watched(os.getpid()): pass\n"
        "    own.kill()\n"
        f"    if {is_reaped}: own.wait()\n"
        "    while len(os.listdir('lives')) == 1: pass\n"
        "    own.wait()\n"
        "    os._exit(0)\n"
        'systemd.notify("STOPPING=1")\n',
        folder=tmp_path,
        timeout=30,
    ) == 0  # fmt: skip
    assert len(lives()) == 2
    [killed] = json.loads((tmp_path / "heart.json").read_bytes())
    assert killed["why"] in (["SIGKILL", "nobody knows how"] if is_reaped else ["SIGKILL"])


def test_a_process_is_watched_beyond_its_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "input(); exit(3)"], stdin=subprocess.PIPE) as own:
        watched = Watched(own.pid)
        assert not watched.has_ended()
        assert own.stdin is not None
        own.stdin.write(b"\n")
        own.stdin.close()
        with select.epoll() as looking:
            looking.register(watched, select.EPOLLIN)
            assert looking.poll() == [(watched.fileno(), select.EPOLLIN)]
        assert watched.has_ended()
        assert watched.status() == 3 << 8
        own.wait()
        assert watched.has_ended()
        assert watched.status() is None
        watched.kill(signal.SIGTERM)  # no stranger is meant
        watched.close()


def test_who_follows_may_be_the_last_word(
    live: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes behind the parent's look at what was said, and before that at who has ended."""
    take = Parent._take_notices

    def only_at_an_end(self: Parent) -> None:
        if sys._getframe(1).f_code.co_name != "run":
            take(self)

    monkeypatch.setattr(Parent, "_take_notices", only_at_an_end)
    assert live(
        SUCCEEDED + 'systemd.notify("READY=1")\n'
        'succeed("""\n'
        "import os\n"
        "while os.getppid() == {os.getpid()}: pass\n"
        'systemd.notify("STOPPING=1")\n'
        'sys.exit(4)\n""".replace("{os.getpid()}", str(os.getpid())))\n'
        "os._exit(0)\n"
    ) == 4  # fmt: skip
    assert len(lives()) == 1


def test_a_process_that_cannot_be_started_again_is_a_failure_like_others(
    tmp_path: Path, live: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def start(*arguments: Any) -> Watched:
        tries.append(arguments)
        if len(tries) in (2, 3):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return start_process(*arguments)

    monkeypatch.setattr("pybehave.runtime.heart.parent.start_process", start)
    assert live(
        'systemd.notify("READY=1")\n'
        "if lives == 0: os.abort()\n"
        'systemd.notify("STOPPING=1")\n',
        folder=tmp_path,
    ) == 0  # fmt: skip
    reports = json.loads((tmp_path / "heart.json").read_bytes())
    assert [each["restarts"] for each in reports] == [0, 1, 2]
    assert "could not be started" in reports[1]["why"]
    assert "Resource temporarily unavailable" in reports[2]["why"]


def test_no_stranger_takes_a_place(live: Callable[..., int]) -> None:
    """Whoever is of this user can say so; and a node that ours has started has a successor, too."""
    assert live(
        SUCCEEDED + 'systemd.notify("READY=1")\n'
        "if lives == 0:\n"
        "    if os.fork() == 0:\n"
        '        own = succeed("threading.Event().wait()")\n'
        '        open("stranger", "w").write(str(own.pid))\n'
        "        own.wait()\n"
        "        os._exit(0)\n"
        "    while not (os.path.exists('stranger') and open('stranger').read()): pass\n"
        "    os.abort()\n"
        "os.kill(int(open('stranger').read()), 9)\n"
        'systemd.notify("STOPPING=1")\n',
        timeout=30,
    ) == 0  # fmt: skip
    assert len(lives()) == 2


BAD_COMMANDS = [
    [[""], ""],
    [["a\0b"], ""],
    [["a"], "\0"],
    [["\ud800"], ""],
    [[], ""],
    [["a", 1], ""],
]


@pytest.mark.parametrize(
    "notice",
    [
        "MAINPID=" + "1" * 5000,
        *(f"X_PYBEHAVE_COMMAND={json.dumps(bad)}" for bad in BAD_COMMANDS),
        *(f"X_PYBEHAVE_SUCCESSOR={json.dumps(bad)}" for bad in BAD_COMMANDS),
    ],
)
def test_nonsense_ends_nobody(live: Callable[..., int], notice: str) -> None:
    assert live(
        'systemd.notify("READY=1")\n'
        f"systemd.notify({notice!r})\n"
        "if lives == 0: os.abort()\n"
        'systemd.notify("STOPPING=1")\n'
    ) == 0  # fmt: skip
    assert len(lives()) == 2


def test_a_sender_whose_number_nobody_knows_is_not_the_process_that_there_is_not() -> None:
    parent = Parent(("program",), HeartRules(), ("program",), None)
    before = vars(parent).copy()
    parent._noticed(Notice(0, {"STOPPING": "1", "MAINPID": "0", "READY": "1", "WATCHDOG": "1"}))
    assert vars(parent) == before
    parent._notices.close()


def test_a_socket_for_which_there_is_no_room_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    shelf = Shelf()
    shelf.put("own", (pipe_copy(),))
    before, given = len(os.listdir("/proc/self/fd")), shelf.given()
    monkeypatch.setattr("pybehave.runtime.heart.process._moved_up", no_room)
    shelf.put("own", (pipe_copy(),))
    shelf.put("other", (pipe_copy(),))
    assert shelf.given() == given
    assert len(os.listdir("/proc/self/fd")) == before
    shelf.clear()


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        keep_alive((str(tmp_path / "nothing"),), HeartRules())


def test_notices_of_several_descriptors_arrive_whole() -> None:
    told = Notices()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + told.address[1:])
        socket.send_fds(sender, [b"A=1\nB=x=y\nnonsense\n"], [0, 1, 2])
    [notice] = told.take()
    assert notice.fields == {"A": "1", "B": "x=y", "nonsense": ""}
    assert len(notice.fds) == 3
    for fd in notice.fds:
        os.close(fd)
    told.close()
