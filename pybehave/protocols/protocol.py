"""Protocol: how a user writes a protocol of their own.

Theory. Most protocols are a known framing with another meaning inside: JSON in lines, MessagePack
behind a length. Those name a native `framing` and write decode and encode; finding the message
stays in C. A protocol whose messages no native framing finds writes `split` as well.

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

Does not know: bytes on the wire, which are the framing's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pybehave.protocols.framing import Framing, require, require_size

if TYPE_CHECKING:
    from pybehave._uring.codec import Codec


class Protocol:
    """Base class of protocols written in Python.

    Attributes:
        framing: One of Raw, Fixed, Lines, LengthPrefixed, Resp; None when `split` is written.
        frame_bytes_max: The longest message, for `split` only; a native framing has its own.
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

    def decode(self, message: Any) -> Any:
        """Turn what the framing found into the step's input.

        Args:
            message: bytes; str from Lines with an encoding; a list of bytes from Resp.

        Returns:
            The input; None means that there is none in it (a comment, a keep-alive).

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
            has_split = type(self).split is not Protocol.split
            require(has_split, self, "framing", None, "a native framing, or define split()")
            require_size(self, "frame_bytes_max", self.frame_bytes_max)
            return {
                "framing": "custom",
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
