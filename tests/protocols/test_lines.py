"""Lines: what ends where, as text or bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave.errors import Crashed, DecodeError, EncodeError, FrameTooLong, NoProc, SpecError
from pybehave.protocols import OK, Lines

ENDS = st.sampled_from([b"\n", b"\r\n", b";;", b"\0", b"aab"])


def test_lines_are_bytes_without_their_end():
    assert Lines().codec().feed(b"one\n\ntwo\r\nrest") == [b"one", b"", b"two\r"]


def test_lines_with_an_encoding_are_text():
    assert Lines("utf-8").codec().feed("grün\n".encode()) == ["grün"]
    assert Lines("latin-1").codec().feed(b"gr\xfcn\n") == ["grün"]
    assert Lines("ascii").codec().feed(b"abc\n") == ["abc"]


@pytest.mark.parametrize(
    ("encoding", "line"), [("utf-8", b"a\xff"), ("utf-8", b"\xed\xa0\x80"), ("ascii", b"\x80")]
)
def test_a_line_that_is_not_in_the_encoding_is_an_error_between_its_neighbours(encoding, line):
    before, error, after = Lines(encoding).codec().feed(b"a\n" + line + b"\nb\n")
    assert (before, after) == ("a", "b")
    assert isinstance(error, DecodeError)
    assert f"the line is not {encoding}" in error.detail


@pytest.mark.parametrize(("size", "is_allowed"), [(9, True), (10, True), (11, False)])
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_lines_up_to_the_limit(feed_in_pieces, size, is_allowed, piece):
    codec = Lines(frame_bytes_max=10).codec()
    (message,) = feed_in_pieces(codec, b"x" * size + b"\n", [piece])[:1]
    assert message == b"x" * size if is_allowed else isinstance(message, FrameTooLong)


def test_after_a_framing_error_the_stream_has_no_meaning():
    codec = Lines(frame_bytes_max=2).codec()
    assert [type(message) for message in codec.feed(b"a\nbcd\n")] == [bytes, FrameTooLong]
    with pytest.raises(ValueError, match="framing error"):
        codec.feed(b"a\n")


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        (b"a", b"a\n"),
        ("grün", "grün\n".encode()),
        (-5, b"-5\n"),
        (bytearray(b"a"), b"a\n"),
        (["a", b"b", 3], b"a\nb\n3\n"),
        (("a",), b"a\n"),
        ([], b""),
        (None, b""),
        (OK, b"OK\n"),
        ("", b"\n"),
    ],
)
def test_output(output, sent):
    assert Lines().codec().encode_bytes(output) == sent


@pytest.mark.parametrize("output", [1.5, True, {"a": 1}, [None], [["a"]], object()])
def test_other_output_is_an_encode_error(output):
    with pytest.raises(EncodeError, match="a line is bytes, str or int"):
        Lines().codec().encode_bytes(output)


@pytest.mark.parametrize("output", [b"a\nb", "a\nb", "a\n", ["fine", "a\nb"]])
def test_output_that_contains_the_end_is_an_encode_error(output):
    with pytest.raises(EncodeError, match="contains the line's end"):
        Lines().codec().encode_bytes(output)


def test_output_may_not_straddle_the_end():
    codec = Lines(end=b";;").codec()
    assert codec.encode_bytes("a;b") == b"a;b;;"
    with pytest.raises(EncodeError):
        codec.encode_bytes("a;")
    assert Lines(end=b"\r\n").codec().encode_bytes("a\r") == b"a\r\r\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_outside_the_encoding_is_an_encode_error(encoding):
    with pytest.raises(EncodeError):
        Lines(encoding).codec().encode_bytes("€")


def test_a_lone_surrogate_is_an_encode_error():
    with pytest.raises(EncodeError, match="surrogates"):
        Lines("utf-8").codec().encode_bytes("\ud800")


def test_C1_several_lines_are_sent_whole_or_not_at_all():
    codec = Lines().codec()
    with pytest.raises(EncodeError):
        codec.encode_bytes(["sent?", object()])
    assert codec.encode_bytes("next") == b"next\n"


def test_a_failure_is_one_line():
    codec = Lines().codec()
    assert codec.encode_error_bytes(NoProc("kv9")) == b"error: no server is called 'kv9'\n"
    crashed = Crashed("kv1", "c0ffee", ValueError("secret\n"))
    answer = codec.encode_error_bytes(crashed)
    assert answer == b"error: server 'kv1' crashed (crash id c0ffee)\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"e", b"_", b" ", b"::"])
def test_C4_the_text_of_a_failure_never_contains_the_end(end):
    answer = Lines(end=end).codec().encode_error_bytes(DecodeError("a\nb\r\nc_e ::"))
    assert answer.endswith(end)
    assert answer.find(end) == len(answer) - len(end)


@pytest.mark.parametrize("end", [b"", b"123456789", "\n", None])
def test_the_end_is_validated(end):
    with pytest.raises(SpecError, match="Lines: end="):
        Lines(end=end)


def test_the_encoding_is_validated():
    with pytest.raises(SpecError, match="Lines: encoding='utf-16' is not allowed"):
        Lines("utf-16")


@given(
    end=ENDS, texts=st.lists(st.binary(max_size=40), max_size=8), sizes=st.lists(st.integers(1, 30))
)
def test_any_lines_in_any_pieces_come_back(feed_in_pieces, end, texts, sizes):
    texts = [text for text in texts if (text + end).find(end) == len(text)]
    codec = Lines(end=end).codec()
    stream = codec.encode_bytes(texts)
    assert feed_in_pieces(codec, stream, sizes) == texts
