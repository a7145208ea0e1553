"""A server that speaks first: pushes to clients of RESP3, redis-py among them."""

from __future__ import annotations

from typing import Any

import redis

from pybehave import GenServer
from pybehave.actions import Send
from pybehave.protocols import OK, Push, Resp
from tests.conftest import dial, receive


class Room(GenServer[list[Any], Any, Any]):
    """Tells everybody who has joined of what anybody says."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, request: Any, state: list[Any]) -> Any:
        match request:
            case [b"JOIN"]:
                return [*state, self.context.connection], OK
            case [b"SAY", text]:
                told = Push([b"message", text])
                return state, len(state), [Send(member, told) for member in state]


def test_a_push_goes_out_in_the_form_that_each_client_speaks(serve: Any) -> None:
    node = serve(Room, Resp())
    with dial(node) as two, dial(node) as three:
        three.sendall(b"HELLO 3\r\nJOIN\r\n")
        while not three.recv(4096).endswith(b"+OK\r\n"):
            pass
        two.sendall(b"JOIN\r\nSAY hi\r\n")
        body = b"2\r\n$7\r\nmessage\r\n$2\r\nhi\r\n"
        assert receive(three, len(body) + 1) == b">" + body
        assert sorted(receive(two, len(body) + 10).splitlines()) == sorted(
            (b"+OK\r\n*" + body + b":2\r\n").splitlines()
        )


def test_redis_py_hears_a_push_between_its_replies(serve: Any) -> None:
    port = int(serve(Room, Resp()).urls[0].rpartition(":")[2])
    heard: list[Any] = []
    with redis.Redis(port=port, protocol=3, single_connection_client=True) as client:
        connection: Any = client.connection
        connection._parser.set_pubsub_push_handler(heard.append)
        assert client.execute_command("JOIN") in (True, b"OK")
        assert client.execute_command("SAY", "hello") == 1
        assert client.execute_command("SAY", "again") == 1
    assert [b"message", b"hello"] in heard
