"""A listener's URL becomes a typed address, or an error that shows a right one."""

from typing import Any

import pytest

from pybehave.errors import SpecError
from pybehave.listener import (
    Address,
    FdAddress,
    Listener,
    SystemdAddress,
    TcpAddress,
    UnixAddress,
    parse_url,
)
from pybehave.protocols import Lines, Resp

GOOD = [
    ("tcp://127.0.0.1:6379", TcpAddress("127.0.0.1", 6379)),
    ("tcp://localhost:1", TcpAddress("localhost", 1)),
    ("tcp://[::1]:6379", TcpAddress("::1", 6379)),
    ("tcp://[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
    ("tcp://:6379", TcpAddress("*", 6379)),
    ("tcp://*:0", TcpAddress("*", 0)),
    ("tcp://h:65535", TcpAddress("h", 65535)),
    ("unix:///run/x.sock", UnixAddress("/run/x.sock")),
    ("unix://@name", UnixAddress("@name")),
    ("unix:///" + "x" * 106, UnixAddress("/" + "x" * 106)),
    ("fd://3", FdAddress(3)),
    ("systemd://http", SystemdAddress("http")),
]

BAD = [
    ("127.0.0.1:6379", "scheme"),
    ("http://h:1", "scheme"),
    ("", "scheme"),
    (None, "scheme"),
    ("tcp://127.0.0.1", "port"),
    ("tcp://h:65536", "port"),
    ("tcp://h:-1", "port"),
    ("tcp://h:", "port"),
    ("tcp://h:²", "port"),
    ("tcp://::1:6379", "IPv6"),
    ("tcp://[::1:6379", "IPv6"),
    ("tcp://h/x:1", "more than a host"),
    ("unix://run/x", "absolute path"),
    ("unix:///", "absolute path"),
    ("unix:///" + "x" * 107, "107 bytes"),
    ("fd://x", "descriptor"),
    ("fd://-1", "descriptor"),
    ("systemd://", "socket name"),
    ("tcp://h:" + "9" * 5000, "port"),
    ("fd://" + "9" * 5000, "descriptor"),
    ("tcp://a\0b:1", "more than a host"),
    ("unix:///\udcff", "UTF-8"),
    (b"tcp://h:1", "scheme"),
]


@pytest.mark.parametrize(("url", "address"), GOOD)
def test_a_url_becomes_a_typed_address(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(("url", "why"), BAD)
def test_a_wrong_url_is_refused_with_a_right_one(url: Any, why: str) -> None:
    with pytest.raises(SpecError, match=why) as caught:
        parse_url(url)
    assert "; use " in str(caught.value)


@pytest.mark.parametrize("address", [address for _, address in GOOD])
def test_an_address_prints_as_a_url_that_means_the_same(address: Address) -> None:
    assert parse_url(str(address)) == address


def test_defaults() -> None:
    listener = Listener("tcp://:0", Resp(), "kv1")
    assert listener.name == "tcp://:0"
    assert listener.backlog == 1024
    assert listener.frame_timeout == 30.0
    assert listener.idle_timeout is None
    assert listener.output_bytes_max == 8 * 1024 * 1024
    assert listener.address == TcpAddress("*", 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", ""),
        ("protocol", None),
        ("protocol", 42),
        ("protocol", "resp"),
        ("protocol", dict),
        ("backlog", 0),
        ("connections_max", 0),
        ("idle_timeout", 0),
        ("frame_timeout", float("nan")),
        ("linger", -1),
        ("nodelay", 1),
        ("keepalive", 0.5),
        ("high_water_bytes", True),
        ("low_water_bytes", 65536),
        ("output_bytes_max", 65535),
    ],
)
def test_a_wrong_field_is_named_with_its_value(field: str, value: Any) -> None:
    fields = {"protocol": Resp(), "to": "kv1", field: value}
    with pytest.raises(SpecError, match=f"Listener 'tcp://:0': {field}=") as caught:
        Listener("tcp://:0", **fields)
    assert "; use " in str(caught.value)


def test_a_protocols_class_is_no_protocol() -> None:
    with pytest.raises(SpecError) as caught:
        Listener("tcp://:0", Lines, to="kv1")
    assert str(caught.value) == (
        "Listener 'tcp://:0': protocol=Lines is a class; write Lines(), an object of it"
    )


def test_limits_may_be_as_tight_as_they_go() -> None:
    Listener("tcp://:0", Resp(), "kv1", low_water_bytes=65535, output_bytes_max=65536)
