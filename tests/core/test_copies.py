"""Copies of plain values: equal, of the same types, and nothing shared that can be changed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave._uring.copies import NotPlainError, plain_copy

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
FIXED = st.one_of(LEAVES, st.tuples(LEAVES, LEAVES), st.frozensets(LEAVES))
PLAIN = st.recursive(
    FIXED,
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(FIXED, inner),
        st.tuples(inner, inner),
        st.sets(FIXED),
        st.builds(bytearray, st.binary()),
    ),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """A value with the type of everything in it, in no order where there is none."""
    if isinstance(value, dict):
        return type(value), tuple((typed(key), typed(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(typed(item) for item in value)
    if isinstance(value, list | tuple):
        return type(value), tuple(typed(item) for item in value)
    return type(value), bytes(value) if isinstance(value, bytearray) else value


def changed_everywhere(value: Any) -> None:
    """Change in place whatever can be."""
    if isinstance(value, list | tuple):
        for item in value:
            changed_everywhere(item)
    elif isinstance(value, dict):
        for item in value.values():
            changed_everywhere(item)
    if isinstance(value, list | bytearray | dict | set):
        value.clear()


@given(PLAIN)
def test_no_change_of_a_value_shows_in_its_copy(value: Any) -> None:
    before = typed(value)
    copied = plain_copy(value)
    assert typed(copied) == before
    changed_everywhere(value)
    assert typed(copied) == before


@given(PLAIN)
def test_no_change_of_a_copy_shows_in_the_value(value: Any) -> None:
    before = typed(value)
    changed_everywhere(plain_copy(value))
    assert typed(value) == before


def test_what_cannot_be_changed_is_shared() -> None:
    value = (1, "two", (b"three", frozenset({4.0, (5,)})))
    assert plain_copy(value) is value


def test_one_object_in_two_places_stays_one() -> None:
    inner = [1]
    copied = plain_copy({"a": inner, "b": (inner,)})
    assert copied["a"] is copied["b"][0]
    assert copied["a"] is not inner


def test_a_list_that_contains_itself_is_copied() -> None:
    value: list[Any] = [1]
    value.append(value)
    copied = plain_copy(value)
    assert copied[1] is copied
    assert copied is not value


class Number(int):
    """Not a plain one: it may have attributes."""


@pytest.mark.parametrize("odd", [object(), OrderedDict(), Number(1), range(3), len])
@pytest.mark.parametrize("within", ["itself", "list", "tuple", "value", "key"])
def test_anything_else_is_refused(odd: Any, within: str) -> None:
    if within == "key" and isinstance(odd, dict):
        return
    value = {
        "itself": odd,
        "list": [odd],
        "tuple": (1, (odd,)),
        "value": {"a": odd},
        "key": 0 if within != "key" else {odd: 1},
    }[within]
    with pytest.raises(NotPlainError):
        plain_copy(value)


@pytest.mark.parametrize(("depth", "is_refused"), [(63, False), (64, False), (65, True)])
def test_depth_has_a_limit(depth: int, is_refused: bool) -> None:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    if is_refused:
        with pytest.raises(NotPlainError):
            plain_copy(value)
    else:
        assert plain_copy(value) == value


@pytest.mark.parametrize(("count", "is_refused"), [(9, False), (10, False), (11, True)])
def test_copies_have_a_limit_if_asked_for(count: int, is_refused: bool) -> None:
    value = tuple([number] for number in range(count))
    if is_refused:
        with pytest.raises(NotPlainError):
            plain_copy(value, 10)
    else:
        assert plain_copy(value, 10) == value


@pytest.mark.parametrize("innermost", [([1],), ((1,),)], ids=["changeable", "fixed"])
def test_a_tuple_in_two_places_is_looked_at_once(innermost: Any) -> None:
    """Sixty of them, each twice in the next one: 2 ** 60 looks would never end."""
    value = innermost
    for _ in range(60):
        value = (value, value)
    copy = plain_copy(value)
    assert copy[0] is copy[1]  # (P2)
    assert (copy is value) == (innermost == ((1,),))
