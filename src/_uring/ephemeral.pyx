# cython: language_level=3, binding=True
"""Inputs that leave no trace: a class names their types as `ephemeral`, and no journal has them.

Such an input is stepped like any other, and its reply waits like any other for what it shows (the
reply rule concerns states, not inputs). It is not recorded, so a replay goes by as if it had not
been; and so it may change nothing that a replay would have to come to: not the state, no timer, no
question to others, no number drawn from the incarnation's `random`. Where that is not kept it is a
crash of the step (EphemeralTrace), with what the server's policy says of crashes.

Whether the state has changed is seen from what is returned; that it was changed in place, from its
encoding before and after. Encoding takes time, so it is looked at as often as that takes about as
long as encoding LOOK_BYTES for each input: always while it is small. A class that says `pure` is
believed. In memory alone nothing is encoded: `pybehave.testing.run` looks at each.

Invariants
  (E1) Nothing of it is in a record or a snapshot: what it sends vanishes with the process, and so
       does a message that is ephemeral for its receiver.
  (E2) It cancels no idle time-out, and a name that its client gave it stays free: it counts for
       nothing.
  (E3) Its reply leaves when all is durable that the state holds.
  (E4) `is_passing` holds while its own callback runs and is checked, and for nobody else's.

Does not know: how types are declared (pybehave/behaviours/inputs.py), other turns (dispatch.pyx).
"""

from cpython.object cimport PyTypeObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE

from .acting cimport begins_with
from .exchanging cimport Exchanging
from .handles cimport FROM_CONNECTION, Caller
from .leaves cimport CONN_HOLD, conn, conn_hold, conns_find
from .servers cimport INPUT_CALL, Asleep, Kind, Port, Server

from pybehave import actions as _actions
from pybehave.actions import NO_REPLY as _NO_REPLY
from pybehave.errors import EphemeralTrace

cdef object NO_REPLY = _NO_REPLY
cdef PyTypeObject *ACTION = <PyTypeObject *>_actions.Action

# What changes nothing that is kept. A reply to another caller would: who waits is known to others.
cdef frozenset TRACELESS = frozenset((
    _actions.Send, _actions.Close, _actions.Cast, _actions.CastGroup, _actions.Info,
    _actions.Hibernate, _actions.Active))

# Encoded in about a microsecond, twice.
cdef Py_ssize_t LOOK_BYTES = 512

# Half a millisecond. A larger state is asked for its size again after so many inputs.
cdef Py_ssize_t LOOK_BYTES_MAX = 256 << 10
cdef Py_ssize_t LOOK_AGAIN = 10_000


# Not final: the Dispatcher is the rest of it.
cdef class Ephemeral(Exchanging):
    """Turns that leave no trace. Base of the Dispatcher."""

    cdef int _pass(self, Server server, int kind, object message, Caller caller) except -1:
        """A turn without a record."""
        cdef conn *c = NULL
        cdef tuple actions
        cdef bytes answer = None
        cdef bytes looks
        cdef bint was_asleep = type(server.state) is Asleep
        if self.caused is server: # no start brings it again (E1)
            self.outbox.pop((self.cause_lsn, self.cause_index), None)
            self.caused = None
        if caller is not None and caller.kind == FROM_CONNECTION:
            c = conns_find(self.conns, caller.connection.token())
        self.wake(server)
        self.barrier = self.barrier_for(server.kind.level, server.barrier) # (E3)
        looks = self._look(server)
        generator = None if server.extras is None else server.extras.generator
        if generator is not None:
            server.extras.generator = None
        self.current = server
        self.current_conn = NULL
        self.current_caller = caller
        self.is_passing = True
        server.inputs += 1
        if server.debug() is not None:
            server.debug().took(kind, message, caller)
        try:
            result = self._callback(server, kind, message, caller)
            if self.is_disturbed:
                self.disturbed()
            actions = self._checked(server, kind, result)
            output = result[1]
            self._check_trace(server, message, caller, result[0], actions, looks)
            ahead = self._check_actions(server, actions) if actions else None # (T3)
            if c != NULL and output is not NO_REPLY:
                answer = self._encoded_for(caller, c, output, None, ahead)
        except BaseException as error:
            self.current = None
            self.is_passing = False
            if self.is_passed_on(error):
                raise
            return self._crashed(server, error, kind, message, caller)
        if server.debug() is not None:
            server.debug().gave(kind, output, actions, caller)
        self._passed(server, generator)
        if caller is not None and output is NO_REPLY:
            self._owe(server, caller)
            caller = None
        self._conclude(server, actions, NULL, answer, caller, output, kind, message)
        return self.hibernate(server) if was_asleep else 0

    cdef bint is_question(self, Server server, object message) except -1:
        """Whether what came on a connection can be answered on the spot: if it goes straight."""
        return server.kind.validate is None and type(server.state) is not Asleep \
            and self.is_ephemeral(server.kind, message)

    cdef int _answer_connection(self, Server server, conn *c, Port port,
                                object message) except -1:
        """`_pass`, without a caller that nobody asks for."""
        cdef Caller caller
        cdef tuple actions
        cdef bytes answer = None
        cdef bytes looks = self._look(server)
        generator = None if server.extras is None else server.extras.generator
        if generator is not None:
            server.extras.generator = None
        self.barrier = self.barrier_for(server.kind.level, server.barrier) # (E3)
        if self.barrier > self.conns.durable_batch:
            conn_hold(self.conns, c, self.barrier)
        self.current = server
        self.current_conn = c
        self.current_caller = None
        self.is_passing = True
        server.inputs += 1
        try:
            result = server.kind.step(server.instance, message, server.state)
            if self.is_disturbed:
                self.disturbed()
            if looks is None and PyTuple_CheckExact(result) and PyTuple_GET_SIZE(result) == 2 \
                    and <object>PyTuple_GET_ITEM(result, 0) is server.state \
                    and self.current_caller is None and not (c.flags & CONN_HOLD) \
                    and not begins_with(PyTuple_GET_ITEM(result, 1), ACTION):
                output = <object>PyTuple_GET_ITEM(result, 1)
                if output is not NO_REPLY:
                    port.codec.encode(output, self.pool, &c.out, c.protocol)
                return self._passed(server, generator)
            actions = self._checked(server, INPUT_CALL, result)
            self._check_trace(server, message, self.current_caller, result[0], actions, looks)
            if actions:
                self._check_actions(server, actions)
            if result[1] is not NO_REPLY:
                answer = self._encoded(port.codec, result[1], c.protocol)
        except BaseException as error:
            caller = self.current_caller
            self.current = None
            self.is_passing = False
            if self.is_passed_on(error):
                raise
            if caller is None:
                caller = self.caller_of(server, c)
            return self._crashed(server, error, INPUT_CALL, message, caller)
        caller = self.current_caller
        self._passed(server, generator)
        self._answered(server, caller, answer)
        return self._conclude(server, actions, c, answer, None, None, INPUT_CALL, message)

    cdef int _passed(self, Server server, object generator) except -1:
        """It has left no trace; whoever hears its reply may call servers at once (E4)."""
        if server.extras is not None:
            server.extras.generator = generator
        self.current = None
        self.is_passing = False
        return 0

    cdef int _check_trace(self, Server server, object message, Caller caller, object after,
                          tuple actions, bytes looks) except -1:
        """Raise EphemeralTrace if something is to change that a replay would not find so."""
        if after is not server.state and not after == server.state:
            raise EphemeralTrace(server.name, message, "return another state")
        for action in actions:
            kind = type(action)
            if kind not in TRACELESS and not (
                    kind is _actions.Reply and caller is not None and action.to is caller):
                raise EphemeralTrace(server.name, message, f"ask for {kind.__name__}")
        if looks is not None and looks != server.ledger.values.encode(
                server.instance.dump(server.state)):
            raise EphemeralTrace(server.name, message, "change the state in place")
        return 0

    cdef bytes _look(self, Server server):
        """What the state is before, encoded; None = it is not looked at this time."""
        if server.ledger is None or getattr(server.instance, "pure", False):
            return None
        if server.ledger.unlooked > 0:
            server.ledger.unlooked -= 1
            return None
        try:
            looks = server.ledger.values.encode(
                server.instance.dump(server.state), LOOK_BYTES_MAX)
        except Exception: # it is too large, or has no form
            server.ledger.unlooked = LOOK_AGAIN
            return None
        server.ledger.unlooked = len(looks) // LOOK_BYTES
        return looks

    cdef object _callback(self, Server server, int kind, object message, Caller caller):
        raise NotImplementedError # the Dispatcher's

    cdef tuple _checked(self, Server server, int kind, object result):
        raise NotImplementedError # the Dispatcher's

    cdef int _conclude(self, Server server, tuple actions, conn *c, bytes answer, Caller caller,
                       object output, int kind, object message) except -1:
        raise NotImplementedError # the Dispatcher's
