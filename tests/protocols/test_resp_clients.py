"""A client library of Redis, unmodified, against the bare codec behind a socket."""

import socket
import threading

import pytest
import redis

from pybehave.errors import DecodeError
from pybehave.protocols import OK, Error, Resp


def answer(request, state):
    """The smallest key-value store."""
    match request:
        case [b"SET", key, value]:
            state[key] = value
            return OK
        case [b"GET", key]:
            return state.get(key)
        case [b"HGETALL", _]:
            return {"a": 1.5, "b": True}
    return Error("ERR unknown command")


def serve(connection, state):
    """One connection, request by request, so that answers keep their order."""
    codec, version = Resp().codec(), 2
    with connection:
        while data := connection.recv(65536):
            for message in codec.feed(data):
                if isinstance(message, DecodeError):
                    connection.sendall(codec.encode_error_bytes(message))
                    return
                output = answer(message, state)
                connection.sendall(codec.encode_bytes(output, version))
            native = codec.take_output()
            version = 3 if b"proto\r\n:3" in native else version
            connection.sendall(native)


@pytest.fixture
def port():
    listener = socket.create_server(("127.0.0.1", 0))
    state = {}

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection, state), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture(params=[2, 3])
def client(port, request):
    with redis.Redis(port=port, protocol=request.param, client_name="tests") as client:
        yield client


def test_it_connects_and_introduces_itself(client):
    assert client.ping() is True
    assert client.client_getname() in ("tests", b"tests")
    assert client.client_id() == 1


def test_values_of_any_size_come_back(client):
    for size in (0, 1, 1000, 3_000_000):
        assert client.set("key", b"\r\n" * size) is True
        assert client.get("key") == b"\r\n" * size
    assert client.get("nothing") is None


def test_a_pipeline_is_answered_in_order(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(500):
        pipeline.set(f"key{number}", number).get(f"key{number}")
    answers = pipeline.execute()
    assert answers == [item for number in range(500) for item in (True, b"%d" % number)]


def test_its_questions_about_the_server_are_answered(client):
    assert client.info()["redis_version"] == "7.0.0"
    assert client.config_get("save") == {"save": ""}
    assert client.echo("x") == b"x"


def test_an_error_reply_is_its_exception(client):
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.lpush("key", 1)


def test_undecodable_bytes_are_answered_before_the_end(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"*1\r\nx")
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received == b"-ERR Protocol error: expected '$', got 'x'\r\n"
