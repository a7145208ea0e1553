# cython: language_level=3, binding=True
"""The loop: one thread, one tick after the other, top to bottom.

A tick: wait (one system call that also submits) -> reap completions -> messages and their turns ->
timers -> what other threads asked -> mailboxes -> connections that ended -> one send for every
connection with output. The next wait submits those sends. The GIL is given up only around a wait
that blocks.

Adaptive waiting. With DEFER_TASKRUN the kernel completes about 20 operations for each enter, and a
send completes while it is submitted. So a wait asks for one completion more than there are new
sends: it ends with the first input, and not with the echo of its own output (should a send not
complete at once, WAIT_US_MIN bounds the mistake). A quiet loop thus answers at once. When the
kernel has more ready, the tick gathers it with enters that do not block, up to GATHER_MAX
completions, and answers all of it together: the busier, the larger the batch.

Rules
  (L1) One blocking enter per tick. No Python runs while completions are reaped.
  (L2) A connection that is worked on holds its own bytes (conn_enter, conn_leave).
  (L3) Whatever another thread asks goes through `_inbox`; it wakes the loop only while it sleeps.
  (L4) After a fork the child's copy is dead: it says so and touches nothing that is shared.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memmove, memset

from .ahead cimport look_ahead
from .codec cimport (
    FRAME_CUSTOM, FRAME_MORE, FRAME_READER, FRAME_READY, FRAME_RESP, Codec, frame_next, frame_view,
    outq_bytes, outq_pool, outq_pool_free, outq_pool_new, outq_pool_read, outq_pool_stats,
)
from .commit cimport Commit
from .dispatch cimport Dispatcher
from .handles cimport Connection
from .leaves cimport *
from .ports cimport Ports
from .servers cimport Port
from .values cimport session_of

import collections
import errno as _errno
import os
import threading
import time
import weakref

from pybehave import actions as _actions
from pybehave.errors import ListenFailed, LoopClosed, LoopForked, Overloaded, SourceUnavailable

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef extern from "<errno.h>" nogil:
    enum:
        ECANCELED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM

cdef extern from "busy_poll.h" nogil:
    ctypedef struct busy_poll:
        pass

    int busy_poll_look(busy_poll *, source *, const wait_request *)

cdef enum:
    REAP_MAX = 512                      # completions taken from the source at once

cdef uint32_t GATHER_MAX = 256          # completions in a tick: fairness against batching
cdef uint32_t QUIET_COMPLETIONS = 16    # in a tick with no more somebody may wait for the disk
cdef uint32_t WAIT_US_MIN = 50
cdef size_t POOL_BYTES_KEPT = 16 << 20
cdef uint32_t WOKEN_PER_TICK = 64       # connections that go on after a pause; for the same reason
cdef Py_ssize_t INBOX_PER_TICK = 1024   # so that callers from threads do not starve connections
cdef uint64_t NS_PER_MS = 1_000_000
cdef int CLOSE_TICKS_MAX = 100          # 0.1 s: what is not home by then never comes
cdef uint64_t CLOSE_TICK_NS = 1_000_000
cdef double ONCE_S_MAX = 1e9            # a longer wait in ns, added to now, could leave 64 bits
cdef int64_t SIM_EPOCH_NS = 1_700_000_000 * 1_000_000_000
cdef uint32_t WAKE_SLOT = 0xffffffff

REASONS = {
    END_NONE: "none", END_PEER: "peer", END_RESET: "reset", END_ASKED: "asked",
    END_PROTOCOL: "protocol", END_IDLE: "idle_timeout", END_FRAME_TIMEOUT: "frame_timeout",
    END_SLOW_CONSUMER: "slow_consumer", END_LINGER: "linger", END_SHUTDOWN: "shutdown",
    END_CONNECT: "connect", END_MEMORY: "memory", END_LIMIT: "connections_max",
    END_DISK: "durability_lost",
}

_loops = weakref.WeakSet()


def _after_fork_in_child():
    for loop in list(_loops):
        loop._abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


@cython.final
cdef class Loop(Ports):
    """One event loop on one completion source.

    Args:
        source: "auto", "uring", "full", "basic", "epoll" or "sim".
        submissions: Submission queue entries wanted.
        completions: Completion queue entries wanted; more than a tick can bring.
        buffers: Receive buffers shared by all connections; a power of two.
        buffer_bytes: Size of each.
        seed: Of the simulator and of the servers' `context.random`.

    Raises:
        SourceUnavailable: The source asked for cannot be had here; says why.
    """

    cdef wheel *_wheel
    cdef outq_pool *_pool
    cdef wake _wake
    cdef completion[REAP_MAX] _done
    cdef unsigned _done_next, _done_count
    cdef readonly str source
    cdef readonly str reason
    cdef readonly bint is_running
    cdef object _inbox
    cdef public object on_error        # (exception) -> None: a function that was posted raised
    cdef size_t _need
    cdef uint32_t _last_batch
    cdef bint _is_sleeping
    cdef busy_poll _busy_poll
    cdef bint _may_poll                # somebody who was alone has just been answered
    cdef bint _is_deaf                 # the poll that other threads wake is not armed
    cdef bint _is_stopping
    cdef readonly unsigned long thread
    cdef uint64_t _started_ns
    cdef object __weakref__

    def __cinit__(self, str source="auto", *, uint32_t submissions=1024,
                  uint32_t completions=8192, uint32_t buffers=512, uint32_t buffer_bytes=4096,
                  uint64_t seed=0):
        cdef char[512] reason
        cdef source_config config
        memset(&config, 0, sizeof(config))
        config.submissions = submissions
        config.completions = completions
        config.buffers = buffers
        config.buffer_bytes = buffer_bytes
        config.seed = seed
        self._wake.read_fd = self._wake.write_fd = -1
        self._inbox = collections.deque()
        cdef int error = source_select(source.encode(), &config, &self._source, reason,
                                       sizeof(reason))
        self.reason = reason.decode("utf-8", "replace")
        if error < 0:
            raise SourceUnavailable(source, self.reason)
        self.source = self._source.verbs.name.decode()
        self._open(seed)
        _loops.add(self)

    cdef int _open(self, uint64_t seed) except -1:
        cdef uint64_t now_ns = self._source.verbs.now(self._source)
        self._pool = outq_pool_new(POOL_BYTES_KEPT)
        self._wheel = wheel_new(now_ns // NS_PER_MS)
        if self._pool == NULL or self._wheel == NULL:
            raise MemoryError
        conns_open(&self._conns, self._source, self._pool, self._wheel)
        self._conns.now_ms = now_ns // NS_PER_MS
        self._started_ns = now_ns
        self.dispatcher = Dispatcher()
        self.dispatcher.conns = &self._conns
        self.dispatcher.pool = self._pool
        self.dispatcher.wheel = self._wheel
        self.dispatcher.stats = &self._stats
        self.dispatcher.now_ns = now_ns
        self.dispatcher.seed = seed
        if self.source == "sim":
            self.dispatcher.wall_offset_ns = SIM_EPOCH_NS
            return 0
        self.dispatcher.wall_offset_ns = <int64_t>time.time_ns() - <int64_t>now_ns
        if wake_open(&self._wake) < 0:
            raise OSError(_errno.EMFILE, "no descriptor is left to wake the loop with")
        return 0

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        if self._is_closed or self._inbox is None: # its arguments were refused: fd 0 is not its own
            return
        self._is_closed = True
        if self._source != NULL and not self._is_forked:
            source_free(self._source)
        if self._pool != NULL:
            conns_close(&self._conns)
            wheel_free(self._wheel)
            outq_pool_free(self._pool)
        wake_close(&self._wake)

    def close(self) -> None:
        """Free everything. Connections still open are dropped; the loop must not be running."""
        cdef uint32_t slot
        cdef conn *c
        if self.is_running:
            raise LoopClosed("The loop is running; stop it before you close it")
        if self._is_closed:
            return
        self._quiesce()
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state != CONN_FREE:
                self.dispatcher.connection_ended(c)
                if c.fd >= 0 and not self._is_forked:
                    self._source.verbs.close_fd(self._source, c.fd, 0)
                Py_DECREF(<Port>c.port)
        for port in self._ports:
            if (<Port>port).fd >= 0 and not self._is_forked:
                self._source.verbs.close_fd(self._source, (<Port>port).fd, 0)
        self._ports = []
        self._free()
        self.dispatcher.wheel = NULL # it may be asked for alarms all the same, and refuses
        self._refuse_inbox()

    cdef int _quiesce(self) except -1:
        """Bring operations home before their descriptors are closed, within bounds."""
        cdef int ticks = CLOSE_TICKS_MAX
        if not self._is_enabled or self._is_forked or threading.get_ident() != self.thread:
            return 0
        self.close_listeners()
        while ticks > 0 and (self.abort_connections() > 0 or self._has_armed_port()):
            self._tick(self._source.verbs.now(self._source) + CLOSE_TICK_NS)
            ticks -= 1
        return 0

    cdef bint _has_armed_port(self):
        for port in self._ports:
            if (<Port>port).is_armed:
                return True
        return False

    def _abandon(self) -> None:
        self._is_forked = True
        self.dispatcher.is_forked = self.dispatcher.is_disturbed = True
        if self.dispatcher.commit is not None:
            self.dispatcher.commit.is_open = False # the parent writes
        if not self._is_closed and not self.is_running and self._source != NULL:
            self._source.verbs.abandon(self._source)
            wake_close(&self._wake)

    # ---- running -----------------------------------------------------------------------------

    cdef int _enable(self) except -1:
        cdef int error
        self._check()
        cdef unsigned long thread = threading.get_ident()
        if self._is_enabled:
            if thread != self.thread:
                raise LoopClosed("A loop stays on the thread it first ran on; make another one")
            return 0
        error = self._source.verbs.enable(self._source)
        if error < 0:
            raise SourceUnavailable(self.source, os.strerror(-error))
        self.thread = thread
        self.dispatcher.is_interruptible = \
            threading.current_thread() is threading.main_thread()
        self._is_enabled = True
        # Armed before the first wait: a wake-up asked before that is in the socket already.
        self._poll_wake()
        for port in self._ports:
            self._accept(port)
        return 0

    def run(self) -> None:
        """Run until `stop`, also one that came before. An exception that is not a server's crash
        ends it and is raised."""
        self._enable()
        self.is_running = True
        try:
            while not self._is_stopping:
                self._tick(WAIT_FOREVER)
        finally:
            self.is_running = False
            self._is_stopping = False

    def run_once(self, double timeout=0.0) -> int:
        """One tick that waits at most `timeout` seconds; the number of completions it brought."""
        self._enable()
        self.is_running = True
        try:
            now_ns = self._source.verbs.now(self._source)
            self._tick(now_ns + <uint64_t>(min(timeout, ONCE_S_MAX) * 1e9) if timeout > 0 else 0)
        finally:
            self.is_running = False
            self._is_stopping = False
        return self._last_batch

    def stop(self) -> None:
        """End `run` after the current tick. From any thread."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Make a waiting loop look at its inbox. From any thread or signal handler."""
        if self._wake.write_fd >= 0:
            wake_signal(&self._wake)

    @property
    def inbox_count(self) -> int:
        """What other threads have asked and the loop has not seen yet."""
        return len(self._inbox)

    def post(self, name, int kind, message, waiter) -> None:
        """Hand an input to the loop from any thread: `kind` as in dispatch, 0 calls `message()`."""
        if self._is_forked:
            raise LoopForked()
        if self._is_closed:
            raise LoopClosed()
        self._inbox.append((name, kind, message, waiter))
        if self._is_closed: # it closed meanwhile: nobody would look at this
            self._refuse_inbox()
        if self._is_sleeping:
            wake_signal(&self._wake)

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's own thread; a loop that is closed has none any more."""
        return PyThread_get_thread_ident() == self.thread and not self._is_closed

    def post_here(self, str name, int kind, message, waiter=None) -> bool:
        """Post an input at once, if this is the loop's own thread and it can run; whether it was
        posted. A child of a fork has the same thread: `post` says what is wrong."""
        cdef Commit commit = self.dispatcher.commit
        if PyThread_get_thread_ident() != self.thread or self._is_forked or self._is_closed:
            return False
        if commit is not None and commit.j.open_at and self.dispatcher.whereis(name) is None:
            self.post(name, kind, message, waiter) # a family's server may start: that is a record
        else:
            self.dispatcher.post(name, kind, message, waiter)
        return True

    def attach_journal(self, Commit commit, uint64_t epoch) -> None:
        """Take the commit path of a journal that is open, in this epoch of it; once."""
        assert self.dispatcher.commit is None
        commit.conns = &self._conns
        commit.source = self._source
        self.dispatcher.commit = commit
        self.dispatcher.session = session_of(epoch)

    cdef int _tick(self, uint64_t limit_ns) except -1:
        cdef uint32_t count
        if self._is_deaf:
            self._poll_wake()
        self._wait(limit_ns)
        cdef uint64_t began_ns = self.dispatcher.now_ns
        self._stats.ticks += 1
        count = self._reap()
        stats_batch(&self._stats, count)
        self._last_batch = count
        self._timers()
        if self._inbox:
            self._take_inbox()
        if self.dispatcher.ready:
            self.dispatcher.run_ready()
        if self._conns.woken.count > 0:
            self._parse_woken()
        if self.dispatcher.commit is not None:
            self._write(self.dispatcher.commit)
        conns_flush(&self._conns)
        if self._conns.ended.count > 0:
            self._ended()
        if self._conns.starved.count > 0:
            conns_feed_starved(&self._conns)
        stats_tick(&self._stats, self._source.verbs.now(self._source) - began_ns)
        return 0

    cdef int _write(self, Commit commit) except -1:
        """Go on with what waited for the disk, and hand it what is to be written; once more if that
        was durable at once."""
        cdef uint64_t in_place = self._source.stats.writes_in_place
        commit.is_quiet = self._last_batch <= QUIET_COMPLETIONS \
            and not self.dispatcher.ready and not self._inbox
        while True:
            if commit.has_released:
                self.dispatcher.caught_up()
            commit.pump(self.dispatcher.unix_ns())
            if self._is_forked: # by what waited for a write that has ended in place
                raise LoopForked() # (L4)
            if not commit.has_released:
                break
        if self._source.stats.writes_in_place != in_place and self.source != "sim":
            self._may_poll = True
        return 0

    cdef int _wait(self, uint64_t limit_ns) except -1:
        cdef wait_request request
        cdef uint64_t timer_ms = wheel_next(self._wheel)
        cdef int error = 0
        request.deadline_ns = limit_ns
        request.events_min = self._conns.sends_new + 1
        request.wait_us_min = WAIT_US_MIN if self._conns.sends_new else 0
        self._conns.sends_new = 0
        if timer_ms != WHEEL_NONE and timer_ms < limit_ns // NS_PER_MS:
            request.deadline_ns = timer_ms * NS_PER_MS
        self._is_sleeping = True
        if self._inbox or self.dispatcher.ready or self._conns.woken.count > 0 \
                or self._conns.ended.count > 0 or self._is_stopping or self._is_deaf \
                or self._done_next < self._done_count \
                or (self._last_batch and self._source.verbs.ready(self._source)):
            # After an empty tick ready is not asked: were its flag stale, the loop would spin.
            request.deadline_ns = 0
        if request.deadline_ns == 0:
            error = self._source.verbs.wait(self._source, &request)
        else:
            self._stats.waits_blocking += 1
            with nogil:
                if self._may_poll:
                    self._may_poll = False
                    error = busy_poll_look(&self._busy_poll, self._source, &request)
                if error == 0:
                    error = self._source.verbs.wait(self._source, &request)
        self._is_sleeping = False
        self._set_now()
        if error == -EINTR:
            PyErr_CheckSignals()
        elif error < 0:
            raise OSError(-error, f"the loop cannot wait: {os.strerror(-error)}")
        return 0

    cdef int _set_now(self) except -1:
        cdef uint64_t now_ns = self._source.verbs.now(self._source)
        self.dispatcher.now_ns = now_ns
        self._conns.now_ms = now_ns // NS_PER_MS
        self.dispatcher.facts.connections = self._conns.open_count
        self.dispatcher.facts.accepted = self._conns.stats.opened
        self.dispatcher.facts.commands = self._stats.commands
        self.dispatcher.facts.uptime_s = (now_ns - self._started_ns) // 1_000_000_000
        return 0

    # ---- completions -------------------------------------------------------------------------

    cdef uint32_t _reap(self) except? 0xffffffff:
        """Take and handle what is there, and what becomes ready meanwhile, up to a bound."""
        cdef wait_request gather
        cdef uint32_t total = 0
        memset(&gather, 0, sizeof(gather))
        while True:
            self._work_off()
            if self._done_next < self._done_count:
                return total
            self._done_next = 0
            self._done_count = self._source.verbs.reap(self._source, self._done, REAP_MAX)
            total += self._done_count
            if self._done_count == REAP_MAX:
                continue
            # Nothing new ends it too: the kernel's "work pending" flag can be stale.
            if self._done_count == 0 or total >= GATHER_MAX:
                break
            self._work_off()
            if self.dispatcher.commit is not None and self.dispatcher.commit.wants_turn():
                return total # the disk must not wait for a larger batch of inputs
            if not self._source.verbs.ready(self._source) \
                    or self._source.verbs.wait(self._source, &gather) < 0:
                break # an error comes again in the tick's own wait, and is handled there
        self._work_off()
        return total

    cdef int _work_off(self) except -1:
        """Handle what was taken. An exception (KeyboardInterrupt) loses none: the rest stays."""
        while self._done_next < self._done_count:
            self._done_next += 1
            self._completed(&self._done[self._done_next - 1])
            if self._is_forked:
                raise LoopForked() # (L4)
            if self.dispatcher.commit is not None and self.dispatcher.commit.wants_turn():
                break # the rest is for the next tick
        return 0

    cdef int _completed(self, const completion *done) except -1:
        cdef unsigned op = token_op(done.token)
        cdef conn *c
        if op == OP_ACCEPT:
            return self._accepted(<Port>self._ports[token_slot(done.token)], done)
        if op == OP_POLL:
            wake_drain(&self._wake)
            self._poll_wake()
            PyErr_CheckSignals()
            return 0
        if op == OP_WRITE:
            return self.dispatcher.commit.completed(token_slot(done.token), done.result)
        c = conns_find(&self._conns, done.token)
        # A slot is freed only when nothing is in flight, so its operations always find it (C1).
        assert c != NULL, "a completion for a connection that is gone"
        if op == OP_RECV:
            return self._received(c, done)
        if op == OP_SEND:
            conn_send_completed(&self._conns, c, done.result)
            return 0
        assert op == OP_CONNECT
        return self._connected(c, done.result)

    cdef int _received(self, conn *c, const completion *done) except -1:
        if conn_recv_completed(&self._conns, c, done) != INPUT_DATA:
            return 0
        conn_enter(c) # (L2)
        try:
            self._feed(c, done.data, done.result)
        finally:
            self._source.verbs.buffer_return(self._source, done.buffer)
            if not done.flags & COMPLETION_MORE:
                conn_arm(&self._conns, c)
            conn_leave(&self._conns, c)
        return 0

    cdef int _feed(self, conn *c, const uint8_t *data, size_t size) except -1:
        cdef size_t used
        if c.carry_bytes > 0 or c.paused:
            if conn_carry(&self._conns, c, data, size, 0) < 0:
                conn_abort(&self._conns, c, END_MEMORY, ENOMEM)
                return 0
            return self._parse_carry(c)
        used = self._parse(c, data, size)
        if used < size and conn_takes_input(c):
            if conn_carry(&self._conns, c, data + used, size - used, self._need) < 0:
                conn_abort(&self._conns, c, END_MEMORY, ENOMEM)
        return 0

    cdef int _parse_carry(self, conn *c) except -1:
        cdef size_t used
        if c.paused or not conn_takes_input(c) or c.carry_bytes == 0:
            return 0
        used = self._parse(c, c.carry, c.carry_bytes)
        if conn_takes_input(c):
            conn_carry_consumed(&self._conns, c, used)
            conn_arm(&self._conns, c) # a resume does not where much was left to be parsed
        return 0

    cdef size_t _parse(self, conn *c, const uint8_t *data, size_t size) except? 0xffffffffffffffff:
        """Messages from these bytes, in order; returns how many bytes they were."""
        cdef Port port = <Port>c.port
        cdef Codec codec = port.codec
        cdef Dispatcher dispatcher = self.dispatcher
        cdef frame_view view
        cdef size_t used = 0, ahead = 0
        cdef int status
        self._need = 0
        if dispatcher.commit is not None and dispatcher.must_wait(port):
            dispatcher.commit.pause(c)
            return 0
        if dispatcher.suspended_count > 0 and dispatcher.hold_back(port, c):
            return 0
        while used < size and conn_takes_input(c) and c.paused == 0:
            if codec.frame.kind == FRAME_CUSTOM:
                status = codec.split(data + used, size - used, &c.resume, &view)
            elif codec.frame.kind == FRAME_READER:
                status = dispatcher.read(c, codec, data + used, size - used, &view)
            else:
                if codec.frame.kind == FRAME_RESP and used >= ahead \
                        and c.active_left == ACTIVE_ALWAYS: # else it is asked for one by one
                    ahead = used + look_ahead(port, data + used, size - used,
                                              &self._stats.keys_ahead)
                status = frame_next(&codec.frame, data + used, size - used, &c.resume, &view)
            if status == FRAME_READY:
                used += view.used
                if c.active_left != ACTIVE_ALWAYS:
                    c.active_left -= 1 # whoever takes the message may ask for more at once (C8)
                dispatcher.message(c, port, &view)
                if c.active_left == 0:
                    conn_pause(&self._conns, c, PAUSE_PASSIVE)
                if outq_bytes(&c.out) > c.limits.high_water_bytes:
                    conn_pause(&self._conns, c, PAUSE_OUTPUT)
                if c.flags & CONN_HOLD and c.hold != NULL and \
                        (<Connection>c.hold).waiting_bytes > <Py_ssize_t>c.limits.high_water_bytes:
                    conn_pause(&self._conns, c, PAUSE_REPLIES)
            elif status == FRAME_MORE:
                self._need = view.need
                break
            else:
                dispatcher.unreadable(c, port, codec.frame_error(&view))
                used = size
        if outq_bytes(&c.out) > 0:
            conn_output(&self._conns, c)
        return used

    cdef int _parse_woken(self) except -1:
        """Connections whose output drained: parse what had to wait, the longest waiting first.

        Some of them: each may be owed a large reply at once, and the others' inputs wait for it.
        """
        cdef slot_list *woken = &self._conns.woken
        cdef uint32_t count = min(woken.count, WOKEN_PER_TICK)
        cdef uint32_t index
        cdef conn *c
        try:
            for index in range(count):
                c = conns_at(&self._conns, woken.slots[index])
                if conn_takes_input(c):
                    conn_enter(c)
                    try:
                        self._parse_carry(c)
                    finally:
                        conn_leave(&self._conns, c)
        finally: # also what an interrupt leaves: it stays in the list
            woken.count -= index + 1
            memmove(woken.slots, woken.slots + index + 1, woken.count * sizeof(uint32_t))
        return 0

    cdef int _timers(self) except -1:
        cdef wheel_fired[64] fired
        cdef unsigned count = 64
        cdef unsigned index
        cdef conn *c
        while count == 64:
            count = wheel_advance(self._wheel, self._conns.now_ms, fired, 64)
            self._stats.timers_fired += count
            for index in range(count):
                if token_op(fired[index].data) != OP_NONE:
                    self.dispatcher.alarm_fired(token_slot(fired[index].data), fired[index].id)
                    continue
                c = conns_find(&self._conns, fired[index].data)
                if c != NULL:
                    conn_timer_fired(&self._conns, c)
        return 0

    cdef int _take_inbox(self) except -1:
        cdef Py_ssize_t count = min(len(self._inbox), INBOX_PER_TICK)
        while count > 0:
            count -= 1
            self.dispatcher.barrier = 0
            name, kind, message, waiter = self._inbox.popleft()
            if kind == 0:
                self._call(message)
            else:
                self.dispatcher.post(name, kind, message, waiter)
        return 0

    cdef int _call(self, function) except -1:
        """What was asked of the loop must not end it: it is reported."""
        try:
            function()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)
        return 0

    cdef int _refuse_inbox(self) except -1:
        """Whoever still waits for the loop hears that it has closed."""
        while self._inbox:
            try:
                waiter = self._inbox.popleft()[3]
            except IndexError: # another thread was quicker
                return 0
            if waiter is not None:
                waiter.settle(None, LoopClosed())
        return 0

    cdef int _poll_wake(self) except -1:
        """Without it other threads are not heard; where there is no room it is asked for again."""
        cdef int error = 0
        if self._wake.read_fd >= 0:
            error = self._source.verbs.poll(self._source, self._wake.read_fd,
                                            token_make(OP_POLL, 1, WAKE_SLOT))
        self._is_deaf = error < 0
        return 0

    # ---- ends --------------------------------------------------------------------------------

    cdef int _ended(self) except -1:
        cdef slot_list *ended = &self._conns.ended
        cdef conn *c
        cdef Port port
        while ended.count > 0:
            ended.count -= 1
            c = conns_at(&self._conns, ended.slots[ended.count])
            port = <Port>c.port
            if c.flags & CONN_EVENTS:
                self._tell_end(c, port)
            self.dispatcher.connection_ended(c)
            if port.address is not None:
                port.connections -= 1
            conns_release(&self._conns, c)
            Py_DECREF(port)
        if self._has_exhausted:
            self._revive()
        return 0

    cdef int _tell_end(self, conn *c, Port port) except -1:
        if port.connector is not None and port.accepted == 0:
            error = OSError(c.error, os.strerror(c.error))
            return self.dispatcher.tell(port.connector, _actions.ConnectFailed(port.tag, error))
        message = _actions.Closed(self.dispatcher.connection_of(c), REASONS[c.reason])
        if port.connector is not None:
            return self.dispatcher.tell(port.connector, message)
        if port.address.server is None:
            return self.dispatcher.miss(port.address, message)
        return self.dispatcher.tell(port.address.server, message)

    def finish_connections(self) -> int:
        """Answer what was read, flush, close; returns how many connections are still there."""
        cdef uint32_t slot
        cdef conn *c
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state in (CONN_OPEN, CONN_CONNECTING):
                conn_finish_received(&self._conns, c, END_SHUTDOWN)
        return self._conns.open_count

    def finish_unasked(self) -> int:
        """After `finish_connections`: wait no longer for those whose server does not ask for what
        they have sent, and owes them nothing; how many connections are still there."""
        cdef uint32_t slot
        cdef conn *c
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if conn_is_unasked(c) and not c.flags & CONN_HOLD:
                conn_finish(&self._conns, c, END_SHUTDOWN)
        return self._conns.open_count

    def end_connections(self, Port port, bint is_abort) -> int:
        """Finish, or abort, the connections of one listener; how many are still there."""
        cdef uint32_t slot
        cdef conn *c
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state in (CONN_FREE, CONN_ENDED) or <Port>c.port is not port:
                continue
            if is_abort:
                conn_abort(&self._conns, c, END_SHUTDOWN, 0)
            elif c.state == CONN_OPEN or conn_is_unasked(c):
                conn_finish(&self._conns, c, END_SHUTDOWN)
        return port.connections

    def abort_connections(self) -> int:
        """Close now, whatever is still to be sent; returns how many are still there."""
        cdef uint32_t slot
        cdef conn *c
        for slot in range(conns_slots(&self._conns)):
            c = conns_at(&self._conns, slot)
            if c.state not in (CONN_FREE, CONN_ENDED):
                conn_abort(&self._conns, c, END_SHUTDOWN, 0)
        return self._conns.open_count

    # ---- reports -----------------------------------------------------------------------------

    @property
    def wake_fd(self) -> int:
        """For `signal.set_wakeup_fd`; -1 on the simulator."""
        return self._wake.write_fd

    @property
    def connections_open(self) -> int:
        """Connections that hold a slot."""
        return self._conns.open_count

    @property
    def ports(self) -> list:
        """The listeners, in the order they were opened."""
        return list(self._ports)

    def now(self) -> float:
        """Monotonic seconds: virtual on the simulator. Raises LoopClosed."""
        if self._is_closed:
            raise LoopClosed()
        return self._source.verbs.now(self._source) / 1e9

    def _source_capsule(self):
        return PyCapsule_New(self._source, "pybehave.source", NULL)

    def stats(self) -> dict:
        """All counters, by group. Plain numbers; reading them changes nothing."""
        cdef outq_pool_stats pool
        cdef uint32_t index
        self._check()
        outq_pool_read(self._pool, &pool)
        loop = dict(self._stats)
        loop["batch"] = [self._stats.batch[index] for index in range(BATCH_BUCKETS)]
        loop["tick_us"] = [self._stats.tick_us[index] for index in range(TICK_BUCKETS)]
        connections = dict(self._conns.stats)
        connections["ended"] = {
            name: self._conns.stats.ended[index] for index, name in REASONS.items()
        }
        connections["open"] = self._conns.open_count
        return {
            "source": self.source,
            "reason": self.reason,
            "loop": loop,
            "io": dict(self._source.stats),
            "connections": connections,
            "output": dict(pool),
            "timers": {"armed": wheel_count(self._wheel), "bytes": wheel_bytes(self._wheel)},
        }
