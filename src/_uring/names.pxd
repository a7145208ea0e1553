"""Names, and who answers to them."""

from .servers cimport Address
from .turn cimport Turn


cdef class Names(Turn):
    cdef readonly dict addresses

    cpdef Address address(self, str name)
