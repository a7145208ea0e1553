# cython: language_level=3, binding=True
"""Names, who answers to them, and incarnations in the making.

An address is made when first asked for, and who answers to it changes. Addresses that nobody
answers to and nobody holds are swept out when they have become many: sessions come and go under
names that never come again. An incarnation counts on from the highest that was swept out, so that
a name's incarnations always rise.

Does not know: inputs, turns, when an incarnation begins or ends (dispatch.pyx).
"""

cimport cython
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport uint32_t, uint64_t

from .servers cimport ACK_DISK, Address, Callbacks, Server
from .turn cimport Context, Turn
from .values cimport Values

import weakref


# Fewer are not worth looking through: 140 KiB.
cdef Py_ssize_t ADDRESSES_MIN = 1024


# Not final: the Dispatcher is the rest of it.
cdef class Names(Turn):
    """The registry of one loop. Base of the Dispatcher."""

    def __cinit__(self):
        self.addresses = {}
        self.on_missing = None
        self.sweep_at = ADDRESSES_MIN
        self.swept_incarnation = 0
        self.callbacks = weakref.WeakKeyDictionary()

    cpdef Address address(self, str name):
        """The address of that name; made when it is not there yet."""
        cdef Address found = self.addresses.get(name)
        if found is None:
            if len(self.addresses) >= self.sweep_at:
                self._sweep()
            found = Address.__new__(Address)
            found.name = name
            found.incarnation = self.swept_incarnation
            self.addresses[name] = found
        return found

    cdef Server answering(self, str name):
        """Who answers to a name when a message comes; a family's server is made now."""
        cdef Address found = self.addresses.get(name)
        cdef uint64_t barrier
        if found is not None and found.server is not None:
            return found.server
        if self.on_missing is None:
            return None
        barrier = self.barrier # an init may do anything
        self.on_missing(name)
        self.barrier = barrier
        found = self.addresses.get(name)
        return None if found is None else found.server

    cdef int _sweep(self) except -1:
        """Forget addresses that only this table holds; half of them at least are new each time."""
        cdef Address found
        for name in list(self.addresses):
            found = self.addresses[name]
            # Held by the table and by `found`: no server, no port, no handle knows it.
            if found.server is None and found.kept is None and not found.is_journaled \
                    and Py_REFCNT(found) == 2:
                self.swept_incarnation = max(self.swept_incarnation, found.incarnation)
                del self.addresses[name]
        self.sweep_at = max(ADDRESSES_MIN, 2 * len(self.addresses))
        return 0

    def whereis(self, str name):
        """The running Server of that name, or None (OTP, erlang:whereis/1)."""
        cdef Address found = self.addresses.get(name)
        return None if found is None else found.server

    def names(self) -> list:
        """Names that answer now."""
        cdef Address found
        return [found.name for found in self.addresses.values() if found.server is not None]

    cdef Callbacks _callbacks_of(self, type kind):
        """The callbacks of a class, looked up once."""
        cdef Callbacks found = self.callbacks.get(kind)
        if found is None:
            found = Callbacks.__new__(Callbacks)
            found.step = kind.step
            found.on_call = kind.handle_call
            found.on_cast = kind.handle_cast
            found.on_info = kind.handle_info
            found.on_continue = kind.handle_continue
            self.callbacks[kind] = found
        return found

    def create(self, str name, instance, *, Py_ssize_t capacity, int overflow,
               bint is_fast_call, bint is_fast_cast, bint is_deaf=False,
               uint32_t number=0, Values values=None,
               int level=ACK_DISK, uint64_t incarnation=0):
        """A new incarnation, not yet running: its `init` has still to be called.

        `is_deaf`: infos it gets are unexpected.
        `number` and `values`: it is journaled. `level`: when its replies leave.
        `incarnation`: which one it is, when the journal knows; 0 = the next.
        """
        cdef Address address = self.address(name)
        cdef Server server = Server.__new__(Server)
        cdef Context context = Context.__new__(Context)
        address.incarnation = incarnation if incarnation else address.incarnation + 1
        context.turn = self
        context.server = server
        server.address = address
        server.name = name
        server.incarnation = address.incarnation
        server.instance = instance
        server.callbacks = self._callbacks_of(type(instance))
        server.step = server.callbacks.step
        server.is_fast_call = is_fast_call
        server.is_fast_cast = is_fast_cast
        server.is_deaf = is_deaf
        server.capacity = capacity
        server.overflow = overflow
        server.number = number
        if number:
            address.is_journaled = True
        server.values = values
        server.level = level
        server.due = {} if number else None
        instance.context = context
        return server
