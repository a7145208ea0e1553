# cython: language_level=3, binding=True
"""The gate before a server: what is refused here has not happened.

A class may say of which types its inputs are (`accepts`), and look at each with the state before it
counts (`validate`). Calls and casts come here, from wherever; infos, timers and continues do not,
for the runtime or the server itself has brought them about. Whoever waits for a refused input gets
the error as its reply; a cast that is refused is lost, counted and told.

What the journal does not take has not happened either. A value that has no form there, or none that
could be read again, is an error for whoever waits; a cast or an info is lost, counted and told.

What `validate` raises is a crash of the step that it stands before: it is raised there, so that
record, dead letter, supervision and recovery are those of any crash.

Invariants
  (A1) What is refused is not recorded, not stepped and not counted as an input; it changes no
       timer, and the name that its client gave it (`Once`) stays free.
  (A2) A server that declares nothing costs one comparison an input.
  (A3) The shortest ways (a message straight out of the receive buffer, a call on the loop's thread)
       are for commands that need not be asked about, the first also for questions (ephemeral.pyx);
       all else comes by the general road.
  (A4) What was sent by a journaled server is settled by its refusal, durably: a record says so, for
       else each start would deliver it again. Nobody failed on it.

Does not know: what the declarations mean (pybehave/behaviours/inputs.py), turns (dispatch.pyx).
"""

from .acting cimport Acting
from .codec cimport AGREED_VERSION
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport (
    ACK_SERVERS, INPUT_CALL, INPUT_CAST, OVERFLOW_BLOCK, Asleep, Kind, Port, Server,
)

from pybehave import actions as _actions
from pybehave.errors import (
    BadReturn, InputTypeMismatch, JournalBusy, JournalFull, NotJournalable, PybehaveError,
    RecordTooLarge, Rejected,
)
from pybehave.once import Once as _Once
from pybehave.together import Together as _Together

cdef type CallFailed = _actions.CallFailed
cdef type CallReply = _actions.CallReply
cdef type Received = _actions.Received
cdef type Once = _Once
cdef type Together = _Together
cdef Py_ssize_t UNTAGGED_BYTES_MAX = 64 # of what is kept
cdef str ALLOWED = "return None for an input that may come, else why it may not"


# Not final: the Dispatcher is the rest of it.
cdef class Gate(Acting):
    """Which inputs count. Base of the Dispatcher."""

    def __cinit__(self):
        self.on_refused = None
        self.flaw = None

    cdef bint goes_straight(self, Server server, conn *c, Port port):
        """Whether plain commands of a connection need no mailbox and no caller (A3)."""
        return server.kind.is_fast_call and server.kind.overflow == OVERFLOW_BLOCK \
            and not server.has_continues() and not server.has_control() \
            and not server.is_greeting() \
            and port.is_direct and c.protocol <= AGREED_VERSION \
            and c.spoken == port.version

    cdef bint is_ephemeral(self, Kind kind, object message) except -1:
        """Whether no journal has it (ephemeral.pyx)."""
        if kind.ephemeral is None:
            return False
        if kind.tags is not None and type(message) is list: # a command of RESP
            return self._is_tagged(kind, message)
        try:
            return isinstance(message, kind.ephemeral)
        except Exception: # it cannot be hashed; or a metaclass of the user's
            return False

    cdef bint _is_tagged(self, Kind kind, list message) except -1:
        cdef object tag
        if not message:
            return False
        tag = message[0]
        if tag is kind.untagged and tag is not None:
            return False
        try:
            if tag in kind.tags:
                return True
        except Exception: # it cannot be hashed
            return False
        if type(tag) is bytes and len(tag) <= UNTAGGED_BYTES_MAX:
            kind.untagged = tag # a name that the codec knows is the same object each time
        return False

    cdef bint passes(self, Kind kind, object message) except -1:
        """Whether a message may go the shortest way (A3)."""
        if type(message) is Once or type(message) is Together:
            return False
        if not kind.is_gated:
            return True
        if kind.validate is not None:
            return False
        if self.is_ephemeral(kind, message):
            return False
        try:
            return kind.accepts is None or isinstance(message, kind.accepts)
        except Exception: # a metaclass of the user's; it is asked once more, where that is a crash
            return False

    cdef bint admits(self, Server server, int kind, object message, Caller caller) except -1:
        """Whether a call or cast is to be recorded and stepped; a refused one is answered here.

        True also when the question itself has failed: then `raise_flaw` raises, in the step.
        """
        cdef bint was_asleep = type(server.state) is Asleep
        self.barrier = self.barrier_of(server) # a refusal tells of the state
        self.current = server
        self.current_conn = NULL
        self.current_caller = caller
        try:
            error = self._refusal(server, message, caller)
            if self.is_disturbed:
                self.disturbed()
        except BaseException as flaw:
            self.current = None
            if self.is_passed_on(flaw):
                self.client = self.caused = None
                raise
            self.flaw = flaw
            return True
        self.current = None
        if error is None:
            return True
        self.client = None # (A1)
        if self.caused is server:
            self._settle_cause(server, kind)
        self._refuse(server, error, caller)
        if was_asleep:
            self.hibernate(server)
        return False

    cdef object _refusal(self, Server server, object message, Caller caller):
        """Why a server does not take an input; None = it does. Raises whatever it is asked with."""
        cdef Kind kind = server.kind
        if type(message) is Together and kind.on_together is not None:
            for command in message.commands:
                error = self._refusal(server, command, caller)
                if error is not None:
                    return error
            return None
        if kind.accepts is not None and not isinstance(message, kind.accepts):
            return InputTypeMismatch(server.name, message, kind.accepts)
        if kind.validate is None:
            return None
        self.wake(server)
        reason = kind.validate(server.instance, message, server.state)
        if reason is None:
            return None
        if reason is True or reason is False: # a question was answered that nobody had asked
            raise BadReturn(server.name, "validate", reason, ALLOWED)
        return Rejected(server.name, reason)

    cdef int _refuse(self, Server server, object error, Caller caller) except -1:
        self.stats.inputs_refused += 1
        if caller is not None:
            return self._resolve(caller, None, error)
        self.stats.casts_lost += 1
        if self.on_refused is not None:
            self.on_refused(server, error)
        return 0

    cdef bint _record_message(self, Server server, conn *c, Port port, object message) except -1:
        """Record a message that is about to be stepped; a refused one is answered here."""
        try:
            self.record(server, INPUT_CALL, message)
        except PybehaveError as error:
            self.answer_error(c, port, error)
            return False
        return True

    cdef bint _record_input(self, Server server, int kind, object message,
                            Caller caller) except -1:
        """Record an input from elsewhere; whoever waits is told when that cannot be."""
        try:
            self.record(server, kind, message)
        except PybehaveError as error:
            if caller is not None: # it tells nothing of the state, which may wait for room
                self.barrier, caller.level = 0, ACK_SERVERS
                self._resolve(caller, None, error)
            else:
                self._unrecorded(server, kind, message, error)
            return False
        return True

    cdef int _unrecorded(self, Server server, int kind, object message, object error) except -1:
        """Nobody waits for an input that the journal does not take."""
        cdef bint is_odd = isinstance(error, NotJournalable | RecordTooLarge)
        if self.caused is server:
            self.commit.is_behind = isinstance(error, JournalBusy)
            self.refusal = error
        elif kind != INPUT_CAST and isinstance(error, JournalFull | JournalBusy):
            self.stalled.append((server, (kind, message, None)))
            return 0
        elif is_odd and type(message) is CallReply: # it hears of its call all the same
            self.tell(server, CallFailed(message.tag, message.server, error))
        elif kind == INPUT_CAST or is_odd:
            self.stats.casts_lost += 1
            if type(message) is Received:
                self._unheard_of(message)
        else:
            return self._crashed(server, error, kind, message, None)
        if is_odd and self.on_refused is not None:
            self.on_refused(server, error)
        return 0

    cdef int _settle_cause(self, Server server, int kind) except -1:
        """The message of another journaled server has arrived, and came to nothing (A4)."""
        if server.number:
            self.settle(server.number, kind, self.cause_lsn, self.cause_index)
        self.outbox.pop((self.cause_lsn, self.cause_index), None)
        self.caused = None
        return 0

    cdef int _known(self, Server server, int kind) except -1:
        """A cast that its sender has named and that was stepped before: it has arrived, too."""
        return self._settle_cause(server, kind) if self.caused is server else 0

    cdef int raise_flaw(self) except -1:
        """Raise what `validate` has raised, where a step raises."""
        flaw, self.flaw = self.flaw, None
        raise flaw
