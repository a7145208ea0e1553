"""Whatever stands in a field of what users construct: it is taken, or refused in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Listener, Pool, Supervisor, Worker
from pybehave.errors import SpecError
from pybehave.protocols import Fixed, LengthPrefixed, Lines, Raw, Resp, RespClient

SENTENCE_CHARS_MAX = 600


class Silent(GenServer[Any, Any, Any]):
    """Does nothing."""


class Unspeakable:
    """Has no repr, and is no key of anything."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**64, 10**400, -(10**400), 1.5, 1e300, float("inf"), float("nan"), 1j,
    "", "x", "\ud800", "a\0b", "x" * 100_000, "9" * 5000, b"", b"x", [], {}, (), set(), [1],
    object(), Unspeakable(), int, Silent, Silent(), lambda: None, lambda: 1 // 0,
    "tcp://h:" + "9" * 5000, "fd://" + "9" * 5000, "unix:///\ud800", "tcp://[::1",
)  # fmt: skip

WORKER = Worker("s", Silent)
TREE = Supervisor("one_for_one", [WORKER])

MAKERS: dict[Callable[..., Any], dict[str, Any]] = {
    Worker: {"id": "s", "server": Silent},
    Supervisor: {"strategy": "one_for_one", "children": [WORKER]},
    Application: {"name": "a", "tree": TREE},
    Listener: {"url": "tcp://127.0.0.1:0", "protocol": Lines(), "to": "s"},
    Backoff: {},
    Pool: {"id": "p"},
    Lines: {},
    Fixed: {"size": 4},
    LengthPrefixed: {},
    Raw: {},
    Resp: {},
    RespClient: {},
}

FIELDS = [(maker, field) for maker in MAKERS for field in inspect.signature(maker).parameters]


@pytest.mark.parametrize(
    ("maker", "field"), FIELDS, ids=[f"{maker.__name__}.{field}" for maker, field in FIELDS]
)
def test_what_a_field_cannot_hold_is_refused_in_one_sentence(
    maker: Callable[..., Any], field: str
) -> None:
    taken = 0
    for value in HOSTILE:
        try:
            maker(**{**MAKERS[maker], field: value})
        except SpecError as error:
            sentence = str(error)
            assert "\n" not in sentence and len(sentence) <= SENTENCE_CHARS_MAX
            sentence.encode()  # a log or a terminal can show it
        else:
            taken += 1
    assert taken < len(HOSTILE) or field in ("args", "env")


NAMES = [
    (Worker, "id"), (Worker, "name"), (Supervisor, "id"), (Application, "name"),
    (Application, "version"), (Listener, "name"), (Listener, "to"), (Pool, "id"),
]  # fmt: skip


@pytest.mark.parametrize(("maker", "field"), NAMES)
@pytest.mark.parametrize(
    "mark", ["\n", "\r", "\0", "\x1b[2J", "\x7f", "\x9b", "\u2028", "\u202e", "\ud800"]
)
def test_a_name_cannot_forge_a_line_of_a_log(
    maker: Callable[..., Any], field: str, mark: str
) -> None:
    with pytest.raises(SpecError, match=r"control characters|name of a worker"):
        maker(**{**MAKERS[maker], field: f"kv{mark}1"})


def test_a_name_may_have_any_letters() -> None:
    assert Worker("Zähler 3 計数器 \N{FAMILY}", Silent).name == "Zähler 3 計数器 \N{FAMILY}"
