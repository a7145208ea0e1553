# cython: language_level=3, binding=True
"""What came of the latest requests of each client, so that a repetition is answered, not stepped.

Each server has a table: for each client the outcomes of its latest requests. A request is looked up
before it is recorded; one that is found is answered from the table. For a journaled server the
table is part of what the journal rebuilds: an INPUT with a REQUEST extension enters it again.

A request is pending from its step until its reply, when the server puts that off. A reply that was
put off and then lost, with its server or its node, is gone: the request was carried out, but what
would have been said is not known, and a repetition hears that.

Invariants
  (Q1) A request is stepped at most once as long as its client is remembered.
  (Q2) A client is remembered for SESSION_NS after its latest request; when there is no room for
       another client before that, the other is refused.
  (Q3) Of a client the latest WINDOW numbers are remembered; an older one is refused. A client that
       is not known begins within the window, or it was forgotten.
  (Q4) What is kept cannot change: scalars as they are, anything else as its encoding.
  (Q5) A caller that is read of bytes (a snapshot's state, a message of another server) stands for
       the pending request that it named when it was written: its reply is that one's outcome.

Does not know: records, replies, who asks.
Source: see pybehave/once.py.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from .values cimport Values

import copy

from pybehave.errors import Crashed, NotJournalable, Overloaded, RequestKnown

cdef extern from "segment.h" nogil:
    ctypedef struct journal_hash:
        unsigned char bytes[16]
    void segment_hash(const void *data, size_t bytes, journal_hash *out)

# How many requests of a client may be under way; a client of a pipelining library has a few dozen.
cdef uint64_t WINDOW = 64
# Long after any client has given up on a reply.
cdef uint64_t SESSION_NS = 3600 * <uint64_t>1_000_000_000
# A client costs about 400 bytes and its replies: 40 MB at most before anything of theirs.
cdef Py_ssize_t CLIENTS_MAX = 100_000

cdef enum:
    FORM_PENDING = 0
    FORM_VALUE = 1
    FORM_ENCODED = 2
    FORM_LOST = 3
    FORM_FAILED = 4

cdef frozenset SCALARS = frozenset((bytes, str, int, float, bool, type(None)))
cdef dict TEXTS = {}


def declare_text(type kind) -> None:
    """Let a subclass of str be itself again when a kept reply comes back from a snapshot."""
    TEXTS[kind.__name__] = kind


@cython.final
@cython.freelist(64)
cdef class Request:
    """One request, and what is known of its outcome."""

    cdef int keep(self, object output, Values values) except -1:
        """Its output (Q4)."""
        cdef object kind = type(output)
        self.value = output
        self.form = FORM_VALUE
        if kind in SCALARS or isinstance(output, str):
            return 0
        try:
            if values is None:
                self.value = copy.deepcopy(output)
            else:
                self.value = values.encode(output)
                self.form = FORM_ENCODED
        except Exception: # the step is over: a reply without a form cannot be said again
            self.lose()
        return 0

    cdef int fail(self, str crash_id) except -1:
        self.form, self.value = FORM_FAILED, crash_id
        return 0

    cdef int lose(self) except -1:
        self.form, self.value = FORM_LOST, None
        return 0

    cdef bint is_pending(self):
        return self.form == FORM_PENDING

    cdef object outcome(self, str server, Values values):
        """The output of the first time.

        Raises:
            Crashed: The step had raised.
            RequestKnown: The reply was lost, or cannot be read any more.
        """
        if self.form == FORM_ENCODED:
            try:
                return values.decode(self.value)
            except ValueError as error: # of a type that has another shape by now
                raise RequestKnown(
                    server, self.number, "its reply is of an older version of the server"
                ) from error
        if self.form == FORM_VALUE:
            return self.value if values is not None or type(self.value) in SCALARS \
                else copy.deepcopy(self.value)
        if self.form == FORM_FAILED:
            raise Crashed(server, self.value, None)
        raise RequestKnown(server, self.number, "its reply was lost")

    def dump(self) -> list:
        """For a snapshot."""
        if self.form == FORM_VALUE and isinstance(self.value, str):
            return [self.number, self.form, str(self.value), type(self.value).__name__]
        return [self.number, self.form, self.value] # a pending one is, until its table goes on


@cython.final
cdef class Client:
    """The requests of one client, by number."""

    cdef dict numbers
    cdef uint64_t highest
    cdef uint64_t last_ns


@cython.final
cdef class Requests:
    """The table of one server."""

    def __cinit__(self):
        self.clients = {}

    cdef bytes key_of(self, object once):
        """What stands for a client's name in tables and records: its 128-bit hash."""
        cdef journal_hash hash
        cdef bytes name = once.key
        segment_hash(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &hash)
        return PyBytes_FromStringAndSize(<char *>hash.bytes, 16)

    cdef Request find(self, str server, bytes client, uint64_t number, uint64_t now_ns):
        """The request if it is known; None = it is to be stepped.

        Raises:
            RequestKnown: It is too old, or its client is not remembered any more.
            Overloaded: There is no room for another client.
        """
        cdef Client known = self.clients.get(client)
        if known is None:
            if number > WINDOW:
                raise RequestKnown(server, number, "its client has been forgotten")
            if len(self.clients) >= CLIENTS_MAX and not self._make_room(now_ns):
                raise Overloaded(server, CLIENTS_MAX)
            return None
        found = known.numbers.get(number)
        if found is None and number + WINDOW <= known.highest: # (Q3)
            raise RequestKnown(server, number, "it is older than the latest 64 of its client")
        return found

    cdef Request add(self, bytes client, uint64_t number, uint64_t now_ns):
        """A request that is about to be stepped."""
        cdef Client known = self.clients.pop(client, None)
        cdef Request request = Request.__new__(Request)
        request.number, request.client = number, client
        if known is None:
            known = Client.__new__(Client)
            known.numbers = {}
        self.clients[client] = known # behind all others: the order is that of the latest use
        known.last_ns = now_ns
        known.numbers[number] = request
        known.highest = max(known.highest, number)
        if <uint64_t>len(known.numbers) > 2 * WINDOW: # (Q3), not one by one
            known.numbers = {
                each: known.numbers[each] for each in known.numbers
                if each + WINDOW > known.highest
            }
        return request

    cdef Request pending(self, bytes client, uint64_t number):
        """The request if it waits for its reply, else None."""
        cdef Client known = self.clients.get(client)
        cdef Request request = None if known is None else known.numbers.get(number)
        return request if request is not None and request.is_pending() else None

    cdef bint _make_room(self, uint64_t now_ns) except -1:
        """Forget whoever may be forgotten (Q2)."""
        cdef Client oldest
        while self.clients:
            key = next(iter(self.clients))
            oldest = self.clients[key]
            if oldest.last_ns + SESSION_NS > now_ns:
                break
            del self.clients[key]
        return len(self.clients) < CLIENTS_MAX

    def lose_pending(self) -> None:
        """The incarnation that owed replies has ended."""
        cdef Client client
        cdef Request request
        for client in self.clients.values():
            for request in client.numbers.values():
                if request.form == FORM_PENDING:
                    request.lose()

    def dump(self) -> list:
        """For a snapshot: what `load` takes."""
        cdef Client client
        return [
            [key, client.highest, client.last_ns,
             [request.dump() for request in client.numbers.values()]]
            for key, client in self.clients.items()
        ]

    def load(self, list dumped) -> None:
        """Take over what a snapshot has.

        Raises:
            ValueError: It is malformed.
        """
        cdef Client client
        cdef Request request
        for key, highest, last_ns, requests in dumped:
            client = Client.__new__(Client)
            client.highest, client.last_ns, client.numbers = highest, last_ns, {}
            for number, form, value, *kind in requests:
                request = Request.__new__(Request)
                request.number, request.form, request.value = number, form, value
                request.client = key
                if kind and kind[0] in TEXTS:
                    request.value = TEXTS[kind[0]](value)
                client.numbers[number] = request
            self.clients[key] = client

    def __len__(self) -> int:
        return len(self.clients)
