"""Values of the journal as JSON and back: the same bytes, whatever they are."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave._uring.values import Values
from pybehave.journal.plain import DEPTH_MAX, from_plain, to_plain, to_plains

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
hashable = st.recursive(scalars, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=4))
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=20)
        | st.dictionaries(st.text("ab$", max_size=3), inner)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=30,
)


def through_json(data: bytes) -> bytes:
    return from_plain(json.loads(json.dumps(to_plain(data))))


@given(values)
def test_every_value_comes_back_as_the_same_bytes(value: Any) -> None:
    data = Values().encode(value)
    assert through_json(data) == data
    has_reason = "$msgpack" in repr(value) or "nan" in repr(value)  # of NaN there are many
    assert has_reason or "$msgpack" not in json.dumps(to_plain(data))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_value_come_back_too(data: bytes) -> None:
    assert through_json(data) == data


@given(values, values)
def test_values_behind_each_other_are_told_apart(one: Any, two: Any) -> None:
    data = Values().encode(one) + Values().encode(two)
    found = to_plains(data, 2)
    assert found is not None
    assert b"".join(map(from_plain, found)) == data
    assert to_plains(data, 1) is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (b"SET", {"$bytes": "SET"}),
        (b"\0\1", {"$base64": "AAE="}),
        ((1, "a"), {"$tuple": [1, "a"]}),
        (2**64, {"$int": "18446744073709551616"}),
        ({"a": {1}}, {"a": {"$set": [1]}}),
        ({1: 2}, {"$map": [[1, 2]]}),
        ({"$a": 1}, {"$map": [["$a", 1]]}),
        (math.inf, {"$float": "inf"}),
        (-0.0, -0.0),
        (frozenset(), {"$frozenset": []}),
    ],
)
def test_what_json_has_not_is_told_by_a_dollar_sign(value: Any, plain: Any) -> None:
    assert to_plain(Values().encode(value)) == plain
    assert from_plain(plain) == Values().encode(value)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536])
@pytest.mark.parametrize("make", [bytes, lambda n: "x" * n, lambda n: [0] * n, lambda n: (0,) * n])
def test_every_width_of_a_head(size: int, make: Any) -> None:
    data = Values().encode(make(size))
    assert through_json(data) == data
    assert not (isinstance(to_plain(data), dict) and "$msgpack" in to_plain(data))


@pytest.mark.parametrize("bits", range(65))
@pytest.mark.parametrize("sign", [1, -1])
def test_every_width_of_an_integer(bits: int, sign: int) -> None:
    for value in (sign * (1 << bits) + off for off in (-1, 0, 1)):
        data = Values().encode(value)
        assert to_plain(data) == (value if -(2**63) <= value < 2**64 else {"$int": str(value)})
        assert through_json(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xcc\x01",  # 1 in two bytes
        b"\xca\0\0\0\0",  # a float of four bytes
        b"\xcb\x7f\xf8\0\0\0\0\0\1",  # another nan
        b"\x82\xa1a\1\xa1a\1",  # a key twice
        b"\xa1\xff",  # no UTF-8
        b"\xd4\x4d\0",  # fixext
        b"\x91" * (DEPTH_MAX + 2) + b"\0",
    ],
)
def test_what_the_journal_would_write_otherwise_is_kept_as_it_is(data: bytes) -> None:
    assert to_plain(data) == {"$msgpack": json.loads(json.dumps(to_plain(data)))["$msgpack"]}
    assert through_json(data) == data


def test_an_extension_of_another_shape_is_kept() -> None:
    for data in (b"\xc7\x02\x4dab", b"\xc7\x02\x01\1\2", b"\xc7\x01\x05\xc1"):
        assert through_json(data) == data


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"$tuple": [], "a": 1}, "stands beside other keys"),
        ({"$tupel": []}, "is not known here"),
        ({"$bytes": 3}, "has another form"),
        ({"$bytes": "\xe4"}, "has another form"),
        ({"$base64": "?"}, "has another form"),
        ({"$map": [[1]]}, "has another form: not enough values"),
        ({"$int": "x"}, "invalid literal"),
        ({"$ext": [1]}, "has another form"),
        ({"$ext": [300, ""]}, "has another form: byte must be"),
        (2**64, "more than 64 bits"),
        ({"a": object()}, "is no value of JSON"),
    ],
)
def test_what_is_none_of_the_forms_is_refused_in_words(plain: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_plain(plain)
