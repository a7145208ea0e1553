"""Fixed: messages of one size in both directions."""

import pytest

from pybehave.errors import Crashed, EncodeError, SpecError
from pybehave.protocols import Fixed


def test_messages_have_the_size_however_they_arrive(feed_in_pieces):
    stream = bytes(range(200))
    for piece in (1, 7, 64, 65, 200):
        messages = feed_in_pieces(Fixed(64).codec(), stream, [piece])
        assert messages == [stream[0:64], stream[64:128], stream[128:192]]


def test_output_has_the_size():
    codec = Fixed(4).codec()
    assert codec.encode_bytes(b"abcd") == b"abcd"
    assert codec.encode_bytes(bytearray(b"abcd")) == b"abcd"
    assert codec.encode_bytes(None) == b""


@pytest.mark.parametrize("output", [b"", b"abc", b"abcde", bytearray(b"abc")])
def test_output_of_another_size_is_an_encode_error(output):
    with pytest.raises(EncodeError, match="every message of this protocol has 4"):
        Fixed(4).codec().encode_bytes(output)


def test_size_counts_bytes_and_not_elements():
    assert Fixed(8).codec().encode_bytes(memoryview(b"abcdefgh").cast("I")) == b"abcdefgh"


def test_a_failure_is_cut_or_padded():
    crashed = Crashed("kv1", "c0ffee", ZeroDivisionError())
    assert Fixed(12).codec().encode_error_bytes(crashed) == b"error: serve"
    text = b"error: server 'kv1' crashed (crash id c0ffee)"
    assert Fixed(64).codec().encode_error_bytes(crashed) == text.ljust(64)


@pytest.mark.parametrize("size", [0, -1, "64", None, 1 << 31])
def test_the_size_is_validated(size):
    with pytest.raises(SpecError, match="Fixed: size="):
        Fixed(size)


def test_the_size_stays_below_the_limit():
    assert Fixed(10, frame_bytes_max=10).codec().feed(b"x" * 10) == [b"x" * 10]
    with pytest.raises(SpecError, match="at most frame_bytes_max=10"):
        Fixed(11, frame_bytes_max=10)
