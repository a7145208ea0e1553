"""Messages out of bytes and bytes out of outputs, at the speed of the allocations they need.

Theory. A protocol is three things: a framing (frame.c finds the message), decode (the message as a
Python object) and encode (an output as bytes). A Codec is one protocol's plain configuration with
the three in C; only a protocol that a user wrote calls back into Python. Codecs hold nothing of a
connection: what a connection has agreed on (RESP 2 or 3) is a number that the caller keeps.

Invariants
  (C1) encode appends one whole answer or nothing (rollback), and leaves room for no half line.
  (C2) decode reads only what the framing has validated: within view.body.
  (C3) Every failure of an input is a DecodeError, every failure of an output an EncodeError; other
       exceptions are bugs of this file (or MemoryError, KeyboardInterrupt).
  (C4) The text of an error never breaks the framing it travels in.

Does not know: connections, servers, the loop. feed, encode_bytes and take_output serve tests and
programs that bring their own bytes.
Over 500 lines: the compiled half of all protocols is here, so that a message passes through one
module; what is rare lives in protocols/resp_values.py and resp_commands.py.
Source: RESP2 and RESP3 specifications; Redis 7 for what they leave open.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from functools import partial

from .reading cimport Partial

from pybehave._uring.exchange import failure_words
from pybehave.errors import DecodeError, EncodeError, FrameTooLong

cdef extern from "Python.h":
    # With PyObject* instead of object: the list takes the new reference over, nothing is counted.
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    void list_put "PyList_SET_ITEM"(object, Py_ssize_t, PyObject *)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *)
    list PyList_New(Py_ssize_t)
    void Py_INCREF(PyObject *)
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    object PyUnicode_DecodeASCII(const char *, Py_ssize_t, const char *)
    object PyUnicode_DecodeLatin1(const char *, Py_ssize_t, const char *)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    enum:
        Py_DTSF_ADD_DOT_0
    char *PyOS_double_to_string(double, char, int, int, int *) except NULL
    void PyMem_Free(void *)

cdef extern from "string.h" nogil:
    void *memmem(const void *, size_t, const void *, size_t)

cdef extern from "resp.h" nogil:
    enum:
        RESP_NAMES, RESP_NAME_BYTES_MAX
    const char *RESP_COMMANDS
    ctypedef struct resp_name:
        void *object
    resp_name resp_name_of(const uint8_t *, size_t, bint)
    resp_name *resp_name_slot(resp_name *, const resp_name *)
    bint resp_may_be_native(const uint8_t *, size_t)
    const uint8_t *resp_first_word(const uint8_t *, size_t, size_t *)
    bint resp_is_ping(const uint8_t *, size_t)
    int resp_put(outq_pool *, outq *, const void *, size_t)
    int resp_put_number(outq_pool *, outq *, char, int64_t)
    int resp_put_bulk(outq_pool *, outq *, const void *, size_t)

cdef enum:
    CHARSET_NONE, CHARSET_UTF8, CHARSET_ASCII, CHARSET_LATIN1

cdef enum:
    # Nesting in a RESP value. Redis' own clients stop at 7 to 9; a deeper one is an attack or a
    # cycle, and the C stack is finite.
    DEPTH_MAX = 32
    # An error answer is for reading; a longer one is cut.
    ERROR_BYTES_MAX = 512
    # Free blocks a codec keeps for feed and encode_bytes.
    OWN_BYTES_KEPT = 65536
    SPLIT_BYTES = 512 # what split() is shown of a longer buffer first; most messages are shorter

_CHARSETS = {None: CHARSET_NONE, "utf-8": CHARSET_UTF8, "ascii": CHARSET_ASCII,
             "latin-1": CHARSET_LATIN1}
_FRAMINGS = {
    "raw": (FRAME_RAW, CODEC_RAW),
    "fixed": (FRAME_FIXED, CODEC_FIXED),
    "lines": (FRAME_LINES, CODEC_LINES),
    "length": (FRAME_LENGTH, CODEC_LENGTH),
    "resp": (FRAME_RESP, CODEC_RESP),
    "reply": (FRAME_REPLY, CODEC_REQUEST),
    "custom": (FRAME_CUSTOM, CODEC_RAW),
    "reader": (FRAME_READER, CODEC_RAW),
}

# ---- names of commands -----------------------------------------------------------------------

# A known name becomes the same bytes object each time: no allocation.
cdef resp_name[RESP_NAMES] _names


cdef int names_fill() except -1:
    cdef resp_name key
    cdef bytes name
    cdef list names = (<bytes>RESP_COMMANDS).split()
    assert len(names) <= RESP_NAMES // 4
    for name in names:
        assert 1 <= len(name) <= RESP_NAME_BYTES_MAX
        key = resp_name_of(<const uint8_t *>PyBytes_AS_STRING(name), <size_t>len(name), False)
        key.object = <PyObject *>name
        Py_INCREF(<PyObject *>name)  # for ever
        resp_name_slot(_names, &key)[0] = key
    return 0

names_fill()


cdef inline PyObject *command_name(const uint8_t *p, size_t n, bint upper) except NULL:
    """A new reference to the name of a command, in upper case if wanted."""
    cdef resp_name key
    cdef PyObject *name
    cdef uint8_t *letters
    if 1 <= n <= RESP_NAME_BYTES_MAX:
        key = resp_name_of(p, n, upper)
        name = <PyObject *>resp_name_slot(_names, &key).object
        if name != NULL:
            Py_INCREF(name)
            return name
    if not upper or n == 0:
        return new_bytes(<const char *>p, <Py_ssize_t>n)
    name = new_bytes(NULL, <Py_ssize_t>n)
    letters = <uint8_t *>bytes_data(name)
    for i in range(n):
        letters[i] = p[i] - 32 if c'a' <= p[i] <= c'z' else p[i]
    return name


# ---- RESP: requests in -----------------------------------------------------------------------

cdef inline list decode_bulks(const frame_view *view, bint upper):
    """The common request: only bulk strings. Each is one allocation (C2)."""
    cdef const uint8_t *pos = view.body
    cdef const uint8_t *p
    cdef size_t n
    cdef Py_ssize_t i
    cdef list out = PyList_New(view.args)
    p = frame_bulk(&pos, &n)
    list_put(out, 0, command_name(p, n, upper))
    for i in range(1, <Py_ssize_t>view.args):
        p = frame_bulk(&pos, &n)
        list_put(out, i, new_bytes(<const char *>p, <Py_ssize_t>n))
    return out


cdef list decode_inline(const frame_view *view, bint upper):
    cdef const uint8_t *pos = view.body
    cdef const uint8_t *end = view.body + view.body_len
    cdef size_t n = 0
    cdef list out = []
    cdef uint8_t *word = <uint8_t *>malloc(view.body_len + 1)
    if word == NULL:
        raise MemoryError
    try:
        while frame_word(&pos, end, word, &n) == 1:
            out.append(PyBytes_FromStringAndSize(<const char *>word, <Py_ssize_t>n))
    finally:
        free(word)
    if upper:
        out[0] = (<bytes>out[0]).upper()
    return out


cdef list decode_values(Codec codec, const frame_view *view):
    """Other types than bulk strings are rare and come from anyone: Python takes them apart."""
    cdef list out = codec.hook_values(
        PyBytes_FromStringAndSize(<const char *>view.body, <Py_ssize_t>view.body_len), view.args)
    if codec.uppercase and codec.form == CODEC_RESP and type(out[0]) is bytes:
        out[0] = (<bytes>out[0]).upper()
    return out


# ---- laying out bytes ------------------------------------------------------------------------

cdef inline uint8_t *room(outq_pool *pool, outq *q, size_t n) except NULL:
    cdef uint8_t *p = outq_reserve(pool, q, n)
    if p == NULL:
        raise MemoryError
    return p


cdef inline int put_bytes(bytes data, outq_pool *pool, outq *q) except -1:
    if resp_put(pool, q, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)) < 0:
        raise MemoryError
    return 0


cdef inline int put_header(char kind, int64_t number, outq_pool *pool, outq *q) except -1:
    if resp_put_number(pool, q, kind, number) < 0:
        raise MemoryError
    return 0


cdef inline int put_bulk(const void *data, Py_ssize_t n, outq_pool *pool, outq *q) except -1:
    if resp_put_bulk(pool, q, data, <size_t>n) < 0:
        raise MemoryError
    return 0


cdef int put_buffer(object data, bint bulk, outq_pool *pool, outq *q) except -1:
    """bytearray, memoryview, array: anything with contiguous bytes."""
    cdef Py_buffer buffer
    cdef int status
    try:
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    except BufferError as error:
        raise EncodeError(data, str(error)) from error
    if bulk:
        status = resp_put_bulk(pool, q, buffer.buf, <size_t>buffer.len)
    else:
        status = resp_put(pool, q, buffer.buf, <size_t>buffer.len)
    PyBuffer_Release(&buffer)
    if status < 0:
        raise MemoryError
    return 0


cdef const char *text_bytes(object text, Py_ssize_t *n) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, n)
    except UnicodeEncodeError as error:
        raise EncodeError(text, "text with lone surrogates has no UTF-8 form") from error


cdef int put_simple(uint8_t kind, object text, outq_pool *pool, outq *q) except -1:
    """+ and -: a line of text, which CR or LF would break (C4)."""
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    cdef const char *data = text_bytes(text, &n)
    cdef uint8_t *start = room(pool, q, <size_t>n + 3)
    start[0] = kind
    for i in range(n):
        start[i + 1] = <uint8_t>data[i]
        if data[i] == c'\r' or data[i] == c'\n':
            if kind == c'+':
                raise EncodeError(text, "a status is one line; return bytes or str instead")
            start[i + 1] = c' '
    memcpy(start + 1 + n, <const char *>b"\r\n", 2)
    outq_commit(q, <size_t>n + 3)
    return 0


# ---- RESP: replies out -----------------------------------------------------------------------

cdef int put_integer(object number, outq_pool *pool, outq *q, uint32_t flags) except -1:
    cdef int overflow = 0
    cdef long long small = PyLong_AsLongLongAndOverflow(number, &overflow)
    cdef bytes digits
    if not overflow:
        return put_header(c':', small, pool, q)
    try:
        digits = b"%d" % number
    except ValueError as error:  # sys.set_int_max_str_digits
        raise EncodeError(type(number), str(error)) from error
    if flags == 3:
        return put_bytes(b"(" + digits + b"\r\n", pool, q)
    return put_bulk(PyBytes_AS_STRING(digits), len(digits), pool, q)


cdef int put_float(object number, outq_pool *pool, outq *q, uint32_t flags) except -1:
    cdef char *shortest = PyOS_double_to_string(number, c'r', 0, Py_DTSF_ADD_DOT_0, NULL)
    cdef bytes digits = shortest
    PyMem_Free(shortest)
    if flags == 3:
        return put_bytes(b"," + digits + b"\r\n", pool, q)
    return put_bulk(PyBytes_AS_STRING(digits), len(digits), pool, q)


cdef int put_aggregate(Codec codec, object items, outq_pool *pool, outq *q, uint32_t flags,
                       int depth) except -1:
    cdef bint is_resp3 = flags == 3
    cdef int64_t count = len(items)
    if depth >= DEPTH_MAX:
        raise EncodeError(items, f"it is nested deeper than {DEPTH_MAX} levels, or in a cycle")
    if isinstance(items, dict):
        put_header(c'%' if is_resp3 else c'*', count if is_resp3 else 2 * count, pool, q)
        for key, item in (<dict>items).items():
            put_value(codec, key, pool, q, flags, depth + 1)
            put_value(codec, item, pool, q, flags, depth + 1)
        return 0
    if is_resp3 and isinstance(items, (set, frozenset)):
        put_header(c'~', count, pool, q)
    else:
        put_header(c'>' if is_resp3 and type(items) is codec.push_type else c'*', count, pool, q)
    for item in items:
        put_value(codec, item, pool, q, flags, depth + 1)
    return 0


cdef int put_value(Codec codec, object item, outq_pool *pool, outq *q, uint32_t flags,
                   int depth) except -1:
    """Any RESP value. On an exception the caller rolls back (C1)."""
    cdef Py_ssize_t n = 0
    cdef const char *data
    if type(item) is bytes:
        return put_bulk(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item), pool, q)
    if item is None:
        return put_bytes(b"_\r\n" if flags == 3 else b"$-1\r\n", pool, q)
    if type(item) is codec.status_type:
        return put_simple(c'+', item, pool, q)
    if type(item) is codec.error_type:
        return put_simple(c'-', item, pool, q)
    if isinstance(item, str):
        data = text_bytes(item, &n)
        return put_bulk(data, n, pool, q)
    if isinstance(item, bool):
        if flags == 3:
            return put_bytes(b"#t\r\n" if item else b"#f\r\n", pool, q)
        return put_header(c':', 1 if item else 0, pool, q)
    if isinstance(item, int):
        return put_integer(item, pool, q, flags)
    if isinstance(item, float):
        return put_float(item, pool, q, flags)
    if isinstance(item, (list, tuple, dict, set, frozenset)):
        return put_aggregate(codec, item, pool, q, flags, depth)
    if PyObject_CheckBuffer(item):
        return put_buffer(item, True, pool, q)
    raise EncodeError(item, "RESP has no form for it; use OK, Status, Error, bytes, str, int, "
                            "float, bool, None, list, tuple, dict or set")


cdef int put_request(Codec codec, object output, outq_pool *pool, outq *q) except -1:
    """What a client sends: an array of bulk strings."""
    if not isinstance(output, (list, tuple)) or not output:
        raise EncodeError(output, "a request is a list or tuple that begins with a command's name")
    put_header(c'*', len(output), pool, q)
    for item in output:
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            item = str(item)
        elif not isinstance(item, str) and not PyObject_CheckBuffer(item):
            raise EncodeError(item, "an argument of a request is bytes, str, int or float")
        put_value(codec, str(item) if isinstance(item, str) else item, pool, q, 2, 1)
    return 0


# ---- the other layouts -----------------------------------------------------------------------

cdef int put_line(Codec codec, object line, outq_pool *pool, outq *q) except -1:
    """A line and its end. The end may not come earlier, nor straddle: "a;" before ";;"."""
    cdef Py_ssize_t n = 0
    cdef size_t end_len = codec.frame.end_len
    cdef const uint8_t *end = &codec.frame.end[0]
    cdef const char *text
    cdef uint8_t *p
    cdef object owner = line  # keeps the bytes that text points to
    if type(line) is not bytes:
        owner = line_text(codec, line)
    if type(owner) is bytes:
        text, n = PyBytes_AS_STRING(owner), PyBytes_GET_SIZE(owner)
    else:
        text = text_bytes(owner, &n)
    p = room(pool, q, <size_t>n + end_len)
    memcpy(p, text, <size_t>n)
    memcpy(p + n, end, end_len)
    if memmem(p, <size_t>n + end_len, end, end_len) != p + n:
        raise EncodeError(line, f"it contains the line's end {end[:end_len]!r}; return a list for "
                                "several lines")
    outq_commit(q, <size_t>n + end_len)
    return 0


cdef object line_text(Codec codec, object line):
    """bytes, or a str that is to be sent as UTF-8."""
    if isinstance(line, str):
        if codec.charset == CHARSET_NONE or codec.charset == CHARSET_UTF8:
            return line
        try:
            return line.encode(codec.encoding)
        except UnicodeEncodeError as error:
            raise EncodeError(line, str(error)) from error
    if isinstance(line, int) and not isinstance(line, bool):
        return b"%d" % line
    if PyObject_CheckBuffer(line):
        return bytes(line)
    raise EncodeError(line, "a line is bytes, str or int; a list or tuple of these is several "
                            "lines, and None is none")


cdef int put_length(Codec codec, object data, size_t size, outq_pool *pool, outq *q) except -1:
    """The length that stands before a message."""
    cdef unsigned int width = codec.frame.width
    cdef unsigned int i
    cdef uint8_t *p
    if width < sizeof(size_t) and size >> (8 * width) != 0:
        raise EncodeError(data, f"its {size} bytes do not fit a length of {width} bytes")
    p = room(pool, q, width)
    for i in range(width):
        p[i if codec.frame.little else width - 1 - i] = (
            <uint8_t>(size >> (8 * i)) if i < sizeof(size_t) else 0)
    outq_commit(q, width)
    return 0


cdef int put_binary(Codec codec, object output, outq_pool *pool, outq *q) except -1:
    """Raw, fixed and length prefixed messages: bytes as they are."""
    cdef size_t size
    if type(output) is bytes:
        size = <size_t>PyBytes_GET_SIZE(output)
    elif PyObject_CheckBuffer(output):
        size = <size_t>memoryview(output).nbytes
    else:
        raise EncodeError(output, "this protocol sends bytes, bytearray or memoryview")
    if codec.form == CODEC_FIXED and size != codec.frame.size:
        raise EncodeError(output, f"it has {size} bytes; every message of this protocol has "
                                  f"{codec.frame.size}")
    if codec.form == CODEC_LENGTH:
        put_length(codec, output, size, pool, q)
    if type(output) is bytes:
        return put_bytes(output, pool, q)
    return put_buffer(output, False, pool, q)


cdef int put_output(Codec codec, object output, outq_pool *pool, outq *q, uint32_t flags) except -1:
    """By the layout of the codec; on an exception the caller rolls back (C1)."""
    if codec.form == CODEC_RESP:
        return put_value(codec, output, pool, q, flags, 0)
    if codec.form == CODEC_REQUEST:
        return put_request(codec, output, pool, q)
    if output is None:
        return 0
    if codec.form != CODEC_LINES:
        return put_binary(codec, output, pool, q)
    if isinstance(output, (list, tuple)):
        for line in output:
            put_line(codec, line, pool, q)
        return 0
    return put_line(codec, output, pool, q)


cdef int put_guarded(Codec codec, object output, outq_pool *pool, outq *q,
                     uint32_t flags) except -1:
    """The whole output or nothing (C1), after the user's encode if there is one (C3)."""
    cdef size_t mark = outq_mark(q)
    try:
        if codec.kind == CODEC_PYTHON:
            output = codec.hooks.encode(output)
        put_output(codec, output, pool, q, flags)
    except (EncodeError, MemoryError):
        outq_rollback(pool, q, mark)
        raise
    except Exception as error:
        outq_rollback(pool, q, mark)
        raise EncodeError(output, f"{type(error).__name__}: {error}") from error
    return 0


# ---- failures as answers ---------------------------------------------------------------------

cdef bytes failure_line(Codec codec, object exc):
    """One line without any byte that ends a line (C4), and not longer than is read."""
    cdef bytes text
    cdef bytes first = b"\n"
    word, sentence = failure_words(exc)
    sentence = f"{word} {sentence}" if codec.form == CODEC_RESP else f"error: {sentence}"
    text = sentence.encode("utf-8", "backslashreplace")[:ERROR_BYTES_MAX]
    text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    if codec.form == CODEC_LINES:
        first = (<const uint8_t *>&codec.frame.end[0])[:1]
    return text.replace(first, b"_" if first != b"_" else b"-")


cdef int put_failure(Codec codec, object exc, outq_pool *pool, outq *q) except -1:
    """The native answer for a failure."""
    cdef bytes text = failure_line(codec, exc)
    if codec.form == CODEC_REQUEST:
        return 0  # a client does not answer its server
    if codec.form == CODEC_RESP:
        return put_bytes(b"-" + text + b"\r\n", pool, q)
    if codec.form == CODEC_LINES:
        put_bytes(text, pool, q)
        if resp_put(pool, q, &codec.frame.end[0], codec.frame.end_len) < 0:
            raise MemoryError
        return 0
    if codec.form == CODEC_RAW:
        return put_bytes(text + b"\n", pool, q)
    if codec.form == CODEC_FIXED:
        return put_bytes(text[:codec.frame.size].ljust(codec.frame.size), pool, q)
    if codec.frame.width == 1:
        text = text[:0xff]
    put_length(codec, text, <size_t>len(text), pool, q)
    return put_bytes(text, pool, q)


# ---- what the user's protocol and the protocol itself do in Python ---------------------------

cdef object decode_body(Codec codec, const frame_view *view):
    """A message of any native framing, before the user's decode."""
    cdef const char *body = <const char *>view.body
    cdef Py_ssize_t n = <Py_ssize_t>view.body_len
    if view.type == FRAME_BULKS:
        return named(codec, decode_bulks(view, codec.uppercase))
    if view.type == FRAME_INLINE:
        return named(codec, decode_inline(view, codec.uppercase))
    if view.type == FRAME_NESTED:
        return decode_values(codec, view)
    if view.type == FRAME_VALUE:
        return decode_values(codec, view)[0]
    if codec.charset == CHARSET_NONE:
        return PyBytes_FromStringAndSize(body, n)
    try:
        if codec.charset == CHARSET_UTF8:
            return PyUnicode_DecodeUTF8(body, n, NULL)
        if codec.charset == CHARSET_ASCII:
            return PyUnicode_DecodeASCII(body, n, NULL)
        return PyUnicode_DecodeLatin1(body, n, NULL)
    except UnicodeDecodeError as error:
        raise DecodeError(f"the line is not {codec.encoding}: {error.reason} at byte "
                          f"{error.start}") from error


cdef object named(Codec codec, list request):
    """The request as its client has named it: ONCE client number command..."""
    if codec.hook_once is not None and request and (<bytes>request[0]).upper() == b"ONCE":
        return codec.hook_once(request)
    return request


cdef object decode_python(Codec codec, const frame_view *view):
    message = codec.made if view.type == FRAME_MADE else decode_body(codec, view)
    codec.made = None
    try:
        return codec.hooks.decode(message)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


cdef int native_slow(Codec codec, const frame_view *view, const conn_facts *facts, outq_pool *pool,
                     outq *q, uint32_t *flags) except -1:
    """Ask the protocol's Python function; None means that the command is the server's."""
    cdef list request
    cdef dict about = {"id": facts.id, "commands": facts.commands,
                       "connections": facts.connections, "accepted": facts.accepted,
                       "uptime_s": facts.uptime_s}
    if facts.owner != NULL:
        about["clients"] = partial((<object>facts.owner).clients, codec)
    if view.type == FRAME_BULKS:
        request = decode_bulks(view, True)
    else:
        request = decode_inline(view, True)
    flags[0] |= 2 if flags[0] & AGREED_VERSION == 0 else 0
    answer = codec.hook_native(request, about, flags[0], codec.info_source)
    if answer is None:
        return 0
    output, flags[0], closing = answer
    if flags[0] <= AGREED_VERSION: # else nobody wants it
        put_guarded(codec, output, pool, q, flags[0])
    return 2 if closing else 1


# ---- the codec -------------------------------------------------------------------------------

@cython.final
cdef class Codec:
    """One protocol's framing, decode and encode; made by a protocol object's `codec()`."""

    def __cinit__(self, *, str framing, object frame_bytes_max, object size=1, int width=4,
                  bint little=False, bytes end=b"\n", object encoding=None, bint uppercase=True,
                  object ok=None, type status_type=str, type error_type=str, type push_type=tuple,
                  object values=None, object native=None, object hooks=None, object once=None):
        if not 1 <= frame_bytes_max <= FRAME_BYTES_LIMIT or not 1 <= size <= FRAME_BYTES_LIMIT:
            raise ValueError(f"sizes of messages are 1 to {FRAME_BYTES_LIMIT} bytes")
        if not 1 <= width <= FRAME_WIDTH_MAX or not 1 <= len(end) <= FRAME_END_BYTES_MAX:
            raise ValueError("width is 1 to 8; the line's end has 1 to 8 bytes")
        self.frame.kind, self.form = _FRAMINGS[framing]
        self.frame.frame_bytes_max = frame_bytes_max
        self.frame.size = size
        self.frame.width = <uint8_t>width
        self.frame.little = little
        self.frame.end_len = <uint8_t>len(end)
        memcpy(&self.frame.end[0], PyBytes_AS_STRING(end), <size_t>len(end))
        self.charset = _CHARSETS[encoding]
        self.encoding = encoding or "utf-8"
        self.uppercase = uppercase
        self.ok, self.status_type, self.error_type = ok, status_type, error_type
        self.push_type = push_type
        self.hook_values, self.hook_native, self.hooks = values, native, hooks
        self.hook_once = once
        self.kind = self.form if hooks is None else CODEC_PYTHON
        self.has_native = self.frame.kind == FRAME_RESP
        self.own_pool = outq_pool_new(OWN_BYTES_KEPT)
        if self.own_pool == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.own_pool != NULL:
            outq_clear(self.own_pool, &self.own_queue)
            outq_pool_free(self.own_pool)

    cdef int split(self, const uint8_t *data, size_t length, frame_resume *resume,
                   frame_view *view) except -3:
        cdef int64_t n = 0
        cdef size_t offered = min(length, max(<size_t>resume.pending, SPLIT_BYTES))
        cdef bint too_long = length > self.frame.frame_bytes_max
        view[0] = frame_view(used=0, body=data, body_len=0, args=0, type=FRAME_BODY, need=0,
                             error=FRAME_ERROR_CUSTOM, got=0)
        if length == 0 or length < resume.pending:
            return FRAME_MORE
        try:
            n = self.hooks.split(PyBytes_FromStringAndSize(<const char *>data, offered))
            while offered < length and (n <= 0 or n > <int64_t>offered):
                offered = min(length, max(8 * offered, <size_t>max(n, -n)))
                n = self.hooks.split(PyBytes_FromStringAndSize(<const char *>data, offered))
        except Exception as error:
            self.failure = error
            return FRAME_MALFORMED
        if n > <int64_t>length:
            self.failure = ValueError(f"split() returned {n} of {length} bytes")
            return FRAME_MALFORMED
        if n > <int64_t>self.frame.frame_bytes_max or -n > <int64_t>self.frame.frame_bytes_max or (
                n <= 0 and too_long):
            view.error = FRAME_ERROR_TOO_LONG
            return FRAME_TOO_LONG
        if n <= 0:
            view.need = <size_t>-n
            resume.pending = <uint32_t>-n
            return FRAME_MORE
        view.used = view.body_len = <size_t>n
        resume.pending = 0
        return FRAME_READY

    cdef int read(self, const uint8_t *data, size_t length, Partial partial,
                  frame_view *view) except -3:
        cdef int status = partial.read(data, length)
        view[0] = frame_view(used=partial.fed, body=data, body_len=0, args=0, type=FRAME_MADE,
                             need=0, error=FRAME_ERROR_CUSTOM, got=0)
        if status == FRAME_READY:
            self.made = partial.take()
        elif status < 0:
            self.failure = partial.failure
        elif length > self.frame.frame_bytes_max:
            view.error = FRAME_ERROR_TOO_LONG
            status = FRAME_TOO_LONG
        return status

    cdef object frame_error(self, const frame_view *view):
        cdef char[128] text
        cdef size_t n
        if view.error == FRAME_ERROR_TOO_LONG:
            return FrameTooLong(self.frame.frame_bytes_max)
        if view.error == FRAME_ERROR_CUSTOM:
            failure, self.failure = self.failure, None
            if isinstance(failure, DecodeError):
                return failure
            error = DecodeError(f"{type(failure).__name__}: {failure}")
            error.__cause__ = failure
            return error
        n = frame_error_text(view, text, sizeof(text))
        return DecodeError((<const char *>text)[:n].decode("ascii"))

    cdef object decode(self, const frame_view *view, uint32_t *flags):
        if view.type == FRAME_EMPTY:
            return None
        if self.kind == CODEC_PYTHON:
            return decode_python(self, view)
        if view.type == FRAME_BULKS and self.hook_once is None:
            return decode_bulks(view, self.uppercase)
        if view.type == FRAME_BODY and self.charset == CHARSET_NONE:
            return PyBytes_FromStringAndSize(<const char *>view.body, <Py_ssize_t>view.body_len)
        return decode_body(self, view)

    cdef int encode(self, object output, outq_pool *pool, outq *q, uint32_t flags) except -1:
        # The three common answers without a guard: nothing is appended when they fail.
        if self.kind == CODEC_RESP:
            if output is self.ok:
                return put_bytes(b"+OK\r\n", pool, q)
            if type(output) is bytes:
                return put_bulk(PyBytes_AS_STRING(output), PyBytes_GET_SIZE(output), pool, q)
        elif self.kind == CODEC_FIXED or self.kind == CODEC_RAW:
            if type(output) is bytes and (self.kind == CODEC_RAW or
                                          <size_t>PyBytes_GET_SIZE(output) == self.frame.size):
                return put_bytes(output, pool, q)
        return put_guarded(self, output, pool, q, flags & AGREED_VERSION)

    cdef int encode_error(self, object exc, outq_pool *pool, outq *q, uint32_t flags) except -1:
        cdef size_t mark = outq_mark(q)
        if self.kind == CODEC_PYTHON:
            try:
                output = self.hooks.encode_error(exc)
                if output is not None:
                    return put_output(self, output, pool, q, flags & AGREED_VERSION)
            except Exception:  # a failure on the way to report a failure: the native answer serves
                outq_rollback(pool, q, mark)
        return put_failure(self, exc, pool, q)

    cdef int native(self, const frame_view *view, const conn_facts *facts, outq_pool *pool,
                    outq *q, uint32_t *flags) except -1:
        cdef const uint8_t *pos = view.body
        cdef const uint8_t *name
        cdef size_t n
        if view.type == FRAME_EMPTY:
            return 1
        if flags[0] > AGREED_VERSION:
            flags[0] = (flags[0] & (AGREED_VERSION | AGREED_OFF)) | (flags[0] & AGREED_SKIP) << 1
        if self.hook_native is None or view.type == FRAME_NESTED:
            return 0
        if view.type == FRAME_BULKS:
            name = frame_bulk(&pos, &n)
        else:
            name = resp_first_word(view.body, view.body_len, &n)
        if n != 0 and not resp_may_be_native(name, n): # 0: quoted, or not a name at all
            return 0
        if view.args == 1 and resp_is_ping(name, n):
            return 1 if flags[0] > AGREED_VERSION else 1 + put_bytes(b"+PONG\r\n", pool, q)
        return native_slow(self, view, facts, pool, q, flags)

    # ---- without a connection: tests, and programs that bring their own bytes ----------------

    def feed(self, bytes data not None):
        """Take bytes of a stream; return the messages that are complete now, in order.

        Undecodable input is in the list as the DecodeError it is. After an error of the framing,
        which is the last item then, further bytes have no meaning and are refused with ValueError.
        Commands that the protocol answers itself are no messages; see take_output.
        """
        cdef frame_view view
        cdef bytes carry = self.own_carry + data if self.own_carry else data
        cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(carry)
        cdef size_t length = <size_t>len(carry)
        cdef size_t done = 0
        cdef list out = []
        cdef int status = FRAME_READY
        if self.is_broken:
            raise ValueError("the stream ended with a framing error; make a new codec")
        while True:
            if self.frame.kind == FRAME_CUSTOM:
                status = self.split(start + done, length - done, &self.own_resume, &view)
            elif self.frame.kind == FRAME_READER:
                self.own_partial = self.own_partial or Partial(self.hooks.reader())
                status = self.read(start + done, length - done, self.own_partial, &view)
                if self.own_partial.interim is not None:
                    put_bytes(self.own_partial.interim, self.own_pool, &self.own_queue)
            else:
                status = frame_next(&self.frame, start + done, length - done, &self.own_resume,
                                    &view)
            if status != FRAME_READY:
                break
            self.feed_message(&view, out)
            done += view.used
        if status < 0:
            self.is_broken = True
            out.append(self.frame_error(&view))
        self.own_carry = carry[done:]
        return out

    cdef int feed_message(self, const frame_view *view, list out) except -1:
        cdef conn_facts facts = conn_facts(id=1, commands=0, connections=1, accepted=1,
                                           uptime_s=0, owner=NULL)
        if self.has_native and self.native(view, &facts, self.own_pool, &self.own_queue,
                                           &self.own_flags) != 0:
            return 0
        try:
            message = self.decode(view, &self.own_flags)
        except DecodeError as error:
            message = error
        if message is not None:
            out.append(message)
        return 0

    def take_output(self):
        """Return and forget what the protocol itself answered to the bytes fed so far."""
        return queue_bytes(self.own_pool, &self.own_queue)

    def encode_bytes(self, output, uint32_t flags=0):
        """Return an output as the bytes that a client receives. `flags` 3 means RESP3."""
        cdef outq q = outq(filling=NULL, sending=NULL, sent=0)
        self.encode(output, self.own_pool, &q, flags)
        return queue_bytes(self.own_pool, &q)

    def encode_error_bytes(self, exc, uint32_t flags=0):
        """Return a failure as the bytes that a client receives."""
        cdef outq q = outq(filling=NULL, sending=NULL, sent=0)
        self.encode_error(exc, self.own_pool, &q, flags)
        return queue_bytes(self.own_pool, &q)


cdef bytes queue_bytes(outq_pool *pool, outq *q):
    cdef const uint8_t *data = NULL
    cdef size_t n = 0
    cdef bytes out
    if not outq_begin(pool, q, <size_t>-1, &data, &n):
        outq_clear(pool, q)
        return b""
    out = PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>n)
    outq_abort(pool, q)
    return out
