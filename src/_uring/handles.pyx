# cython: language_level=3, binding=True
"""What Python may hold of a connection or of a caller.

A handle names a thing by slot and generation and owns nothing: when the thing has gone, the handle
stays and says so. Handles are made when Python first needs one; a connection that has said nothing
has no Python object.
"""

cimport cython

from .leaves cimport OP_NONE, token_make


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class Ticket:
    """A place in the order of a connection's replies, kept for one that comes later."""


@cython.final
@cython.auto_pickle(False)
cdef class Connection:
    """A connection, by name. Use it in `Send(connection, ...)` and `Close(connection)`.

    Attributes:
        is_open: False once the connection has ended.
        peer: The other side's address, or "" where it has none (Unix sockets).
        listener: Name of the listener (or URL of the connect) it belongs to.
    """

    def __init__(self):
        raise TypeError("connections are made by the loop")

    cdef uint64_t token(self):
        if self.session: # of an earlier process: its slot and generation name somebody else here
            return token_make(OP_NONE, 0, self.slot)
        return token_make(OP_NONE, self.generation, self.slot)

    @property
    def id(self) -> str:
        """Unique for the life of the loop: slot and generation."""
        return f"{self.slot}.{self.generation}"

    def __repr__(self) -> str:
        state = "open" if self.is_open else "ended"
        return f"<Connection {self.id} {self.listener} peer={self.peer!r} {state}>"


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class Caller:
    """Whoever waits for a reply: a connection, a thread, an asyncio task or another server.

    Keep it in the state and answer with the action `Reply(caller, value)`, from any server and at
    any later input. A second reply is ignored, and so is one to a caller that has gone
    (OTP, gen_server:reply/2).
    """

    def __init__(self):
        raise TypeError("callers are made by the loop")

    @property
    def origin(self) -> str:
        """Who it is, for people: `connection 3.1 of tcp://... from 10.0.0.1:4711`, ..."""
        if self.kind == FROM_CONNECTION:
            peer = f" from {self.connection.peer}" if self.connection.peer else ""
            return f"connection {self.connection.id} of {self.connection.listener}{peer}"
        if self.kind == FROM_SERVER:
            return f"server {self.sender.name!r}"
        return "a thread or task" if self.kind == FROM_WAITER else "nobody"

    def __repr__(self) -> str:
        state = "answered" if self.is_done else "waiting"
        return f"<Caller of {self.server!r} {state}>"
