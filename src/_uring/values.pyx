# cython: language_level=3, binding=True
"""Python values as MessagePack bytes and back, for the journal: what goes in comes out equal.

MessagePack alone makes lists of tuples and has no sets and no integers beyond 64 bits; those are
extension types (docs/journal-format.md, section 6). A value of any other type is refused, unless
its type was declared (`types`): then msgspec encodes it.

Invariants
  (V1) take(put(v)) == v and has the same types at every level.
  (V2) The same value gives the same bytes: sets are ordered by their members' encodings.
  (V3) take reads no byte outside what it was given and raises ValueError for whatever is malformed.

Does not know: records, frames, files.
Source: the MessagePack specification (msgpack.org).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from .handles cimport Caller, Connection

import builtins
import dataclasses
import functools
import os
import weakref

import msgspec

from pybehave import actions as _actions
from pybehave import awaiting as _awaiting
from pybehave import errors as _errors
from pybehave import together as _together
from pybehave import types as _types
from pybehave.errors import NotJournalable, show_reason

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    int64_t PyLong_AsLongLongAndOverflow(object, int *) except? -1
    bint is_bytes "PyBytes_CheckExact"(PyObject *)
    const char *bytes_data "PyBytes_AS_STRING"(PyObject *)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *)

cdef extern from "segment.h" nogil:
    uint64_t segment_hash64(const void *, size_t, uint64_t)
    uint32_t segment_outcome(uint64_t)

# Names this process among all that ever wrote a journal.
cdef uint64_t SESSION = int.from_bytes(os.urandom(8), "little") | 1

cdef int DEPTH_MAX = 64             # deeper is a mistake, or a cycle
cdef size_t CAPACITY_INITIAL = 4096
cdef size_t CAPACITY_KEPT = 1 << 20
cdef size_t LATEST_BYTES_MAX = 64   # of an output that is kept, for it may come again
cdef int EXT_HEAD = 6               # an ext32 header

cdef enum:
    EXT_TUPLE = 1
    EXT_INT = 2
    EXT_SET = 3
    EXT_FROZENSET = 4
    EXT_CONNECTION = 5
    EXT_CALLER = 6
    EXT_MESSAGE = 7
    EXT_ERROR = 8
    EXT_TYPED = 9

_MESSAGES = {
    kind.__name__: kind
    for kind in (
        _actions.CallReply, _actions.CallFailed, _actions.RunDone, _actions.RunFailed,
        _actions.RunAgain, _actions.Connected, _actions.ConnectFailed, _actions.Opened,
        _actions.Closed, _actions.Received, _actions.Down, _actions.Exit, _together.Together,
        _types.Shutdown, _awaiting.Awaiting,
    )
}
_FIELDS = {
    kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in _MESSAGES.values()
}
cdef frozenset PLAIN = frozenset((list, tuple, dict, set, frozenset))
_KNOWN_ERRORS = {"builtins": builtins, "pybehave.errors": _errors}
_SENTINELS = {"TIMEOUT": _actions.TIMEOUT}
_SENTINEL_NAMES = {type(value): name for name, value in _SENTINELS.items()}


# Not final: Python makes its instances.
class JournaledError(Exception):
    """An exception of a class that is neither built in nor pybehave's, as the journal kept it.

    `kind` is the name of its class.
    """

    def __init__(self, str kind, str text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.fields = None # as they stand in the journal, so that it is written as it was read

    @classmethod
    def read(cls, str module, str name, str text):
        """What stands for an exception of that class."""
        error = cls(f"{module}.{name}", text)
        error.fields = (module, name, text)
        return error


# Not final: Python makes its instances.
class TooLargeError(Exception):
    """A value takes more bytes than whoever has it encoded wants."""


@cython.final
cdef class Values:
    """An encoder and decoder with the types that one server has declared.

    Args:
        types: Classes beyond the plain ones: msgspec Structs, dataclasses, enumerations.

    Raises:
        ValueError: Two of them have the same name.
    """

    def __cinit__(self, types=()):
        self.types = {}
        self.names = {}
        self.opaque = {}
        self.handles = weakref.WeakValueDictionary()
        for kind in types:
            name = kind.__qualname__
            if self.types.setdefault(name, kind) is not kind:
                raise ValueError(f"two declared types are named {name!r}; rename one")
            self.names[kind] = name

    def __dealloc__(self):
        free(self.out.data)

    def encode(self, value, size_t bytes_max=0) -> bytes:
        """The value's bytes.

        Args:
            bytes_max: 0 = there is no limit. It is looked at when the room for them has to grow,
                so about a megabyte may always be taken.

        Raises:
            NotJournalable: It holds something that has no form in the journal.
            TooLargeError: It takes more than `bytes_max`.
        """
        self.out.used = 0
        self.bytes_max = bytes_max
        try:
            self.put(value, 0)
        finally:
            self.bytes_max = 0
        encoded = PyBytes_FromStringAndSize(<char *>self.out.data, self.out.used)
        if self.out.capacity > CAPACITY_KEPT:
            free(self.out.data)
            self.out.data = NULL
            self.out.capacity = 0
        return encoded

    def decode(self, bytes data):
        """The value of these bytes, all of them.

        Raises:
            ValueError: They are not one value.
        """
        return self.take(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def live_in(self, dispatcher) -> None:
        """From now on connections may be those of a node that runs."""
        self.living = dispatcher

    cdef uint64_t session(self) except? 0:
        return SESSION if self.living is None else self.living.session

    def reader(self, dict names) -> Values:
        """One that reads what was written when names of types had other meanings, or other names.

        Connections that both read are the same handles.

        Args:
            names: name -> class; other names mean what they mean here.
        """
        cdef Values other = Values(self.names)
        other.types.update(self.types)
        other.types.update(names)
        other.handles = self.handles
        other.living = self.living
        return other

    cdef object as_read(self, object value):
        """What was just put, as a replay will have it.

        An exception comes back without what a step has no business with (its traceback, what it was
        raised from), and one of a class of the user's as a JournaledError: a step that has seen
        more would not be the same step in the replay.
        """
        if not self.has_error or self.has_caller:
            return value
        return self.decode(self.encode(value))

    def outcome_of(self, output) -> int:
        """What a record keeps of a step's output."""
        return self.outcome(output)

    # ---- writing -----------------------------------------------------------------------------

    cdef uint8_t *room(self, size_t count) except NULL:
        if count > self.out.capacity - self.out.used:
            self._grow(count)
        self.out.used += count
        return self.out.data + self.out.used - count

    cdef int _grow(self, size_t count) except -1:
        cdef size_t capacity = self.out.capacity if self.out.capacity else CAPACITY_INITIAL
        cdef uint8_t *grown
        if self.bytes_max and self.out.used + count > self.bytes_max:
            raise TooLargeError
        while count > capacity - self.out.used:
            capacity *= 2
        grown = <uint8_t *>realloc(self.out.data, capacity)
        if grown == NULL:
            raise MemoryError
        self.out.data = grown
        self.out.capacity = capacity
        return 0

    cdef int put(self, object value, int depth) except -1:
        cdef object kind = type(value)
        if kind is bytes:
            return self.put_bytes(value)
        if kind is list:
            self.put_head(0x90, 0xdc, PyList_GET_SIZE(value), 15)
            return self.put_sequence(value, PyList_GET_SIZE(value), depth)
        if kind is str:
            return self._put_str(value)
        if kind is int:
            return self.put_int(value)
        if value is None:
            self.room(1)[0] = 0xc0
        elif value is True:
            self.room(1)[0] = 0xc3
        elif value is False:
            self.room(1)[0] = 0xc2
        elif kind is tuple:
            return self.put_ext(EXT_TUPLE, value, len(value), depth)
        elif kind is dict:
            return self._put_dict(value, depth)
        elif kind is float:
            return self._put_float(value)
        else:
            return self.put_other(value, depth)
        return 0

    cdef int put_head(self, uint8_t small, uint8_t wide, size_t count,
                      unsigned small_max) except -1:
        """The head of an array, map or string: its count in as few bytes as can be."""
        if count <= small_max:
            self.room(1)[0] = small | <uint8_t>count
        elif count <= 0xffff:
            self.put_big(wide, count, 2)
        elif count <= 0xffffffff:
            self.put_big(wide + 1, count, 4)
        else:
            raise NotJournalable("more than 4,294,967,295 items or bytes")
        return 0

    cdef int put_big(self, uint8_t type, uint64_t value, int bytes) except -1:
        """A type byte and an integer, most significant byte first."""
        cdef uint8_t *at = self.room(1 + bytes)
        at[0] = type
        while bytes > 0:
            at[bytes] = <uint8_t>value
            value >>= 8
            bytes -= 1
        return 0

    cdef int put_bytes(self, object value) except -1:
        cdef size_t count = PyBytes_GET_SIZE(value)
        cdef uint8_t *at
        if count <= 0xff:
            at = self.room(2 + count)
            at[0] = 0xc4
            at[1] = <uint8_t>count
            memcpy(at + 2, PyBytes_AS_STRING(value), count)
            return 0
        self.put_head(0, 0xc5, count, 0)
        memcpy(self.room(count), PyBytes_AS_STRING(value), count)
        return 0

    cdef int _put_str(self, object value) except -1:
        cdef Py_ssize_t count
        cdef const char *text
        try:
            text = PyUnicode_AsUTF8AndSize(value, &count)
        except UnicodeEncodeError as error:
            raise NotJournalable(f"the str {value!r} has lone surrogates") from error
        return self.put_text(<const uint8_t *>text, count)

    cdef int put_text(self, const uint8_t *text, size_t count) except -1:
        if 31 < count <= 0xff:
            self.put_big(0xd9, count, 1)
        else:
            self.put_head(0xa0, 0xda, count, 31)
        if count:
            memcpy(self.room(count), text, count)
        return 0

    cdef int put_int(self, object value) except -1:
        cdef int overflow = 0
        cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow == 0:
            if 0 <= number <= 0x7f or -32 <= number < 0:
                self.room(1)[0] = <uint8_t>number
            elif 0 <= number:
                if number <= 0xff:
                    self.put_big(0xcc, number, 1)
                elif number <= 0xffff:
                    self.put_big(0xcd, number, 2)
                elif number <= 0xffffffff:
                    self.put_big(0xce, number, 4)
                else:
                    self.put_big(0xcf, number, 8)
            elif number >= -0x80:
                self.put_big(0xd0, <uint64_t>number, 1)
            elif number >= -0x8000:
                self.put_big(0xd1, <uint64_t>number, 2)
            elif number >= -0x80000000ll:
                self.put_big(0xd2, <uint64_t>number, 4)
            else:
                self.put_big(0xd3, <uint64_t>number, 8)
            return 0
        if overflow > 0 and value <= 0xffffffffffffffff:
            return self.put_big(0xcf, <uint64_t>value, 8)
        data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        at = self.begin_ext(EXT_INT)
        memcpy(self.room(len(data)), PyBytes_AS_STRING(data), len(data))
        return self.end_ext(at)

    cdef int _put_float(self, double value) except -1:
        cdef uint64_t bits
        memcpy(&bits, &value, 8)
        return self.put_big(0xcb, bits, 8)

    cdef int _put_dict(self, dict value, int depth) except -1:
        self._check_depth(depth)
        self.put_head(0x80, 0xde, len(value), 15)
        for key, item in value.items():
            self.put(key, depth + 1)
            self.put(item, depth + 1)
        return 0

    cdef int _check_depth(self, int depth) except -1:
        if depth >= DEPTH_MAX:
            raise NotJournalable(f"it is nested deeper than {DEPTH_MAX} levels, or contains itself")
        return 0

    cdef int put_sequence(self, object items, size_t count, int depth) except -1:
        cdef bint is_list = type(items) is list
        cdef size_t index
        cdef PyObject *item
        cdef object held
        cdef uint8_t *at
        cdef size_t size
        if depth >= DEPTH_MAX:
            self._check_depth(depth)
        for index in range(count):
            if is_list and <size_t>PyList_GET_SIZE(items) != count: # what encodes a type may do it
                raise NotJournalable("a list in it changes while it is encoded")
            item = PyList_GET_ITEM(items, index) if is_list else PyTuple_GET_ITEM(items, index)
            if is_bytes(item): # put_bytes, without a call and references: it is nearly all
                size = bytes_size(item)
                if size <= 0xff and size + 2 <= self.out.capacity - self.out.used:
                    at = self.out.data + self.out.used
                    at[0] = 0xc4
                    at[1] = <uint8_t>size
                    memcpy(at + 2, bytes_data(item), size)
                    self.out.used += size + 2
                    continue
            held = <object>item # what encodes a type may take it out of the list
            self.put(held, depth + 1)
        return 0

    cdef size_t begin_ext(self, int code) except? 0:
        """An extension of unknown size: its head is put before it by end_ext."""
        cdef uint8_t *at = self.room(EXT_HEAD)
        at[0] = 0xc9
        at[5] = <uint8_t>code
        return self.out.used

    cdef int end_ext(self, size_t at) except -1:
        """Shorten the head to what the size needs."""
        cdef size_t size = self.out.used - at
        cdef uint8_t *head = self.out.data + at - EXT_HEAD
        cdef uint8_t code = head[5]
        if size > 0xff:
            if size > 0xffffffff:
                raise NotJournalable("more than 4,294,967,295 bytes")
            head[1] = <uint8_t>(size >> 24)
            head[2] = <uint8_t>(size >> 16)
            head[3] = <uint8_t>(size >> 8)
            head[4] = <uint8_t>size
            return 0
        head[0] = 0xc7
        head[1] = <uint8_t>size
        head[2] = code
        memmove(head + 3, head + EXT_HEAD, size)
        self.out.used -= EXT_HEAD - 3
        return 0

    cdef int put_ext(self, int code, object items, size_t count, int depth) except -1:
        cdef size_t at = self.begin_ext(code)
        self.put_head(0x90, 0xdc, count, 15)
        self.put_sequence(items, count, depth)
        return self.end_ext(at)

    cdef int put_other(self, object value, int depth) except -1:
        """What is neither plain nor common."""
        cdef object kind = type(value)
        if depth >= DEPTH_MAX:
            self._check_depth(depth)
        if kind in self.names:
            return self.put_ext(EXT_TYPED, self._typed(kind, value), 2, depth)
        if kind is set or kind is frozenset:
            return self._put_set(EXT_SET if kind is set else EXT_FROZENSET, value, depth)
        if kind is Connection:
            fields = ((<Connection>value).session or self.session(), (<Connection>value).slot,
                      (<Connection>value).generation, (<Connection>value).peer,
                      (<Connection>value).listener)
            return self.put_ext(EXT_CONNECTION, fields, 5, depth)
        if kind is Caller:
            self.has_caller = True
            self.has_waiting = self.has_waiting or not (<Caller>value).is_done
            fields = _caller_fields(<Caller>value)
            return self.put_ext(EXT_CALLER, fields, len(fields), depth)
        if kind in _FIELDS:
            fields = (kind.__name__, *(getattr(value, name) for name in _FIELDS[kind]))
            return self.put_ext(EXT_MESSAGE, fields, len(fields), depth)
        if kind in _SENTINEL_NAMES:
            return self.put_ext(EXT_MESSAGE, (_SENTINEL_NAMES[kind],), 1, depth)
        if isinstance(value, BaseException):
            self.has_error = True
            if kind is JournaledError and value.fields is not None:
                return self.put_ext(EXT_ERROR, value.fields, 3, depth)
            kept = self._attributes(value, depth)
            fields = (kind.__module__, kind.__qualname__, str(value), kept)
            return self.put_ext(EXT_ERROR, fields, 4 if kept else 3, depth)
        raise NotJournalable(
            f"a value of type {kind.__module__}.{kind.__qualname__}; use plain values, or name "
            f"the class in the server's `types`"
        )

    cdef dict _attributes(self, object error, int depth):
        """What an exception of pybehave's says beside its text, as far as it has a form."""
        cdef size_t used = self.out.used
        cdef dict kept = {}
        if type(error).__module__ != _errors.__name__:
            return kept
        for name, value in vars(error).items():
            try:
                self.put(value, depth + 2)
                kept[name] = value
            except (MemoryError, TooLargeError):
                raise
            except Exception: # it has none
                pass
            finally:
                self.out.used = used
        return kept

    cdef int _put_set(self, int code, object value, int depth) except -1:
        """Its members in the order of their encodings (V2), each encoded once: a set of sets of
        sets took twice as long with each level."""
        cdef size_t at = self.begin_ext(code), start
        cdef list encoded = []
        self.put_head(0x90, 0xdc, len(value), 15)
        start = self.out.used
        for member in value:
            self.put(member, depth + 1)
            encoded.append(PyBytes_FromStringAndSize(
                <char *>self.out.data + start, self.out.used - start))
            self.out.used = start
        encoded.sort()
        for data in encoded:
            memcpy(self.room(PyBytes_GET_SIZE(data)), PyBytes_AS_STRING(data),
                   PyBytes_GET_SIZE(data))
        return self.end_ext(at)

    cdef object _typed(self, object kind, object value):
        """What stands for an instance of a declared type. Of an input it is also seen that it will
        be read again: a dataclass or a Struct may hold anything, whatever its fields say."""
        name = self.names[kind]
        data = msgspec.msgpack.encode(value, enc_hook=_refuse)
        if self.is_input:
            try:
                msgspec.msgpack.decode(data, type=kind)
            except Exception as error: # msgspec's, or of a __post_init__
                raise NotJournalable(
                    f"the {name} that it holds could not be read again: {show_reason(error)}"
                ) from error
        return (name, data)

    cdef uint32_t outcome(self, object output) except? 0:
        cdef object opaque, before
        cdef uint32_t found
        if output is self.latest and self.latest_outcome: # OK is the same object each time
            return self.latest_outcome
        self.out.used = 0
        if self.opaque and (opaque := self.opaque.get(type(output))) is not None:
            return opaque # known to have no form: an exception for each would cost a microsecond
        try:
            if not isinstance(output, str):
                self.put(output, 0)
                return segment_outcome(segment_hash64(self.out.data, self.out.used, 0))
            self._put_str(output) # RESP's status replies and errors are its subclasses
        except Exception: # the step is over: no reason to fail, whatever is odd here
            return self._outcome_of_type(type(output))
        found = segment_outcome(segment_hash64(self.out.data, self.out.used, 0))
        if self.out.used <= LATEST_BYTES_MAX and not type(output).__dictoffset__:
            before = self.latest # let go when both stand: its __del__ may come here
            self.latest, self.latest_outcome = output, found
        return found

    cdef uint32_t _outcome_of_type(self, type kind) except? 0:
        self.out.used = 0
        self._put_str(f"{kind.__module__}.{kind.__qualname__}")
        found = segment_outcome(segment_hash64(self.out.data, self.out.used, 0))
        # A list with something odd in it says nothing of other lists.
        if kind not in PLAIN and not issubclass(kind, str):
            self.opaque[kind] = found
        return found

    # ---- reading -----------------------------------------------------------------------------

    cdef object take(self, const uint8_t *data, size_t size):
        cdef const uint8_t *at = data
        value = self._take(&at, data + size, 0)
        if at != data + size:
            raise ValueError("bytes are left over behind a value")
        return value

    cdef object _take(self, const uint8_t **at, const uint8_t *end, int depth):
        cdef uint8_t type
        cdef size_t count
        cdef uint64_t bits
        cdef double number
        if depth > DEPTH_MAX + 1:
            raise ValueError("a value is nested too deep")
        if at[0] >= end:
            raise ValueError("a value is cut short")
        type = at[0][0]
        at[0] += 1
        if type <= 0x7f or type >= 0xe0:
            return <int8_t>type
        if type <= 0x8f:
            return self._take_map(at, end, type & 0x0f, depth)
        if type <= 0x9f:
            return self._take_array(at, end, type & 0x0f, depth)
        if type <= 0xbf:
            return take_text(at, end, type & 0x1f)
        if type == 0xc0:
            return None
        if type == 0xc2:
            return False
        if type == 0xc3:
            return True
        if 0xc4 <= type <= 0xc6:
            count = take_big(at, end, 1 << (type - 0xc4))
            check_left(at, end, count)
            at[0] += count
            return PyBytes_FromStringAndSize(<char *>at[0] - count, count)
        if 0xc7 <= type <= 0xc9:
            count = take_big(at, end, 1 << (type - 0xc7))
            return self._take_ext(at, end, count, depth)
        if type == 0xcb:
            bits = take_big(at, end, 8)
            memcpy(&number, &bits, 8)
            return number
        if 0xcc <= type <= 0xcf:
            return take_big(at, end, 1 << (type - 0xcc))
        if type == 0xd0:
            return <int8_t>take_big(at, end, 1)
        if type == 0xd1:
            return <int16_t>take_big(at, end, 2)
        if type == 0xd2:
            return <int32_t>take_big(at, end, 4)
        if type == 0xd3:
            return <int64_t>take_big(at, end, 8)
        if 0xd4 <= type <= 0xd8:
            return self._take_ext(at, end, 1 << (type - 0xd4), depth)
        if 0xd9 <= type <= 0xdb:
            return take_text(at, end, take_big(at, end, 1 << (type - 0xd9)))
        if 0xdc <= type <= 0xdd:
            return self._take_array(at, end, take_big(at, end, 2 << (type - 0xdc)), depth)
        if 0xde <= type <= 0xdf:
            count = take_big(at, end, 2 << (type - 0xde))
            return self._take_map(at, end, count, depth)
        raise ValueError(f"a value of unknown MessagePack type 0x{type:02x}")

    cdef list _take_array(self, const uint8_t **at, const uint8_t *end, size_t count, int depth):
        cdef size_t index
        check_left(at, end, count) # each item has at least a byte
        items = []
        for index in range(count):
            items.append(self._take(at, end, depth + 1))
        return items

    cdef dict _take_map(self, const uint8_t **at, const uint8_t *end, size_t count, int depth):
        cdef size_t index
        check_left(at, end, count)
        found = {}
        for index in range(count):
            key = self._take(at, end, depth + 1)
            try:
                found[key] = self._take(at, end, depth + 1)
            except TypeError as error:
                raise ValueError(f"a map has the unhashable key {key!r}") from error
        return found

    cdef object _take_ext(self, const uint8_t **at, const uint8_t *end, size_t count, int depth):
        cdef const uint8_t *stop
        cdef uint8_t code
        check_left(at, end, count + 1)
        code = at[0][0]
        at[0] += 1
        stop = at[0] + count
        if code == EXT_INT:
            at[0] = stop
            data = PyBytes_FromStringAndSize(<char *>stop - count, count)
            return int.from_bytes(data, "big", signed=True)
        if at[0] == stop or not (0x90 <= at[0][0] <= 0x9f or 0xdc <= at[0][0] <= 0xdd):
            raise ValueError(f"an extension of type {code} holds no array")
        fields = self._take(at, stop, depth) # the array is no level of its own: put has none
        if at[0] != stop:
            raise ValueError(f"an extension of type {code} is malformed")
        if code == EXT_TUPLE:
            return tuple(fields)
        try:
            return self._rebuild(code, fields)
        except ValueError:
            raise
        except Exception as error: # whatever the fields are, the reason is malformed bytes
            raise ValueError(f"an extension of type {code} is malformed: {error}") from error

    def _rebuild(self, int code, list fields):
        if code == EXT_SET:
            return set(fields)
        if code == EXT_FROZENSET:
            return frozenset(fields)
        if code == EXT_CONNECTION:
            return self._connection(*fields)
        if code == EXT_CALLER:
            return _answered_caller(*fields)
        if code == EXT_MESSAGE:
            name, *rest = fields
            return _SENTINELS[name] if name in _SENTINELS else _MESSAGES[name](*rest)
        if code == EXT_ERROR:
            return _error(*fields)
        if code == EXT_TYPED:
            name, data = fields
            if name not in self.types:
                raise ValueError(
                    f"the journal holds a value of the declared type {name!r}, which the server "
                    f"no longer names in its `types`"
                )
            return msgspec.msgpack.decode(data, type=self.types[name])
        raise ValueError(f"an extension of the unknown type {code}")


    def _connection(self, uint64_t session, uint32_t slot, uint32_t generation, str peer,
                    str listener):
        """The handle of a connection: the living one, or one for all that is read of a dead one."""
        cdef Connection connection
        key = (session, slot, generation)
        found = self.handles.get(key)
        if found is not None:
            return found
        if self.living is not None and session == self.session():
            found = self.living.live_connection(slot, generation)
        if found is None:
            connection = Connection.__new__(Connection)
            connection.session = session
            connection.slot = slot
            connection.generation = generation
            connection.peer = peer
            connection.listener = listener
            found = self.handles[key] = connection
        return found


cdef uint64_t session_of(uint64_t epoch) noexcept:
    """Names a node among all that ever wrote its journal; never 0. One process may have several,
    one after the other, and each counts its connections from the beginning.
    """
    return SESSION + 2 * epoch


cdef int check_left(const uint8_t **at, const uint8_t *end, size_t count) except -1:
    if count > <size_t>(end - at[0]):
        raise ValueError("a value is cut short")
    return 0


cdef uint64_t take_big(const uint8_t **at, const uint8_t *end, int bytes) except? 0:
    cdef uint64_t value = 0
    cdef int index
    check_left(at, end, bytes)
    for index in range(bytes):
        value = (value << 8) | at[0][index]
    at[0] += bytes
    return value


cdef object take_text(const uint8_t **at, const uint8_t *end, size_t count):
    check_left(at, end, count)
    at[0] += count
    return PyUnicode_DecodeUTF8(<char *>at[0] - count, count, NULL)


def _refuse(value):
    raise NotJournalable(f"a field of type {type(value).__qualname__}, which msgspec cannot encode")


cdef tuple _caller_fields(Caller caller):
    request = caller.request
    if request is None:
        return (caller.server,)
    if type(request) is tuple:
        return (caller.server, *request)
    return caller.server, request.client, request.number


def _answered_caller(server, bytes client=None, uint64_t number=0):
    """Nobody waits any more, but its request may still get its outcome (Q5)."""
    cdef Caller caller = Caller.__new__(Caller)
    caller.server = server
    caller.is_done = True
    caller.request = None if client is None else (client, number)
    return caller


def _error(str module, str name, str text, dict attributes=None):
    """The exception itself when its class is a known one that takes a text."""
    kind = getattr(_KNOWN_ERRORS.get(module), name, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        for each in (kind, _with_text(kind)): # the latter for KeyError, which quotes its text
            try:
                error = each.__new__(each) # not __init__: many make their text themselves
                error.args = (text,)
                if str(error) == text:
                    error.__dict__.update(attributes or {})
                    return error
            except Exception: # it takes more than a text, as an ExceptionGroup
                pass
    return JournaledError.read(module, name, text)


@functools.cache
def _with_text(kind):
    """The class of an exception whose text is what it was."""
    return type(kind.__name__, (kind,), {
        "__module__": kind.__module__, "__str__": lambda error: error.args[0]})
