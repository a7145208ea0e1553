"""Names, and who answers to them."""

from .servers cimport Address, Callbacks
from .turn cimport Turn


cdef class Names(Turn):
    cdef readonly dict addresses
    cdef object callbacks              # class -> Callbacks, as long as the class is there

    cpdef Address address(self, str name)
    cdef Callbacks _callbacks_of(self, type kind)
