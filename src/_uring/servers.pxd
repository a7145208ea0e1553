"""Names and those who answer to them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .asked cimport Asked
from .codec cimport Codec
from .leaves cimport conn_limits
from .requests cimport Request, Requests
from .values cimport Values


cpdef enum:
    INPUT_CALL = 1
    INPUT_CAST = 2
    INPUT_INFO = 3
    INPUT_CONTINUE = 4
    INPUT_TIMER = 5
    INPUT_SYSTEM = 9 # a system request: not an input, but it has its place among them


cpdef enum:
    OVERFLOW_BLOCK = 0
    OVERFLOW_REJECT = 1
    OVERFLOW_DROP_OLDEST = 2


cpdef enum:
    ACK_SERVERS = 0 # as the server's worker says
    ACK_MEMORY = 1  # at once
    ACK_OS = 2      # when the kernel has what it shows
    ACK_DISK = 3    # when the disk has


cdef class Control
cdef class Server


cdef class Present:
    cdef uint64_t now_ns
    cdef int64_t wall_offset_ns        # Unix time - monotonic time
    cdef public uint64_t seed
    cdef bint is_passing               # the input leaves no trace (ephemeral.pyx)
    cdef uint64_t unix_ns(self)
    cdef object caller_for(self, Server server)
    cdef object connection_for(self, Server server)


cdef class Address:
    cdef readonly str name
    cdef readonly Server server        # None while nobody answers to the name
    cdef readonly uint64_t incarnation # of the latest
    cdef bint is_journaled             # a server of this name was, since the node started
    cdef bint is_asking                # a listener of it hands on what it is asked for
    cdef bint has_events               # a listener of it tells who comes and goes
    cdef list kept                     # journaled messages for the next one, or None
    cdef list missed                   # ends of connections that a journaled one did not hear of


cdef class Port:
    cdef readonly str name
    cdef readonly str url
    cdef readonly Codec codec
    cdef readonly Address address
    cdef conn_limits limits
    cdef readonly bint has_events
    cdef readonly int fd
    cdef readonly bint is_open
    cdef bint is_armed
    cdef bint is_exhausted
    cdef readonly bint is_held         # it stays open, and accepts nothing
    cdef bint is_unlink
    cdef readonly object tag           # outbound: the Connect action's
    cdef Server connector              # outbound: who asked
    cdef readonly uint64_t accepted
    cdef uint64_t connections_max
    cdef readonly uint64_t connections
    cdef readonly object edge          # converts what others speak (behaviours/speaks.py)
    cdef readonly uint32_t version     # of messages that its server takes; 0 = there is only one
    cdef readonly uint32_t greeting    # of a connection that is new
    cdef bint is_asking                # each message may declare a version, or break the contract
    cdef bint is_direct                # a listener's without contract: messages skip the mailbox
    cdef readonly object contract      # what may be said (behaviours/contract.py), or None


cdef class Alarm:
    cdef uint64_t id                   # of the wheel; 0 = it has fired, or was cancelled
    cdef uint32_t slot                 # where the Alarms keep it while it is armed
    cdef object owner                  # a Server, a Caller, or a function
    cdef object name                   # a server's timer's; None = its idle timer; the limit
    cdef object message


cdef class Kind:
    cdef object step
    cdef object on_call
    cdef object on_cast
    cdef object on_info
    cdef object on_continue
    cdef object on_casts               # takes many casts at once, or None
    cdef object unfinished             # gives what ends what a state has begun, or None
    cdef object restated               # gives a call or cast as it counts, or None: as it is
    cdef object on_together            # takes the commands of a Together, or None: it is a message
    cdef Py_ssize_t capacity
    cdef unsigned char overflow
    cdef bint is_fast_call
    cdef bint is_fast_cast
    cdef bint is_deaf                  # it has no handle_info of its own
    cdef bint is_gated                 # not every input counts (gate.pyx)
    cdef object accepts                # tuple of classes of which calls and casts are; None = any
    cdef object ephemeral              # tuple of classes that no journal has, or None
    cdef frozenset tags                # those of them that are lists or tuples begin so, or None
    cdef object untagged               # what began the latest list and is none of them
    cdef object validate               # says why a call or cast is refused, or None
    cdef char level                    # ACK_: when replies leave
    cdef Present present               # the loop's


cdef class Ledger:
    cdef Values values                 # encodes its inputs
    cdef dict due                      # timer name -> (Unix time ns, message)
    cdef Asked asked                   # what it waits to hear of, or None
    cdef uint64_t failed_lsn           # of the input that it failed on, 0 = none
    cdef uint64_t last_lsn             # of its latest input, 0 = none
    cdef Py_ssize_t unlooked           # so many ephemeral inputs more it is not looked at
    cdef uint32_t sent                 # how many messages its latest input has sent to others,
    cdef uint32_t jobs                 # and how many jobs it has asked for, so far


cdef class Extras:
    cdef list continues
    cdef set waiting                   # callers whose reply was put off
    cdef Alarm idle_timer
    cdef double idle_s                 # of the idle timer, 0 = not armed
    cdef Requests requests             # of clients that name them
    cdef Control control               # what system requests have set
    cdef uint32_t asked                # system requests in its mailbox, which are no inputs
    cdef bint is_greeting              # connections that stood before it are told in its mail
    cdef object generator              # `random`


cdef class Server:
    cdef readonly str name
    cdef readonly object instance
    cdef readonly object state
    cdef readonly uint64_t inputs
    cdef public object owner
    cdef Kind kind
    cdef object mailbox                # a deque while there is mail, else None
    cdef object timers                 # None, the only Alarm, or a dict of them by name
    cdef uint64_t barrier              # batch of the latest record that its state contains
    cdef Ledger ledger                 # None: not journaled
    cdef Extras extras                 # None until one of them is needed
    cdef readonly uint32_t incarnation
    cdef readonly uint32_t number      # in the journal; 0 = not journaled
    cdef uint32_t began_s              # monotonic
    cdef unsigned char runs            # bytes, not bints: it is no larger than it has to be
    cdef unsigned char is_ready

    cdef str _seed(self)
    cdef inline Extras extra(self):
        """Its extras, to put something in."""
        if self.extras is None:
            self.extras = Extras.__new__(Extras)
        return self.extras

    cdef inline bint has_continues(self) noexcept:
        return self.extras is not None and bool(self.extras.continues)

    cdef inline bint has_idle_timer(self) noexcept:
        return self.extras is not None and self.extras.idle_timer is not None

    cdef inline bint has_control(self) noexcept:
        return self.extras is not None and self.extras.control is not None

    cdef inline bint is_greeting(self) noexcept:
        return self.extras is not None and self.extras.is_greeting

    cdef inline object debug(self):
        return self.extras.control.debug if self.has_control() else None

    cdef inline Values encoder(self):
        """Of a journaled server's values; else None."""
        return None if self.ledger is None else self.ledger.values

    cdef inline uint64_t latest_lsn(self) noexcept:
        """Of a journaled server's latest input; 0 = none, or it is not journaled."""
        return 0 if self.ledger is None else self.ledger.last_lsn

    cdef str crash_id(self)
    cdef int note(self, object action) except -1
    cdef Requests requests_made(self)
    cdef Request request_named(self, tuple named)
    cdef object mail(self)
    cdef bint has_inputs(self)
    cdef Py_ssize_t mail_count(self)
    cdef int owes_not(self, object caller) except -1
    cdef Alarm timer(self, object name)
    cdef int add_timer(self, Alarm alarm) except -1
    cdef Alarm pop_timer(self, object name)
    cdef list all_timers(self)
    cdef bint is_suspended(self)


cdef class Asleep:
    cdef readonly uint64_t at
    cdef readonly uint32_t size


cdef class Control:
    cdef readonly bint is_suspended
    cdef readonly object debug         # has took, gave and ended; None = nobody looks
    cdef list paused                   # tokens of connections that wait until it is resumed
    cdef list blocked                  # (kind, message, waiter): casts that wait for room


cdef class Answer:
    cdef public object caller
    cdef object value
    cdef object error
    cdef bint is_settled
    cdef object take(self, str name)
