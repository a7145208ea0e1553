"""examples/kv.py under redis-cli, redis-py and redis-benchmark."""

from __future__ import annotations

import os
import pty
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

from tests.processes import Process, own_port, serving


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


def test_redis_cli_with_a_password_that_nobody_set(kv: Process) -> None:
    assert cli(kv, "--user", "default", "--pass", "x", "ping") == "PONG\n"
    assert cli(kv, "-a", "x", "ping") == "PONG\n"  # warns on stderr, and goes on


def test_redis_cli_finds_what_its_statistics_show(kv: Process) -> None:
    fields = dict(line.split(":") for line in cli(kv, "info").splitlines() if ":" in line)
    assert int(fields["used_memory"]) > 1 << 20
    assert fields["total_connections_received"] == "1"
    assert (fields["connected_clients"], fields["blocked_clients"]) == ("1", "0")


def test_redis_cli_loads_in_bulk(kv: Process) -> None:
    """--pipe ends with an ECHO that it waits for."""
    command = [program("redis-cli"), "-p", str(kv.port), "--pipe"]
    requests = "".join(f"SET key{number} {number}\r\n" for number in range(20_000))
    result = subprocess.run(
        command, input=requests, capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.splitlines()[-1] == "errors: 0, replies: 20000"
    assert cli(kv, "dbsize") == "20000\n"


def test_redis_cli_walks_over_all_keys(kv: Process) -> None:
    assert cli(kv, "set", "small", "x") == "OK\n"
    assert cli(kv, "set", "large", "x" * 1000) == "OK\n"
    assert sorted(cli(kv, "--scan").split()) == ["large", "small"]
    assert "Biggest string found '\"large\"' has 1000 bytes" in cli(kv, "--bigkeys")


def test_redis_cli_measures_latencies(kv: Process) -> None:
    least, most, average, samples = cli(kv, "--latency", "-i", "1").split()
    assert float(least) <= float(average) <= float(most) and int(samples) > 0


def test_redis_cli_shows_its_statistics_line_by_line(kv: Process) -> None:
    assert cli(kv, "set", "x", "1") == "OK\n"
    master, slave = pty.openpty()  # into a pipe it writes when its buffer is full
    command = [program("redis-cli"), "-p", str(kv.port), "--stat", "-i", "0.01"]
    process = subprocess.Popen(command, stdout=slave, stdin=subprocess.DEVNULL)
    try:
        lines = [next(line) for line in [terminal_lines(master)] * 6]
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
    assert lines[1].split()[:3] == ["keys", "mem", "clients"]
    _keys, memory, clients, _blocked, requests, *_ = lines[3].split()
    assert memory.endswith("M") and clients == "1" and int(requests) >= 2


def terminal_lines(master: int) -> Iterator[str]:
    """What comes on a terminal, line by line."""
    received = b""
    while True:
        while b"\n" not in received:
            received += os.read(master, 4096)
        line, _, received = received.partition(b"\n")
        yield line.decode()


def test_a_transaction_is_refused_in_its_own_words(kv: Process, client: Any) -> None:
    with pytest.raises(redis.ResponseError, match="no EXEC here: every command is by itself"):
        client.pipeline().set("a", 1).execute()
    assert client.ping()


def test_a_hundred_thousand_commands_in_one_pipeline(kv: Process) -> None:
    count = 100_000
    requests = b"".join(b"INCR n\r\n" for _ in range(count))
    with socket.create_connection(("127.0.0.1", kv.port), 30) as raw:
        writer = threading.Thread(target=raw.sendall, args=(requests,))
        writer.start()
        with raw.makefile("rb") as replies:
            for number in range(1, count + 1):
                assert replies.readline() == b":%d\r\n" % number
        writer.join(30)


def test_redis_cli_changes_to_resp3_and_back(kv: Process) -> None:
    command = [program("redis-cli"), "-p", str(kv.port)]
    result = subprocess.run(
        command, input="HELLO 3\nRESET\nECHO hi\n", capture_output=True, text=True, check=True,
        timeout=20,
    )  # fmt: skip
    assert "proto 3" in result.stdout
    assert result.stdout.endswith("RESET\nhi\n")


@pytest.mark.parametrize("protocol", [2, 3])
def test_connections_are_told_apart(kv: Process, protocol: int) -> None:
    options: dict[str, Any] = {"port": kv.port, "protocol": protocol, "single_connection_client": 1}
    with (
        redis.Redis(client_name="one", **options) as one,
        redis.Redis(username="default", password="any", **options) as two,
    ):
        assert one.client_id() != two.client_id()
        assert two.client_getname() in (None, "")
        assert one.client_info()["name"] == "one"
        listed = {client["id"]: client for client in two.client_list()}
        assert listed[str(one.client_id())]["name"] == "one"
        assert listed[str(two.client_id())]["resp"] == str(protocol)
        assert two.client_list(client_id=[str(two.client_id())]) == [listed[str(two.client_id())]]
        assert two.client_list(_type="pubsub") == []


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
    words = ("--data", str(tmp_path), "--listen", f"tcp://127.0.0.1:{own_port()}")
    with serving("examples.kv:app", source, *words) as kv:
        assert cli(kv, "set", "x", "1") == "OK\n"
        kv.process.kill()
        kv.process.wait()
    with serving("examples.kv:app", source, *words) as again:
        assert cli(again, "get", "x") == "1\n"
