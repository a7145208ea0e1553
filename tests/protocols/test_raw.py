"""Raw passes bytes through."""

import pytest

from pybehave.errors import EncodeError, FrameTooLong, SpecError
from pybehave.protocols import Raw


def test_each_arrival_is_a_message():
    codec = Raw().codec()
    assert codec.feed(b"one") + codec.feed(b"") + codec.feed(b"two") == [b"one", b"two"]


def test_longer_input_is_cut_at_the_limit():
    assert Raw(frame_bytes_max=4).codec().feed(b"abcdefghi") == [b"abcd", b"efgh", b"i"]


@pytest.mark.parametrize("output", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_output_is_sent_as_it_is(output):
    assert Raw().codec().encode_bytes(output) == b"ab"


def test_none_sends_nothing():
    assert Raw().codec().encode_bytes(None) == b""


@pytest.mark.parametrize("output", ["text", 5, [b"a"], object()])
def test_other_output_is_an_encode_error(output):
    with pytest.raises(EncodeError, match="bytes, bytearray or memoryview"):
        Raw().codec().encode_bytes(output)


def test_memory_that_is_not_contiguous_is_an_encode_error():
    with pytest.raises(EncodeError):
        Raw().codec().encode_bytes(memoryview(b"abcdef")[::2])


def test_a_failure_is_a_line():
    answer = Raw().codec().encode_error_bytes(FrameTooLong(5))
    assert answer == b"error: Protocol error: message longer than 5 bytes\n"


@pytest.mark.parametrize("size", [0, -1, 1 << 31, 1.5, True, None])
def test_the_limit_is_validated(size):
    with pytest.raises(SpecError, match=r"Raw: frame_bytes_max=.* is not allowed; use 1 to"):
        Raw(frame_bytes_max=size)


def test_the_largest_limit_is_allowed():
    assert Raw(frame_bytes_max=(1 << 31) - 1).codec().feed(b"a") == [b"a"]
