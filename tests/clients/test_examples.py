"""The examples echo, counter, chat, telephone and log, each with a client on a socket."""

from __future__ import annotations

import socket

from tests.conftest import receive
from tests.processes import Process, serving


def dial(process: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", process.port), 20)


def line(client: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1)
    return data.decode().rstrip("\n")


def test_echo_answers_messages_of_its_size(source: str) -> None:
    with serving("examples.echo:app", source, ECHO_SIZE="5") as echo, dial(echo) as client:
        client.sendall(b"helloworld")
        assert receive(client, 10) == b"helloworld"


def test_counter_counts_and_survives_its_deliberate_bug(source: str) -> None:
    with serving("examples.counter:app", source) as counter, dial(counter) as client:
        client.sendall(b"increment\nincrement\nread\nreset\nread\nreset\nread\nnonsense\n")
        answers = [line(client) for _ in range(8)]
    assert answers[:5] == ["ack", "ack", "value 2", "ack", "value 0"]
    assert "crashed" in answers[5]
    assert answers[6] == "value 0"
    assert answers[7].startswith("unknown command 'nonsense'")


def test_chat_speaks_first_and_to_everybody(source: str) -> None:
    people = 1000
    with serving("examples.chat:app", source) as chat:
        clients = [dial(chat) for _ in range(people)]
        for number, client in enumerate(clients):
            assert line(client) == "your name?"
            client.sendall(b"p%d\n" % number)
            assert line(client) == f"* p{number} joined"
        for number, client in enumerate(clients):
            for later in range(number + 1, people):
                assert line(client) == f"* p{later} joined"
            if number == 2:
                break
        clients[-1].sendall(b"hello all\n")
        assert line(clients[0]) == f"p{people - 1}: hello all"
        assert line(clients[2]) == f"p{people - 1}: hello all"
        clients[1].close()
        assert line(clients[0]) == "* p1 left"
        for client in clients:
            client.close()


def hear(client: socket.socket, *expected: str) -> None:
    """The next lines, in any order: a telephone's own "ok" and what the line says meet there."""
    assert sorted(line(client) for _ in expected) == sorted(expected)


def test_two_telephones_talk_and_nobody_rings_for_ever(source: str) -> None:
    with (
        serving("examples.telephone:app", source, TELEPHONE_PATIENCE_S="0.2") as exchange,
        dial(exchange) as one,
        dial(exchange) as two,
    ):
        one.sendall(b"dial 2\n")
        assert line(one).startswith("say first which line this is")
        for number, phone in ((1, one), (2, two)):
            phone.sendall(b"line %d\n" % number)
            hear(phone, "ok", f"line {number}")
        one.sendall(b"dial 2\n")
        hear(one, "ok", "calling 2")
        assert line(two) == "ringing 1"
        two.sendall(b"answer\n")
        hear(two, "ok", "talk")
        assert line(one) == "talk"
        one.sendall(b"say hello\n")
        hear(one, "ok")
        assert line(two) == "heard hello"
        two.sendall(b"hangup\n")
        hear(two, "ok", "over")
        assert line(one) == "over"
        one.sendall(b"answer\n")
        hear(one, "ok", "not while idle")
        one.sendall(b"dial 2\n")
        hear(one, "ok", "calling 2", "over")  # too late
        assert [line(two), line(two)] == ["ringing 1", "over"]


def test_the_log_tells_its_last_five_lines(source: str) -> None:
    with serving("examples.log:app", source) as log, dial(log) as client:
        for number in range(7):
            client.sendall(b"line %d\n" % number)
        client.sendall(b"warning: hot\n?\nwarnings?\n")
        assert [line(client) for _ in range(8)] == ["logged"] * 8
        assert line(client) == "line 3 | line 4 | line 5 | line 6 | warning: hot"
        assert line(client) == "1 warnings"
