# cython: language_level=3, binding=True
"""Where connections come from: listeners, accepts and their failures, outbound connects.

Accept errors never stop a listener and never spin: when descriptors run out, some of those who wait
are reset, and accepting goes on a little later or when a connection has ended.

Does not know: ticks, what connections say (loop.pyx).
"""

cimport cython
from cpython.ref cimport Py_INCREF
from libc.stdint cimport INT32_MAX, UINT32_MAX, int64_t, uint64_t
from libc.string cimport memset

from .codec cimport Codec
from .dispatch cimport Dispatcher
from .handles cimport Connection
from .leaves cimport *
from .servers cimport Address, Port, Server

import logging
import os

from pybehave import actions as _actions
from pybehave.errors import LISTEN_ADVICE as _LISTEN_ADVICE
from pybehave.errors import ListenFailed, LoopClosed, LoopForked, Overloaded
from pybehave.flow import messages_of

cdef object logger = logging.getLogger("pybehave")

cdef extern from "sockets.h" nogil:
    int64_t sockets_peer_uid(int fd)

cdef extern from "<errno.h>" nogil:
    enum:
        EBUSY, ECANCELED, EMFILE, ENFILE, ENOBUFS, ENOMEM

cdef int REFUSALS_PER_EVENT = 32
cdef double ACCEPT_PAUSE_S = 0.1        # after descriptors ran out
cdef uint64_t SAID_NS = 60_000_000_000 # and for so long that need not be said again
cdef uint64_t BYTES_MAX = 1 << 62       # "no limit" in numbers: sums of two of them still fit
cdef double SECONDS_MAX = 1e12          # 30,000 years, for the same reason


cdef uint64_t bounded(object number, uint64_t most) except? 0:
    """A count that the core can hold: whoever writes 10**30 means that there is no limit."""
    return most if number > most else <uint64_t>number


cdef uint64_t bounded_ms(object seconds) except? 0:
    """Milliseconds; None is 0. What is over 0 stays so: a millisecond at least."""
    cdef uint64_t ms = <uint64_t>(min(<double>(seconds or 0), SECONDS_MAX) * 1000)
    return 1 if ms == 0 and seconds else ms


# Not final: the Loop is the rest of it.
cdef class Ports:
    """Listeners and outbound connects of one loop. Base of the Loop."""

    def __cinit__(self, *arguments, **options):
        self._ports = []

    cdef int _check(self) except -1:
        if self._is_forked:
            raise LoopForked()
        if self._is_closed:
            raise LoopClosed()
        return 0

    # ---- listeners ---------------------------------------------------------------------------

    def listen(self, str name, str url, bytes address, Codec codec, Address to, settings,
               int fd=-1, bint is_dual=False):
        """Listen on a socket address, or take over `fd`. `settings` is a Listener.

        `is_dual`: an IPv6 address takes IPv4 connections too.

        Raises:
            ListenFailed: Port in use, no permission, not a listening socket; says which.
        """
        cdef Port port
        cdef listen_options options
        cdef int result
        self._check()
        memset(&options, 0, sizeof(options))
        options.backlog = <int>bounded(settings.backlog, INT32_MAX)
        options.nodelay = settings.nodelay
        options.reuse_port = settings.reuse_port
        options.keepalive_s = settings.keepalive or 0
        options.v6_only = not is_dual
        if fd >= 0:
            result = self._source.verbs.adopt(self._source, fd)
        else:
            result = self._source.verbs.listen(
                self._source, <const sockaddr *><char *>address, len(address), &options)
        if result < 0:
            raise ListenFailed(url, OSError(-result, os.strerror(-result)))
        port = self._make_port(name, url, codec, settings)
        port.address = to
        port.is_direct = True
        port.fd = result
        port.connections_max = bounded(settings.connections_max or UINT32_MAX, UINT32_MAX)
        to.is_asking = to.is_asking or port.limits.active != ACTIVE_ALWAYS
        to.has_events = to.has_events or port.has_events
        self._ports.append(port)
        if self._is_enabled:
            self._accept(port)
        return port

    cdef Port _make_port(self, str name, str url, Codec codec, settings):
        cdef Port port = Port.__new__(Port)
        port.name = name
        port.url = url
        port.codec = codec
        port.is_open = True
        port.fd = -1
        port.has_events = settings.events
        port.limits.frame_timeout_ms = bounded_ms(settings.frame_timeout)
        port.limits.idle_timeout_ms = bounded_ms(settings.idle_timeout)
        port.limits.linger_ms = bounded_ms(settings.linger)
        port.limits.half_closed_ms = bounded_ms(settings.half_closed_timeout)
        port.limits.high_water_bytes = bounded(settings.high_water_bytes, BYTES_MAX)
        port.limits.low_water_bytes = bounded(settings.low_water_bytes, BYTES_MAX)
        port.limits.output_bytes_max = bounded(settings.output_bytes_max, BYTES_MAX)
        port.limits.active = messages_of(settings.active)
        return port

    cdef int _accept(self, Port port) except -1:
        cdef int error
        if port.is_armed or not port.is_open or port.is_exhausted or port.is_held:
            return 0
        error = self._source.verbs.accept(
            self._source, port.fd, token_make(OP_ACCEPT, 1, self._ports.index(port)))
        if error == -EBUSY: # no room for a submission just now: a little later
            return self._pause_accept(port)
        if error < 0:
            raise ListenFailed(port.url, OSError(-error, os.strerror(-error)))
        port.is_armed = True
        return 0

    cdef int _accepted(self, Port port, const completion *done) except -1:
        if not done.flags & COMPLETION_MORE:
            port.is_armed = False
        if done.result >= 0:
            self._welcome(port, done.result)
        elif done.result in (-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS):
            self._exhausted(port, -done.result)
        elif done.result != -ECANCELED:
            self._stats.accept_errors += 1
        if not port.is_open and not port.is_armed and port.fd >= 0:
            self._source.verbs.close_fd(self._source, port.fd, 0)
            port.fd = -1
        return self._accept(port)

    cdef int _welcome(self, Port port, int fd) except -1:
        cdef conn *c
        cdef bint is_over = port.connections >= port.connections_max
        if not port.is_open or port.connections >= 2 * port.connections_max:
            self._stats.refused += 1
            self._source.verbs.close_fd(self._source, fd, 1)
            return 0
        c = conns_add(&self._conns, fd, CONN_OPEN, &port.limits, <void *>port)
        if c == NULL:
            self._source.verbs.close_fd(self._source, fd, 1)
            return 0
        Py_INCREF(port) # given back in _ended
        c.spoken = port.greeting
        port.accepted += 1
        port.connections += 1
        if is_over:
            self._stats.refused += 1
            self.dispatcher.answer_error(c, port, Overloaded(port.name, port.connections_max))
            conn_finish(&self._conns, c, END_LIMIT)
            return 0
        conn_activate(&self._conns, c, c.active_left)
        conn_arm(&self._conns, c)
        if port.has_events:
            self.dispatcher.opened(port.address.server, c)
        return 0

    cdef int _exhausted(self, Port port, int error) except -1:
        """Out of descriptors: refuse some of those who wait, try again a little later."""
        cdef int count
        cdef uint64_t now_ns = self.dispatcher.now_ns
        self._stats.accept_errors += 1
        if not self._has_said_exhausted or now_ns - self._said_ns >= SAID_NS:
            self._has_said_exhausted, self._said_ns = True, now_ns
            logger.warning("listener %r refuses connections: %s; %s", port.name,
                           os.strerror(error), _LISTEN_ADVICE.get(error, "see `pybehave health`"))
        for count in range(REFUSALS_PER_EVENT):
            self._source.verbs.refuse(self._source, port.fd)
        return self._pause_accept(port)

    cdef int _pause_accept(self, Port port) except -1:
        """Accept no more for a moment."""
        port.is_exhausted = True
        self._has_exhausted = True
        self.dispatcher.start_alarm(ACCEPT_PAUSE_S, self._revive)
        return 0

    def _revive(self) -> None:
        self._has_exhausted = False
        for port in self._ports:
            (<Port>port).is_exhausted = False
            self._accept(port)

    def close_listeners(self) -> None:
        """Accept no more. Connections stay."""
        cdef Port port
        for port in self._ports:
            self.close_port(port)

    def close_port(self, Port port) -> None:
        """Close one listener; on the loop's thread."""
        if not port.is_open:
            return
        port.is_open = False
        if port.is_armed:
            self._source.verbs.cancel(self._source, port.fd,
                                      token_make(OP_ACCEPT, 1, self._ports.index(port)))
        elif port.fd >= 0:
            self._source.verbs.close_fd(self._source, port.fd, 0)
            port.fd = -1

    def peer_uid(self, Connection connection) -> int:
        """The user at the other end of a Unix connection (SO_PEERCRED, when it connected); -1 when
        there is none to be known: it has gone, it is of another family, or it is simulated."""
        cdef conn *c = conns_find(&self._conns, connection.token())
        return -1 if c == NULL else sockets_peer_uid(c.fd)

    # ---- from process to process --------------------------------------------------------------

    def hold(self, list ports) -> int:
        """Accept nothing at these listeners and read nothing from their connections; how many of
        both have something under way yet. To be asked again until that is 0.

        Who connects meanwhile waits in the kernel, and so does what is sent.
        """
        cdef Port port
        cdef conn *c
        cdef uint32_t slot
        cdef int left = 0
        for port in ports:
            if port.is_armed and not port.is_held:
                self._source.verbs.cancel(self._source, port.fd,
                                          token_make(OP_ACCEPT, 1, self._ports.index(port)))
            port.is_held = True
            left += port.is_armed
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state == CONN_FREE or <Port>c.port not in ports:
                continue
            if (c.state == CONN_OPEN or conn_is_unasked(c)) and not c.paused & PAUSE_MOVING:
                conn_still(&self._conns, c)
            left += not conn_is_still(&self._conns, c)
        return left

    def let_go(self, list ports) -> None:
        """Undo `hold`."""
        cdef Port port
        cdef conn *c
        cdef uint32_t slot
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state != CONN_FREE and <Port>c.port in ports:
                conn_resume(&self._conns, c, PAUSE_MOVING)
        for port in ports:
            port.is_held = False
            self._accept(port)

    def held(self, Port port) -> list:
        """What another process needs for each connection of a listener that is held: (descriptor,
        what was agreed on, bytes that were read and not yet taken, where its contract stands). What
        was agreed on is the codec's flags, and above them the version that it speaks."""
        cdef conn *c
        cdef uint32_t slot
        found = []
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state != CONN_FREE and <Port>c.port is port and conn_is_still(&self._conns, c):
                found.append((c.fd, c.protocol | <uint64_t>c.spoken << 32,
                              (<char *>c.carry)[:c.carry_bytes] if c.carry_bytes else b"",
                              None if c.hold == NULL else (<Connection>c.hold).place))
        return found

    def spoken(self, Port port) -> dict:
        """How many connections of a listener speak which version of its messages."""
        cdef conn *c
        cdef uint32_t slot
        found = {}
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state in (CONN_OPEN, CONN_FINISHING) and <Port>c.port is port:
                found[c.spoken] = found.get(c.spoken, 0) + 1
        return found

    def end_misunderstood(self, Port port) -> int:
        """End the connections of a listener that speak what its server does not understand any
        more, behind what they are owed; how many those are."""
        cdef conn *c
        cdef uint32_t slot
        cdef int count = 0
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state == CONN_OPEN and <Port>c.port is port \
                    and c.spoken != port.version and not port.edge.understands(c.spoken):
                conn_finish(&self._conns, c, END_ASKED)
                count += 1
        return count

    def take_over(self, Port port, int fd, uint64_t agreed, bytes carry, place=None) -> None:
        """Go on with a connection that another process has accepted, read from and let go of. One
        that speaks what is not understood here ends."""
        cdef conn *c = conns_add(&self._conns, fd, CONN_OPEN, &port.limits, <void *>port)
        if c == NULL:
            raise MemoryError
        Py_INCREF(port) # given back in _ended
        port.accepted += 1
        port.connections += 1
        c.protocol = <uint32_t>(agreed & 0xffffffff)
        c.spoken = <uint32_t>(agreed >> 32) or port.greeting
        if port.edge is not None and not port.edge.understands(c.spoken):
            conn_abort(&self._conns, c, END_ASKED, 0)
            return
        if place is not None:
            self.dispatcher.connection_of(c).place = place
        conn_pause(&self._conns, c, PAUSE_MOVING)
        conn_activate(&self._conns, c, c.active_left)
        if carry and conn_carry(&self._conns, c, carry, len(carry), 0) < 0:
            conn_abort(&self._conns, c, END_MEMORY, ENOMEM)
            return
        if port.has_events:
            self.dispatcher.opened(port.address.server, c)
        conn_resume(&self._conns, c, PAUSE_MOVING) # and with it what waits in its carry

    # ---- outbound ----------------------------------------------------------------------------

    def connect(self, str url, bytes address, Codec codec, Server server, tag, settings) -> None:
        """Connect for a server; the result comes as its info (Connected or ConnectFailed)."""
        cdef Port port = self._make_port(url, url, codec, settings)
        cdef conn *c
        cdef int fd
        port.tag = tag
        port.connector = server
        c = conns_add(&self._conns, -1, CONN_CONNECTING, &port.limits, <void *>port)
        if c == NULL:
            raise MemoryError
        Py_INCREF(port) # given back in _ended
        c.flags |= CONN_EVENTS
        fd = self._source.verbs.connect(self._source, <const sockaddr *><char *>address,
                                        len(address), conn_token(c, OP_CONNECT))
        if fd < 0:
            c.in_flight = 0
            conn_abort(&self._conns, c, END_CONNECT, -fd)
            return
        c.fd = fd

    cdef int _connected(self, conn *c, int result) except -1:
        cdef Port port = <Port>c.port
        conn_connect_completed(&self._conns, c, result)
        if c.state == CONN_OPEN:
            port.accepted = 1
            conn_activate(&self._conns, c, c.active_left)
            message = _actions.Connected(port.tag, self.dispatcher.connection_of(c))
            self.dispatcher.tell(port.connector, message)
        return 0
