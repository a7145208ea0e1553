# cython: language_level=3, binding=True
"""System requests: what operators do to a server between two of its inputs.

A server that is looked at, or suspended, has a Control; nearly none has, and then all this costs
one comparison with None an input. With one, messages of connections take the mailbox like all
others, so that there is one place where an input begins and ends.

Suspended, a server takes no inputs. They wait where they always wait, by the policy of its mailbox:
under `block` connections are read no further and casts of other threads wait when it is full; under
the others the mailbox fills, and then refuses or drops. Callers run out of time by themselves.

Invariants
  (X1) A system request is no input: it is not counted, has no turn, and the server's timers go on.
  (X2) Resumed, a server takes what waited in the order in which it came: connections get past the
       mailbox again only when it has been empty.
  (X3) Whoever waits for a suspended server goes on when it is resumed and when it ends.
  (X4) The state of a journaled server is replaced by a record, so that a replay replaces it too.
  (X5) Code changes between two inputs: name, incarnation, mailbox, callers and timers stay.
  (X6) A server whose state is not in memory gets it back before its next input, its end and its
       suspension; a server hibernates only between two inputs, with none that waits, and while it
       owes no reply: `dump` may leave callers out, and those that are read back are answered.
  (X7) A request has its place behind the inputs that waited when it came, as a message has. A
       server that is suspended, or ends, takes none of those: then it is carried out at once.

Does not know: who asks, and what the functions are that look (runtime/sys.py, runtime/debug.py).
Source: OTP sys; suspended processes in gen_server and sys:suspend_loop.
"""

from libc.stdint cimport uint64_t

from .codec cimport FRAME_READER
from .commit cimport RECORD_STATE
from .handles cimport FROM_CONNECTION, Caller
from .leaves cimport (
    CONN_FREE, END_SHUTDOWN, PAUSE_SUSPENDED, conn, conn_finish, conn_pause, conn_resume,
    conn_takes_input, conn_token, conns_find,
)
from .mailboxes cimport Mailboxes
from .servers cimport INPUT_SYSTEM, OVERFLOW_BLOCK, Asleep, Control, Extras, Kind, Port, Server

from pybehave.errors import Stopped

# Connections that ended while they waited leave their names behind; beyond this many they are
# looked for.
cdef Py_ssize_t PAUSED_CHECKED = 1024


cdef bint _is_client(object caller):
    return caller is not None and (<Caller>caller).kind == FROM_CONNECTION


# Not final: the Dispatcher is the rest of it.
cdef class System(Mailboxes):
    """System requests to servers that run. Base of the Dispatcher."""

    cpdef int hibernate(self, Server server) except -1:
        """An input has asked for it, and is over (X6)."""
        if self.on_hibernate is None or not server.runs or not server.number \
                or server.has_continues() or server.mailbox or server.has_control() \
                or (server.extras is not None and server.extras.waiting) \
                or type(server.state) is Asleep:
            return 0
        asleep = self.on_hibernate(server)
        if asleep is not None:
            server.state = asleep
        return 0

    cpdef int wake(self, Server server) except -1:
        """Let a server have its state in memory; one that has, keeps it."""
        if type(server.state) is Asleep:
            server.state = self.on_wake(server, server.state)
        return 0

    def in_turn(self, str name, function) -> None:
        """Carry a request out when its turn comes (X7).

        Args:
            function: Looks the server up by itself; it raises nothing.
        """
        cdef Server server = self.whereis(name)
        cdef Extras extras
        if server is None or server.is_suspended() \
                or (not server.mailbox and self._unfinished(server) is None):
            function()
            return
        server.mail().append((INPUT_SYSTEM, function, None))
        extras = server.extra()
        extras.asked += 1
        self._make_ready(server)

    cdef object _unfinished(self, Server server):
        """What a server has to take before a request, as part of what it has taken; or None."""
        if server.kind.unfinished is None or not server.runs or type(server.state) is Asleep:
            return None
        return server.kind.unfinished(server.state)

    cdef int _bring_forward(self, Server server) except -1:
        """Requests do not wait behind inputs that are not taken (X7)."""
        mailbox = server.mailbox
        asked = [item[1] for item in mailbox or () if item[0] == INPUT_SYSTEM]
        if asked:
            server.mailbox = type(mailbox)(item for item in mailbox if item[0] != INPUT_SYSTEM)
            server.extras.asked -= len(asked)
        for function in asked: # not at once: whoever suspends it is in the middle of something
            self.start_alarm(0.0, function)
        return 0

    def suspend(self, Server server) -> None:
        """Let a server take no more inputs; suspended twice is suspended."""
        self.wake(server)
        control = self._control(server)
        if not control.is_suspended:
            control.is_suspended = True
            self.suspended_count += 1
            self._bring_forward(server)

    def resume(self, Server server) -> None:
        """Let a suspended server go on with what has waited."""
        cdef Control control
        if not server.is_suspended():
            return
        control = server.extras.control
        control.is_suspended = False
        self.suspended_count -= 1
        self._let_go(server, control)
        if server.mailbox:
            self._make_ready(server)
        else:
            self.settle_control(server)

    def refuse_clients(self, Server server) -> int:
        """The node is to stop, and a suspended server will answer nobody: connections that wait for
        it are told so, and are read no further. Returns how many requests that were; 0 also when it
        is not suspended.
        """
        cdef Caller caller
        cdef Control control
        cdef conn *c
        cdef uint64_t token
        if not server.is_suspended():
            return 0
        error = Stopped(server.name, "shutdown")
        mailbox = server.mailbox
        refused = [item[2] for item in mailbox or () if _is_client(item[2])]
        if refused:
            server.mailbox = type(mailbox)(item for item in mailbox if not _is_client(item[2]))
        if server.extras.waiting is not None:
            refused.extend(caller for caller in list(server.extras.waiting) if _is_client(caller))
        self.barrier = 0
        for caller in refused:
            self._resolve(caller, None, error)
        control = server.extras.control
        paused, control.paused = control.paused, []
        for token in paused:
            c = conns_find(self.conns, token)
            if c != NULL and conn_takes_input(c):
                self.answer_error(c, <Port>c.port, error)
                conn_finish(self.conns, c, END_SHUTDOWN)
        return len(refused) + len(paused)

    def set_debug(self, Server server, debug) -> None:
        """Let an object see each input (`took`), its outcome (`gave`) and the end (`ended`)."""
        self._control(server).debug = debug
        if not server.mailbox:
            self.settle_control(server)

    def replace(self, Server server, state, bytes payload) -> int:
        """Put another state in place; the batch that makes that durable, whatever the level of the
        server's replies; 0 = nothing does.

        Args:
            payload: A journaled server's state as its record keeps it (X4).

        Raises:
            JournalFull, JournalBusy, DurabilityLost, RecordTooLarge: It is as it was.
        """
        if server.number:
            self.commit.try_record(RECORD_STATE, server.number, payload, self.unix_ns())
            server.barrier = self.commit.j.batch
        server.state = state
        return server.barrier

    def unfinished(self) -> list:
        """The servers whose latest input, or init, has something left to do (`finish`)."""
        cdef Server server
        return [server for server in (*self.ready, *self.parked) if server.has_continues()]

    def change_code(self, Server server, instance, state, values, bint is_fast_call,
                    bint is_fast_cast, bint is_deaf) -> None:
        """Let a suspended server go on as another instance, of another class maybe (X5).

        Args:
            values: What encodes its inputs from now on; None when it is not journaled.
        """
        cdef Kind before = server.kind
        assert server.is_suspended() and not server.has_continues()
        self.kinds.pop(type(server.instance), None) # other servers of it hold their own
        self.latest = (None, None, None)
        instance.context = server
        server.instance, server.state = instance, state
        if server.ledger is not None:
            server.ledger.values = values
        server.kind = self._kind(type(instance), (
            before.capacity, before.overflow, before.level, is_fast_call, is_fast_cast, is_deaf))

    def post_when_room(self, str name, int kind, message, waiter) -> None:
        """A cast of another thread, which waits as long as a suspended server has no room."""
        cdef Server server = self.whereis(name)
        if server is not None and server.is_suspended() and server.kind.overflow == OVERFLOW_BLOCK \
                and server.mail_count() >= server.kind.capacity:
            server.extras.control.blocked.append((kind, message, waiter))
            return
        self.post(name, kind, message, None)
        waiter.settle(None, None)

    cdef Control _control(self, Server server):
        if server.extra().control is None:
            server.extras.control = Control.__new__(Control)
        return server.extras.control

    cdef int settle_control(self, Server server) except -1:
        """Forget the control of a server that nobody looks at; its mailbox is empty (X2)."""
        if not server.extras.control.is_suspended and server.extras.control.debug is None:
            server.extras.control = None
        return 0

    cdef int release(self, Server server, object error) except -1:
        """The incarnation has ended (X3)."""
        cdef Control control = server.extras.control
        server.extras.control = None
        if control.is_suspended:
            self.suspended_count -= 1
        if control.debug is not None:
            control.debug.ended(error)
        return self._let_go(server, control)

    cdef int note_left(self, Server server, Caller caller, int kind, object message) except -1:
        """What is known of a server now, and not any more when its end is reported."""
        debug = server.debug()
        self.left = (caller, server.mailbox, server.callers_count, server.timers_count, debug,
                     kind, message)
        return 0

    def take_left(self):
        """(caller, mailbox or None, callers, timers, debug or None, kind, message) of the server
        that has just ended by itself; None when that was told already.
        """
        left, self.left = self.left, None
        return left

    cdef bint hold_back(self, Port port, conn *c):
        """Read no further from a connection whose server is suspended; False = it is not."""
        cdef Server server = port.address.server if port.address is not None else port.connector
        if server is None or server.kind.overflow != OVERFLOW_BLOCK or not server.is_suspended() \
                or port.codec.frame.kind == FRAME_READER: # its messages may be for others
            return False
        conn_pause(self.conns, c, PAUSE_SUSPENDED)
        paused = server.extras.control.paused
        if len(paused) > max(PAUSED_CHECKED, 2 * self.conns.open_count):
            server.extras.control.paused = paused = [
                token for token in paused if conns_find(self.conns, token) != NULL]
        paused.append(conn_token(c, 0))
        return True

    cdef int _let_go(self, Server server, Control control) except -1:
        """Connections and threads that waited go on (X3)."""
        cdef conn *c
        cdef uint64_t token
        paused, control.paused = control.paused, []
        for token in paused:
            c = conns_find(self.conns, token)
            if c != NULL and c.state != CONN_FREE:
                conn_resume(self.conns, c, PAUSE_SUSPENDED)
        blocked, control.blocked = control.blocked, []
        for kind, message, waiter in blocked:
            self.post(server.name, kind, message, None)
            waiter.settle(None, None)
        return 0
