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

from .servers cimport ACK_DISK, Address, Kind, Ledger, Server
from .turn cimport Turn
from .values cimport Values

import weakref

from pybehave.tagged import Tagged as _Tagged

cdef type Tagged = _Tagged


# Fewer are not worth looking through: 140 KiB.
cdef Py_ssize_t ADDRESSES_MIN = 1024


# Not final: the Dispatcher is the rest of it.
cdef class Names(Turn):
    """The registry of one loop. Base of the Dispatcher."""

    def __cinit__(self):
        self.addresses = {}
        self.on_missing = None
        self.latest = (None, None, None)
        self.sweep_at = ADDRESSES_MIN
        self.swept_incarnation = 0
        self.kinds = weakref.WeakKeyDictionary()

    cpdef Address address(self, str name):
        """The address of that name; made when it is not there yet."""
        cdef Address found = self.known(name)
        if found is None:
            if len(self.addresses) >= self.sweep_at:
                self._sweep()
            found = Address.__new__(Address)
            found.name = name
            found.incarnation = self.swept_incarnation
            self.addresses[name] = found
        return found

    cdef Address known(self, str name):
        """The address of a name that is known; else None."""
        cdef object found = self.addresses.get(name)
        cdef Address made
        if type(found) is not Server:
            return found
        made = Address.__new__(Address)
        made.name = name
        made.server = found
        made.incarnation = (<Server>found).incarnation
        self.addresses[name] = made
        return made

    cdef int answer_itself(self, Address address) except -1:
        """Let a server stand for its name, if nobody has the address that did: half a hundred bytes
        less for each of a hundred thousand."""
        # Held by the table and by whoever asks: the caller's variable is borrowed here.
        if address.server is not None and not address.is_journaled and address.kept is None \
                and Py_REFCNT(address) == 2:
            self.addresses[address.name] = address.server
        return 0

    cdef Server answering(self, str name):
        """Who answers to a name when a message comes; a family's server is made now."""
        cdef Server found = self.whereis(name)
        cdef uint64_t barrier
        if found is not None or self.on_missing is None:
            return found
        barrier = self.barrier # an init may do anything
        self.on_missing(name)
        self.barrier = barrier
        return self.whereis(name)

    cdef int _sweep(self) except -1:
        """Forget addresses that only this table holds; half of them at least are new each time."""
        cdef Address found
        for name in list(self.addresses):
            if type(self.addresses[name]) is Server:
                continue
            found = self.addresses[name]
            # Held by the table and by `found`: no server, no port, no handle knows it.
            if found.server is None and found.kept is None and not found.is_journaled \
                    and Py_REFCNT(found) == 2:
                self.swept_incarnation = max(self.swept_incarnation, found.incarnation)
                del self.addresses[name]
        self.sweep_at = max(ADDRESSES_MIN, 2 * len(self.addresses))
        return 0

    cpdef Server whereis(self, str name):
        """The running Server of that name, or None (OTP, erlang:whereis/1)."""
        return _server_of(self.addresses.get(name))

    def servers(self) -> list:
        """Servers that answer to a name now, in the order in which the names were first used."""
        found = [_server_of(each) for each in self.addresses.values()]
        return [server for server in found if server is not None]

    def names(self) -> list:
        """Names that answer now."""
        return [server.name for server in self.servers()]

    cdef Kind _kind(self, type kind, tuple settings):
        """What servers of a class with the same settings share, looked up once."""
        cdef dict known
        cdef Kind found
        if self.latest[0] is kind and self.latest[1] == settings:
            return self.latest[2] # a hundred thousand are mostly of one class
        known = self.kinds.get(kind)
        if known is None:
            known = self.kinds[kind] = {}
        found = known.get(settings)
        if found is None:
            found = Kind.__new__(Kind)
            found.step = kind.step
            found.on_call = kind.handle_call
            found.on_cast = kind.handle_cast
            found.on_info = kind.handle_info
            found.on_continue = kind.handle_continue
            found.on_casts = getattr(kind, "_handle_casts", None)
            found.unfinished = getattr(kind, "_unfinished", None)
            found.restated = getattr(kind, "_restated", None)
            found.on_together = getattr(kind, "_handle_together", None)
            found.accepts, found.validate = kind._gate() if hasattr(kind, "_gate") else (None, None)
            found.ephemeral = (kind._passing() or None) if hasattr(kind, "_passing") else None
            found.tags = _tags_in(found.ephemeral or ())
            found.is_gated = found.accepts is not None or found.validate is not None \
                or found.ephemeral is not None
            found.capacity, found.overflow, found.level = settings[:3]
            found.is_fast_call, found.is_fast_cast, found.is_deaf = settings[3:]
            found.present = self
            known[settings] = found
        self.latest = (kind, settings, found)
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
        address.incarnation = incarnation if incarnation else address.incarnation + 1
        server.name = name
        server.incarnation = address.incarnation
        server.instance = instance
        server.kind = self._kind(
            type(instance), (capacity, overflow, level, is_fast_call, is_fast_cast, is_deaf))
        if number:
            address.is_journaled = True
            server.number = number
            server.ledger = Ledger.__new__(Ledger)
            server.ledger.values = values
            server.ledger.due = {}
        instance.context = server
        return server


cdef inline Server _server_of(object found):
    """Who answers, of what the table has for a name: an address, the server itself, or nothing."""
    return found if type(found) is not Address else (<Address>found).server


cdef frozenset _tags_in(tuple declared):
    """What a class has named by Tagged and in no other way; None = that would not be all."""
    if not declared or not all(type(each) is Tagged for each in declared):
        return None
    return frozenset().union(*(each.tags for each in declared))
