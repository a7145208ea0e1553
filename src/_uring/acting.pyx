# cython: language_level=3, binding=True
"""Actions: what the runtime does for a step that has returned them, in their order.

Most are carried out at once, for they change nothing outside but what waits for the barrier anyway.
What needs more than the core (a thread, an outbound connection) goes to `on_action`, and only when
the input that caused it is durable.

Whether they can be carried out at all is found while the input does not count yet, inside the guard
of its step (`_check_actions`). One that cannot is a crash of that step: no action of its is carried
out, and a journal has the input as failed. So there is no input that a replay would step to another
end than it had (decision 0035).

Invariants
  (T1) Of a step's actions all are begun, or none.
  (T2) What an action sends to a connection is encoded once: when it is checked.
  (T3) The reply of a step leaves behind its actions, and is judged behind them (R5).

Does not know: when a step is done and its state stands (dispatch.pyx), who carries out the rest
(pybehave/runtime/host.py).
"""

from libc.stdint cimport uint32_t, uint64_t

from .codec cimport AGREED_VERSION, outq_bytes
from .handles cimport FROM_CONNECTION, Caller, Connection
from .leaves cimport (
    ACTIVE_ALWAYS, CONN_EVENTS, CONN_FREE, END_ASKED, END_SLOW_CONSUMER, conn, conn_abort,
    conn_activate, conn_finish, conn_hold, conn_takes_input, conn_takes_output,
    conns_at, conns_find, conns_slots,
)
from .servers cimport INPUT_CAST, INPUT_INFO, Address, Port, Server
from .system cimport System

import logging

from msgspec.structs import replace as _replace

from pybehave import actions as _actions
from pybehave import jobs as _jobs
from pybehave.via import Via
from pybehave.errors import EncodeError, Overloaded, show
from pybehave.flow import messages_of

cdef object logger = logging.getLogger("pybehave.server")

NOT_STOPPED = object() # no reason to end can be this

cdef object _NOT_STOPPED = NOT_STOPPED
# Names of the module itself: an attribute of another one is looked up at each action.
cdef object Action = _actions.Action
cdef object Active = _actions.Active
cdef object Call = _actions.Call
cdef object Cancel = _actions.Cancel
cdef object CancelTimer = _actions.CancelTimer
cdef object Cast = _actions.Cast
cdef object Close = _actions.Close
cdef object Connect = _actions.Connect
cdef object Continue = _actions.Continue
cdef object Demonitor = _actions.Demonitor
cdef object Hibernate = _actions.Hibernate
cdef object IdleTimeout = _actions.IdleTimeout
cdef object Info = _actions.Info
cdef object Link = _actions.Link
cdef object Monitor = _actions.Monitor
cdef object Reply = _actions.Reply
cdef object Run = _actions.Run
cdef object Send = _actions.Send
cdef object StartTimer = _actions.StartTimer
cdef object Stop = _actions.Stop
cdef object Unlink = _actions.Unlink
cdef frozenset WATCHING = frozenset((Monitor, Demonitor, Link, Unlink))
cdef frozenset ASKING = frozenset((Call, Connect, Monitor))
cdef frozenset JOURNALED = ASKING | {Cast, Info, Link} # what a journal has more to ask about
cdef str MACHINES = "pybehave.statem" # where the actions of one behaviour alone are
cdef frozenset KNOWN = frozenset(
    kind for kind in vars(_actions).values()
    if isinstance(kind, type) and issubclass(kind, Action))


cdef str _led_to(object server):
    """The name that a key leads to now. The other actions are under way, so one whose registry
    fails leads nowhere (T1)."""
    try:
        return str(server.name if type(server) is Via else server)
    except Exception:
        logger.exception("the registry of %s has failed; it leads nowhere", show(server.key))
        return f"via {show(server.key)}"


# Not final: the Dispatcher is the rest of it.
cdef class Acting(System):
    """Actions. Base of the Dispatcher."""

    cdef object _carry_out(self, Server server, tuple actions, list closes):
        """Carry out the actions in order. Returns the reason of the first Stop, or NOT_STOPPED.

        Connections to close are only collected: the reply of this turn goes out before.
        """
        cdef object reason = _NOT_STOPPED
        cdef dict encoded
        checked, self.checked = self.checked, None
        assert checked is not None and checked[0] is actions
        encoded, is_passing, continues = checked[1:]
        if continues is not None:
            self._go_on_with(server, continues)
        for action in actions:
            kind = type(action)
            if server.number:
                server.note(action)
            if kind is Send:
                self._send(action.connection, action.data, encoded)
            elif kind is Reply:
                self._reply_as(action.to, action.value, encoded.get(id(action)))
            elif kind is Cast:
                target = action.server
                if type(target) is not str:
                    target = _led_to(target)
                if is_passing: # no record has the input that sends it
                    self.post(target, INPUT_CAST, action.message, None)
                else:
                    self._send_on(server, target, INPUT_CAST, action.message)
            elif kind is Info:
                target = action.server
                if type(target) is not str:
                    target = _led_to(target)
                if is_passing:
                    self.post(target, INPUT_INFO, action.message, None)
                else:
                    self._send_on(server, target, INPUT_INFO, action.message)
            elif kind is Call:
                if type(action.server) is not str:
                    action = _replace(action, server=_led_to(action.server))
                self._call_action(server, action)
            elif kind is StartTimer:
                self._start_timer(server, action.name, action.seconds, action.message)
            elif kind is CancelTimer:
                self._cancel_timer(server, action.name)
            elif kind is IdleTimeout:
                self._cancel_idle(server)
                server.extra().idle_timer = self._alarm(action.seconds, server, None, None)
                server.extras.idle_s = action.seconds
            elif kind is Continue:
                pass # it is there by now
            elif kind is Close:
                if action.connection is not None: # what came from no connection has none to close
                    closes.append(<Connection?>action.connection)
            elif kind is Active:
                if action.connection is not None:
                    self._activate(<Connection?>action.connection, action.mode)
            elif kind is Hibernate:
                self.drowsy = server # when the input is over
            elif kind is Stop:
                reason = action.reason if reason is _NOT_STOPPED else reason
            elif kind in WATCHING: # nobody outside sees it, so it need not be durable
                if type(action.server) is not str:
                    action = _replace(action, server=_led_to(action.server))
                self.on_action(server, action, 0, 0)
            else:
                self._hand_on(server, action)
        if reason is not _NOT_STOPPED and server.has_continues():
            server.extras.continues = None # (Y7) of replay.pyx: it ends before them
        return reason

    cdef int _go_on_with(self, Server server, list continues) except -1:
        """Before all other actions: what ends the server meanwhile is to find them (Y8)."""
        waiting = server.extra().continues
        server.extras.continues = continues if waiting is None else waiting + continues
        return 0

    cdef dict _check_actions(self, Server server, tuple actions):
        """Raise what an action could not be carried out for (T1); encode what is sent (T2). Returns
        that, with where the replies among it lead contracts (R5)."""
        cdef dict encoded = {}
        cdef list continues = None
        for action in actions:
            kind = type(action)
            if kind is Send:
                if type(action.connection) is not Connection:
                    raise TypeError(f"Send needs a connection, not {show(action.connection)}")
                self._answer_for(action.connection, action.data, encoded)
            elif kind is Reply:
                self._check_reply(action, encoded)
            elif kind is Close or kind is Active:
                if action.connection is not None and type(action.connection) is not Connection:
                    raise TypeError(
                        f"{kind.__name__} needs a connection, not {show(action.connection)}")
            elif kind is StartTimer or kind is CancelTimer:
                hash(action.name)
                if server.number and kind is StartTimer: # it is journaled when it fires
                    server.ledger.values.encode([action.name, action.message])
            elif kind is Run:
                if server.number: # what stands for its answer until there is one
                    server.ledger.values.encode(_jobs.promise(action))
            elif kind is Continue:
                continues = [] if continues is None else continues
                continues.append(action.term)
            elif server.number and kind in JOURNALED:
                if kind is not Connect and type(action.server) is Via:
                    raise TypeError(
                        f"{kind.__name__}: a journaled server's actions take names, for a key may "
                        f"lead elsewhere when its inputs are replayed, not {show(action.server)}")
                if kind in ASKING: # a snapshot has it until it is answered
                    server.ledger.values.encode(
                        [action.tag, action.request] if kind is Call and action.idempotent
                        else action.tag)
            elif kind not in KNOWN:
                whose = "a GenStatem's" if kind.__module__ == MACHINES else "unknown to the runtime"
                raise TypeError(f"{action!r} is not for this server: the action is {whose}")
        self.checked = (actions, encoded, self.is_passing, continues)
        return encoded

    def check_actions(self, Server server, tuple actions) -> None:
        """Raise what an action of an init could not be carried out for; before it is recorded."""
        self._check_actions(server, actions)
        self.checked = None

    cdef int _check_reply(self, object action, dict encoded) except -1:
        """Whoever is to be replied to hears it at once when the reply cannot be encoded."""
        cdef Caller caller
        cdef conn *c
        if type(action.to) is not Caller:
            hint = ": a cast and an info have none" if action.to is None else ""
            raise TypeError(f"Reply: to is a caller, not {show(action.to)}{hint}")
        caller = action.to
        if caller.is_done or caller.kind != FROM_CONNECTION or isinstance(action.value, Overloaded):
            return 0
        c = conns_find(self.conns, caller.connection.token())
        if c == NULL or not conn_takes_output(c):
            return 0
        try:
            encoded[id(action)] = self._encoded_for(caller, c, action.value, None, encoded)
        except EncodeError as error:
            self._resolve(caller, None, error)
            raise
        return 0

    cdef int _reply_as(self, Caller caller, object value, bytes answer) except -1:
        """Reply; to a connection with what was made of the value.

        A refusal has no form as a value: a client hears it as one (a manager whose ring is full).
        """
        if caller.kind == FROM_CONNECTION and isinstance(value, Overloaded):
            return self._resolve(caller, None, value)
        if answer is None or caller.is_done:
            return self._resolve(caller, value, None)
        if caller.request is not None:
            self._settle_request(caller, value, None)
        self._close_caller(caller)
        return self._settle_connection(caller, answer)

    def repeat(self, Server server, action) -> None:
        """Carry out a Call of the incarnation before once more."""
        self.barrier = self.barrier_for(server.kind.level, server.barrier)
        self._call_action(server, action)

    cdef int _hand_on(self, Server server, object action) except -1:
        """What needs more than the core; of a journaled server, when the input is durable."""
        cdef tuple origin = (0, 0)
        if type(action) is Run and server.latest_lsn():
            origin = self.owe_job(server, action)
        elif type(action) is Cancel and server.number:
            _jobs.cancel(self.outbox, server.name, action.tag)
        if self.barrier > self.conns.durable_batch:
            self.commit.hold(self.barrier, self.act_held, (server, action, *origin))
        else:
            self.on_action(server, action, *origin)
        return 0

    def act_held(self, Server server, action, uint64_t lsn, uint32_t index) -> None:
        """What waited for its input to be durable. It may raise what comparing a tag raises: that
        ends its server, whose state stands, and not the loop, which has told that it is durable."""
        try:
            self.on_action(server, action, lsn, index)
        except BaseException as error:
            if self.is_passed_on(error):
                raise
            self.barrier = self.barrier_of(server)
            self._crashed(server, error, 0, (action,), None)

    cdef int _crashed(self, Server server, object error, int kind, object message,
                      Caller caller) except -1:
        raise NotImplementedError # the Dispatcher's

    cdef bytes _answer_for(self, Connection connection, object data, dict encoded):
        """What data is on a connection, encoded once for all that share codec, its version and
        their own; None when it takes nothing any more."""
        cdef conn *c = conns_find(self.conns, connection.token())
        cdef Port port
        if c == NULL or not conn_takes_output(c):
            return None
        port = <Port>c.port
        if c.spoken != port.version and not port.edge.understands(c.spoken):
            return None # its release was taken back: it ends, behind what it is owed
        key = (id(data), id(port.codec), c.protocol & AGREED_VERSION, c.spoken)
        answer = encoded.get(key)
        if answer is None:
            made = data if c.spoken == port.version else port.edge.down(c.spoken, data)
            answer = encoded[key] = self._encoded(port.codec, made, c.protocol)
        return answer

    cdef int _send(self, Connection connection, object data, dict encoded) except -1:
        cdef conn *c
        cdef bytes answer = self._answer_for(connection, data, encoded)
        if answer is None:
            return 0
        c = conns_find(self.conns, connection.token())
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
        if count != ACTIVE_ALWAYS and (<Port>c.port).address is not None:
            (<Port>c.port).address.is_asking = True # a crash must find those that wait
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

    cdef int unheard(self, Address address, object mailbox) except -1:
        """An incarnation has ended: the next one is told of who has come and who has gone in place
        of this one, in whose mailbox that still was.
        """
        cdef conn *c
        cdef set untold = set()
        for item in mailbox or ():
            message = item[1]
            if type(message) not in (_actions.Opened, _actions.Closed) \
                    or type(message.connection) is not Connection: # a server has made it up
                continue
            if type(message) is _actions.Opened:
                untold.add(message.connection)
                c = conns_find(self.conns, (<Connection>message.connection).token())
                if c != NULL:
                    c.flags &= ~CONN_EVENTS
            elif message.connection not in untold:
                self.miss(address, message)
        return 0

    cdef int miss(self, Address address, object closed) except -1:
        """Nobody is there to hear that a connection has ended: the next one is told, if its state
        is the one that has the connection.
        """
        if address.is_journaled:
            if address.missed is None:
                address.missed = []
            address.missed.append(closed)
        return 0

    def unmiss(self, str name) -> None:
        """The next one's state was made by a replay, whose handles are others: it is told of theirs
        (`Known.lost`).
        """
        cdef Address address = self.address(name)
        address.missed = None

    cdef int greet(self, Server server, Address address, bint is_known) except -1:
        """Tell a new incarnation of the connections that stand, in the order in which they came.

        What its state knows is not told again: with `is_known`, of whom one before was told. Nor
        is a connection whose `Opened` was a crash, for it would end each one. Of the end of one
        that it was not told of it does not hear; of those that have ended meanwhile it hears first.
        Until all are taken, what comes waits in its mailbox, behind them (decision 0005).
        """
        cdef uint32_t slot
        cdef conn *c
        cdef bint is_unwelcome
        cdef list found = []
        for slot in range(conns_slots(self.conns)):
            c = conns_at(self.conns, slot)
            if c.state == CONN_FREE or (<Port>c.port).address is not address \
                    or not (<Port>c.port).has_events:
                continue
            is_unwelcome = c.hold != NULL and (<Connection>c.hold).is_unwelcome
            if is_known and c.flags & CONN_EVENTS and not is_unwelcome:
                continue
            if is_unwelcome or not conn_takes_input(c):
                c.flags &= ~CONN_EVENTS
                continue
            c.flags |= CONN_EVENTS
            found.append((c.id, self.connection_of(c)))
        for closed in (address.missed or ()) if is_known else ():
            if not (<Connection>closed.connection).is_unwelcome:
                self.tell(server, closed)
        address.missed = None
        if found:
            found.sort()
            server.extra().is_greeting = True
            for _, connection in found:
                server.mail().append((INPUT_INFO, _actions.Opened(connection), None))
        return 0
