"""What the fields of a Listener are to the kernel: options of sockets, families, shared ports."""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import Any

import pytest

from pybehave import GenServer
from pybehave.errors import ListenFailed
from pybehave.protocols import Resp
from tests.conftest import dial, receive

TCP_INFO_BYTES = 32
SACKED_AT = 28
"""Of a listening socket that field of tcp_info is its backlog (Linux, tcp_get_info)."""


class Echo(GenServer[Any, Any, Any]):
    """Says what it is told."""

    def init(self, args: Any) -> Any:
        return None

    def step(self, command: Any, state: Any) -> Any:
        return state, command[-1]


def option(fd: int, level: int, name: int) -> int:
    """An option of a descriptor that the loop owns."""
    with socket.socket(fileno=os.dup(fd)) as copy:
        return copy.getsockopt(level, name)


def accepted(client: socket.socket) -> int:
    """The descriptor of the server's end, which is in this process too."""
    client.sendall(b"CLIENT INFO\r\n")
    found = None
    said = b""
    while found is None:
        said += client.recv(4096)
        found = re.search(rb" fd=(\d+) .*\r\n$", said, re.DOTALL)
    return int(found[1])


@pytest.mark.parametrize("nodelay", [True, False])
def test_nodelay_is_an_option_of_the_accepted_socket(serve: Any, nodelay: bool) -> None:
    with dial(serve(Echo, Resp(), nodelay=nodelay)) as client:
        fd = accepted(client)
        assert option(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY) == nodelay


@pytest.mark.parametrize("seconds", [None, 77])
def test_keepalive_is_an_option_of_the_accepted_socket(serve: Any, seconds: int | None) -> None:
    with dial(serve(Echo, Resp(), keepalive=seconds)) as client:
        fd = accepted(client)
        assert option(fd, socket.SOL_SOCKET, socket.SO_KEEPALIVE) == (seconds is not None)
        if seconds is not None:
            assert option(fd, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == seconds


def test_the_backlog_is_that_of_the_listening_socket(serve: Any) -> None:
    (port,) = serve(Echo, Resp(), backlog=7).loop.ports
    with socket.socket(fileno=os.dup(port.fd)) as listener:
        facts = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        assert struct.unpack_from("I", facts, SACKED_AT) == (7,)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1


def test_two_nodes_share_a_port_when_both_allow_it_and_not_else(start: Any, serve: Any) -> None:
    first = serve(Echo, Resp(), reuse_port=True)
    url = first.urls[0]
    second = start(first.app, listen=(url,))
    assert second.urls == first.urls
    served: set[int] = set()
    while served != {id(first), id(second)}:  # the kernel spreads them by their ports
        with dial(first) as client:
            client.sendall(b"SAY hello\r\n")
            assert receive(client, 11) == b"$5\r\nhello\r\n"
        served |= {id(node) for node in (first, second) if node.stats()["loop"]["commands"]}
    second.stop()
    with pytest.raises(ListenFailed, match="Address already in use"):
        serve(Echo, Resp(), loop={"listen": (url,)})


@pytest.mark.parametrize("url", ["tcp://[::1]:0", "tcp://*:0", "tcp://localhost:0"])
def test_every_family_serves(serve: Any, url: str) -> None:
    node = serve(Echo, Resp(), loop={"listen": (url,)})
    port = int(node.urls[0].rpartition(":")[2])
    hosts = {"tcp://[::1]:0": ["::1"], "tcp://*:0": ["127.0.0.1", "::1"]}.get(url, ["localhost"])
    for host in hosts:
        with socket.create_connection((host, port), 10) as client:
            client.sendall(b"SAY hello\r\n")
            assert receive(client, 11) == b"$5\r\nhello\r\n"


@pytest.mark.parametrize("length", [107, 106, 20])
def test_a_unix_socket_with_a_name_of_any_length_serves_and_goes(
    serve: Any, tmp_path: Any, length: int
) -> None:
    path = f"/tmp/{os.getpid()}-".ljust(length, "x")
    node = serve(Echo, Resp(), loop={"listen": (f"unix://{path}",)})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"SAY hello\r\n")
        assert receive(client, 11) == b"$5\r\nhello\r\n"
    node.stop()
    assert not os.path.exists(path)


def test_an_abstract_unix_socket_of_the_longest_name_serves(serve: Any) -> None:
    name = f"@{os.getpid()}-".ljust(107, "x")
    serve(Echo, Resp(), loop={"listen": (f"unix://{name}",)})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name[1:])
        client.sendall(b"SAY hello\r\n")
        assert receive(client, 11) == b"$5\r\nhello\r\n"
