# cython: language_level=3, binding=True
"""One request and its answer, where both need more than the protocol and the server's name.

Theory. Most protocols are the same for every message: the listener names the server, the codec
writes the answer. A request of HTTP names its server by its path, and the form of the answer
depends on the request: its version, its method, what else its connection is for. What has to be
known of a request when it is answered, maybe much later, stands in its Exchange.

Does not know: connections, servers, when an answer leaves.
"""

from libc.stdint cimport int64_t

from pybehave.errors import (
    Crashed, DecodeError, EncodeError, FrameTooLong, NoProc, Overloaded, PybehaveError, Stopped,
    Timeout,
)


# Not final: protocols derive theirs from it, in Python.
cdef class Exchange:
    """What a Protocol's `decode` returns for a message that names its server itself.

    Args:
        to: Name of the server; None is the one that the listener names.
        input: What its step gets.
        timeout: Seconds it has for its reply, after which the answer is a Timeout; None for ever.
        answer: An output that answers it at once; no server gets it.
        failure: As what it is answered at once; no server gets it.
        is_last: The connection ends behind its answer; what follows in the stream is dropped.

    Attributes:
        unix_s: Whole seconds of Unix time when it is answered; set before `encode`.

    Raises:
        TypeError, ValueError: `to` is no name, or `timeout` is neither seconds > 0 nor None.
    """

    def __init__(self, *, to=None, input=None, timeout=None, answer=None, failure=None,
                 is_last=False):
        if timeout is not None and not 0 < timeout < float("inf"):
            raise ValueError(f"Exchange: timeout={timeout!r} is not allowed; use seconds > 0")
        self.to = to
        self.input = input
        self.timeout = timeout
        self.answer = answer
        self.failure = failure
        self.is_last = is_last

    def encode(self, output):
        """The output as the bytes of the answer.

        Raises:
            Exception: It has no form in this protocol. That is an EncodeError of the server.
        """
        raise NotImplementedError("an Exchange for a server defines encode()")

    def encode_error(self, error):
        """A failure (Crashed, Overloaded, NoProc ...) as the bytes of the answer; never raises."""
        raise NotImplementedError("an Exchange for a server defines encode_error()")

    cdef bytes at_once(self, int64_t unix_s):
        """The answer to what no server gets; None = one does."""
        self.unix_s = unix_s
        if self.failure is not None:
            return self.bytes_of(None, self.failure)
        if self.answer is None:
            return None
        try:
            return self.bytes_of(self.answer, None)
        except EncodeError as error:
            self.failure = error
            return self.bytes_of(None, error)

    cdef bytes bytes_of(self, object output, object error):
        """The answer to an output, or to an error. Raises EncodeError for an output."""
        try:
            if error is not None:
                return self.encode_error(error)
            return self.encode(output)
        except (EncodeError, MemoryError):
            if error is None:
                raise
        except Exception as failure:
            if error is None:
                raise EncodeError(output, f"{type(failure).__name__}: {failure}") from failure
        return failure_words(error)[1].encode("utf-8", "backslashreplace") + b"\n"


def failure_words(exc) -> tuple:
    """A word and a sentence: what a client should know of a failure, and no more than that."""
    if isinstance(exc, FrameTooLong):
        return "ERR", f"Protocol error: message longer than {exc.limit} bytes"
    if isinstance(exc, DecodeError):
        return "ERR", f"Protocol error: {exc.detail}"
    if isinstance(exc, Crashed):
        return "CRASHED", f"server {exc.server!r} crashed (crash id {exc.crash_id})"
    if isinstance(exc, Overloaded):
        return "BUSY", f"server {exc.server!r} has {exc.capacity} requests waiting; try again later"
    if isinstance(exc, NoProc):
        return "NOPROC", f"no server is called {exc.server!r}"
    if isinstance(exc, Timeout):
        return "TIMEOUT", f"server {exc.server!r} did not answer within {exc.seconds:g} s"
    if isinstance(exc, Stopped):
        return "STOPPED", f"server {exc.server!r} stopped before it answered"
    return "ERR", str(exc) if isinstance(exc, PybehaveError) else type(exc).__name__
