"""LengthPrefixed: widths, orders and limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave.errors import DecodeError, EncodeError, FrameTooLong, SpecError
from pybehave.protocols import LengthPrefixed


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("order", ["big", "little"])
def test_the_length_is_written_and_read_in_width_and_order(width, order):
    codec = LengthPrefixed(width, order).codec()
    stream = codec.encode_bytes(b"abc")
    assert stream == (3).to_bytes(width, order) + b"abc"
    assert codec.feed(stream + (0).to_bytes(width, order)) == [b"abc", b""]


@pytest.mark.parametrize(("size", "is_allowed"), [(99, True), (100, True), (101, False)])
def test_a_message_is_refused_from_its_length_alone(size, is_allowed):
    messages = LengthPrefixed(frame_bytes_max=100).codec().feed(size.to_bytes(4, "big"))
    assert messages == [] if is_allowed else isinstance(messages[0], FrameTooLong)


@pytest.mark.parametrize(("size", "is_allowed"), [(254, True), (255, True), (256, False)])
def test_output_fits_the_width(size, is_allowed):
    codec = LengthPrefixed(width=1).codec()
    if is_allowed:
        assert len(codec.encode_bytes(b"x" * size)) == size + 1
    else:
        with pytest.raises(EncodeError, match="256 bytes do not fit a length of 1 bytes"):
            codec.encode_bytes(b"x" * size)


def test_C1_a_failed_output_leaves_no_length_behind():
    codec = LengthPrefixed().codec()
    with pytest.raises(EncodeError):
        codec.encode_bytes(memoryview(b"abcdef")[::2])
    with pytest.raises(EncodeError, match="sends bytes"):
        codec.encode_bytes("text")
    assert codec.encode_bytes(None) == b""


def test_a_failure_is_a_message():
    for width in (1, 2, 4):
        codec = LengthPrefixed(width).codec()
        (text,) = codec.feed(codec.encode_error_bytes(DecodeError("no " * 200)))
        assert text.startswith(b"error: Protocol error: no no")


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("width", 9), ("order", "native")])
def test_fields_are_validated(field, value):
    with pytest.raises(SpecError, match=f"LengthPrefixed: {field}={value!r} is not allowed"):
        LengthPrefixed(**{field: value})


@given(
    width=st.sampled_from([1, 2, 4, 8]),
    order=st.sampled_from(["big", "little"]),
    bodies=st.lists(st.binary(max_size=200)),
    sizes=st.lists(st.integers(1, 64)),
)
def test_any_messages_in_any_pieces_come_back(feed_in_pieces, width, order, bodies, sizes):
    codec = LengthPrefixed(width, order).codec()
    stream = b"".join(codec.encode_bytes(body) for body in bodies)
    assert feed_in_pieces(codec, stream, sizes) == bodies
