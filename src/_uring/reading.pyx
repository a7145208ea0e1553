# cython: language_level=3, binding=True
"""A message in the making: what a protocol's reader has had of it, and what it waits for.

Theory. Some messages cannot be found by a look at their first bytes: those of HTTP have a head, and
what follows depends on what the head says. A parser that takes a stream piece by piece finds them,
but takes everything it is given, the next message's bytes included. So the pieces are cut here: the
reader says how many bytes are certain to belong to its message, or by which bytes one of unknown
size may end. A piece ends there, and after each the reader says whether the message is complete.

The bytes stay with the connection until the message is complete, as with every framing: who takes
the connection over reads them again from the first (ports.pyx, `held`). A message that came whole,
as most do, costs one call of the reader, and leaves nothing behind.

Invariants
  (P1) A piece never holds bytes of two messages.
  (P2) The reader is given every byte of a message once, in order; which pieces those were, its
       result must not depend on.
  (P3) After a message, `fed` and `want` are 0 and the reader is fresh.

Does not know: connections, codecs, what a message is.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef extern from "string.h" nogil:
    void *memmem(const void *, size_t, const void *, size_t)

cdef extern from "frame.h" nogil:
    enum:
        FRAME_MORE, FRAME_READY, FRAME_MALFORMED

cdef Py_ssize_t END_BYTES_MAX = 8 # as of lines


@cython.final
cdef class Partial:
    """A reader, and how far it has come."""

    def __init__(self, reader):
        self.reader = reader
        self.end = reader.end
        if not 1 <= len(self.end) <= END_BYTES_MAX:
            raise ValueError(f"a reader's end has 1 to {END_BYTES_MAX} bytes, not {len(self.end)}")

    cdef int read(self, const uint8_t *data, size_t size) except -3:
        """Give the reader what it has not had of these bytes, which begin with the message's first.

        FRAME_READY: the message is made, of the first `fed` bytes; take it. FRAME_MORE: it wants
        more. FRAME_MALFORMED: the reader raised `failure`.
        """
        cdef size_t stop
        self.interim = None
        try:
            while self.fed < size:
                stop = self.stop(data, size)
                piece = PyBytes_FromStringAndSize(<const char *>data + self.fed, stop - self.fed)
                self.fed = stop
                self.message = self.reader.feed(piece)
                if self.message is not None:
                    return FRAME_READY
                self.want = self.reader.need
            self.interim = self.reader.interim() if size else None
        except Exception as error:
            self.failure = error
            return FRAME_MALFORMED
        return FRAME_MORE

    cdef size_t stop(self, const uint8_t *data, size_t size) except 0:
        """Where the next piece ends (P1)."""
        cdef size_t behind = <size_t>len(self.end)
        cdef size_t begin = self.fed - min(self.fed, behind - 1) # the end may lie across pieces
        cdef const uint8_t *found
        if self.want > 0:
            return min(size, self.fed + self.want)
        found = <const uint8_t *>memmem(data + begin, size - begin, PyBytes_AS_STRING(self.end),
                                        behind)
        return size if found == NULL else <size_t>(found - data) + behind

    cdef object take(self):
        """The message, and be fresh for the next (P3)."""
        message, self.message = self.message, None
        self.fed = self.want = 0
        return message
