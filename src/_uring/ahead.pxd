"""What is about to be looked up."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from .servers cimport Port


cdef size_t look_ahead(Port port, const uint8_t *data, size_t size,
                       uint64_t *keys) except? 0
