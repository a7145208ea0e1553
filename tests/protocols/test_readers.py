"""Protocols with a reader, and messages that name their server: what a user can write."""

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.errors import DecodeError, FrameTooLong
from pybehave.protocols import Exchange, Lines, Protocol, Reader
from tests.conftest import dial, receive, receive_all


class Counted(Reader):
    """`5;hello`: a length of any size, a semicolon, so many bytes; `!` in it asks for a word."""

    end = b";"

    def __init__(self):
        self.head = self.body = b""
        self.pieces = []

    def feed(self, piece):
        self.pieces.append(piece)
        if not self.head.endswith(b";"):
            self.head += piece
            if not self.head.endswith(b";"):
                return None
            self.need = int(self.head[:-1].lstrip(b"!"))
        else:
            self.body += piece
            self.need -= len(piece)
        if self.need:
            return None
        made = self.head[:-1] + b" " + self.body
        self.head = self.body = b""
        return made

    def interim(self):
        if not self.head.startswith(b"!") or not self.head.endswith(b";"):
            return None
        self.head = self.head[1:]
        return b"go on;"


class Messages(Protocol):
    """Counted messages; one that begins with a name and a colon is for the server of that name."""

    frame_bytes_max = 100

    def reader(self):
        return Counted()

    def decode(self, message):
        name, colon, text = message.partition(b" ")[2].partition(b":")
        return To(name.decode(), text) if colon else name

    def encode(self, output):
        return output + b";"

    def encode_error(self, error):
        return b"error: " + type(error).__name__.encode() + b";"


class To(Exchange):
    """An answer that says who gave it."""

    def __init__(self, name, text, **options):
        super().__init__(to=name, input=text, is_last=text in (b"bye", "bye"), **options)

    def encode(self, output):
        return b"%s says %s;" % (self.to.encode(), output)

    def encode_error(self, error):
        return f"{self.to} has {type(error).__name__};".encode()


class Routed(Protocol):
    """Lines whose first word names the server."""

    framing = Lines()

    def decode(self, line):
        return To(*line.decode().split(" "))

    def encode_error(self, error):
        return b"error"


class Echo(GenServer):
    def step(self, command, state):
        return state, command if isinstance(command, bytes) else command.encode()


class Wild(Exchange):
    """Answers with what is no answer."""

    def encode(self, output):
        return "text"

    def encode_error(self, error):
        raise ValueError("no words")


def running(start, protocol):
    tree = Supervisor("one_for_one", [Worker(name, Echo) for name in "ab"], intensity=1000)
    listener = Listener("tcp://127.0.0.1:0", protocol, to="a")
    return start(Application("test", tree, listeners=[listener]))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_messages_do_not_depend_on_how_they_were_cut(size):
    stream = b"3;abc0;12;hello; world1;;"
    codec = Messages().codec()
    got = [m for at in range(0, len(stream), size) for m in codec.feed(stream[at : at + size])]
    assert got == [b"abc", b"", b"hello; world", b";"]


def test_a_reader_is_shown_every_byte_once_and_none_of_the_next_message():
    readers = []
    protocol = Messages()
    protocol.reader = lambda: readers.append(Counted()) or readers[-1]
    codec = protocol.codec()
    for piece in (b"1", b"1;hel", b"lo wor", b"ld2;a", b"b"):
        codec.feed(piece[:1])
        codec.feed(piece[1:])
    assert b"".join(readers[0].pieces) == b"11;hello world2;ab"
    assert len(readers) == 1


def test_an_exception_of_a_reader_ends_the_stream():
    first, error = Messages().codec().feed(b"1;ax;")
    assert first == b"a"
    assert isinstance(error, DecodeError)
    assert error.detail.startswith("ValueError: invalid literal")


def test_a_message_that_does_not_end_is_too_long():
    codec = Messages().codec()
    assert codec.feed(b"1" * 100) == []
    (error,) = codec.feed(b"1")
    assert isinstance(error, FrameTooLong)


@pytest.mark.parametrize("end", [b"", b"123456789"])
def test_an_end_has_one_to_eight_bytes(end):
    reader = Counted()
    reader.end = end
    protocol = Messages()
    protocol.reader = lambda: reader
    with pytest.raises(ValueError, match="1 to 8 bytes"):
        protocol.codec().feed(b"1")


def test_messages_of_a_reader_reach_their_servers(start):
    with dial(running(start, Messages())) as client:
        client.sendall(b"4;text6;b:more6;c:more4;te")
        client.sendall(b"xt")
        assert receive(client, 35) == b"text;b says more;c has NoProc;text;"
        client.sendall(b"5;a:bye4;text")
        assert receive_all(client).endswith(b"a says bye;")


def test_a_word_on_the_way_stands_behind_earlier_answers(start):
    with dial(running(start, Messages())) as client:
        client.sendall(b"1;a!4;t")
        assert receive(client, 8) == b"a;go on;"
        client.sendall(b"ext")
        assert receive(client, 5) == b"text;"


def test_a_reader_that_cannot_be_made_ends_the_connection(start):
    protocol = Messages()
    protocol.reader = lambda: 1 // 0
    with dial(running(start, protocol)) as client:
        client.sendall(b"1;a")
        assert receive_all(client) == b"error: DecodeError;"


def test_lines_can_name_their_server_too(start):
    with dial(running(start, Routed())) as client:
        client.sendall(b"a hello\nb hello\nc hello\nnonsense\na bye\na hello\n")
        assert receive_all(client) == (b"a says hello;b says hello;c has NoProc;error\na says bye;")


def test_an_exchange_that_answers_nonsense_harms_nobody_else(start):
    protocol = Messages()
    protocol.decode = lambda message: Wild(to="a", input=message)
    with dial(running(start, protocol)) as client:
        client.sendall(b"1;a1;b")
        assert receive(client, 30).startswith(b"server 'a' crashed (crash id")


@pytest.mark.parametrize(
    "fields", [{"to": b"a"}, {"timeout": -1}, {"timeout": 0}, {"timeout": "1"}]
)
def test_an_exchange_with_a_wrong_field_is_not_made(fields):
    with pytest.raises((TypeError, ValueError)):
        Exchange(**fields)


def test_answers_that_need_no_server_are_given_at_once(start):
    protocol = Messages()
    protocol.decode = lambda message: To("a", message, answer=b"at once")
    with dial(running(start, protocol)) as client:
        client.sendall(b"1;a")
        assert receive(client, 15) == b"a says at once;"
