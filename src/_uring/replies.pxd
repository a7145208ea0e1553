"""The way of a reply."""

from libc.stdint cimport uint32_t, uint64_t

from .codec cimport Codec, conn_facts, frame_view, outq, outq_pool
from .commit cimport Commit
from .handles cimport Caller, Connection
from .leaves cimport conn, conns, loop_stats
from .servers cimport Port, Present, Server


cdef class Replies(Present):
    cdef conns *conns
    cdef outq_pool *pool
    cdef loop_stats *stats
    cdef conn_facts facts
    cdef outq scratch
    cdef readonly Commit commit   # None without a journal
    cdef uint64_t barrier         # what is answered now waits until this batch is durable

    cdef int _native(self, conn *c, Codec codec, const frame_view *view) except -1
    cdef int unreadable(self, conn *c, Port port, object error) except -1
    cdef int answer_error(self, conn *c, Port port, object error) except -1
    cdef Caller caller_of(self, Server server, conn *c)
    cdef int _hold(self, Caller caller) except -1
    cdef int _settle_connection(self, Caller caller, bytes answer) except -1
    cdef int _append(self, conn *c, bytes answer) except -1
    cdef int _pump(self, conn *c) except -1
    cdef int _write(self, conn *c, bytes answer) except -1
    cdef bytes _scratch_bytes(self)
    cdef bytes _encoded(self, Codec codec, object output, uint32_t flags)
    cdef bytes _encoded_error(self, Codec codec, object error, uint32_t flags)
    cdef int _replied(self, Caller caller, Port port, object output, object error,
                      dict ahead) except -1
    cdef int _move(self, Caller caller) except -1
    cdef bytes _encoded_for(self, Caller caller, conn *c, object output, object error, dict ahead)
    cdef Connection connection_of(self, conn *c)
    cdef int connection_ended(self, conn *c) except -1
