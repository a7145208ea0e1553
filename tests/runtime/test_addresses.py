"""Addresses as the kernel takes them, and what is said of those that cannot be had."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from pybehave.errors import ListenFailed, SpecError
from pybehave.listener import Listener
from pybehave.protocols import Lines
from pybehave.runtime import addresses


def packed(url: str) -> bytes:
    return addresses.pack(Listener(url, Lines(), to="s").address)


def failing(error: Exception) -> Any:
    def getaddrinfo(*_: object, **__: object) -> Any:
        raise error

    return getaddrinfo


@pytest.mark.parametrize(
    ("url", "tail"),
    [
        ("tcp://127.0.0.1:80", bytes([0, 80, 127, 0, 0, 1, *bytes(8)])),
        ("tcp://[::1]:80", bytes([0, 80, *bytes(4), *bytes(15), 1, *bytes(4)])),
    ],
)
def test_a_literal_address_needs_no_resolver(
    monkeypatch: pytest.MonkeyPatch, url: str, tail: bytes
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", failing(AssertionError("asked")))
    assert packed(url)[2:] == tail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "is unknown"),
        (UnicodeError("label too long"), "is unknown"),
        (
            OSError(errno.EMFILE, "Too many open files", "idna.py"),
            "looked up (Too many open files)",
        ),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "looked up (Temporary failure)"),
    ],
)
def test_a_host_is_unknown_only_when_a_resolver_says_so(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", failing(error))
    with pytest.raises(SpecError) as raised:
        packed("tcp://somewhere:80")
    assert said in str(raised.value) and "Errno" not in str(raised.value)
    assert ("is unknown" in str(raised.value)) is (said == "is unknown")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_listener_without_a_descriptor_is_told_which_limit_it_is(number: int) -> None:
    failed = ListenFailed("tcp://127.0.0.1:80", OSError(number, os.strerror(number)))
    assert "let th" in str(failed) and "choose another address" not in str(failed)
