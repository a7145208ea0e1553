"""Actions: what the runtime does for a step that has returned them."""

from cpython.object cimport PyObject, PyTypeObject, Py_TPFLAGS_HEAPTYPE
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE

from .handles cimport Caller, Connection
from .servers cimport Address, Server
from .system cimport System


cdef extern from "Python.h":
    const unsigned long Py_TPFLAGS_LIST_SUBCLASS
    const unsigned long Py_TPFLAGS_TUPLE_SUBCLASS
    bint PyType_IsSubtype(PyTypeObject *, PyTypeObject *)


cdef inline bint is_action(PyObject *item, PyTypeObject *action) noexcept:
    """Whether something is an action. Their classes are made in Python; most types are not."""
    return item.ob_type.tp_flags & Py_TPFLAGS_HEAPTYPE != 0 \
        and PyType_IsSubtype(item.ob_type, action)


cdef inline bint begins_with(PyObject *output, PyTypeObject *action) noexcept:
    """Whether an output is an action, or a list or tuple whose first item is one.

    Every input asks this, and the flags of its type answer for most: by pointers, for a reference
    that is counted costs more than the question.
    """
    if not output.ob_type.tp_flags & (
            Py_TPFLAGS_HEAPTYPE | Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS):
        return False
    if PyList_CheckExact(<object>output):
        return PyList_GET_SIZE(<object>output) > 0 \
            and is_action(PyList_GET_ITEM(<object>output, 0), action)
    if PyTuple_CheckExact(<object>output):
        return PyTuple_GET_SIZE(<object>output) > 0 \
            and is_action(PyTuple_GET_ITEM(<object>output, 0), action)
    return is_action(output, action)


cdef class Acting(System):
    cdef public object on_action       # (server, action, lsn, index) -> None: Connect, Run, Cancel

    cdef Server drowsy                 # whose input has asked to hibernate; or None
    cdef tuple checked                 # (actions, what they send, encoded, whether their input
                                       # leaves no trace), until carried out

    cdef object _carry_out(self, Server server, tuple actions, list closes)
    cdef int _go_on_with(self, Server server, list continues) except -1
    cdef int _crashed(self, Server server, object error, int kind, object message,
                      Caller caller) except -1
    cdef int _hand_on(self, Server server, object action) except -1
    cdef dict _check_actions(self, Server server, tuple actions)
    cdef int _check_reply(self, object action, dict encoded) except -1
    cdef int _reply_as(self, Caller caller, object value, bytes answer) except -1
    cdef bytes _answer_for(self, Connection connection, object data, dict encoded)
    cdef int _send(self, Connection connection, object data, dict encoded) except -1
    cdef int _close(self, Connection connection) except -1
    cdef int _activate(self, Connection connection, object mode) except -1
    cdef int reactivate(self, Address address) except -1
    cdef int greet(self, Server server, Address address, bint is_known) except -1
    cdef int unheard(self, Address address, object mailbox) except -1
    cdef int miss(self, Address address, object closed) except -1
