"""What Python may hold: connections, callers. They name, they own nothing of the kernel."""

from libc.stdint cimport uint32_t, uint64_t

from .exchange cimport Exchange
from .reading cimport Partial


cdef class Ticket:
    cdef bytes answer
    cdef bint is_ready
    cdef uint64_t batch    # of the journal: the answer waits until it is durable; 0 = none


cdef class Connection:
    cdef readonly uint32_t slot
    cdef readonly uint32_t generation
    cdef readonly bint is_open
    cdef readonly uint64_t session # of the process it lived in; 0 = this one
    cdef readonly str peer
    cdef readonly str listener
    cdef object __weakref__
    cdef Py_ssize_t waiting_bytes  # of tickets and the answers in them
    cdef object tickets    # deque of Ticket, or None while every answer was given at once
    cdef readonly object place     # where its contract stands; None = at the beginning
    cdef bint is_unwelcome         # a server has crashed on its Opened
    cdef Partial partial   # a message that its protocol's reader has not had the end of, or None
    cdef uint64_t token(self)


cpdef enum:
    FROM_CONNECTION = 1
    FROM_WAITER = 2
    FROM_SERVER = 3


cdef class Caller:
    cdef readonly int kind
    cdef readonly bint is_done
    cdef bint is_unheard            # its connection wants no reply to this request
    cdef bint is_patient            # a request not begun waits for the next incarnation
    cdef bint is_urgent             # it goes ahead of what waits in the mailbox
    cdef readonly object server     # name of the server that owes the reply
    cdef readonly Connection connection
    cdef Ticket ticket
    cdef object waiter              # FROM_WAITER: has settle(value, error)
    cdef int level                  # ACK_: when it wants its reply
    cdef object sender              # FROM_SERVER: name of the asking server
    cdef object tag
    cdef object timer               # its Alarm, or None
    cdef object owner               # the Server incarnation
    cdef Exchange exchange          # what answers it; None = its connection's protocol
    cdef object request             # its Request, if that has a name and no outcome yet; of one
                                    # that was read of bytes: (client, number) (Q5)
    cdef object port                # FROM_CONNECTION: its Port, whose edge it was asked across ...
    cdef uint32_t spoken            # ... in this version
    cdef object contract            # of its Port when it came; None = there was none
    cdef tuple move                 # of the contract by the reply that was made and has not left:
                                    # (place before, after, output); or None
    cdef bint is_together           # it was several commands: so many outputs are converted
