# cython: language_level=3, binding=True
"""Events handed to plain handlers, as far as nothing special happens.

The compiled twin of pybehave/behaviours/handout.py, which says what it means; a property test
compares the two. Handlers' functions and states stand in arrays while it runs, so a delivery is one
call and one comparison: no attribute is looked up, and nothing is made but what the handler makes.

Does not know: managers, rings, what becomes of a result that is special.
"""

cimport cython
from cpython.method cimport PyMethod_Check, PyMethod_GET_FUNCTION, PyMethod_GET_SELF
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_TYPE
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdlib cimport free, malloc

from .acting cimport begins_with

from pybehave.actions import Action as _Action, are_actions

cdef extern from "Python.h":
    PyObject *PyObject_Vectorcall(
        PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *names)


cdef str NOTIFY = "notify"
cdef PyTypeObject *ACTION = <PyTypeObject *>_Action
cdef PyObject *PAIR = <PyObject *>tuple
cdef PyObject *LIST = <PyObject *>list


# A handler: what is called, its first argument or NULL, its state, the type of its latest plain
# result. The state is owned, the rest borrowed from `handles`.
ctypedef struct plain:
    PyObject *function
    PyObject *instance
    PyObject *state
    PyObject *usual


@cython.final
cdef class Batch:
    """Where an event stands; the compiled twin of pybehave/behaviours/event_handler.py's.

    Attributes:
        sequence: Its number.
        is_last: No further event has gathered behind it.
    """

    cdef public long long sequence
    cdef public bint is_last

    def __cinit__(self):
        self.is_last = True


@cython.final
cdef class HandOut:
    """What hands out.

    Args:
        special: Types of results that end a run.
        stopped: Makes what tells of the end: (sequence, given, index of the handler, result,
            error).
    """

    cdef frozenset special
    cdef object stopped

    def __cinit__(self, frozenset special, stopped):
        self.special = special
        self.stopped = stopped

    def __call__(self, list entries, list events, long long first, Batch batch not None):
        """Hand events to handlers; None, or what was special."""
        cdef Py_ssize_t count = len(entries)
        cdef Py_ssize_t at = 0, index = 0
        cdef list handles = [entry.handle for entry in entries]
        cdef plain *rows = <plain *>malloc((count or 1) * sizeof(plain))
        cdef PyObject *result = NULL
        if rows == NULL:
            raise MemoryError
        for index in range(count):
            _load(&rows[index], handles[index], entries[index].state)
        index = 0
        try:
            batch.is_last = False
            for at in range(len(events)):
                batch.sequence = first + at
                if at == len(events) - 1:
                    batch.is_last = True
                event = events[at]
                for index in range(count):
                    result = _call(&rows[index], <PyObject *>event)
                    if result == NULL or not _is_plain(&rows[index], result, self.special):
                        return self._stop(result, first + at, index)
                    Py_DECREF(<object>rows[index].state)
                    rows[index].state = result
            index = 0
            at = len(events)
            return None
        finally:
            _store(rows, entries, first + at, index)

    cdef object _stop(self, PyObject *result, object sequence, Py_ssize_t index):
        """What was special: a result, or the exception that stands; only Exceptions are a handler's
        own.
        """
        if result == NULL:
            try:
                _raise()
            except Exception as error:
                return self.stopped(sequence, sequence, index, None, error)
        value = <object>result
        Py_DECREF(value) # the call's own
        return self.stopped(sequence, sequence, index, value, None)

    def batches(self, list entries, list events, long long first, Batch batch not None):
        """Hand all events at once to each handler; None, or what was special."""
        cdef Py_ssize_t index
        cdef plain row
        cdef long long last = first + len(events) - 1
        batch.sequence = first
        batch.is_last = first == last
        for index in range(len(entries)):
            entry = entries[index]
            try:
                result = entry.handle(events[:], entry.state)
            except Exception as error:
                return self.stopped(first, last, index, None, error)
            row.usual = NULL
            if not _is_plain(&row, <PyObject *>result, self.special):
                return self.stopped(first, last, index, result, None)
            entry.state = result
            entry.sequence = last
        return None


def events_in(list messages, str mark):
    """The events of notifications, if all messages are such; else None."""
    cdef list found = []
    for message in messages:
        if not PyTuple_CheckExact(message) or PyTuple_GET_SIZE(message) != 3 \
                or not PyUnicode_CheckExact(<object>PyTuple_GET_ITEM(message, 0)) \
                or <object>PyTuple_GET_ITEM(message, 0) != mark \
                or <object>PyTuple_GET_ITEM(message, 1) != NOTIFY:
            return None
        found.append(<object>PyTuple_GET_ITEM(message, 2))
    return found


cdef int _load(plain *row, object handle, object state) except -1:
    row.function = <PyObject *>handle
    row.instance = NULL
    if PyMethod_Check(handle): # nearly always; called as the function that it is made of
        row.function = <PyObject *>PyMethod_GET_FUNCTION(handle)
        row.instance = <PyObject *>PyMethod_GET_SELF(handle)
    row.state = <PyObject *>state
    Py_INCREF(state)
    row.usual = NULL
    return 0


cdef inline PyObject *_call(plain *row, PyObject *event) noexcept:
    """A new reference, or NULL with the exception set."""
    cdef PyObject *arguments[3]
    arguments[0], arguments[1], arguments[2] = row.instance, event, row.state
    if row.instance != NULL:
        return PyObject_Vectorcall(row.function, arguments, 3, NULL)
    return PyObject_Vectorcall(row.function, &arguments[1], 2, NULL)


cdef inline bint _is_plain(plain *row, PyObject *result, frozenset special) except -1:
    """Whether a result is a state and no more. Most handlers return one type for ever; only what
    may hold actions is looked into each time.
    """
    cdef PyObject *kind = <PyObject *>Py_TYPE(<object>result)
    cdef PyObject *actions = result
    if kind == row.usual:
        return True
    if <object>result is None or <object>kind in special:
        return False
    if PyTuple_CheckExact(<object>result) and PyTuple_GET_SIZE(<object>result) == 2:
        actions = PyTuple_GET_ITEM(<object>result, 1)
    if begins_with(actions, ACTION) and are_actions(<object>actions):
        return False
    if kind != PAIR and kind != LIST:
        row.usual = kind
    return True


cdef int _raise() except? -1:
    """Let the exception that stands be an exception of Cython's."""
    return -1


cdef int _store(plain *rows, list entries, object sequence, Py_ssize_t index) except -1:
    """Those before `index` are done with `sequence`, the others with the one before it."""
    cdef Py_ssize_t each
    cdef object before = sequence - 1
    for each in range(len(entries)):
        entry = entries[each]
        entry.state = <object>rows[each].state
        Py_DECREF(entry.state)
        entry.sequence = sequence if each < index else before
    free(rows)
    return 0
