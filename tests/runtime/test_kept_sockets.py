"""Listening sockets that are put aside, and taken again by the next process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybehave import Listener
from pybehave.protocols import Lines
from pybehave.runtime import kept_sockets, systemd
from pybehave.runtime.heart.notices import Notices


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notices]:
    found = Notices()
    monkeypatch.setenv("NOTIFY_SOCKET", found.address)
    monkeypatch.setenv("FDSTORE", "10")
    yield found
    found.close()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[socket.socket]]]:
    """As if this process had been started with sockets of these names, from a free number on."""
    made: list[socket.socket] = []

    def give(*names: str) -> list[socket.socket]:
        made.extend(socket.create_server(("127.0.0.1", 0)) for _ in names)
        start = max(each.fileno() for each in made) + 1
        for index, each in enumerate(made):
            os.dup2(each.fileno(), start + index)
        monkeypatch.setattr(systemd, "LISTEN_FDS_START", start)
        monkeypatch.setenv("LISTEN_FDS", str(len(names)))
        monkeypatch.setenv("LISTEN_FDNAMES", ":".join(names))
        monkeypatch.delenv("LISTEN_PID", raising=False)
        return made

    yield give
    for each in made:
        each.close()


def listener(url: str = "tcp://127.0.0.1:0", name: str = "lines") -> Listener:
    return Listener(url, Lines(), to="s", name=name)


def name_of(each: Listener) -> str:
    """What it is kept as: told by putting it aside."""
    return kept_sockets._name_of(each)


def test_a_copy_is_put_aside_under_name_and_address(notices: Notices) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        kept_sockets.put(listener(), own.fileno())
        [notice] = notices.take()
        assert (notice.pid, notice.fields["FDSTORE"]) == (os.getpid(), "1")
        assert notice.fields["FDNAME"] == "pybehave.lines%20tcp%3A%2F%2F127.0.0.1%3A0"
        with socket.socket(fileno=notice.fds[0]) as copy:
            assert copy.getsockname() == own.getsockname()
            assert not copy.get_inheritable()


@pytest.mark.parametrize("room", ["", "0", "-1", "many"])
def test_nothing_is_put_where_nobody_keeps_it(
    notices: Notices, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    monkeypatch.setenv("FDSTORE", room)
    kept_sockets.put(listener(), 0)
    kept_sockets.drop(listener())
    assert list(notices.take()) == []


@pytest.mark.parametrize("url", ["fd://7", "systemd://kv"])
def test_what_was_given_is_not_put_aside(notices: Notices, url: str) -> None:
    kept_sockets.put(listener(url), 0)
    assert list(notices.take()) == []


def test_names_may_be_as_long_as_systemd_takes_them(notices: Notices) -> None:
    rest = kept_sockets.NAME_CHARS_MAX - len(name_of(listener(name="x"))) + 1
    for count in (rest - 1, rest, rest + 1):
        kept_sockets.put(listener(name="x" * count), 0)
    sent = list(notices.take())
    assert [len(notice.fields["FDNAME"]) for notice in sent] == [254, 255]
    for notice in sent:
        os.close(notice.fds[0])


def test_it_is_taken_once_and_by_its_own_listener(
    given: Callable[..., list[socket.socket]],
) -> None:
    [own] = given(name_of(listener()))
    assert kept_sockets.take(listener(name="other")) == -1
    assert kept_sockets.take(listener("tcp://127.0.0.1:1")) == -1
    with socket.socket(fileno=kept_sockets.take(listener())) as taken:
        assert taken.getsockname() == own.getsockname()
        assert not taken.get_inheritable()
    assert kept_sockets.take(listener()) == -1


def test_a_unix_socket_whose_file_is_gone_is_opened_anew(
    given: Callable[..., list[socket.socket]], tmp_path: Path
) -> None:
    here, gone = (listener(f"unix://{tmp_path}/{name}", name) for name in ("here", "gone"))
    abstract = listener("unix://@abstract", "abstract")
    given(*map(name_of, (here, gone, abstract)))
    (tmp_path / "here").touch()
    assert kept_sockets.take(gone) == -1
    for each in (here, abstract):
        os.close(kept_sockets.take(each))


def test_what_nobody_takes_is_closed_and_what_others_gave_stays(
    given: Callable[..., list[socket.socket]], notices: Notices
) -> None:
    given("kv", name_of(listener(name="old")), name_of(listener()))
    fd = kept_sockets.take(listener())
    kept_sockets.drop_rest()
    [notice] = notices.take()
    assert notice.fields == {"FDSTOREREMOVE": "1", "FDNAME": name_of(listener(name="old"))}
    assert systemd.listen_fd("systemd://kv", "kv") == systemd.LISTEN_FDS_START
    for open_fd in (systemd.LISTEN_FDS_START, fd):
        os.close(open_fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(systemd.LISTEN_FDS_START + 1)
