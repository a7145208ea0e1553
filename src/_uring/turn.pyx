# cython: language_level=3, binding=True
"""The input that is being stepped: whose it is, where it came from, at which time.

What callbacks may ask of it is their `context`. For a journaled server the input is recorded here:
before the step, so that an input that cannot be kept is never stepped, and closed after it, with
the outcome. A step that raised leaves its input as FAILED: replay does not step it again.

Does not know: how servers are found and stepped (dispatch.pyx), what the journal does with records.
"""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from .alarms cimport Alarms
from .commit cimport (
    RECORD_CAUSE, RECORD_FAILED, RECORD_FROM, RECORD_REQUEST, RECORD_STOPS,
)
from .handles cimport Caller, Connection
from .leaves cimport conn
from .servers cimport (
    ACK_DISK, ACK_MEMORY, ACK_OS, INPUT_CONTINUE, INPUT_INFO, INPUT_TIMER, Server,
)

from pybehave.actions import Stop as _Stop
from pybehave.errors import LoopForked, PybehaveError, StepAborted as _StepAborted

cdef extern from "Python.h":
    int PyThreadState_SetAsyncExc(unsigned long, PyObject *)

cdef object Stop = _Stop
cdef type StepAborted = _StepAborted
cdef object take_notice = eval("lambda: None") # Python's own code: it looks for what is pending


# Not final: the Dispatcher is the rest of it.
cdef class Turn(Alarms):
    """The current input. Base of the Dispatcher."""

    def __cinit__(self):
        self.outbox = {}
        self.continued = {}
        self.marker = None

    def set_marker(self, marker, dict poison=None) -> None:
        """Three numbers that outlive the process: what is stepped that a next one would step, too.

        Args:
            marker: None = nothing is marked.
            poison: Messages that ended processes too often: (lsn, index) -> what they fail with.
        """
        self.marker, self.poison = marker, poison or None

    cdef int mark(self, uint64_t kind, uint64_t server, uint64_t key) except -1:
        """Say what is stepped from now on; kind 0 is nothing."""
        if self.marker is not None:
            self.marker[1], self.marker[2], self.marker[0] = server, key, kind
        return 0

    def caller_now(self, str name):
        """The caller of the current input of that server, or None."""
        if self.current is None or self.current.name != name:
            return None
        return self.caller_for(self.current)

    cdef object caller_for(self, Server server):
        if self.current is not server:
            return None
        if self.current_caller is None and self.current_conn != NULL:
            self.current_caller = self.caller_of(server, self.current_conn)
        return self.current_caller

    cdef object connection_for(self, Server server):
        if self.current is not server:
            return None
        if self.current_conn != NULL:
            return self.connection_of(self.current_conn)
        return None if self.current_caller is None else self.current_caller.connection

    def stepping(self):
        """(Server, its count of inputs) while a step runs, else None; from any thread."""
        return None if self.current is None else (self.current, self.current.inputs)

    def abort_step(self, Server server, uint64_t inputs, unsigned long thread,
                   double seconds) -> bool:
        """Raise StepAborted in a step that runs on the loop's thread; False: it has ended already.

        From another thread, which holds the GIL: the step cannot end meanwhile. If it ends before
        it comes to notice (it was in C, or swallows the exception), `disturbed` raises instead.
        """
        if self.current is not server or server.inputs != inputs or not server.runs:
            return False
        self.aborted = (server.name, seconds)
        self.is_disturbed = True
        PyThreadState_SetAsyncExc(thread, <PyObject *>StepAborted)
        return True

    cdef int disturbed(self) except -1:
        """A step has returned, but not as if nothing had happened."""
        if self.is_forked: # the ring is not the child's
            raise LoopForked()
        raise StepAborted(*self.aborted)

    cdef int await_abort(self) except -1:
        """An abort that has not come yet comes now, and ends here. Taking it back would leave
        CPython's flag that something is pending: with a tracer, 3.11 waits for that for ever."""
        try:
            take_notice()
        except StepAborted:
            pass
        return 0

    cdef bint is_passed_on(self, error):
        """Whether an exception is not the server's own: Ctrl-C, or the end of a fork's child."""
        if self.is_disturbed and not self.is_forked:
            self.await_abort()
            self.is_disturbed = False
            if type(error) is StepAborted:
                error.__init__(*self.aborted) # the interpreter made it without arguments
        if self.is_forked or (self.is_interruptible and isinstance(error, KeyboardInterrupt)):
            self.current = None
            if not self.is_forked: # a fork's child has the marker of its parent
                self.mark(0, 0, 0) # nothing has ended the process: somebody has
            return True
        return False

    def unix_now(self) -> int:
        """Unix time of this tick, ns; while inputs are stepped again, of the input."""
        return self.unix_ns()

    @property
    def stepping_name(self):
        """Name of the server whose input is being stepped, or None between inputs."""
        return None if self.current is None else self.current.name

    def raise_clock(self, uint64_t unix_ns) -> None:
        """Let Unix time be at least this: a journal's times never go back (F-26)."""
        if self.unix_ns() < unix_ns:
            self.wall_offset_ns += unix_ns - self.unix_ns()

    def barrier_now(self) -> int:
        """The batch that the latest turn's outputs wait for; 0 = none."""
        return self.barrier

    def set_unix_now(self, uint64_t unix_ns) -> None:
        """Set the time back after a replay."""
        self.now_ns = <uint64_t>(<int64_t>unix_ns - self.wall_offset_ns)

    # ---- records -----------------------------------------------------------------------------

    cdef int record(self, Server server, int kind, object message) except -1:
        """Record an input of a journaled server. Raises what the asker is to be told."""
        if kind == INPUT_CONTINUE:
            return 0 # follows from the input before it
        if kind == INPUT_TIMER:
            message = [self.timer_name, message]
        self.commit.open_input(server.ledger.values, message, self.unix_ns(), self.client,
                               self.number, self.cause_lsn if self.caused is server else 0,
                               self.cause_index)
        if kind == INPUT_INFO and server.ledger.asked is not None:
            server.ledger.asked.heard(message)
        server.barrier = self.commit.j.batch
        self.barrier = self.barrier_of(server)
        return 0

    cdef int recorded(self, Server server, int kind, unsigned flags, object output) except -1:
        if kind != INPUT_CONTINUE:
            flags |= self._record_connection(server)
            if self.client is not None or self.caused is not None:
                flags |= self._name() | self._cause(server)
            server.ledger.sent = server.ledger.jobs = 0
            server.ledger.last_lsn = self.commit.close_input(
                kind, flags, server.number, server.ledger.values.outcome(output))
        if server.kind.level == ACK_OS and self.barrier == 0:
            self.commit.keep()
        return 0

    cdef uint64_t barrier_of(self, Server server) except? 1:
        """The batch that the outputs of a turn wait for, 0 = none. At the level "os" that is none
        if the records can be kept; they are when the turn is recorded."""
        if server.kind.level == ACK_DISK or (
                server.kind.level == ACK_OS and not (server.number and self.commit.can_keep())):
            return server.barrier
        return 0

    cdef uint64_t barrier_for(self, int level, uint64_t batch) except? 1:
        """What an output waits for at a level, when it shows everything up to a batch."""
        if level == ACK_MEMORY or (
                level == ACK_OS and (self.commit is None or self.commit.keep())):
            return 0
        return batch

    cdef int record_failed(self, Server server, int kind) except -1:
        if kind == INPUT_CONTINUE:
            self._record_not_continued(server, self.continued[server])
        else:
            flags = self._record_connection(server) | self._name() | self._cause(server)
            server.ledger.failed_lsn = self.commit.close_input(
                kind, RECORD_FAILED | flags, server.number, 0)
        if server.kind.level == ACK_OS and self.barrier == 0:
            self.commit.keep()
        return 0

    cdef int _record_not_continued(self, Server server, int place) except -1:
        """From that place on nothing was called (Y8); what failed there a replay may not come to.
        """
        server.extras.continues = None
        self.commit.record_failed(
            INPUT_CONTINUE, server.number, server.ledger.values.encode(place), self.unix_ns())
        return 0

    cdef int not_continued(self, Server server) except -1:
        """It ends before what it was to be continued with: by a link, say, or a supervisor."""
        if not server.has_continues():
            return 0
        if not server.number or self.commit.j.open_at: # another one's step has ended it
            server.extras.continues = None
            return 0
        try:
            self._record_not_continued(server, self.continued.get(server, -1) + 1)
        except PybehaveError: # no record is taken any more: the next start finds no later one
            pass
        return 0

    cdef unsigned _name(self):
        """The flag of a request that its client has named."""
        if self.client is None:
            return 0
        self.client = None
        return RECORD_REQUEST

    cdef unsigned _cause(self, Server server):
        """The flag of an input that another one's step has sent: now it has arrived."""
        if self.caused is not server:
            return 0
        self.outbox.pop((self.cause_lsn, self.cause_index), None)
        self.caused = None
        return RECORD_CAUSE

    cdef unsigned _record_connection(self, Server server) except? 0xffffffff:
        """Where the input came from, if the server may have looked: its handle is there."""
        cdef Connection connection = None
        if self.current_conn != NULL:
            if self.current_conn.hold != NULL:
                connection = <Connection>self.current_conn.hold
        elif self.current_caller is not None:
            connection = self.current_caller.connection
        if connection is None:
            return 0
        server.ledger.values.out.used = 0
        server.ledger.values.put(connection, 0)
        return RECORD_FROM if self.commit.more(server.ledger.values) else 0

    cdef int record_dropped(self, Server server, int kind) except -1:
        """KeyboardInterrupt: the loop ends, the input counts as never taken."""
        self.client = None
        self.caused = None
        if server.number and kind != INPUT_CONTINUE:
            self.commit.drop_input()
        return 0

    cdef unsigned stops(self, tuple actions):
        """The flag of a record whose input ends the server."""
        for action in actions:
            if type(action) is Stop:
                return RECORD_STOPS
        return 0
