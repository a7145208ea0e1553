# cython: language_level=3, binding=True
"""Requests of connections that name their server themselves: asked, timed, answered in order.

A protocol in Python may make an Exchange of a message. Then the server is looked up by its name, as
for a call from a thread, and the Exchange encodes the answer. In everything else it is a request
like others: it waits in its server's mailbox under that one's policy, and its answer has its place
among those of the connection (D2), and leaves when it is durable (R2).

Such a request is patient: if its server is just being restarted, it waits for that, within its
time. Over a protocol that says "there is no such thing" and "try again" in different ways, a
restart of a millisecond would look like the former.

Here is also what keeps a protocol's reader (reading.pyx) with a connection while a message is
incomplete; a connection between two messages has none. And here is asked what a listener wants to
know of each message before a server gets it: the version that it declares, and whether the contract
(behaviours/contract.py) allows it. A listener that wants to know neither is not slowed down.

Does not know: the turn (dispatch.pyx), what answers look like.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .codec cimport (
    FRAME_ERROR_CUSTOM, FRAME_MALFORMED, FRAME_MORE, FRAME_READER, FRAME_READY, Codec, frame_view,
)
from .exchange cimport Exchange
from .gate cimport Gate
from .handles cimport FROM_CONNECTION, Caller, Connection
from .leaves cimport (
    END_ASKED, END_PROTOCOL, conn, conn_finish, conn_output, conn_takes_input,
)
from .reading cimport Partial
from .servers cimport INPUT_CALL, OVERFLOW_BLOCK, Address, Port, Server

from pybehave.errors import ContractBroken, DecodeError, NoProc
from pybehave.together import Together as _Together

cdef uint64_t NS_PER_S = 1_000_000_000
cdef type Together = _Together


# Not final: the Dispatcher is the rest of it.
cdef class Exchanging(Gate):
    """Exchanges and readers. Base of the Dispatcher."""

    cdef bint must_wait(self, Port port):
        """Whether the messages of this port should wait until the disk has caught up."""
        cdef Server server = port.address.server if port.address is not None else port.connector
        if port.codec.frame.kind != FRAME_READER and (server is None or not server.number):
            return False # a reader's message may name any server
        return self.commit.must_wait()

    cdef int read(self, conn *c, Codec codec, const uint8_t *data, size_t size,
                  frame_view *view) except -3:
        """Look for one message by the protocol's reader; results as frame_next has them."""
        cdef Connection connection = None if c.hold == NULL else <Connection>c.hold
        cdef Partial partial = None if connection is None else connection.partial
        cdef int status
        if partial is None:
            partial, codec.spare = codec.spare, None
        try:
            if partial is None:
                partial = Partial(codec.hooks.reader())
        except Exception as error: # the user's
            codec.failure = error
            view.error = FRAME_ERROR_CUSTOM
            return FRAME_MALFORMED
        status = codec.read(data, size, partial, view)
        if status == FRAME_READY:
            codec.spare = partial
        if status != FRAME_MORE:
            if connection is not None:
                connection.partial = None
            return status
        self.connection_of(c).partial = partial
        if partial.interim is not None:
            self.barrier = 0
            self._append(c, partial.interim)
        return status

    cdef int exchange(self, conn *c, Port port, Exchange exchange) except -1:
        """One request; whoever called marks the connection's output afterwards."""
        cdef bytes answer = exchange.at_once(<int64_t>(self.unix_ns() // NS_PER_S))
        cdef str name = port.address.name if exchange.to is None else exchange.to
        cdef bint is_heard
        if answer is None and port.is_asking:
            is_heard = port.contract is None or self._is_there(name)
            exchange.failure = self.flaw_of(c, port, exchange.input, is_heard)
            exchange.is_last = exchange.is_last or self.is_fatal(port, exchange.failure)
            if not is_heard and exchange.failure is None:
                exchange.failure = NoProc(name)
            answer = exchange.at_once(exchange.unix_s)
        if answer is not None:
            self._count(exchange.failure)
            self._append(c, answer)
        else:
            self._ask(c, name, exchange)
        if exchange.is_last: # what is still owed is waited for: it holds the connection
            conn_output(self.conns, c)
            was_understood = exchange.failure is None or isinstance(exchange.failure, NoProc)
            conn_finish(self.conns, c, END_ASKED if was_understood else END_PROTOCOL)
        return 0

    def _is_there(self, str name) -> bool:
        """Whether somebody answers to a name, or a patient caller may wait for it."""
        if self.whereis(name) is not None:
            return True
        if self.on_missing is not None and self.on_missing(name, True): # a family's: not woken yet
            return True
        return self._is_to_come(name)

    cdef int _ask(self, conn *c, str name, Exchange exchange) except -1:
        cdef Server server = self.answering(name)
        cdef Caller caller = Caller.__new__(Caller)
        caller.kind = FROM_CONNECTION
        caller.server = name
        caller.owner = server
        caller.connection = self.connection_of(c)
        caller.exchange = exchange
        caller.is_patient = True
        caller.port = <Port>c.port
        caller.contract = (<Port>c.port).contract
        caller.spoken = c.spoken
        if server is not None:
            self._ask_running(server, caller)
        elif self._kept_for_next(name, INPUT_CALL, exchange.input, caller):
            self._hold(caller)
        else:
            return self._resolve(caller, None, NoProc(name))
        if exchange.timeout is not None and not caller.is_done:
            caller.timer = self._alarm(exchange.timeout, caller, exchange.timeout, None)
        if server is not None and server.number and conn_takes_input(c) \
                and self.commit.is_saturated():
            self.commit.pause(c)
        return 0

    cdef int _ask_running(self, Server server, Caller caller) except -1:
        """A turn at once if nothing stands before it; else its mailbox (as `_post_connection`)."""
        if server.kind.overflow == OVERFLOW_BLOCK and not server.mailbox \
                and not server.is_suspended() and not server.has_continues():
            return self._turn(server, INPUT_CALL, caller.exchange.input, caller)
        self._hold(caller)
        return self._post(server, INPUT_CALL, caller.exchange.input, caller)

    # ---- what is looked at before a server gets it ---------------------------------------------

    cdef object flaw_of(self, conn *c, Port port, object message, bint is_heard):
        """The error of a message that no server may get; else None. A contract is not asked about
        what nobody hears (`is_heard`)."""
        flaw = None
        if port.edge.declares is not None:
            flaw = self.misdeclared(c, port, message)
        if flaw is None and port.contract is not None and is_heard:
            flaw = self.breach(c, port, message)
        return flaw

    cdef int refuse(self, conn *c, Port port, object flaw) except -1:
        """Answer a message that no server may get, and end the connection if it has to."""
        self._count(flaw)
        self.answer_error(c, port, flaw)
        if self.is_fatal(port, flaw):
            conn_output(self.conns, c)
            conn_finish(self.conns, c, END_PROTOCOL)
        return 0

    cdef int _count(self, object flaw) except -1:
        if isinstance(flaw, ContractBroken):
            self.stats.contracts_broken += 1
        elif isinstance(flaw, DecodeError):
            self.stats.decode_errors += 1
        return 0

    cdef bint is_fatal(self, Port port, object flaw):
        return isinstance(flaw, ContractBroken) and (flaw.is_last or port.contract.closes)

    cdef object breach(self, conn *c, Port port, object message):
        """Take a message as one of the conversation, in its server's version; the error when the
        contract does not allow it, else None."""
        cdef Connection connection = self.connection_of(c)
        try:
            if c.spoken != port.version:
                message = port.edge.up(c.spoken, message)
            connection.place = port.contract._after_message(connection.place, message)
        except DecodeError as error:
            return error
        return None

    cdef object misdeclared(self, conn *c, Port port, object message):
        """Take note of the version that a message declares for its connection; the error when that
        version is not understood, else None."""
        cdef uint32_t version
        try:
            version = port.edge.declared(message)
        except DecodeError as error:
            return error
        if version:
            c.spoken = version
        return None

    cdef object converted(self, Caller caller, object message):
        """A client's input in its server's version (behaviours/speaks.py). It is made when the
        input is taken, not when it came: the release may have changed while it waited."""
        caller.is_together = type(message) is Together
        try:
            return (<Port>caller.port).edge.up(caller.spoken, message)
        except DecodeError:
            self.stats.decode_errors += 1
            self.client = None # what was to be named is not begun
            raise

    cdef int _turn(self, Server server, int kind, object message, Caller caller) except -1:
        raise NotImplementedError # the Dispatcher's
