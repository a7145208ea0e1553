"""The newest records in pages of a file, where they outlive the process."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class Tail:
    cdef uint8_t[::1] pages
    cdef readonly uint64_t area_bytes
    cdef readonly uint64_t next_lsn # everything before it is kept here, or durable
    cdef uint64_t seed
    cdef uint64_t at                # next free byte of the area in use
    cdef int area
    cdef object coder               # pybehave/journal/codec.py; None = records are kept as they are

    cdef bint put(self, const uint8_t *body, uint64_t size, uint64_t lsn,
                  uint32_t records) except -1
    cdef bint _put(self, const uint8_t *body, uint64_t size, uint64_t lsn, uint32_t records,
                   uint64_t flags) except -1
    cdef int turn_over(self) except -1
