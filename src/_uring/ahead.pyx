# cython: language_level=3, binding=True
"""What will be looked up: of a client that has sent many requests, the later ones are seen before
the first is stepped, and what they need of memory is fetched for all of them at once.

Theory. With a large store most of a step is waiting for memory, one line after the other. Where the
state is a dictionary and the protocol's custom says which word is the key, the core knows what the
next steps will wait for (dict_ahead.h, decision 0053). It is a hint and nothing more: that a step
looks for something else costs the time of the hint.

Does not know: how requests are framed, decoded and stepped.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_Check
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from .servers cimport Port, Server

cdef extern from "dict_ahead.h":
    bint dict_ahead_finds(object, object)
    size_t dict_ahead(object, const uint8_t *, size_t, uint64_t *)

cdef int KEYS_TRIED = 100


def finds(dict store, bytes key) -> bool:
    """Whether a key is found where `look` looks for it: in the first slots of its dictionary."""
    return dict_ahead_finds(store, key)


def knows_dictionaries() -> bool:
    """Whether this Python lays out its dictionaries as this module expects: it finds known keys."""
    sample = {b"%d" % number: number for number in range(KEYS_TRIED)}
    found = sum([dict_ahead_finds(sample, key) for key in sample])
    return found > KEYS_TRIED // 2 # a few lie behind more slots than are looked at


cdef bint is_on = knows_dictionaries()


def look(dict store, bytes requests) -> tuple:
    """Fetch what RESP requests will need of a store: how many of their bytes that is good for, and
    how many keys it were."""
    cdef uint64_t keys = 0
    cdef size_t used = <size_t>len(requests)
    if is_on:
        used = dict_ahead(store, <const uint8_t *>PyBytes_AS_STRING(requests), used, &keys)
    return used, keys


cdef size_t look_ahead(Port port, const uint8_t *data, size_t size,
                       uint64_t *keys) except? 0:
    """`look`, for requests that came in at a port, to whoever serves it; the keys are added."""
    cdef Server server = port.address.server if port.address is not None else None
    if not is_on or server is None or not PyDict_Check(server.state):
        return size
    return dict_ahead(server.state, data, size, keys)
