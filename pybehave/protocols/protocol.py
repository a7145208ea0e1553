"""Protocol: how a user writes a protocol of their own.

Theory. Most protocols are a known framing with another meaning inside: JSON in lines, MessagePack
behind a length. Those name a native `framing` and write decode and encode; finding the message
stays in C. A protocol whose messages no native framing finds writes `split` as well, or, where
their end cannot be told from their first bytes (HTTP's is), a `reader`.

    class JsonLines(Protocol):
        framing = Lines(frame_bytes_max=65536)

        def decode(self, message):
            return json.loads(message)

        def encode(self, output):
            return json.dumps(output)

        def encode_error(self, error):
            return json.dumps({"error": str(error)})

    Listener("tcp://127.0.0.1:7000", JsonLines(), to="kv1")

The three are called for one message each, on the loop: they do no I/O and keep no state of a
connection, for one object serves all connections.

A message that names its server itself, or whose answer depends on more than the protocol, is
decoded to an Exchange, which has encode and encode_error of its own.

Does not know: bytes on the wire, which are the framing's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pybehave.protocols.framing import Framing, require, require_size

if TYPE_CHECKING:
    from pybehave._uring.codec import Codec


class Reader:
    """Finds one message after the other in a stream that is handed to it in pieces.

    One reader serves many connections, one message at a time: after a message it is as good as
    new. What it has had of a message that never became complete goes with its connection.

    Attributes:
        end: A message of which more is to come, but not how much, can end behind these bytes only;
            1 to 8 of them. No piece goes beyond them.
        need: After a piece that did not complete the message: how many bytes are certain to belong
            to it; no piece goes beyond these. 0 is not known: up to the next `end`.
    """

    end: bytes = b"\n"
    need: int = 0

    def feed(self, piece: bytes) -> Any:
        """Take the next bytes of the message, cut wherever the network cut them.

        Returns:
            The message, for `decode`, when the piece has completed it; else None.

        Raises:
            Exception: These bytes are no message. The client gets the error, and the connection is
                closed, for where the next message begins is not known.
        """
        raise NotImplementedError("a Reader defines feed()")

    def interim(self) -> bytes | None:
        """Return bytes to send before the message is complete, once; asked when there is no more.

        They stand behind the answers to earlier messages.
        """
        return None


class Protocol:
    """Base class of protocols written in Python.

    Attributes:
        framing: One of Raw, Fixed, Lines, LengthPrefixed, Resp; None when `split` or `reader` is
            written.
        frame_bytes_max: The longest message, for these two only; a native framing has its own.
    """

    framing: Framing | None = None
    frame_bytes_max: int = 1 << 20

    def split(self, buffer: bytes) -> int:
        """Say where the first message in the buffer ends. Only without a native framing.

        It must look at nothing but the buffer, which begins with the first byte of a message and
        ends wherever the network cut it. It is called again when more has come; a protocol that
        knows its need from a header says so and is not called for every piece.

        Returns:
            The size of the first message in bytes; 0 when it is not complete; -n when it is not
            complete and at least n bytes in all are needed.

        Raises:
            Exception: These bytes cannot begin a message. The client gets the error, and the
                connection is closed, for where the next message begins is not known.
        """
        raise NotImplementedError("a Protocol without a native framing defines split()")

    def reader(self) -> Reader:
        """Make a reader, instead of `split`: of messages whose end is known only on the way there.

        `split` is shown a message from its beginning each time; a reader is shown every byte once.
        """
        raise NotImplementedError("a Protocol without a native framing defines reader()")

    def decode(self, message: Any) -> Any:
        """Turn what the framing found into the step's input.

        Args:
            message: bytes; str from Lines with an encoding; a list of bytes from Resp; what the
                reader has made.

        Returns:
            The input; None means that there is none in it (a comment, a keep-alive). An Exchange
            names the server that gets its `input`, and encodes the answer.

        Raises:
            Exception: Undecodable. The client gets the error at once, the step never sees it. A
                DecodeError is passed on as it is, any other exception becomes one.
        """
        return message

    def encode(self, output: Any) -> Any:
        """Turn the step's output into what the framing sends: for most framings, bytes.

        Raises:
            Exception: It has no form in this protocol. That is an EncodeError of the server.
        """
        return output

    def encode_error(self, error: Exception) -> Any:
        """Turn a failure (DecodeError, Crashed, Overloaded, NoProc ...) into an answer.

        Returns:
            What the framing sends; None for the framing's own way to say it.
        """
        return None

    def config(self) -> dict[str, Any]:
        """Return the keyword arguments of `Codec` for this protocol."""
        if self.framing is None:
            has_reader = type(self).reader is not Protocol.reader
            is_able = has_reader or type(self).split is not Protocol.split
            require(is_able, self, "framing", None, "a native framing, or define split()")
            require_size(self, "frame_bytes_max", self.frame_bytes_max)
            return {
                "framing": "reader" if has_reader else "custom",
                "frame_bytes_max": self.frame_bytes_max,
                "hooks": self,
            }
        is_native = isinstance(self.framing, Framing)
        require(is_native, self, "framing", self.framing, "Raw, Fixed, Lines, LengthPrefixed, Resp")
        return {**self.framing.config(), "hooks": self}

    def codec(self) -> Codec:
        """Make a codec. One serves all connections of a listener."""
        from pybehave._uring.codec import Codec

        return Codec(**self.config())
