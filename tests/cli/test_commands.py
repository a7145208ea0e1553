"""The command: what it prints, what it refuses, with which exit status."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave.observer.client import AdminClient
from tests.conftest import receive
from tests.processes import COMMAND, run, serving

MISTAKES = {
    "no colon": ("examples.kv", "is not MODULE:APP"),
    "no module": ("examples.nothing:app", "there is no module 'examples.nothing'"),
    "no attribute": ("examples.kv:nothing", "it has: app"),
    "not an application": ("examples.kv:KeyValueStore", "not a pybehave.Application"),
}


@pytest.mark.parametrize("target, says", MISTAKES.values(), ids=list(MISTAKES))
@pytest.mark.parametrize("command", ["run", "tree"])
def test_a_mistake_is_one_sentence_without_a_traceback(
    command: str, target: str, says: str
) -> None:
    result = run(command, target)
    assert result.returncode == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_run_says_where_and_how(source: str) -> None:
    with serving("examples.kv:app", source) as kv:
        text = "\n".join(kv.lines)
        assert f"redis-cli -p {kv.port}" in text
        assert kv.lines[-1].startswith("ready in ")
        assert re.match(rf"kv on (uring-)?{source}: ", kv.lines[0])


@pytest.mark.parametrize("url", ["tcp://[::1]:0", "tcp://*:0", "unix://{}/s.sock"])
def test_listen_takes_every_kind_of_address(tmp_path: Path, url: str, source: str) -> None:
    url = url.format(tmp_path)
    with serving("examples.echo:app", source, "--listen", url, ECHO_SIZE="2") as echo:
        if url.startswith("unix"):
            client: Any = socket.socket(socket.AF_UNIX)
            client.connect(str(tmp_path / "s.sock"))
        else:
            client = socket.create_connection(("::1", echo.port), 10)
        with client:
            client.sendall(b"hi")
            assert receive(client, 2) == b"hi"
        assert echo.end(signal.SIGTERM) == 0
    assert not list(tmp_path.iterdir())


def test_a_stale_unix_socket_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/s.sock"
    with serving("examples.echo:app", "epoll", "--listen", url) as first:
        second = run("run", "examples.echo:app", "--listen", url)
        assert second.returncode == 1
        assert "Address already in use" in second.stderr
        first.process.kill()
        first.process.wait()
        with serving("examples.echo:app", "epoll", "--listen", url) as again:
            assert again.url == url


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        url = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        result = run("run", "examples.echo:app", "--listen", url, "--log-level", "error")
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["tcp://nope", "http://x:1", "unix://relative", "fd://99"])
def test_a_bad_address_is_refused(url: str) -> None:
    result = run("run", "examples.echo:app", "--listen", url)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr


def test_an_inherited_socket_serves(source: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = "
            "str(os.getpid()); os.execv(sys.executable, [sys.executable, '-m', 'pybehave', 'run',"
            " 'examples.echo:app', '--listen', 'systemd://web', '--backend', sys.argv[2]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(listener.fileno()), source],
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "ECHO_SIZE": "2"},
        )
        try:
            with socket.create_connection(listener.getsockname(), 20) as client:
                client.sendall(b"hi")
                assert receive(client, 2) == b"hi"
        finally:
            process.kill()
            process.communicate()


def told_to(notices: socket.socket) -> Iterator[bytes]:
    """What systemd hears, but not how the node is: on a busy machine steps are late."""
    while True:
        notice = notices.recv(1000)
        if not notice.startswith(b"STATUS="):
            yield notice


def test_systemd_is_told_when_it_serves_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        told = told_to(notices)
        with serving("examples.echo:app", "epoll", NOTIFY_SOCKET=str(tmp_path / "notify")) as echo:
            assert next(told) == b"READY=1"
            assert echo.end(signal.SIGTERM) == 0
            assert next(told) == b"STOPPING=1"


def test_systemd_hears_of_the_loop_until_it_stops(tmp_path: Path, source: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        asked = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        told = told_to(notices)
        with serving("examples.echo:app", source, **asked) as echo:
            assert [*itertools.islice(told, 4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
            echo.process.send_signal(signal.SIGTERM)
            assert next(notice for notice in told if notice != b"WATCHDOG=1") == b"STOPPING=1"
            assert echo.process.wait(20) == 0  # not told again: it may be past its handlers


def test_tree_prints_and_its_json_reads_back() -> None:
    assert "└── supervisor-2  rest_for_one" in run("tree", "examples.kv:app").stdout
    data = json.loads(run("tree", "examples.kv:app", "--json").stdout)
    assert data["children"][0]["id"] == "kv1"


def test_doctor_names_every_backend_and_its_reason() -> None:
    result = run("doctor", "--json")
    facts = json.loads(result.stdout)
    assert result.returncode == 0
    assert set(facts["sources"]) == {"full", "basic", "epoll"}
    assert facts["sources"]["epoll"]["available"]
    assert sum(facts["chosen"]["batch"]) == 1000
    assert "backends" in run("doctor").stdout


def test_the_environment_chooses_the_backend() -> None:
    facts = json.loads(run("doctor", "--json", PYBEHAVE_BACKEND="epoll").stdout)
    assert facts["chosen"]["source"] == "epoll"


def test_a_root_that_gives_up_ends_the_process_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "doomed.py").write_text(
        "from pybehave import *\n"
        "class Doomed(GenServer):\n"
        "    def init(self, args): return args, actions.StartTimer('x', 0.01, 'die')\n"
        "    def handle_info(self, message, state): raise ValueError('again')\n"
        "app = Application('doomed', Supervisor('one_for_one', [Worker('d', Doomed)]))\n"
    )
    result = subprocess.run(
        [*COMMAND, "run", "doomed:app"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "gives up" in result.stderr
    assert result.stderr.count("ValueError: again") >= 2


def test_run_opens_an_admin_socket_in_the_journals_folder(tmp_path: Path, source: str) -> None:
    data = tmp_path / "data"
    with serving("examples.kv:app", source, "--data", str(data)) as kv:
        assert f"look inside:  pybehave attach {data}/admin.sock" in kv.lines
        with AdminClient(str(data)) as client:
            assert client.ask("hello")["name"] == "kv"
        assert kv.end(signal.SIGTERM) == 0
    assert not (data / "admin.sock").exists()


def test_run_opens_the_admin_socket_where_it_is_told_or_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with serving("examples.echo:app", "epoll", "--admin", str(path)):
        with AdminClient(str(path)) as client:
            assert client.ask("hello")["source"] == "epoll"
    with serving("examples.kv:app", "epoll", "--data", str(tmp_path / "d"), "--no-admin"):
        assert not (tmp_path / "d" / "admin.sock").exists()
    result = run("run", "examples.kv:app", "--admin", "x", "--no-admin")
    assert (result.returncode, "exclude each other" in result.stderr) == (2, True)


def test_a_killed_nodes_admin_socket_is_taken_over(tmp_path: Path, source: str) -> None:
    data = str(tmp_path / "data")
    with serving("examples.kv:app", source, "--data", data) as first:
        first.process.kill()
        first.process.wait()
    assert (tmp_path / "data" / "admin.sock").exists()
    with serving("examples.kv:app", source, "--data", data):
        with AdminClient(data) as client:
            assert client.ask("hello")["name"] == "kv"


def test_an_admin_socket_that_cannot_be_had_ends_a_node_that_was_asked_for_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a socket")
    listen = ("--listen", "tcp://127.0.0.1:0")
    for path, says, status in (
        (tmp_path / "file", "not a socket", 1),
        (f"/tmp/{'x' * 120}", "over 107 bytes", 2),
    ):
        result = run("run", "examples.echo:app", *listen, "--admin", str(path))
        assert result.returncode == status
        assert says in result.stderr
        assert "Traceback" not in result.stderr


def test_a_journals_folder_with_a_long_name_goes_without_an_admin_socket(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    with serving("examples.kv:app", "epoll", "--data", str(data)) as kv:
        assert not any("look inside" in line for line in kv.lines)
        assert not (data / "admin.sock").exists()


REFUSALS = {
    "init raises": ("raise ValueError('no licence')", "its init raised ValueError: no licence"),
    "init stops": ("return Stop('tired')", "its init raised InitStopped"),
    "init ignores": ("return Ignore()", "its init says Ignore now"),
    "newer": ("return 0", "version 2 of its class has written the journal from lsn 3 on"),
}

KEPT = """
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import Ignore, Stop

class Kept(GenServer):
    version = VERSION
    def init(self, args):
        INIT
    def step(self, command, state):
        STEP
        return state, None

app = Application("kept", Supervisor("one_for_one", [Worker("k", Kept, journal=True)]))
"""


def code(init: str, step: str = "pass", *, version: int = 2) -> str:
    return KEPT.replace("INIT", init).replace("STEP", step).replace("VERSION", str(version))


def keep(data: Path) -> None:
    """A journal with one input."""
    namespace: dict[str, Any] = {"__name__": "kept"}
    exec(code("return 0"), namespace)
    with namespace["app"].start(data=data, backend="epoll") as node:
        node.call("k", 1)


@pytest.mark.parametrize("command", ["run", "replay"])
@pytest.mark.parametrize("init, says", REFUSALS.values(), ids=list(REFUSALS))
def test_an_init_that_fails_in_the_replay_is_one_sentence(
    init: str, says: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "data")
    (tmp_path / "kept.py").write_text(code(init, version=1 if "version" in says else 2))
    result = run(command, "kept:app", "--data", str(tmp_path / "data"))
    assert result.returncode == (1 if command == "run" else 2)
    sentence = result.stderr.splitlines()[-1]
    assert "server 'k': " in sentence and says in sentence and "lsn 3" in sentence
    assert "Traceback" not in result.stderr


def test_a_step_that_raises_in_the_replay_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "data")
    text = code("return 0", "raise ValueError('not any more')")
    (tmp_path / "kept.py").write_text(text)
    result = run("run", "kept:app", "--data", str(tmp_path / "data"))
    assert result.returncode == 1
    assert "(it raised ValueError: not any more)" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


ENDS = """
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import StartTimer, Stop

class Once(GenServer):
    def init(self, args):
        return args, StartTimer("end", 0, "end")

    def handle_info(self, message, state):
        return state, None, [Stop()]

children = [Worker("once", Once, restart="transient", significant=True)]
app = Application("ends", Supervisor("one_for_one", children, auto_shutdown="any_significant"))
"""


@pytest.mark.parametrize("words", ["--help", "journal --help", "tree ends:app", "doctor"])
def test_an_output_without_room_is_one_sentence(tmp_path: Path, words: str) -> None:
    """It was a traceback."""
    (tmp_path / "ends.py").write_text(ENDS)
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, *words.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    said = "pybehave: its output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, said)


@pytest.mark.parametrize("where", [">&-", ">/dev/full", "| true"])
def test_a_node_whose_output_goes_nowhere_serves_all_the_same(tmp_path: Path, where: str) -> None:
    """A closed one was an AttributeError, and a full one a journal's folder without room."""
    (tmp_path / "ends.py").write_text(ENDS)
    line = f"set -o pipefail; {' '.join(COMMAND)} run ends:app {where}"
    words = ["bash", "-c", line]
    result = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
