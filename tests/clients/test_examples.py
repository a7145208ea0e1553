"""The examples echo, counter, chat, telephone and log, each with a client on a socket."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager

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


def exchange(source: str, **environment: str) -> AbstractContextManager[Process]:
    return serving("examples.telephone:app", source, **environment)


def telephones(process: Process, count: int) -> list[socket.socket]:
    """So many telephones, each of the line of its place."""
    phones = [dial(process) for _ in range(count)]
    for number, phone in enumerate(phones):
        phone.sendall(b"line %d\n" % number)
        hear(phone, "ok", f"line {number}")
    return phones


def test_two_telephones_talk(source: str) -> None:
    with exchange(source) as process:
        one, two = phones = telephones(process, 2)
        one.sendall(b"dial 1\n")
        hear(one, "ok", "calling 1")
        assert line(two) == "ringing 0"
        two.sendall(b"answer\n")
        hear(two, "ok", "talk")
        assert line(one) == "talk"
        one.sendall(b"say hello\n")
        hear(one, "ok")
        assert line(two) == "heard hello"
        two.sendall(b"hangup\n")
        hear(two, "ok", "over")
        assert line(one) == "gone"
        one.sendall(b"answer\n")
        hear(one, "ok", "not while idle")
        for phone in phones:
            phone.close()


def test_a_telephone_rings_no_longer_than_patience_lasts(source: str) -> None:
    with exchange(source, TELEPHONE_PATIENCE_S="0.1") as process:
        one, two = phones = telephones(process, 2)
        one.sendall(b"dial 1\n")
        assert {line(one) for _ in range(3)} - {"over", "gone"} == {"ok", "calling 1"}
        assert line(two) == "ringing 0"
        assert line(two) in ("over", "gone")  # as it is whose time is up first
        for phone in phones:
            phone.close()


def test_a_third_telephone_disturbs_no_call(source: str) -> None:
    with exchange(source) as process, dial(process) as stranger:
        one, two, three = phones = telephones(process, 3)
        stranger.sendall(b"dial 2\n")
        assert line(stranger).startswith("say first which line this is")
        one.sendall(b"dial 1\n")
        hear(one, "ok", "calling 1")
        assert line(two) == "ringing 0"
        three.sendall(b"dial 1\n")
        hear(three, "ok", "busy")
        three.sendall(b"hangup\n")
        hear(three, "ok", "not while idle")
        one.close()  # it hangs up
        assert line(two) == "gone"
        for phone in phones:
            phone.close()


def test_the_log_tells_its_last_five_lines(source: str) -> None:
    with serving("examples.log:app", source) as log, dial(log) as client:
        for number in range(7):
            client.sendall(b"line %d\n" % number)
        client.sendall(b"warning: hot\n?\nwarnings?\n")
        assert [line(client) for _ in range(8)] == ["logged"] * 8
        assert line(client) == "line 3 | line 4 | line 5 | line 6 | warning: hot"
        assert line(client) == "1 warnings"
