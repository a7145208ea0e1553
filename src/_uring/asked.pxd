"""What a journaled server has asked for and not heard of yet."""


cdef class Asked:
    cdef dict waiting # key -> list of (count, action), oldest first
    cdef Py_ssize_t count
    cdef int note(self, object action) except -1
    cdef int heard(self, object message) except -1

