"""Names, and who answers to them."""

from libc.stdint cimport uint64_t

from .servers cimport Address, Kind, Server
from .turn cimport Turn


cdef class Names(Turn):
    cdef readonly dict addresses       # name -> Address, or the Server if nobody has its address
    cdef Py_ssize_t sweep_at           # so many addresses are looked through
    cdef uint64_t swept_incarnation    # the highest of an address that was swept out
    cdef object kinds                  # class -> its Kinds by settings, as long as it is there
    cdef tuple latest                  # (class, settings, Kind) of the latest server
    cdef public object on_missing      # (name, is_asked=False) -> bool: may make a server; or None

    cdef Server answering(self, str name)
    cdef int _sweep(self) except -1
    cpdef Address address(self, str name)
    cdef Address known(self, str name)
    cdef int answer_itself(self, Address address) except -1
    cpdef Server whereis(self, str name)
    cdef Kind _kind(self, type kind, tuple settings)
