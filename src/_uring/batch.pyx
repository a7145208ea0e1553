# cython: language_level=3, binding=True
"""Many calls to one server, one turn after the other, on the loop's thread.

What is saved is the way from thread to thread and the wait for the disk: both are paid once.

Does not know: who waits for the outputs.
"""

from libc.stdint cimport uint64_t

from .dispatch cimport Dispatcher
from .handles cimport Caller
from .servers cimport INPUT_CALL, Address, Answer, Server

from pybehave.errors import NoProc, Suspended, Timeout


def call_many(Dispatcher dispatcher, str name, requests) -> tuple:
    """Call a server with each request.

    Returns:
        (outputs in order, an exception in place of each that failed; the batch of the journal that
        they wait for, 0 = none).
    """
    cdef Answer box
    cdef Caller caller
    cdef Server server
    cdef uint64_t barrier = 0
    outputs = []
    for request in requests:
        server = dispatcher.answering(name)
        if server is None: # it never was, or gave up under one of these
            outputs.append(NoProc(name))
            continue
        if server.is_suspended():
            outputs.append(Suspended(name))
            continue
        box = Answer.__new__(Answer)
        caller = dispatcher._waiter_caller(name, box)
        caller.owner = server
        dispatcher._turn(server, INPUT_CALL, request, caller)
        barrier = max(barrier, dispatcher.barrier)
        if not box.is_settled:
            outputs.append(Timeout(name, 0.0)) # put off: nobody can wait for one of many
        else:
            outputs.append(box.value if box.error is None else box.error)
    return outputs, barrier
