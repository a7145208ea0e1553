# cython: language_level=3, binding=True
"""What waits for the disk, and in which order it leaves.

Records of a tick gather in the journal's filling buffer (journal.c). `pump` hands frames to the
completion source; when one has become durable, what was held for its batch is let go: output of
connections (conn.c, `conn_hold`), replies to threads, effects outside the process.

The rule (durability.md 3.7): whatever was computed from a state that contains a record leaves the
process only when that record is durable. A batch number stands for "everything recorded so far".

Invariants
  (M1) Held things leave in the order they were held, and only when their batch is durable.
  (M2) After the first failure nothing that is held leaves; whoever waits is told DurabilityLost,
       and connections with held output are reset: the outcome is unknown.
  (M3) An input is recorded whole or not at all; a refused one changes nothing.

Does not know: servers, what an input means, files (pybehave/journal opens them).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .leaves cimport (
    OP_WRITE, PAUSE_SERVER, conn, conn_abort, conn_pause, conn_resume, conn_token, conns,
    conns_find, conns_held_lost, conns_released, source, token_make, write_request,
)
from .values cimport Values

import collections
import logging
import os

from pybehave._uring.values import TooLargeError
from pybehave.errors import (
    DurabilityLost, JournalBusy, JournalFull, LoopClosed, NotJournalable, RecordTooLarge,
    show_reason,
)

cdef extern from "<errno.h>" nogil:
    enum:
        EIO, ENOSPC, EBUSY, ENOMEM

logger = logging.getLogger("pybehave.journal")

# Beyond this much in the filling buffer connections are read no further: the disk is behind, and
# a larger frame would only make everybody wait longer.
cdef uint32_t SATURATED_BYTES = 4 << 20

# So many records and an idle disk: the tick ends, so that it is not idle longer.
cdef uint32_t TURN_RECORDS = 128

# More records than this on their way: several clients are at work.
cdef uint64_t BUSY_RECORDS = 8

# Waiting for the disk in place is for what is written as quickly as a block.
cdef uint32_t IN_PLACE_BYTES_MAX = 64 << 10

# A record that is open may still get its connection; and the chunks have headers.
cdef uint64_t TAIL_SLACK_BYTES = 8192

cdef uint32_t CAUSE_BYTES = 12
cdef uint32_t REQUEST_BYTES = 24

# A TIME record, and the header of the record behind it.
cdef uint32_t TIME_BYTES = 2 * RECORD_HEADER_BYTES + 8


cdef int64_t encode_frame(void *owner, const segment_frame *frame, const uint8_t *body,
                          uint8_t *out) noexcept with gil:
    """journal_encode, by the codecs of a Commit."""
    cdef Commit commit = <Commit>owner
    cdef bytes made
    try:
        made = commit.coder.encode_frame(frame.epoch, frame.seq, frame.first_lsn, frame.records,
                                         frame.time_ns, (<char *>body)[:frame.body_bytes])
        if len(made) > <Py_ssize_t>(frame.body_bytes + commit.growth):
            raise ValueError(f"{len(made)} bytes were made of {frame.body_bytes}")
    except BaseException:
        logger.critical("the journal in %s cannot be encoded", commit.directory, exc_info=True)
        return -EIO
    memcpy(out, <const uint8_t *>made, len(made))
    return len(made)


@cython.final
cdef class Commit:
    """The commit path of one journal on one loop. Made and opened by the runtime."""

    def __cinit__(self):
        self.held = collections.deque()
        self.paused = []
        memset(&self.j, 0, sizeof(self.j))

    def __dealloc__(self):
        # take_write copies; only a completion source holds on to the buffers.
        if self.source == NULL or not self._is_flying():
            journal_free(&self.j)

    def open(self, str directory, bytes start, bytes active, int fd, int manifest_fd, int how,
             uint32_t frame_bytes_max, uint64_t time_ns) -> None:
        """Begin where recovery left off.

        Args:
            start: The manifest slot as written.
            active: The header block of the empty segment that records go to.
            fd, manifest_fd: Their descriptors; they stay the caller's.
            how: enum write_how.
            time_ns: The latest time in the journal.

        `coder` has been set, if bodies of frames are to be encoded.

        Raises:
            ValueError: The blocks are not sound.
            MemoryError: No room for the buffers.
        """
        cdef journal_config config
        cdef manifest first
        cdef segment_header header
        assert not self.is_open
        if manifest_read(start, &first) != SEGMENT_SOUND \
                or segment_header_read(active, &header) != SEGMENT_SOUND:
            raise ValueError("the manifest or the segment's header is not sound")
        memset(&config, 0, sizeof(config))
        config.id = first.id
        config.epoch = first.epoch
        config.segment_bytes = first.segment_bytes
        config.depth = first.depth
        room = first.segment_bytes - (SEGMENT_HEADER_BLOCKS + 1) * SEGMENT_BLOCK
        if self.coder is not None:
            self.growth = JOURNAL_GROWTH_MAX
            config.features = FEATURE_CODED
            config.encode = encode_frame
            config.owner = <void *>self
        config.features |= first.features
        config.frame_bytes_max = min(
            frame_bytes_max, room - self.growth, SEGMENT_FRAME_BYTES_MAX - self.growth)
        config.frame_bytes_max -= config.frame_bytes_max % SEGMENT_BLOCK
        if config.frame_bytes_max == 0:
            raise ValueError(f"frame_bytes_max={frame_bytes_max} is less than a block")
        if journal_open(&self.j, &config, &first, &header, fd, manifest_fd) < 0:
            raise MemoryError
        self.j.time_ns = time_ns
        self.directory = directory
        self.how = how
        self.segment = header.number
        self.fd = fd
        self.is_open = True

    # ---- records -----------------------------------------------------------------------------

    cdef int _begin(self) except -1:
        cdef int error
        if self._is_beyond(self.j.slots[self.j.filling].used + TIME_BYTES):
            raise JournalFull(self.directory)
        error = journal_begin(&self.j)
        if error == 0:
            return 0
        if error == -ENOSPC:
            raise JournalBusy(self.j.config.frame_bytes_max)
        if self.j.error:
            raise DurabilityLost(os.strerror(self.j.error))
        if error == -EBUSY:
            raise LoopClosed("The node stops; its journal takes no more inputs")
        raise JournalFull(self.directory)

    cdef bint _is_beyond(self, uint64_t used):
        """Whether a frame of so many bytes needs a segment that the disk has no room for. What
        does not fit is refused before it is recorded, or it would wait for room, and everything
        behind it (F-15)."""
        return self.is_full and self.j.spare_fd < 0 and (
            (self.j.block + 1) * SEGMENT_BLOCK + segment_blocks_bytes(used + self.growth)
            > self.j.config.segment_bytes)

    cdef int _check_room(self) except -1:
        if self._is_beyond(self.j.open_at):
            journal_drop(&self.j)
            raise JournalFull(self.directory)
        return 0

    cdef int _put(self, Values values) except -1:
        """The encoded value as the payload of the open record."""
        cdef size_t count = values.out.used
        cdef uint8_t *at = NULL
        if count <= self.j.config.frame_bytes_max:
            at = journal_put(&self.j, <uint32_t>count)
        if at == NULL:
            raise self._no_room_for(count)
        memcpy(at, values.out.data, count)
        return self._check_room()

    cdef object _no_room_for(self, uint64_t bytes):
        """Why the open record, with so many bytes more, does not fit; it is dropped."""
        cdef uint64_t needed = self.j.open_at - self.j.slots[self.j.filling].used + bytes
        cdef uint64_t limit = self.j.config.frame_bytes_max
        journal_drop(&self.j)
        # A TIME record comes first in a frame.
        if FRAME_HEADER_BYTES + RECORD_HEADER_BYTES + 8 + needed <= limit:
            return JournalBusy(limit)
        return RecordTooLarge(limit)

    cdef int _note_time(self, uint64_t now_ns) except -1:
        """A TIME record, when this input's time is not yet in the frame."""
        cdef uint8_t *at
        cdef int index
        now_ns = max(now_ns, self.j.time_ns)
        if self.time_ns == now_ns and self.time_batch == self.j.batch:
            return 0
        self._begin()
        at = journal_put(&self.j, 8)
        if at == NULL:
            raise self._no_room_for(8)
        for index in range(8):
            at[index] = <uint8_t>(now_ns >> (8 * index))
        journal_end(&self.j, RECORD_TIME, 0, 0, 0, 0)
        self.time_ns = now_ns
        self.time_batch = self.j.batch
        return 0

    def mark_time(self, uint64_t now_ns) -> None:
        """A TIME record, though nothing has happened: what comes behind it has another lsn.

        Raises:
            JournalFull, JournalBusy, DurabilityLost, LoopClosed: There is none.
        """
        self.time_ns = 0
        self._note_time(now_ns)

    cdef int open_input(self, Values values, object message, uint64_t now_ns, bytes client,
                        uint64_t number, uint64_t cause_lsn, uint32_t cause_index) except -1:
        """Encode an input into the frame that gathers; close_input or drop_input must follow.

        `cause_lsn`, `cause_index`: the message of another input that it is, or 0.
        `client`: the 16 bytes that stand for it, for a request with a name; else None.
        """
        values.out.used = 0
        values.has_error = values.has_caller = False
        values.is_input = True
        values.bytes_max = self.j.config.frame_bytes_max
        try:
            values.put(message, 0)
        except NotJournalable:
            raise
        except TooLargeError: # what is in memory once may be in its form any number of times
            raise RecordTooLarge(self.j.config.frame_bytes_max) from None
        except Exception as error: # msgspec's, of a declared type; or a message's own methods
            raise NotJournalable(show_reason(error)) from error
        finally:
            values.is_input = False
            values.bytes_max = 0
        self._note_time(now_ns)
        self._begin()
        if cause_lsn:
            self._put_cause(cause_lsn, cause_index)
        if client is not None:
            self._put_request(client, number)
        return self._put(values)

    cdef int _put_cause(self, uint64_t lsn, uint32_t index) except -1:
        """The CAUSE extension; the flag is set by close_input."""
        cdef uint8_t *at = journal_put(&self.j, CAUSE_BYTES)
        cdef int byte
        if at == NULL:
            raise self._no_room_for(CAUSE_BYTES)
        for byte in range(8):
            at[byte] = <uint8_t>(lsn >> (8 * byte))
        for byte in range(4):
            at[8 + byte] = <uint8_t>(index >> (8 * byte))
        return 0

    cdef int _put_request(self, bytes client, uint64_t number) except -1:
        """The REQUEST extension; the flag is set by close_input."""
        cdef uint8_t *at = journal_put(&self.j, REQUEST_BYTES)
        cdef int index
        if at == NULL:
            raise self._no_room_for(REQUEST_BYTES)
        memcpy(at, PyBytes_AS_STRING(client), 16)
        for index in range(8):
            at[16 + index] = <uint8_t>(number >> (8 * index))
        return 0

    cdef uint64_t close_input(self, unsigned kind, unsigned flags, uint32_t server,
                              uint32_t outcome) except 0:
        return journal_end(&self.j, RECORD_INPUT, kind, flags, server, outcome)

    cdef bint more(self, Values values):
        """Another encoded value behind the open record's; False = the frame has no room for it."""
        cdef uint8_t *at = journal_put(&self.j, <uint32_t>values.out.used)
        if at == NULL:
            return False
        memcpy(at, values.out.data, values.out.used)
        return True

    cdef int drop_input(self) except -1:
        journal_drop(&self.j)
        return 0

    @property
    def is_recording(self) -> bool:
        """Whether the step of a journaled server is under way: no other record can be made."""
        return self.j.open_at != 0

    def record(self, unsigned kind, uint32_t server, bytes payload, uint64_t now_ns) -> int:
        """Append a record of the runtime itself; its lsn.

        A full disk does not refuse it: a server that crashes then must be able to start again, or
        its supervisor gives up. It waits for room with what was recorded before.
        """
        cdef bint is_full = self.is_full
        self.is_full = False
        try:
            return self._record(kind, server, payload, now_ns)
        finally:
            self.is_full = is_full

    def try_record(self, unsigned kind, uint32_t server, bytes payload, uint64_t now_ns) -> int:
        """Append a record that somebody has asked for: refused as an input would be; its lsn."""
        return self._record(kind, server, payload, now_ns)

    def record_failed(self, unsigned kind, uint32_t server, bytes payload, uint64_t now_ns) -> int:
        """Append an input that is not stepped; its lsn. A full disk does not refuse it either."""
        cdef bint is_full = self.is_full
        self.is_full = False
        try:
            return self._record(RECORD_INPUT, server, payload, now_ns, kind, RECORD_FAILED)
        finally:
            self.is_full = is_full

    cdef uint64_t _record(self, unsigned type, uint32_t server, bytes payload, uint64_t now_ns,
                          unsigned kind=0, unsigned flags=0) except 0:
        if self.j.open_at: # two records at a time would be written over each other
            raise RuntimeError("an input is being recorded: its step has asked for another record")
        self._note_time(now_ns)
        self._begin()
        cdef uint8_t *at = journal_put(&self.j, len(payload))
        if at == NULL:
            raise self._no_room_for(len(payload))
        memcpy(at, <const uint8_t *>payload, len(payload))
        self._check_room()
        return journal_end(&self.j, type, kind, flags, server, 0)

    # ---- keeping ("os") ----------------------------------------------------------------------

    def attach_tail(self, pages, bytes journal_id) -> None:
        """Keep records in these pages when it is asked for; what they hold is durable by now."""
        self.tail = Tail(pages, journal_id, self.j.durable_lsn + 1, self.coder)

    def keep_now(self) -> bool:
        """`keep` for Python."""
        return self.keep()

    cdef uint64_t _not_durable(self):
        """Bytes of the frames that are not durable, the open record included."""
        cdef journal_slot *slot
        cdef uint64_t total = max(self.j.open_at, self.j.slots[self.j.filling].used)
        cdef uint32_t index
        for index in range(self.j.config.depth + 1):
            slot = &self.j.slots[index]
            if index != self.j.filling and slot.state != SLOT_FREE and slot.batch:
                total += slot.used
        return total

    cdef bint can_keep(self):
        """Whether `keep` will have room, when the record that is open has been closed. A start that
        takes the tail over records it again in one frame."""
        return self.tail is not None and self.j.error == 0 and (
            self._not_durable() + TAIL_SLACK_BYTES + JOURNAL_SLOTS * self.growth
            <= min(self.tail.area_bytes, <uint64_t>self.j.config.frame_bytes_max))

    cdef bint keep(self) except -1:
        """Let all that is recorded outlive the process; False = it has to wait for the disk."""
        cdef uint64_t lsn
        if self.tail is None or self.j.error:
            return False
        lsn = max(self.tail.next_lsn, self.j.durable_lsn + 1)
        if self._keep_from(lsn):
            return True
        if not self.can_keep():
            return False
        self.tail.turn_over()
        return self._keep_from(self.j.durable_lsn + 1)

    cdef bint _keep_from(self, uint64_t lsn) except -1:
        """The records from an lsn on, slot by slot; False = the area is full."""
        cdef journal_slot *slot
        cdef uint32_t index
        cdef bint is_found = True
        while is_found and lsn < self.j.filling_lsn:
            is_found = False
            for index in range(self.j.config.depth + 1):
                slot = &self.j.slots[index]
                if index != self.j.filling and slot.state != SLOT_FREE and slot.batch \
                        and slot.first_lsn <= lsn < slot.first_lsn + slot.records:
                    if not self._keep_slot(slot, slot.first_lsn, slot.records, lsn):
                        return False
                    lsn = slot.first_lsn + slot.records
                    is_found = True
        assert is_found # what is not durable is in a slot
        slot = &self.j.slots[self.j.filling]
        return lsn == self.j.next_lsn or self._keep_slot(
            slot, self.j.filling_lsn, self.j.records, lsn)

    cdef bint _keep_slot(self, journal_slot *slot, uint64_t first, uint32_t records,
                         uint64_t lsn) except -1:
        cdef segment_record record
        cdef uint32_t at = FRAME_HEADER_BYTES
        cdef uint64_t skip
        if first == self.kept_first and lsn == self.tail.next_lsn:
            at = self.kept_used # mostly: where the latest keep has ended
        else:
            for skip in range(lsn - first):
                at += segment_record_read(slot.data + at, slot.used - at, &record)
        try:
            if not self.tail.put(slot.data + at, slot.used - at, lsn,
                                 <uint32_t>(first + records - lsn)):
                return False
        except Exception: # a codec's: what it cannot write is not kept, and nothing is any more
            logger.critical("the tail in %s cannot be encoded", self.directory, exc_info=True)
            self.fail(EIO)
            return False
        self.kept_first, self.kept_used = first, slot.used
        return True

    def adopt(self, const uint8_t[::1] run) -> None:
        """Record again what the process before had kept; before anything else is recorded.

        Raises:
            ValueError: It does not fit into a frame.
        """
        cdef segment_record record
        cdef size_t at = 0, size
        cdef uint8_t *place
        while at < <size_t>run.shape[0]:
            size = segment_record_read(&run[at], run.shape[0] - at, &record)
            place = NULL
            if size and journal_begin(&self.j) == 0:
                place = journal_put(&self.j, size - RECORD_HEADER_BYTES)
                if place == NULL:
                    journal_drop(&self.j)
            if place == NULL:
                raise ValueError(f"a run of {run.shape[0]} bytes does not fit into a frame")
            memcpy(place, &run[0] + at + RECORD_HEADER_BYTES, size - RECORD_HEADER_BYTES)
            journal_end(&self.j, record.type, record.kind, record.flags, record.server,
                        record.outcome)
            at += size

    # ---- holding and releasing ---------------------------------------------------------------

    cdef int hold(self, uint64_t batch, object function, tuple arguments) except -1:
        """Call a function when the batch is durable; at once if it is."""
        if batch <= self.j.durable_batch and not self.held:
            function(*arguments)
        elif self.j.error and self.on_failed is None: # nobody will come round to it any more (M2)
            self._lose(function)
        else:
            self.held.append((batch, function, arguments))
        return 0

    def when_durable(self, uint64_t batch, function) -> None:
        """`hold` for Python."""
        self.hold(batch, function, ())

    cdef bint is_busy_now(self):
        """Whether so many inputs come that somebody else may need the processors too."""
        return self.j.next_lsn - self.j.durable_lsn > BUSY_RECORDS

    def settle_when_durable(self, uint64_t batch, waiter, value) -> None:
        """Give a waiter its value when the batch is durable; DurabilityLost when it never is."""
        self.hold(batch, waiter.settle, (value, None))

    cdef bint wants_turn(self):
        """Whether the tick should end: something was released, or could be written at once."""
        return self.has_released or (
            self.j.records >= TURN_RECORDS and self.j.in_flight == 0)

    cdef bint is_saturated(self):
        return self.j.slots[self.j.filling].used > min(
            SATURATED_BYTES, self.j.config.frame_bytes_max // 2)

    cdef bint must_wait(self):
        """Whether the next input should wait until the disk has caught up. On a full disk none
        does: it is refused, for that may last."""
        return self.is_saturated() and not self.is_full and not self.j.error

    cdef int pause(self, conn *c) except -1:
        """Read no more from a connection until the disk has caught up."""
        conn_pause(self.conns, c, PAUSE_SERVER)
        self.paused.append(conn_token(c, 0))
        return 0

    cdef int _resume_paused(self) except -1:
        cdef conn *c
        paused, self.paused = self.paused, []
        for token in paused:
            c = conns_find(self.conns, token)
            if c != NULL:
                conn_resume(self.conns, c, PAUSE_SERVER)
        return 0

    cdef int _release(self) except -1:
        if self.conns != NULL:
            conns_released(self.conns, self.j.durable_batch)
        if self.on_durable is not None:
            tell, self.on_durable = self.on_durable, None
            tell()
        while self.held and self.held[0][0] <= self.j.durable_batch: # (M1)
            _, function, arguments = self.held.popleft()
            function(*arguments)
        if self.paused and not self.is_saturated():
            self._resume_paused()
        return 0

    cdef int _fail(self) except -1:
        """The first failure (M2)."""
        error, self.on_failed = self.on_failed, None
        if error is None:
            return 0
        self.has_released = True
        if self.conns != NULL:
            conns_held_lost(self.conns)
            self._resume_paused()
        held, self.held = self.held, collections.deque()
        for _, function, _ in held:
            self._lose(function)
        error(self.j.error)
        return 0

    cdef int _lose(self, object function) except -1:
        """What was to be called will not be; whoever waits for it is told."""
        waiter = getattr(function, "__self__", None)
        if hasattr(waiter, "settle"):
            waiter.settle(None, DurabilityLost(os.strerror(self.j.error)))
        return 0

    # ---- the disk ----------------------------------------------------------------------------

    cdef int pump(self, uint64_t now_ns) except -1:
        """Hand everything to the source that may be written now."""
        cdef journal_write wanted
        cdef write_request request
        cdef uint64_t token
        cdef int ended
        cdef bint is_again = False
        self.has_released = False
        if not self.is_open or self.source == NULL:
            return 0
        while journal_next(&self.j, now_ns, &wanted):
            request.data = wanted.data
            request.offset = wanted.offset
            request.bytes = wanted.bytes
            request.fd = wanted.fd
            request.how = self.how
            request.is_busy = self.is_busy_now()
            request.is_quiet = self.is_quiet and not is_again and not request.is_busy \
                and self.j.in_flight == 1 and wanted.slot != JOURNAL_SLOT_CONTROL \
                and wanted.bytes <= IN_PLACE_BYTES_MAX
            self.started_ns[wanted.slot] = self.source.verbs.now(self.source)
            token = token_make(OP_WRITE, 1, wanted.slot)
            if request.is_quiet:
                with nogil: # the source may wait for the disk
                    ended = self.source.verbs.write(self.source, &request, token)
            else:
                ended = self.source.verbs.write(self.source, &request, token)
            if ended != 0:
                self.completed(wanted.slot, ended)
            if self.j.error or not self.is_open:
                break
            is_again = is_again or ended < 0 # nobody but us would repeat it, and not in place
        if self.coder is not None and self.j.error:
            self._fail() # it was told once if it was no codec
        return 0

    def take_write(self, uint64_t now_ns):
        """What is to be written now, for a driver without a completion source (tests, tools).

        Returns:
            (slot, descriptor, offset, bytes), to be answered by complete_write; or None.
        """
        cdef journal_write wanted
        if not journal_next(&self.j, now_ns, &wanted):
            if self.coder is not None and self.j.error:
                self._fail()
            return None
        return wanted.slot, wanted.fd, wanted.offset, (<char *>wanted.data)[:wanted.bytes]

    def complete_write(self, uint32_t slot, int32_t result) -> None:
        """The result of a write taken by take_write: bytes, or -errno."""
        self.completed(slot, result)

    cdef int completed(self, uint32_t slot, int32_t result) except -1:
        if self.source != NULL:
            self._note_latency(slot)
        cdef int outcome = journal_completed(&self.j, slot, result)
        if outcome < 0:
            self._fail()
        elif outcome > 0:
            self.has_released = True
            self._release()
        if self.segment != self.j.segment:
            self._look_for_roll()
        if self.on_manifest is not None and self.j.manifest_durable >= self.manifest_wanted:
            tell, self.on_manifest = self.on_manifest, None
            tell()
        return 0

    cdef int _note_latency(self, uint32_t slot) except -1:
        cdef uint64_t us = (self.source.verbs.now(self.source) - self.started_ns[slot]) // 1000
        cdef int bucket = 0
        self.latency_us += us
        while us > 1 and bucket < LATENCY_BUCKETS - 1:
            us = (us + 1) >> 1
            bucket += 1
        self.latency[bucket] += 1
        return 0

    cdef int _look_for_roll(self) except -1:
        old = self.fd
        self.segment = self.j.segment
        self.fd = self.j.fd
        if self.on_rolled is not None:
            self.on_rolled(old)
        return 0

    # ---- for the runtime ---------------------------------------------------------------------

    def give_spare(self, uint64_t number, int fd) -> None:
        """A prepared segment for the next roll."""
        self.is_full = False
        journal_spare(&self.j, number, fd)

    def no_room(self) -> None:
        """The next segment cannot be prepared: refuse when this one is used up (F-15)."""
        self.is_full = True
        self.has_released = True # who waits for the disk is refused now
        if self.conns != NULL:
            self._resume_paused()

    def fail(self, int error) -> None:
        """Something other than a write has failed; nothing is acknowledged any more."""
        journal_fail(&self.j, error)
        self._fail()

    def watermark(self) -> None:
        """Write what is durable to the manifest when there is time."""
        journal_watermark(&self.j)

    def finish(self) -> None:
        """Take no more inputs; write what is left, CLOSE, and the clean manifest."""
        journal_close(&self.j)

    def snapshot_taken(self, uint64_t lsn, bytes digest, uint64_t oldest, then) -> None:
        """The manifest is to name a new snapshot and forget segments before `oldest`.

        `then()` is called when it does, durably. It may be the newest once more: then what was
        older is not needed any more.
        """
        cdef bytes named = (<char *>self.j.manifest.snapshot_hash[0].bytes)[:16]
        assert len(digest) == 16
        assert self.j.manifest.snapshot_lsn[0] != lsn or named == digest # its file is needed yet
        before = self.on_manifest # the manifest in flight was to bring it: now the next one does
        self.on_manifest = then if before is None else lambda: (before(), then())
        self.manifest_wanted = self.j.manifest.counter + 1 # the one in flight may be older
        self.j.manifest.snapshot_lsn[1] = self.j.manifest.snapshot_lsn[0]
        self.j.manifest.snapshot_hash[1] = self.j.manifest.snapshot_hash[0]
        self.j.manifest.snapshot_lsn[0] = lsn
        memcpy(self.j.manifest.snapshot_hash[0].bytes, <const uint8_t *>digest, 16)
        self.j.manifest.oldest = oldest
        journal_watermark(&self.j)

    def pending(self) -> list:
        """What is recorded and not yet durable, oldest first: (first lsn, records, body)."""
        cdef journal_slot *slot
        cdef int index
        found = []
        for index in range(JOURNAL_SLOTS):
            slot = &self.j.slots[index]
            if slot.state != SLOT_FREE and slot.records and index != <int>self.j.filling \
                    and slot.batch:
                found.append((slot.first_lsn, slot.records, self._body(slot)))
        found.sort()
        if self.j.records:
            slot = &self.j.slots[self.j.filling]
            found.append((self.j.filling_lsn, self.j.records, self._body(slot)))
        return found

    cdef bytes _body(self, journal_slot *slot):
        return (<char *>slot.data)[FRAME_HEADER_BYTES:slot.used]

    def batch_of_last(self) -> int:
        """The batch of the latest record."""
        return self.j.batch if self.j.records else self.j.batch - 1

    @property
    def bytes_written(self) -> int:
        """Bytes of frames handed to the disk."""
        return self.j.stats.bytes

    @property
    def segment_first_lsn(self) -> int:
        """The first lsn of the current segment."""
        return self.j.segment_first_lsn

    @property
    def snapshots(self) -> tuple:
        """The lsns of the snapshots that the manifest names, newest first."""
        return self.j.manifest.snapshot_lsn[0], self.j.manifest.snapshot_lsn[1]

    @property
    def block(self) -> int:
        """The next free block of the current segment."""
        return self.j.block

    @property
    def is_closed(self) -> bool:
        """Whether CLOSE and the clean manifest are durable."""
        return self.j.roll == ROLL_CLOSED

    @property
    def is_busy(self) -> bool:
        """Whether the source still has memory of this."""
        return self._is_flying()

    cdef bint _is_flying(self):
        cdef int index
        for index in range(JOURNAL_SLOTS):
            if self.j.slots[index].state == SLOT_FLYING and not self.j.slots[index].is_short:
                return True
        return False

    @property
    def descriptors(self) -> tuple:
        """What is written to: the segment and the manifest."""
        return self.j.fd, self.j.manifest_fd

    def take_descriptors(self) -> list:
        """The descriptors this still has, to be closed: nothing is written any more."""
        assert not self._is_flying()
        self.is_open = False
        return [fd for fd in (self.j.fd, self.j.manifest_fd, self.j.spare_fd) if fd >= 0]

    @property
    def durable_seq(self) -> int:
        """The latest frame that is durable."""
        return self.j.durable_seq

    @property
    def error(self) -> int:
        """errno of the first failure, or 0."""
        return self.j.error

    @property
    def batch(self) -> int:
        """The batch that gathers now."""
        return self.j.batch

    @property
    def durable_batch(self) -> int:
        """The latest batch that is durable."""
        return self.j.durable_batch

    @property
    def durable_lsn(self) -> int:
        """The latest record that is durable."""
        return self.j.durable_lsn

    @property
    def next_lsn(self) -> int:
        """What the next record is numbered."""
        return self.j.next_lsn

    @property
    def wants_spare(self) -> bool:
        """Whether no segment is prepared for the next roll."""
        return self.j.spare_fd < 0

    @property
    def current_segment(self) -> int:
        """The segment that records go to."""
        return self.j.segment

    @property
    def is_idle(self) -> bool:
        """Whether everything recorded is durable."""
        return self.j.records == 0 and self.j.in_flight == 0

    def stats(self) -> dict:
        """Counters, positions and the latched error."""
        cdef int index
        counters = dict(self.j.stats)
        counters["latency_us"] = {
            1 << index: self.latency[index] for index in range(LATENCY_BUCKETS)
            if self.latency[index]
        }
        counters.update(
            next_lsn=self.j.next_lsn, durable_lsn=self.j.durable_lsn, segment=self.j.segment,
            in_flight=self.j.in_flight, held=len(self.held), error=self.j.error,
            latency_us_sum=self.latency_us,
        )
        return counters
