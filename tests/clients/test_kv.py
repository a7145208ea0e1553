"""examples/kv.py under redis-cli, redis-py and redis-benchmark."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.processes import Process, serving


@pytest.fixture
def kv(source: str) -> Iterator[Process]:
    with serving("examples.kv:app", source) as process:
        yield process


@pytest.fixture
def client(kv: Process) -> Iterator[Any]:
    with redis.Redis(port=kv.port, socket_timeout=10) as connection:
        yield connection


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (apt-get install redis-tools)")
    return path


def cli(kv: Process, *words: str) -> str:
    command = [program("redis-cli"), "-p", str(kv.port), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def test_redis_cli_sets_and_gets(kv: Process) -> None:
    assert cli(kv, "set", "x", "1") == "OK\n"
    assert cli(kv, "get", "x") == "1\n"
    assert cli(kv, "ping") == "PONG\n"
    assert "ERR unknown command" in cli(kv, "nonsense")
    assert cli(kv, "-3", "get", "nothing") == "\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_in_both_protocols(kv: Process, protocol: int) -> None:
    with redis.Redis(port=kv.port, protocol=protocol, decode_responses=True) as client:
        assert client.ping()
        assert client.set("a", "x" * 100_000)
        assert client.get("a") == "x" * 100_000
        assert client.get("b") is None
        assert client.incr("n") == 1
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("a")
        pipe = client.pipeline(transaction=False)
        for number in range(1000):
            pipe.set(f"k{number}", number)
        assert pipe.execute() == [True] * 1000
        assert client.dbsize() == 1002


def test_a_crash_is_answered_and_the_others_live_on(kv: Process, client: Any) -> None:
    client.set("x", "1")
    with pytest.raises(redis.ResponseError, match="crashed"):
        client.execute_command("CRASH")
    assert client.get("x") == b"1"  # the state before the input it failed on
    assert client.set("x", "2")


@pytest.mark.parametrize("words", [["-P", "1"], ["-P", "16"]])
def test_redis_benchmark_runs_unmodified(kv: Process, words: list[str]) -> None:
    command = [program("redis-benchmark"), "-p", str(kv.port), "-t", "set,get,ping", "-n", "5000"]
    result = subprocess.run(
        [*command, "-c", "50", "-r", "1000", "--csv", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = result.stdout.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        '"PING_INLINE"',
        '"PING_MBULK"',
        '"SET"',
        '"GET"',
    ]
    assert not result.stderr.strip()


def test_malformed_bytes_are_answered_and_closed(kv: Process) -> None:
    for nonsense in (b"*1\r\n:x\r\n", b"*-5\r\n$3", b"$-9\r\n", b"\x00\xff\r\n\x01" * 50):
        with socket.create_connection(("127.0.0.1", kv.port), 10) as raw:
            raw.sendall(nonsense + b"\r\n")
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                continue
    assert cli(kv, "ping") == "PONG\n"


def test_term_answers_everything_that_was_read(kv: Process) -> None:
    with redis.Redis(port=kv.port, socket_timeout=20) as client:
        client.set("n", 0)
        answered = []

        def count() -> None:
            try:
                while True:
                    answered.append(client.incr("n"))
            except redis.ConnectionError:
                return

        thread = threading.Thread(target=count)
        thread.start()
        while len(answered) < 100:
            assert thread.is_alive()
        assert kv.end(signal.SIGTERM) == 0
        thread.join(20)
    assert answered == [*range(1, len(answered) + 1)]


def test_int_stops_at_once_also_with_connections(kv: Process) -> None:
    with socket.create_connection(("127.0.0.1", kv.port)):
        assert kv.end(signal.SIGINT) == 0


def test_after_kill_9_it_serves_on_the_same_port_again(tmp_path: Path, source: str) -> None:
    data = ("--data", str(tmp_path))
    with serving("examples.kv:app", source, *data) as kv:
        assert cli(kv, "set", "x", "1") == "OK\n"
        kv.process.kill()
        kv.process.wait()
    with serving("examples.kv:app", source, "--listen", kv.url, *data) as again:
        assert cli(again, "get", "x") == "1\n"
