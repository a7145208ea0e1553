# cython: language_level=3, binding=True
"""Names, who answers to them, and incarnations in the making.

An address is made when first asked for and stays; who answers to it changes.

Does not know: inputs, turns, when an incarnation begins or ends (dispatch.pyx).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from .servers cimport Address, Callbacks, Server
from .turn cimport Context, Turn
from .values cimport Values

import weakref


# Not final: the Dispatcher is the rest of it.
cdef class Names(Turn):
    """The registry of one loop. Base of the Dispatcher."""

    def __cinit__(self):
        self.addresses = {}
        self.callbacks = weakref.WeakKeyDictionary()

    cpdef Address address(self, str name):
        """The address of that name; made when it is not there yet."""
        cdef Address found = self.addresses.get(name)
        if found is None:
            found = Address.__new__(Address)
            found.name = name
            self.addresses[name] = found
        return found

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
               bint is_fast_call, bint is_fast_cast, uint32_t number=0, Values values=None,
               bint is_held=True, uint64_t incarnation=0):
        """A new incarnation, not yet running: its `init` has still to be called.

        `number` and `values`: it is journaled. `is_held`: its replies wait until they are durable.
        `incarnation`: which one it is, when the journal knows; 0 = the next.
        """
        cdef Address address = self.address(name)
        cdef Server server = Server.__new__(Server)
        cdef Context context = Context.__new__(Context)
        address.incarnation = incarnation if incarnation else address.incarnation + 1
        context.name = name
        context.incarnation = address.incarnation
        context.turn = self
        context.server = server
        server.address = address
        server.name = name
        server.incarnation = address.incarnation
        server.instance = instance
        server.context = context
        server.callbacks = self._callbacks_of(type(instance))
        server.step = server.callbacks.step
        server.is_fast_call = is_fast_call
        server.is_fast_cast = is_fast_cast
        server.capacity = capacity
        server.overflow = overflow
        server.number = number
        if number:
            address.is_journaled = True
        server.values = values
        server.is_held = is_held
        server.due = {} if number else None
        instance.context = context
        return server
