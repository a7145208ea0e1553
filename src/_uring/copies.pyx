# cython: language_level=3, binding=True
"""Copies of plain values: what a migration may change in place, kept as it was.

Theory. `copy.deepcopy` asks every object how it wants to be copied: a state of 100,000 keys with a
tuple each would keep its server waiting for 100 ms, longer than its migration does. Nearly all
states are made of the plain types alone. Of those only lists, dicts, sets and bytearrays can be
changed in place; all others are shared between a value and its copy.

Invariants
  (P1) No change in place of a value shows in its copy, and none of the copy in the value.
  (P2) What was one object in two places is one object in two places of the copy.
  (P3) A value that holds anything else is refused: it is never shared by guess.

Does not know: what is copied for whom.
Source: the standard library's copy, for (P2).
"""

cimport cython
from cpython.dict cimport PyDict_Copy, PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_GetSlice
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

cdef int DEPTH_MAX = 64                # as deep as the journal goes (values.pyx)
cdef object NOTHING = type(None)


# Not final: Python makes its instances.
class NotPlainError(Exception):
    """A value holds something that is not of a plain type, is nested too deep, or holds too much
    that can be changed.
    """


def plain_copy(value, Py_ssize_t copies_max=0):
    """A copy of a value (P1, P2); itself when nothing in it can be changed.

    Args:
        copies_max: So many lists, dicts, sets and bytearrays are copied; 0 = any number.

    Raises:
        NotPlainError: It holds something that is not of a plain type (P3), or too much.
    """
    cdef _Known known = _Known.__new__(_Known)
    known.copies = {}
    known.left = copies_max if copies_max else -1
    return copied(value, known, 0)


@cython.final
cdef class _Known:
    """What has been copied so far."""

    cdef dict copies                   # address -> copy: all lives as long as the whole does
    cdef Py_ssize_t left               # how many more may be; below 0: any number

    cdef object find(self, object value):
        return self.copies.get(<Py_ssize_t><void *>value)

    cdef object note(self, object value, object copy):
        if self.left == 0:
            raise NotPlainError
        self.left -= 1
        self.copies[<Py_ssize_t><void *>value] = copy
        return copy


cdef bint is_leaf(object kind) noexcept:
    return kind is bytes or kind is int or kind is str or kind is float or kind is bool \
        or kind is NOTHING or kind is complex


cdef object copied(object value, _Known known, int depth):
    cdef object kind = type(value)
    if is_leaf(kind):
        return value
    if depth >= DEPTH_MAX:
        raise NotPlainError
    if kind is tuple:
        return copied_tuple(value, known, depth + 1)
    if kind is frozenset:
        check_fixed(value, known, depth + 1)
        return value
    found = known.find(value)
    if found is not None:
        return found
    if kind is dict:
        return copied_dict(value, known, depth + 1)
    if kind is list:
        return copied_list(value, known, depth + 1)
    if kind is set:
        check_fixed(value, known, depth + 1)
        return known.note(value, set(value))
    if kind is bytearray:
        return known.note(value, bytearray(value))
    raise NotPlainError


cdef object copied_dict(dict value, _Known known, int depth):
    """Copied as a whole, which is ten times as fast; then what can be changed is replaced."""
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t at = 0
    cdef dict copy = PyDict_Copy(value)
    known.note(value, copy)
    while PyDict_Next(value, &at, &key, &item):
        if not is_leaf(type(<object>key)):
            check_fixed((<object>key,), known, depth)
        if not is_leaf(type(<object>item)):
            other = copied(<object>item, known, depth)
            if other is not <object>item:
                copy[<object>key] = other
    return copy


cdef object copied_list(list value, _Known known, int depth):
    cdef Py_ssize_t index
    cdef list copy = PyList_GetSlice(value, 0, PyList_GET_SIZE(value))
    known.note(value, copy)
    for index in range(PyList_GET_SIZE(value)):
        item = <object>PyList_GET_ITEM(value, index)
        if not is_leaf(type(item)):
            copy[index] = copied(item, known, depth)
    return copy


cdef object copied_tuple(tuple value, _Known known, int depth):
    """Itself when nothing in it can be changed."""
    cdef Py_ssize_t index
    cdef list items = None
    cdef bint is_nested = False
    for index in range(PyTuple_GET_SIZE(value)):
        item = <object>PyTuple_GET_ITEM(value, index)
        if is_leaf(type(item)):
            continue
        if not is_nested: # those of leaves alone are looked at again sooner than looked up
            is_nested = True
            found = known.find(value)
            if found is not None:
                return found
        other = copied(item, known, depth)
        if other is not item:
            items = list(value) if items is None else items
            items[index] = other
    result = value if items is None else tuple(items)
    if is_nested:
        known.copies[<Py_ssize_t><void *>value] = result
    return result


cdef int check_fixed(object items, _Known known, int depth) except -1:
    """What has a hash is shared, so nothing in it may be changeable."""
    for item in items:
        if not is_leaf(type(item)) and copied(item, known, depth) is not item:
            raise NotPlainError
    return 0
