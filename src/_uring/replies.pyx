# cython: language_level=3, binding=True
"""The way of a reply: encoded, kept in order, written to its connection's output.

A reply leaves as soon as it is made, unless an earlier request of the same connection has still
to be answered. Then the connection holds a queue of tickets, one for each request in order; a
ticket is filled when its reply comes, and the filled ones at the head leave. A connection that was
always answered at once never has such a queue.

Invariants
  (R1) Replies of a connection leave in the order of its requests.
  (R2) A reply computed from what is not yet durable waits in the connection's output (`barrier`,
       conn_hold), and with it everything behind it.
  (R3) The handle of a connection is made when first asked for; the slot keeps one reference to it
       until the slot is given back.
  (R4) Whether a reply is wanted (CLIENT REPLY) is settled when its request is taken: one that was
       asked for before OFF is sent, also when it is made after it, and the other way round.
  (R5) A reply moves the contract of its connection when it leaves, not when it is made. Those that
       one step makes are judged one behind the other, in the order in which they are to leave.

Does not know: servers, mailboxes, turns.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .codec cimport (
    AGREED_OFF, AGREED_SKIP, AGREED_VERSION, Codec, frame_view, outq, outq_begin, outq_bytes,
    outq_commit, outq_reserve, outq_sent,
)
from .handles cimport FROM_CONNECTION, Caller, Connection, Ticket
from .leaves cimport (
    CONN_HOLD, END_ASKED, END_PROTOCOL, PAUSE_REPLIES, conn, conn_finish, conn_give_back, conn_hold,
    conn_output, conn_released_hold, conn_resume, conn_takes_output, conns_at, conns_find,
    conns_slots, token_make,
)
from .servers cimport Port, Present

import collections

from pybehave.errors import DecodeError, EncodeError

cdef extern from "sockets.h" nogil:
    int sockets_peer(int fd, char *out, size_t out_bytes)

cdef uint64_t NS_PER_S = 1_000_000_000
cdef object deque = collections.deque
cdef Py_ssize_t TICKET_BYTES = 120 # a ticket, its place in the queue, the bytes object's head


# Not final: Alarms and the Dispatcher are the rest of it.
cdef class Replies(Present):
    """Answers to connections, in order. Base of the Dispatcher, which adds the servers."""

    def __cinit__(self):
        memset(&self.scratch, 0, sizeof(outq))
        self.facts.owner = <void *>self

    # ---- handles -----------------------------------------------------------------------------

    cdef Connection connection_of(self, conn *c):
        """The handle of a connection, made when first asked for and kept by the connection."""
        cdef Connection handle
        cdef char[128] name
        cdef int size
        if c.hold != NULL:
            return <Connection>c.hold
        handle = Connection.__new__(Connection)
        handle.slot = c.slot
        handle.generation = c.generation
        handle.is_open = True
        handle.listener = (<Port>c.port).name
        size = sockets_peer(c.fd, name, sizeof(name))
        handle.peer = name[:size].decode("ascii", "replace") if size > 0 else ""
        Py_INCREF(handle) # the reference in the slot; connection_ended gives it back
        c.hold = <void *>handle
        return handle

    def clients(self, Codec codec, ids, Py_ssize_t count_max) -> list:
        """Facts about the connections that use a codec; those with `ids`, or all (None)."""
        cdef uint32_t slot
        cdef conn *c
        cdef char[128] name
        cdef int size
        cdef uint64_t now_ms = self.conns.now_ms
        cdef list found = []
        for slot in range(conns_slots(self.conns)):
            c = conns_at(self.conns, slot)
            if not conn_takes_output(c) or (<Port>c.port).codec is not codec \
                    or (ids is not None and c.id not in ids):
                continue
            if len(found) == count_max:
                break
            size = sockets_peer(c.fd, name, sizeof(name))
            found.append({
                "id": c.id, "fd": c.fd, "version": c.protocol & AGREED_VERSION or 2,
                "addr": name[:size].decode("ascii", "replace") if size > 0 else "",
                "age_s": (now_ms - c.opened_ms) // 1000, "idle_s": (now_ms - c.active_ms) // 1000,
                "input_bytes": c.carry_bytes, "output_bytes": outq_bytes(&c.out)})
        return found

    def live_connection(self, uint32_t slot, uint32_t generation):
        """The handle of a connection that is still there, or None."""
        cdef conn *c = conns_find(self.conns, token_make(0, generation, slot))
        return None if c == NULL else self.connection_of(c)

    cdef int connection_ended(self, conn *c) except -1:
        """The slot goes: the handle stays and says so; replies still owed have nowhere to go."""
        cdef Connection handle
        if c.hold == NULL:
            return 0
        handle = <Connection>c.hold
        c.hold = NULL
        handle.is_open = False
        handle.tickets = handle.partial = None
        Py_DECREF(handle)
        return 0

    cdef Caller caller_of(self, Server server, conn *c):
        cdef Caller caller = Caller.__new__(Caller)
        caller.kind = FROM_CONNECTION
        caller.server = server.name
        caller.owner = server
        caller.connection = self.connection_of(c)
        caller.is_unheard = c.protocol > AGREED_VERSION # (R4)
        caller.port = <Port>c.port
        caller.contract = (<Port>c.port).contract
        caller.spoken = c.spoken
        return caller

    # ---- answers -----------------------------------------------------------------------------

    cdef int _native(self, conn *c, Codec codec, const frame_view *view) except -1:
        """Let the codec answer what is the protocol's own (codec.pxd); 0 = it is for a server."""
        cdef int answered
        self.facts.id = c.id
        if not (c.flags & CONN_HOLD):
            answered = codec.native(view, &self.facts, self.pool, &c.out, &c.protocol)
            if answered == 2:
                conn_output(self.conns, c)
                conn_finish(self.conns, c, END_ASKED)
            return answered
        answered = codec.native(view, &self.facts, self.pool, &self.scratch, &c.protocol)
        if answered:
            self._append(c, self._scratch_bytes())
        if answered == 2:
            conn_finish(self.conns, c, END_ASKED)
        return answered

    cdef int unreadable(self, conn *c, Port port, object error) except -1:
        """The stream cannot be framed any further: answer what came before, say why, close."""
        self.stats.decode_errors += 1
        self.barrier = 0
        if not c.protocol & (AGREED_OFF | AGREED_SKIP):
            self._append(c, self._encoded_error(port.codec, error, c.protocol))
        conn_finish(self.conns, c, END_PROTOCOL)
        return 0

    cdef int answer_error(self, conn *c, Port port, object error) except -1:
        """Answer a message that nobody gets; the next one may come."""
        conn_give_back(self.conns, c)
        if c.protocol <= AGREED_VERSION: # (R4)
            self._append(c, self._encoded_error(port.codec, error, c.protocol))
        return 0

    cdef int _hold(self, Caller caller) except -1:
        """Keep the caller's place among the replies of its connection (D2)."""
        cdef conn *c
        cdef Connection connection = caller.connection
        if caller.ticket is not None:
            return 0
        c = conns_find(self.conns, connection.token())
        if c == NULL:
            return 0
        if connection.tickets is None:
            connection.tickets = deque()
        caller.ticket = Ticket.__new__(Ticket)
        connection.tickets.append(caller.ticket)
        connection.waiting_bytes += TICKET_BYTES
        c.flags |= CONN_HOLD
        return 0

    cdef int _settle_connection(self, Caller caller, bytes answer) except -1:
        """The reply of a caller that is a connection: into its ticket, or out at once."""
        cdef conn *c = conns_find(self.conns, caller.connection.token())
        if c == NULL:
            return 0
        if answer is not None and caller.move is not None:
            self._move(caller)
        if caller.is_unheard:
            answer = None
        if caller.ticket is None:
            return 0 if answer is None else self._append(c, answer)
        caller.ticket.answer = answer
        if answer is not None:
            caller.connection.waiting_bytes += PyBytes_GET_SIZE(answer)
        caller.ticket.batch = self.barrier
        caller.ticket.is_ready = True
        return self._pump(c)

    cdef int _append(self, conn *c, bytes answer) except -1:
        """Bytes for the connection, behind the replies it still waits for."""
        cdef Ticket ticket
        if not conn_takes_output(c):
            return 0
        if c.flags & CONN_HOLD:
            ticket = Ticket.__new__(Ticket)
            ticket.answer = answer
            ticket.batch = self.barrier
            ticket.is_ready = True
            (<Connection>c.hold).tickets.append(ticket)
            (<Connection>c.hold).waiting_bytes += TICKET_BYTES + (
                PyBytes_GET_SIZE(answer) if answer is not None else 0)
            return 0
        return self._write(c, answer)

    cdef int _pump(self, conn *c) except -1:
        """Release the replies that are next in order."""
        cdef Connection connection = <Connection>c.hold
        cdef Ticket ticket
        cdef uint64_t barrier = self.barrier
        while connection.tickets and (<Ticket>connection.tickets[0]).is_ready:
            ticket = connection.tickets.popleft()
            connection.waiting_bytes -= TICKET_BYTES + (
                PyBytes_GET_SIZE(ticket.answer) if ticket.answer is not None else 0)
            self.barrier = ticket.batch
            self._write(c, ticket.answer)
        self.barrier = barrier
        if connection.waiting_bytes <= <Py_ssize_t>c.limits.low_water_bytes:
            conn_resume(self.conns, c, PAUSE_REPLIES)
        if not connection.tickets:
            conn_released_hold(self.conns, c)
        return 0

    cdef int _write(self, conn *c, bytes answer) except -1:
        cdef uint8_t *room
        cdef Py_ssize_t size
        if answer is None or not conn_takes_output(c):
            return 0
        size = PyBytes_GET_SIZE(answer)
        if size == 0:
            return 0
        if self.barrier > self.conns.durable_batch:
            conn_hold(self.conns, c, self.barrier) # (R2)
        room = outq_reserve(self.pool, &c.out, size)
        if room == NULL:
            raise MemoryError
        memcpy(room, PyBytes_AS_STRING(answer), size)
        outq_commit(&c.out, size)
        conn_output(self.conns, c)
        return 0

    cdef bytes _scratch_bytes(self):
        cdef const uint8_t *data = NULL
        cdef size_t size = 0
        if not outq_begin(self.pool, &self.scratch, <size_t>-1, &data, &size):
            return b""
        answer = PyBytes_FromStringAndSize(<char *>data, size)
        outq_sent(self.pool, &self.scratch, size, &data, &size)
        return answer

    cdef bytes _encoded(self, Codec codec, object output, uint32_t flags):
        codec.encode(output, self.pool, &self.scratch, flags)
        return self._scratch_bytes()

    cdef bytes _encoded_error(self, Codec codec, object error, uint32_t flags):
        codec.encode_error(error, self.pool, &self.scratch, flags)
        return self._scratch_bytes()

    cdef int _replied(self, Caller caller, Port port, object output, object error,
                      dict ahead) except -1:
        """Note where a reply leads the contract of its connection, once it leaves (R5); raises
        EncodeError for one that may not come. A question of before this contract, or of before this
        version of it, is none of its conversation (contract.py, K3)."""
        cdef Connection connection = caller.connection
        place = connection.place
        if ahead is not None:
            if caller in ahead: # the second reply of one step: it will be ignored
                return 0
            place = ahead.get(connection, place)
        caller.move = None
        if caller.contract is None or caller.contract.version != port.contract.version:
            return 0
        after = port.contract._after_reply(place, output, error)
        caller.move = (place, after, output)
        if ahead is not None:
            ahead[caller], ahead[connection] = True, after
        return 0

    cdef int _move(self, Caller caller) except -1:
        """The reply leaves. Since it was made the step may have ended others of its connection
        (Stop): then it leads on from there, and nowhere if it could not have come there."""
        cdef Connection connection = caller.connection
        before, after, output = caller.move
        caller.move = None
        if connection.place is not before:
            try:
                contract = (<Port>caller.port).contract
                after = contract._after_reply(connection.place, output, None)
            except EncodeError:
                return 0
        connection.place = after
        return 0

    cdef bytes _encoded_for(self, Caller caller, conn *c, object output, object error, dict ahead):
        """The answer to a caller that is a connection: as its request wants it, or its protocol.
        `ahead`: where replies that leave before it will have led contracts; None = there are none.
        """
        cdef Port port = <Port>c.port
        cdef Codec codec = port.codec
        if port.contract is not None:
            self._replied(caller, port, output, error, ahead)
        if error is None and caller.spoken != port.version:
            if not port.edge.understands(caller.spoken): # its release was taken back
                error = DecodeError(f"version {caller.spoken} is not spoken here any more")
        if error is None and caller.spoken != port.version:
            lower = port.edge.down_all if caller.is_together else port.edge.down
            output = lower(caller.spoken, output)
        if caller.exchange is not None:
            caller.exchange.unix_s = <int64_t>(self.unix_ns() // NS_PER_S)
            return caller.exchange.bytes_of(output, error)
        if error is not None:
            return self._encoded_error(codec, error, c.protocol)
        return self._encoded(codec, output, c.protocol)
