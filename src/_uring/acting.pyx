# cython: language_level=3, binding=True
"""Actions: what the runtime does for a step that has returned them, in their order.

Most are carried out at once, for they change nothing outside but what waits for the barrier anyway.
What needs more than the core (a thread, an outbound connection) goes to `on_action`, and only when
the input that caused it is durable.

Does not know: when a step is done and its state stands (dispatch.pyx), who carries out the rest
(pybehave/runtime/host.py).
"""

from libc.stdint cimport uint32_t, uint64_t

from .codec cimport AGREED_VERSION, outq_bytes
from .handles cimport Caller, Connection
from .leaves cimport (
    ACTIVE_ALWAYS, END_ASKED, END_SLOW_CONSUMER, conn, conn_abort, conn_activate, conn_finish,
    conn_hold, conn_takes_input, conn_takes_output, conns_at, conns_find, conns_slots,
)
from .servers cimport INPUT_CAST, INPUT_INFO, Address, Port, Server
from .system cimport System

from pybehave import actions as _actions
from pybehave import jobs as _jobs
from pybehave.errors import show
from pybehave.flow import messages_of

NOT_STOPPED = object() # no reason to end can be this

cdef object _NOT_STOPPED = NOT_STOPPED
cdef object Stop = _actions.Stop
cdef frozenset WATCHING = frozenset((
    _actions.Monitor, _actions.Demonitor, _actions.Link, _actions.Unlink))


# Not final: the Dispatcher is the rest of it.
cdef class Acting(System):
    """Actions. Base of the Dispatcher."""

    cdef object _carry_out(self, Server server, tuple actions, list closes):
        """Carry out the actions in order. Returns the reason of the first Stop, or NOT_STOPPED.

        Connections to close are only collected: the reply of this turn goes out before.
        """
        cdef object reason = _NOT_STOPPED
        cdef dict encoded = {}
        for action in actions:
            kind = type(action)
            if server.number:
                server.note(action)
            if kind is _actions.Send:
                if action.connection is None:
                    raise TypeError("Send needs a connection, not None")
                self._send(action.connection, action.data, encoded)
            elif kind is _actions.Reply:
                if action.to is not None:
                    self._reply(self._caller_to(action.to), action.value)
            elif kind is _actions.Cast:
                self._send_on(server, action.server, INPUT_CAST, action.message)
            elif kind is _actions.Info:
                self._send_on(server, action.server, INPUT_INFO, action.message)
            elif kind is _actions.Call:
                self._call_action(server, action)
            elif kind is _actions.StartTimer:
                self._start_timer(server, action.name, action.seconds, action.message)
            elif kind is _actions.CancelTimer:
                self._cancel_timer(server, action.name)
            elif kind is _actions.IdleTimeout:
                self._cancel_idle(server)
                server.extra().idle_timer = self._alarm(action.seconds, server, None, None)
                server.extras.idle_s = action.seconds
            elif kind is _actions.Continue:
                if server.extra().continues is None:
                    server.extras.continues = []
                server.extras.continues.append(action.term)
            elif kind is _actions.Close:
                if action.connection is not None: # what came from no connection has none to close
                    closes.append(<Connection?>action.connection)
            elif kind is _actions.Active:
                self._activate(action.connection, action.mode)
            elif kind is _actions.Hibernate:
                self.drowsy = server # when the input is over
            elif kind is Stop:
                reason = action.reason if reason is _NOT_STOPPED else reason
            elif kind in WATCHING: # nobody outside sees it, so it need not be durable
                self.on_action(server, action, 0, 0)
            else:
                self._hand_on(server, action)
        return reason

    def repeat(self, Server server, action) -> None:
        """Carry out a Call of the incarnation before once more."""
        self.barrier = self.barrier_for(server.kind.level, server.barrier)
        self._call_action(server, action)

    cdef int _hand_on(self, Server server, object action) except -1:
        """What needs more than the core; of a journaled server, when the input is durable."""
        cdef tuple origin = (0, 0)
        if type(action) is _actions.Run and server.latest_lsn():
            origin = self.owe_job(server, action)
        elif type(action) is _actions.Cancel and server.number:
            _jobs.cancel(self.outbox, server.name, action.tag)
        if self.barrier > self.conns.durable_batch:
            self.commit.hold(self.barrier, self.on_action, (server, action, *origin))
        else:
            self.on_action(server, action, *origin)
        return 0

    cdef Caller _caller_to(self, object to):
        if type(to) is not Caller:
            raise TypeError(f"Reply: to is a caller, not {show(to)}")
        return to

    cdef int _send(self, Connection connection, object data, dict encoded) except -1:
        """Encoded once for all connections that share codec, its version, and their own."""
        cdef conn *c = conns_find(self.conns, connection.token())
        cdef Port port
        if c == NULL or not conn_takes_output(c):
            return 0
        port = <Port>c.port
        key = (id(data), id(port.codec), c.protocol & AGREED_VERSION, c.spoken)
        answer = encoded.get(key)
        if answer is None:
            made = data if c.spoken == port.version else port.edge.down(c.spoken, data)
            answer = encoded[key] = self._encoded(port.codec, made, c.protocol)
        if outq_bytes(&c.out) + connection.waiting_bytes > c.limits.output_bytes_max:
            conn_abort(self.conns, c, END_SLOW_CONSUMER, 0)
            return 0
        return self._append(c, answer)

    cdef int _close(self, Connection connection) except -1:
        cdef conn *c = conns_find(self.conns, connection.token())
        if c != NULL:
            if self.barrier > self.conns.durable_batch and conn_takes_output(c):
                conn_hold(self.conns, c, self.barrier)
            conn_finish(self.conns, c, END_ASKED) # waits for replies that are still owed
        return 0

    cdef int _activate(self, Connection connection, object mode) except -1:
        """Hand on more messages of a connection, or no more for now (C8)."""
        cdef conn *c = conns_find(self.conns, connection.token())
        cdef uint32_t count
        if c == NULL:
            return 0
        count = messages_of(mode)
        if type(mode) is int and c.active_left != ACTIVE_ALWAYS: # a number is added, as OTP does
            count = min(<uint64_t>count + c.active_left, <uint64_t>ACTIVE_ALWAYS - 1)
        conn_activate(self.conns, c, count)
        return 0

    cdef int reactivate(self, Address address) except -1:
        """The incarnation has ended. The next knows nothing of connections that were to be asked
        for more, so each hands on what a new one does, and one message at least."""
        cdef uint32_t slot
        cdef conn *c
        for slot in range(conns_slots(self.conns)):
            c = conns_at(self.conns, slot)
            if conn_takes_input(c) and (<Port>c.port).address is address \
                    and c.active_left < max(c.limits.active, 1):
                conn_activate(self.conns, c, max(c.limits.active, 1))
        return 0
