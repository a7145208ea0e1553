"""Names, and who answers to them."""

from libc.stdint cimport uint64_t

from .servers cimport Address, Callbacks, Server
from .turn cimport Turn


cdef class Names(Turn):
    cdef readonly dict addresses
    cdef Py_ssize_t sweep_at           # so many addresses are looked through
    cdef uint64_t swept_incarnation    # the highest of an address that was swept out
    cdef object callbacks              # class -> Callbacks, as long as the class is there
    cdef public object on_missing      # (name) -> None: may make a server of that name; or None

    cdef Server answering(self, str name)
    cdef int _sweep(self) except -1
    cpdef Address address(self, str name)
    cdef Callbacks _callbacks_of(self, type kind)
