"""The input that is being stepped: whose it is, where it came from, at which time."""

from libc.stdint cimport uint32_t, uint64_t

from .alarms cimport Alarms
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport Server


# What a marker says that the process is stepping (pybehave/journal/attempts.py).
cdef enum:
    MARK_TIMER = 2
    MARK_MESSAGE = 3


cdef class Turn(Alarms):
    cdef uint64_t[::1] marker          # what is stepped that a next start would step, or None
    cdef dict poison                   # (lsn, index) -> error, of messages not to be stepped; None
    cdef Server current
    cdef conn *current_conn
    cdef Caller current_caller
    cdef object timer_name             # of the timer that is being delivered
    cdef Server caused                 # whose next input is a message of another journaled server:
    cdef uint64_t cause_lsn            # of the input of that lsn the message of that index
    cdef uint32_t cause_index
    cdef readonly dict outbox          # (lsn, index) -> (name, kind, message): not recorded yet
    cdef dict continued                # Server -> which of its input's continues it is at, from 0
    cdef bytes client                  # who has named the request that is being stepped, or None
    cdef uint64_t number               # the name that it gave it
    cdef bint is_forked                # this is a fork's child: nothing is guarded any more
    cdef bint is_disturbed             # it is, or the step is to be aborted (watchdog.py)
    cdef tuple aborted                 # (server's name, seconds) of the step that was
    cdef bint is_interruptible         # on the main thread, where Ctrl-C comes

    cdef int mark(self, uint64_t kind, uint64_t server, uint64_t key) except -1
    cdef int await_abort(self) except -1
    cdef bint is_passed_on(self, error)
    cdef int disturbed(self) except -1
    cdef uint64_t barrier_of(self, Server server) except? 1
    cdef uint64_t barrier_for(self, int level, uint64_t batch) except? 1
    cdef int record(self, Server server, int kind, object message) except -1
    cdef int recorded(self, Server server, int kind, unsigned flags, object output) except -1
    cdef unsigned _name(self)
    cdef unsigned _cause(self, Server server)
    cdef unsigned _record_connection(self, Server server) except? 0xffffffff
    cdef int record_failed(self, Server server, int kind) except -1
    cdef int _record_not_continued(self, Server server, int place) except -1
    cdef int not_continued(self, Server server) except -1
    cdef int record_dropped(self, Server server, int kind) except -1
    cdef unsigned stops(self, tuple actions)
