# cython: language_level=3, binding=True
"""Servers and the guarded step: one input, one turn.

A turn takes one input through one server: callback, check of what it returned, encoding of the
reply, new state, actions. Everything up to the new state stands inside one guard; an exception
there is a crash of that server, and of nothing else.

Two roads lead to a turn. A message from a connection whose server takes input is stepped at once,
straight out of the receive buffer (`_step_connection`). Everything else waits in the server's
mailbox: calls and casts from threads and from servers, timers. `run_ready` serves the mailboxes in
turns, with a budget for each, so that one busy server does not hold up the others.

Invariants
  (D1) At most one turn runs at a time (`current`); Python code cannot start another from within.
  (D2) Replies of a connection leave in the order of its requests: a reply that comes later holds a
       ticket, and those behind it wait in the same queue.
  (D3) A reply is made at most once (`Caller.is_done`).
  (D4) Inputs belong to an incarnation: when it ends, callers hear so at once, casts vanish.
  (D5) A timer that was cancelled or replaced is never delivered, even if it had expired already:
       it is compared with the one that runs at delivery.
  (D6) Nothing that an input caused is seen outside before its new state stands, and nothing of a
       callback that raised but the error.

Source: OTP gen_server (stdlib) for the meaning of calls, casts, infos and their ends.
"""

cimport cython
from cpython.object cimport PyTypeObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from .acting cimport begins_with
from .codec cimport CODEC_PYTHON, Codec, frame_view
from .exchange cimport Exchange
from .ephemeral cimport Ephemeral
from .handles cimport FROM_CONNECTION, FROM_WAITER, Caller, Connection
from .leaves cimport (
    CONN_EVENTS, CONN_HOLD, conn, conn_give_back, conn_hold, conn_takes_input, conns_find,
)
from .requests cimport Request, Requests
from .servers cimport (
    INPUT_CALL, INPUT_CAST, INPUT_CONTINUE, INPUT_INFO, INPUT_SYSTEM, INPUT_TIMER, OVERFLOW_BLOCK,
    Address, Alarm, Asleep, Answer, Extras, Port, Server,
)
from .turn cimport MARK_MESSAGE, MARK_TIMER


from pybehave import actions as _actions
from pybehave.actions import are_actions
from pybehave._uring.acting import NOT_STOPPED as _NOT_STOPPED
from pybehave.errors import (
    BadReturn, CalledInCallback, CallingSelf, Crashed, DecodeError, InitStopped, NoProc,
    PybehaveError, RequestKnown, Suspended, Timeout, ended_error,
)
from pybehave.errors import MISPLACED as _MISPLACED
from pybehave.once import Once as _Once
from pybehave.together import Together as _Together

# One server's share of a round: enough to amortise the switch, short enough for the others.
cdef Py_ssize_t INPUTS_PER_TURN = 64

# Several casts in one turn: never recorded, never shown to a debugger.
cdef enum:
    INPUT_CASTS = 8

cdef object NO_REPLY = _actions.NO_REPLY
cdef object NOT_STOPPED = _NOT_STOPPED
cdef object TIMEOUT = _actions.TIMEOUT
cdef type Action = _actions.Action
cdef PyTypeObject *ACTION = <PyTypeObject *>_actions.Action
cdef type Once = _Once
cdef type Together = _Together

_CALLBACKS = {
    INPUT_CALL: "handle_call",
    INPUT_CAST: "handle_cast",
    INPUT_INFO: "handle_info",
    INPUT_TIMER: "handle_info",
    INPUT_CONTINUE: "handle_continue",
    INPUT_CASTS: "handle_cast",
}


@cython.final
cdef class Dispatcher(Ephemeral):
    """Names, servers and their turns. Made by the Loop, used on its thread only."""

    def __cinit__(self):
        self.on_unexpected = None

    # ---- life --------------------------------------------------------------------------------

    def begin(self, Server server, state, tuple actions, bint is_known=False) -> None:
        """`init` has returned: the name answers from now on.

        `is_known`: the state is that of the incarnation before, with the connections it was told.
        """
        cdef Address address = self.address(server.name)
        if address.server is not None:
            raise PybehaveError(f"the name {server.name!r} is taken")
        server.state = state
        server.runs = True
        server.began_s = <uint32_t>(self.now_ns // 1_000_000_000)
        address.server = server
        try:
            self._check_actions(server, actions)
            reason = self._carry_out(server, actions, [])
            if reason is not NOT_STOPPED:
                raise InitStopped(server.name, reason)
        except BaseException:
            self.retire(server, NoProc(server.name))
            raise
        if address.has_events:
            self.greet(server, address, is_known)
        if address.kept is not None:
            self._take_kept(server, address)
        if server.has_continues() or server.mailbox:
            self._make_ready(server)
        elif self.drowsy is not None:
            self._doze(server)
        self.answer_itself(address)

    def retire(self, Server server, error) -> None:
        """The incarnation ends: the name is free, callers are told `error`, timers are gone."""
        cdef Address address
        cdef Caller caller
        cdef tuple item
        cdef bint is_awaited = False
        if not server.runs:
            return
        self.wake(server)
        server.runs = False
        address = self.address(server.name)
        if address.server is server:
            address.server = None
        # Timers go on in the next incarnation.
        due = dict(server.ledger.due) if server.number else None
        for alarm in server.all_timers():
            self._cancel_timer(server, (<Alarm>alarm).name)
        if server.number:
            server.ledger.due = due
        self._cancel_idle(server)
        mailbox = server.mailbox
        server.mailbox = None
        self.not_continued(server)
        if server.extras is not None:
            for caller in list(server.extras.waiting or ()):
                self._resolve(caller, None, error)
        for item in mailbox or ():
            if item[2] is not None and self._outlive(address, item):
                is_awaited = True
            elif item[2] is not None:
                self._resolve(item[2], None, error)
            elif len(item) == 4: # it was committed with what sent it
                self._keep(address, item)
            elif item[0] == INPUT_CAST:
                self.stats.casts_lost += 1
            elif item[0] == INPUT_SYSTEM: # whom it was for is gone
                item[1]()
        if address.has_events:
            self.unheard(address, mailbox)
        if server.has_control():
            self.release(server, error)
        if address.is_asking:
            self.reactivate(address)
        if is_awaited:
            self.on_patient(server.name, server, error)

    # ---- inputs from connections -------------------------------------------------------------

    cdef int message(self, conn *c, Port port, const frame_view *view) except -1:
        """One framed message. The caller marks the connection's output afterwards."""
        cdef Codec codec = port.codec
        cdef Server server
        c.commands += 1
        self.stats.commands += 1
        self.barrier = 0
        if codec.has_native and self._native(c, codec, view):
            conn_give_back(self.conns, c)
            return 0
        try:
            message = codec.decode(view, &c.protocol)
        except DecodeError as error:
            self.stats.decode_errors += 1
            return self.answer_error(c, port, error)
        if message is None:
            conn_give_back(self.conns, c)
            return 0
        if codec.kind == CODEC_PYTHON and isinstance(message, Exchange) \
                and port.address is not None:
            conn_give_back(self.conns, c) # it may be for any server, and is asked for by none
            return self.exchange(c, port, message)
        if port.is_asking:
            flaw = self.flaw_of(c, port, message, port.address.server is not None)
            if flaw is not None:
                return self.refuse(c, port, flaw)
        server = port.address.server if port.address is not None else port.connector
        if server is None:
            return self.answer_error(c, port, NoProc(port.address.name))
        if not self.goes_straight(server, c, port):
            self._post_connection(server, c, port, message)
        elif self.passes(server.kind, message):
            self._step_connection(server, c, port, message)
        elif self.is_question(server, message):
            self._answer_connection(server, c, port, message)
        else:
            self._post_connection(server, c, port, message)
        if server.number and conn_takes_input(c) and self.commit.is_saturated():
            self.commit.pause(c)
        return 0

    cdef int opened(self, Server server, conn *c) except -1:
        """Tell a server of a new connection, before anything that comes from it (decision 0005)."""
        self.barrier = 0
        if server is None or not server.runs:
            return 0 # the next incarnation is told (`greet`)
        c.flags |= CONN_EVENTS
        opened = _actions.Opened(self.connection_of(c))
        if server.is_suspended() or server.is_greeting():
            return self.tell(server, opened)
        return self._turn(server, INPUT_INFO, opened, None)

    cdef int _step_connection(self, Server server, conn *c, Port port, object message) except -1:
        cdef object result, output
        cdef Caller caller
        cdef tuple actions
        cdef bytes answer
        if type(server.state) is Asleep:
            self.wake(server)
        if server.number and not self._record_message(server, c, port, message):
            return 0
        if not server.number:
            self.barrier = self.barrier_of(server)
        if self.barrier > self.conns.durable_batch:
            conn_hold(self.conns, c, self.barrier)
        self.current = server
        self.current_conn = c
        self.current_caller = None
        server.inputs += 1
        if server.has_idle_timer():
            self._cancel_idle(server)
        try:
            result = server.kind.step(server.instance, message, server.state)
            if self.is_disturbed:
                self.disturbed()
            if PyTuple_CheckExact(result) and PyTuple_GET_SIZE(result) == 2 \
                    and self.current_caller is None and not (c.flags & CONN_HOLD) \
                    and not begins_with(PyTuple_GET_ITEM(result, 1), ACTION):
                output = <object>PyTuple_GET_ITEM(result, 1)
                if output is not NO_REPLY:
                    port.codec.encode(output, self.pool, &c.out, c.protocol)
                server.state = <object>PyTuple_GET_ITEM(result, 0)
                self.current = None
                if server.number:
                    self.recorded(server, INPUT_CALL, 0, output)
                return 0
            actions = self._checked(server, INPUT_CALL, result)
            answer = None
            if result[1] is not NO_REPLY:
                answer = self._encoded(port.codec, result[1], c.protocol)
            if actions:
                self._check_actions(server, actions)
            server.state = result[0]
        except BaseException as error:
            if self.is_passed_on(error):
                self.record_dropped(server, INPUT_CALL)
                raise
            caller = self.caller_of(server, c) if self.current_caller is None \
                else self.current_caller
            self.current = None
            if server.number:
                self.record_failed(server, INPUT_CALL)
            return self._crashed(server, error, INPUT_CALL, message, caller)
        caller = self.current_caller
        self.current = None
        if server.number:
            self.recorded(server, INPUT_CALL, self.stops(actions), result[1])
        self._answered(server, caller, answer)
        self._conclude(server, actions, c, answer, None, None, INPUT_CALL, message)
        return self._run_continues(server)

    cdef int _post_connection(self, Server server, conn *c, Port port, object message) except -1:
        """The general road: a mailbox with its policy, handle_call with a caller."""
        cdef Caller caller
        if port.address is None:
            info = _actions.Received(self.connection_of(c), message)
            return self._post(server, INPUT_INFO, info, None)
        caller = self.caller_of(server, c)
        if server.kind.overflow == OVERFLOW_BLOCK and not server.mailbox \
                and not server.is_suspended():
            return self._turn(server, INPUT_CALL, message, caller)
        self._hold(caller)
        return self._post(server, INPUT_CALL, message, caller)

    # ---- inputs from elsewhere ---------------------------------------------------------------

    def call_urgent(self, str name, request):
        """`call`, ahead of what waits in the mailbox."""
        return self._call_now(name, request, True)

    def call(self, str name, request):
        """Call from the loop's own thread, outside any turn: the turn runs now.

        Raises:
            NoProc: No server has this name.
            CallingSelf, CalledInCallback: From within a callback; return the action `Call`.
            Crashed: The callback raised.
            Timeout: The server puts its reply off; only another thread can wait for that.
            Suspended: It takes no inputs now; only another thread can wait for that, too.
        """
        return self._call_now(name, request, False)

    cdef object _call_now(self, str name, object request, bint is_urgent):
        cdef Server server
        cdef Caller caller
        if self.current is not None:
            if self.current.name == name:
                raise CallingSelf(name)
            raise CalledInCallback(self.current.name, name)
        server = self.answering(name)
        if server is None:
            raise NoProc(name)
        if server.is_suspended():
            raise Suspended(name)
        self.barrier = 0
        if not server.mailbox and not server.has_continues() and not server.number \
                and not server.has_control() and self.passes(server.kind, request):
            return self._call_fast(server, request)
        if not is_urgent:
            self.take_waiting(server)
        server = self.whereis(name)
        if server is None:
            raise NoProc(name)
        if server.is_suspended(): # by a system request that stood among what waited
            raise Suspended(name)
        box = Answer.__new__(Answer)
        caller = self._waiter_caller(name, box)
        caller.owner = server
        self._turn(server, INPUT_CALL, request, caller)
        return (<Answer>box).take(name)

    def take_waiting(self, Server server) -> None:
        """Let a server take what waits for it now, outside any turn, unless it is suspended."""
        if server.runs and not server.is_suspended():
            self._serve(server, len(server.mailbox or ()), False)

    cdef object _call_fast(self, Server server, object request):
        """A call that needs no mailbox and no record: most are a pair of state and output."""
        cdef object result
        cdef tuple actions
        cdef Answer box
        cdef Caller caller = None
        self.current = server
        self.current_conn = NULL
        self.barrier = self.barrier_of(server)
        server.inputs += 1
        if server.has_idle_timer():
            self._cancel_idle(server)
        try:
            if server.kind.is_fast_call:
                self.current_caller = None
                result = server.kind.step(server.instance, request, server.state)
            else:
                caller = Caller.__new__(Caller)
                caller.kind = FROM_WAITER
                caller.server = server.name
                self.current_caller = caller
                result = server.kind.on_call(server.instance, request, caller, server.state)
            if self.is_disturbed:
                self.disturbed()
            if PyTuple_CheckExact(result) and PyTuple_GET_SIZE(result) == 2 \
                    and <object>PyTuple_GET_ITEM(result, 1) is not NO_REPLY \
                    and not begins_with(PyTuple_GET_ITEM(result, 1), ACTION):
                server.state = <object>PyTuple_GET_ITEM(result, 0)
                self.current = None
                if caller is not None:
                    caller.is_done = True # a reply that comes later is the second one
                return <object>PyTuple_GET_ITEM(result, 1)
            actions = self._checked(server, INPUT_CALL, result)
            if actions:
                self._check_actions(server, actions)
            server.state = result[0]
        except BaseException as error:
            self.current = None
            if self.is_passed_on(error):
                raise
            box = self._box(server, caller)
            self._crashed(server, error, INPUT_CALL, request, box.caller)
            return box.take(server.name)
        self.current = None
        box = self._box(server, caller)
        if result[1] is NO_REPLY:
            self._owe(server, box.caller) # a Stop among the actions tells who waits
            self._conclude(server, actions, NULL, None, None, None, INPUT_CALL, request)
            if caller is None: self._close_caller(box.caller) # `step` was given none: nobody has it
        else:
            self._conclude(server, actions, NULL, None, box.caller, result[1], INPUT_CALL, request)
        self._run_continues(server)
        return box.take(server.name)

    cdef Answer _box(self, Server server, Caller caller):
        """Where the reply to a caller will be found; without a caller, one is made."""
        cdef Answer box = Answer.__new__(Answer)
        if caller is None:
            self._waiter_caller(server.name, box)
        else:
            caller.waiter = box
            box.caller = caller
        return box

    cdef int run_ready(self) except -1:
        """One round over the servers that have mail."""
        cdef Server server
        cdef bint may_wait
        cdef Py_ssize_t count = len(self.ready)
        while count > 0:
            count -= 1
            server = self.ready.popleft()
            may_wait = server.number != 0 and self.commit is not None
            if server.is_suspended():
                server.is_ready = False # its mail waits (system.pyx)
                continue
            if may_wait and self.commit.must_wait():
                self.parked.append(server)
                continue
            server.is_ready = False
            self._serve(server, INPUTS_PER_TURN, may_wait)
            if server.runs and (server.mailbox or server.has_continues()):
                self._make_ready(server)
            else:
                server.mailbox = None # an idle server owns nothing that it can do without
                if server.is_greeting():
                    server.extras.is_greeting = False
                if server.has_control():
                    self.settle_control(server)
        return 0

    cdef int _serve(self, Server server, Py_ssize_t budget, bint may_wait) except -1:
        cdef tuple item
        if server.runs and server.has_continues():
            self._run_continues(server)
        while budget > 0 and server.runs and server.mailbox:
            if may_wait and self.commit.must_wait():
                break
            budget -= 1
            item = server.mailbox.popleft()
            if item[0] == INPUT_TIMER:
                self._deliver_timer(server, item[1])
            elif len(item) == 4:
                self._arrive(server, item)
            elif item[0] == INPUT_SYSTEM:
                if (unfinished := self._unfinished(server)) is not None: # a batch ends before it
                    self._turn(server, INPUT_INFO, unfinished, None)
                server.extras.asked -= 1
                item[1]()
                if server.is_suspended(): break
            elif server.kind.on_casts is not None and item[0] == INPUT_CAST \
                    and type(item[1]) is not Once and not server.number \
                    and not server.has_control():
                budget -= self._take_casts(server, item[1], budget)
            else:
                self._turn(server, item[0], item[1], item[2])
        return 0

    cdef int _arrive(self, Server server, tuple item) except -1:
        """A message that an input has sent, or an answer: brought again by each start until it is
        recorded. One that ended the process too often fails without a step."""
        error = None if self.poison is None else self.poison.get(item[3])
        self.caused, (self.cause_lsn, self.cause_index) = server, item[3]
        self.mark(MARK_MESSAGE, self.cause_index, self.cause_lsn)
        self.barrier = self.barrier_of(server)
        if error is None:
            self._turn(server, item[0], item[1], None)
        else:
            self.flaw = error
            if type(item[1]) is Once and item[0] == INPUT_CAST:
                self._once(server, item[0], item[1], None)
            else:
                self._fail(server, item[0], item[1])
            self.client = self.flaw = None
        self.mark(0, 0, 0)
        if self.caused is not None:
            self.caused = None
            self._not_taken(server, item)
        return 0

    cdef int _fail(self, Server server, int kind, object message) except -1:
        """Let an input fail with `flaw`, without a step; under its name if its client gave one."""
        if not self._record_input(server, kind, message, None):
            return 0
        self.wake(server)
        self.current_conn = NULL # it comes from a server: no connection is to be named
        self.current_caller = None
        server.inputs += 1
        if self.client is not None:
            self._name_request(server).fail(server.crash_id())
        self.record_failed(server, kind)
        error, self.flaw = self.flaw, None # before its state is built again, by other steps
        return self._crashed(server, error, kind, message, None)

    cdef Py_ssize_t _take_casts(self, Server server, object message, Py_ssize_t most) except -1:
        """A cast, and those right behind it, in one turn (GenEvent); how many those were."""
        cdef list messages = [message]
        cdef tuple item
        while len(messages) <= most and server.mailbox:
            item = server.mailbox.popleft()
            message = item[1]
            if item[0] != INPUT_CAST or type(message) is Once or len(item) != 3:
                server.mailbox.appendleft(item)
                break
            messages.append(message)
        server.inputs += len(messages) - 1 # and one more below
        self._turn(server, INPUT_CASTS, messages, None)
        return len(messages) - 1

    # ---- the turn ----------------------------------------------------------------------------

    cdef int _turn(self, Server server, int kind, object message, Caller caller) except -1:
        if server.has_continues():
            self._run_continues(server)
        if not server.runs:
            return self._not_begun(server, kind, message, caller)
        if type(message) is Once and (kind == INPUT_CALL or kind == INPUT_CAST):
            self._once(server, kind, message, caller)
        else:
            self._one(server, kind, message, caller)
        if server.has_continues():
            self._run_continues(server)
        return 0

    cdef int _once(self, Server server, int kind, object once, Caller caller) except -1:
        """A request that its client has named: stepped, unless it was already (requests.pyx)."""
        if self.is_ephemeral(server.kind, once.request):
            return self._one(server, kind, once.request, caller)
        cdef Requests table = server.requests_made()
        cdef bytes client = table.key_of(once)
        cdef Request known
        if caller is not None: # also of a repetition, which nobody converts
            caller.is_together = type(once.request) is Together
        try:
            known = table.find(server.name, client, once.number, self.unix_ns())
        except PybehaveError as error:
            if caller is not None:
                return self._resolve(caller, None, error)
            return self._known(server, kind) if isinstance(error, RequestKnown) else 0
        if known is None:
            self.client, self.number = client, once.number
            if self.flaw is not None: # it ended the process too often
                return self._fail(server, kind, once.request)
            return self._one(server, kind, once.request, caller)
        if caller is None:
            return self._known(server, kind)
        self.barrier = self.barrier_for(server.kind.level, server.barrier) # of the first one
        return self._repeat(server, known, caller)

    def finish(self, Server server) -> None:
        """Do what its latest input has left to do: a system request comes between two inputs."""
        if self.current is None and server.has_continues():
            self._run_continues(server)

    cdef int _run_continues(self, Server server) except -1:
        if not server.has_continues(): return 0
        try:
            while server.runs and server.has_continues():
                self.continued[server] = self.continued.get(server, -1) + 1
                self._one(server, INPUT_CONTINUE, server.extras.continues.pop(0), None)
        finally:
            self.continued.pop(server, None)
        return 0

    cdef int _one(self, Server server, int kind, object message, Caller caller) except -1:
        cdef tuple actions
        cdef bytes answer = None
        cdef Request request = None
        cdef conn *c = NULL
        if caller is not None and caller.port is not None \
                and caller.spoken != (<Port>caller.port).version:
            try:
                message = self.converted(caller, message)
            except DecodeError as error:
                return self._resolve(caller, None, error)
        if server.kind.restated is not None and kind <= INPUT_CAST:
            message = server.kind.restated(server.instance, message)
        if server.kind.is_gated and kind <= INPUT_CAST:
            if not self.admits(server, kind, message, caller):
                return 0
            if self.is_ephemeral(server.kind, message):
                return self._pass(server, kind, message, caller)
        if kind != INPUT_CONTINUE and server.has_idle_timer():
            self._cancel_idle(server)
        if caller is not None and caller.kind == FROM_CONNECTION:
            c = conns_find(self.conns, caller.connection.token())
        if type(server.state) is Asleep:
            self.wake(server)
        self.barrier = self.barrier_of(server)
        if server.number and not self._record_input(server, kind, message, caller):
            self.client = self.flaw = None
            return 0
        if server.number and kind != INPUT_CONTINUE:
            message = server.ledger.values.as_read(message)
        if self.client is not None:
            request = self._name_request(server)
        self.current = server
        self.current_conn = NULL
        self.current_caller = caller
        server.inputs += 1
        if server.debug() is not None:
            server.debug().took(kind, message, caller)
        try:
            result = self._callback(server, kind, message, caller)
            if self.is_disturbed:
                self.disturbed()
            actions = self._checked(server, kind, result)
            output = result[1]
            ahead = self._check_actions(server, actions) if actions else None # (T3)
            if c != NULL and output is not NO_REPLY:
                answer = self._encoded_for(caller, c, output, None, ahead)
            server.state = result[0]
        except BaseException as error:
            self.current = None
            if self.is_passed_on(error):
                self.record_dropped(server, kind)
                raise
            if server.number:
                self.record_failed(server, kind)
            if request is not None:
                request.fail(server.crash_id())
            return self._crashed(server, error, kind, message, caller)
        if server.debug() is not None:
            server.debug().gave(kind, output, actions, caller)
        self.current = None
        if server.number:
            self.recorded(server, kind, self.stops(actions), output)
        if request is not None:
            self._remember(server, request, caller, output)
        if caller is not None and output is NO_REPLY:
            self._owe(server, caller)
            caller = None
        return self._conclude(server, actions, NULL, answer, caller, output, kind, message)

    cdef object _callback(self, Server server, int kind, object message, Caller caller):
        if self.flaw is not None:
            self.raise_flaw()
        if type(message) is Together and kind <= INPUT_CAST and server.kind.on_together is not None:
            return server.kind.on_together(
                server.instance, message.commands, kind == INPUT_CALL, caller, server.state)
        if kind == INPUT_CALL:
            if server.kind.is_fast_call:
                return server.kind.step(server.instance, message, server.state)
            return server.kind.on_call(server.instance, message, caller, server.state)
        if kind == INPUT_CAST:
            if server.kind.is_fast_cast:
                return server.kind.step(server.instance, message, server.state)
            return server.kind.on_cast(server.instance, message, server.state)
        if kind == INPUT_CASTS:
            return server.kind.on_casts(
                server.instance, message, server.state, not server.mailbox)
        if kind == INPUT_CONTINUE:
            return server.kind.on_continue(server.instance, message, server.state)
        if server.kind.is_deaf and self.on_unexpected is not None:
            self.on_unexpected(server, message)
        return server.kind.on_info(server.instance, message, server.state)

    cdef tuple _checked(self, Server server, int kind, object result):
        """The actions of a well-formed result; raises BadReturn for anything else."""
        cdef Py_ssize_t count
        if not PyTuple_CheckExact(result): # a subclass may well be the state, forgotten alone
            raise BadReturn(server.name, _CALLBACKS[kind], result)
        count = len(result)
        if 2 <= count <= 3 and begins_with(PyTuple_GET_ITEM(result, 1), ACTION) \
                and are_actions(result[1]):
            raise BadReturn(server.name, _CALLBACKS[kind], result, _MISPLACED)
        if count == 2:
            return ()
        if count != 3:
            raise BadReturn(server.name, _CALLBACKS[kind], result)
        actions = result[2]
        if actions is None:
            return ()
        if isinstance(actions, Action):
            return (actions,)
        if not isinstance(actions, (list, tuple)):
            raise BadReturn(server.name, _CALLBACKS[kind], result)
        for action in actions:
            if not isinstance(action, Action):
                raise BadReturn(server.name, _CALLBACKS[kind], result)
        return tuple(actions)

    cdef int _conclude(self, Server server, tuple actions, conn *c, bytes answer, Caller caller,
                       object output, int kind, object message) except -1:
        """The new state stands: carry out the actions, then stop if asked, then reply.

        The reply leaves after `terminate` (OTP, gen_server {stop, Reason, Reply, State}).
        """
        cdef object reason = NOT_STOPPED
        cdef list closes = None
        cdef Caller asker = None # of the input, also where its reply is put off
        cdef uint64_t barrier = self.barrier # hooks may call servers; what waits, waits for ours
        try:
            if actions:
                closes, asker = [], self.current_caller
                reason = self._carry_out(server, actions, closes)
        except BaseException as error:
            if self.is_passed_on(error):
                raise
            # The new state stands, but its effects do not: whoever asked must not hear of success.
            if caller is None and c != NULL and answer is not None:
                caller = self.caller_of(server, c)
            return self._crashed(server, error, 0, actions, caller)
        if reason is not NOT_STOPPED and server.runs:
            if asker is None:
                asker = caller if c == NULL else self.caller_of(server, c)
            self.note_left(server, asker, kind, message)
            ended = ended_error(server.name, server.incarnation, server.inputs, reason)
            self.retire(server, ended)
            self.on_ended(server, reason, 0, None)
            self.barrier = barrier
        if c != NULL and answer is not None:
            self._append(c, answer)
        elif caller is not None and not caller.is_done:
            if caller.kind == FROM_CONNECTION:
                self._close_caller(caller)
                self._settle_connection(caller, answer)
            else:
                self._resolve(caller, output, None)
        if closes:
            for connection in closes:
                self._close(connection)
        if self.drowsy is not None and not server.has_continues(): # which come next, in this turn
            self._doze(server)
        return 0

    cdef int _doze(self, Server server) except -1:
        drowsy, self.drowsy = self.drowsy, None
        return self.hibernate(server) if drowsy is server else 0

    cdef int _crashed(self, Server server, object error, int kind, object message,
                      Caller caller) except -1:
        """The incarnation ends by an exception; whoever waits is told at once."""
        cdef bint was_running = server.runs # it may have been stopped by its own turn
        cdef uint64_t barrier = self.barrier
        cdef bint is_heard = caller is not None and not caller.is_done
        if kind == INPUT_CASTS:
            kind, message = INPUT_CAST, message[0] if len(message) == 1 else message
        self.stats.crashes += 1
        if kind == INPUT_INFO and type(message) is _actions.Opened:
            (<Connection>message.connection).is_unwelcome = True
        crash = None # a third of what a crash costs, were it made for nobody
        if is_heard or server.callers_count or server.mailbox:
            crash = Crashed(server.name, server.crash_id(), error, server.failed_lsn)
        if was_running:
            self.note_left(server, caller, kind, message)
        self.retire(server, crash)
        if was_running:
            self.on_ended(server, error, kind, message)
        self.barrier = barrier
        if is_heard and not caller.is_done:
            self._resolve(caller, None, crash)
        return 0

    # ---- timers ------------------------------------------------------------------------------

    cdef int alarm_fired(self, uint32_t slot, uint64_t id) except -1:
        cdef Alarm alarm = self._due_alarm(slot, id)
        if alarm is None:
            return 0
        self.barrier = 0
        if type(alarm.owner) is Server:
            self._server_timer(<Server>alarm.owner, alarm)
        elif type(alarm.owner) is Caller:
            (<Caller>alarm.owner).timer = None
            error = Timeout((<Caller>alarm.owner).server, alarm.name)
            self._resolve(<Caller>alarm.owner, None, error)
        else:
            alarm.owner()
        return 0

    cdef int _server_timer(self, Server server, Alarm alarm) except -1:
        if server.has_idle_timer() and server.extras.idle_timer is alarm:
            server.extras.idle_timer = None
            if not server.has_inputs(): # a waiting one wins (OTP, gen_server timeouts)
                self.tell(server, TIMEOUT)
        elif server.runs:
            server.mail().append((INPUT_TIMER, alarm, None))
            self._make_ready(server)
        return 0

    cdef int _deliver_timer(self, Server server, Alarm alarm) except -1:
        if server.timer(alarm.name) is not alarm:
            return 0 # (D5)
        server.pop_timer(alarm.name)
        self.timer_name = alarm.name
        if not server.number:
            return self._turn(server, INPUT_TIMER, alarm.message, None)
        due = server.ledger.due.pop(alarm.name)
        self.mark(MARK_TIMER, server.number, due[0])
        self._turn(server, INPUT_TIMER, alarm.message, None)
        if self.stalled:
            self.still_due(server, alarm, due)
        return self.mark(0, 0, 0)
