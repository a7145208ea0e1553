# cython: language_level=3, binding=True
"""Step what the journal holds again, without its effects.

Recovery hands over sound segments; each input goes to its server's callback as it did the first
time: the same message, time and randomness. Outputs and actions go nowhere, except that timers are
remembered. The outcome must be the one in the record, or the code does not repeat itself.

Invariants
  (Y1) An input marked FAILED or SKIPped is not stepped.
  (Y2) Nothing leaves: no reply, no action, no log line of a server's own making is prevented, but
       no message either.
  (Y3) Inputs come in the order of their lsn, and each server's clock is the record's.
  (Y4) Behind an input that was stepped the first time and is skipped now, its server's outcomes may
       be others, until the SKIP record; one that raises there has to be skipped as well (Diverged).
  (Y5) A handle_continue that raises has ended its incarnation the first time, too, with the state
       before it: a START comes next. Another input in its place means that it had not raised then.
  (Y6) A message is under way to whom the journal knew when it was sent (`reachable`), and to
       members of families, whom it has started; to nobody else, for there it was lost.
  (Y7) Behind a Stop no handle_continue was called: the incarnation had ended.
  (Y8) Whether a handle_continue failed the first time (on output, say, that nobody encodes now) is
       said by a FAILED record behind the input that it continues. So it runs when the next record
       of its server comes, or one that depends on what it has sent, or the end: then it had not.
       Until then others may have become known, to whom what it sends was lost all the same (Y6).

Does not know: files, whether frames are sound (blocks.pyx), which policy decides (runtime).
"""

cimport cython
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .commit cimport (
    FRAME_CODED, FRAME_HEADER_BYTES, OUTCOME_REFUSED, RECORD_CAUSE, RECORD_EFFECT,
    RECORD_FAILED, RECORD_FORGET, RECORD_FROM, RECORD_INPUT, RECORD_REQUEST, RECORD_SERVER,
    RECORD_SKIP, RECORD_START, RECORD_STATE, RECORD_STORE, RECORD_TIME, SEGMENT_BLOCK,
    SEGMENT_HEADER_BLOCKS, SEGMENT_SOUND, journal_hash, segment_blocks_bytes, segment_frame,
    segment_frame_read, segment_record, segment_record_read,
)
from .dispatch cimport Dispatcher
from .handles cimport Caller
from .requests cimport Request
from .servers cimport INPUT_CALL, INPUT_CAST, INPUT_CONTINUE, INPUT_INFO, INPUT_TIMER, Server
from .values cimport Values

from libc.string cimport memcpy, memset

import collections

from pybehave import actions as _actions
from pybehave import jobs as _jobs
from pybehave.errors import CodeRefused, JournalRefused, NonDeterminism
from pybehave.together import Together as _Together

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t Py_REFCNT(PyObject *)

cdef object NO_REPLY = _actions.NO_REPLY
cdef uint32_t JOBS_FROM = _jobs.JOBS_FROM
cdef type Together = _Together


# Not final: Python makes its instances.
class Diverged(NonDeterminism):
    """A step raised that had not, behind an input that is skipped now."""


@cython.final
cdef class Waiting:
    """What a server's latest step is continued with, as soon as that is known to have gone well."""

    cdef Server server
    cdef list continues
    cdef uint64_t lsn             # of the input, or of what its incarnation began with
    cdef uint64_t seen            # the latest record's when it was made
    cdef uint64_t time_ns


@cython.final
cdef class Replayer:
    """Feeds records to servers that do not answer to their names yet.

    Args:
        dispatcher: Whose servers they are.
        on_record: Called with (type, server number, payload value bytes, lsn) for SERVER, START,
            STATE and FORGET records; returns the Server for that number, or None: its inputs are
            passed over.
        is_strict: Whether another outcome than the recorded one is an error.
        skipped: The lsns of inputs that are not to be stepped.
        marker: Three numbers that outlive the process (pybehave/journal/attempts.py), or None.
    """

    cdef Dispatcher dispatcher
    cdef object on_record
    cdef dict servers             # number -> Server or None
    cdef Server last              # whose input was the latest; None = to be looked up again
    cdef uint32_t last_number     # its number in `servers`
    cdef Caller nobody            # of the latest input, and of the next one if no step keeps it
    cdef set skipped
    cdef dict diverging           # server number -> lsns skipped whose SKIP records come later
    cdef dict waiting             # server number -> what is to be continued (Y8)
    cdef dict ended               # server number -> what its handle_continue has raised (Y5)
    cdef bint is_strict
    cdef readonly uint64_t inputs
    cdef readonly uint64_t failed
    cdef readonly uint64_t records
    cdef readonly uint64_t lsn    # of the latest record
    cdef readonly uint64_t time_ns
    cdef readonly list differences
    cdef readonly dict outbox     # (lsn, index) -> (name, kind, message): sent, not arrived
    cdef readonly dict reachable  # names that the journal knows -> since which lsn (Y6)
    cdef public object is_member  # (name) -> whether a message itself starts its server, or None
    cdef readonly dict open       # server name -> connections that are open as far as it knows
    cdef uint64_t[::1] marker     # what is stepped now, for the next process if this one ends
    cdef public Py_ssize_t keep_recent # how many of each server's latest inputs `recent` tells
    cdef dict latest              # server number -> deque of lsns
    cdef public object on_skipped # (Server, kind, message, lsn): an input that is not stepped
    # server number -> (Values, function of (input, lsn)): an older version of its class was given
    # what follows, and this is how it is read. Its outcomes are not compared: the code was another.
    cdef readonly dict older
    cdef readonly set alike       # of those, the servers whose code says that nothing is different
    # server number -> (lsn, kind, flags, payload): the latest input its incarnation failed on
    cdef readonly dict failures
    cdef public object coder      # opens what codecs have made (pybehave/journal/codec.py)
    cdef public bint keeps_absent # whether the records of servers that are not stepped are kept
    cdef readonly dict absent     # server number -> [lsn, time_ns, record] of each of them

    def __init__(self, dispatcher, on_record, *, bint is_strict=True, skipped=(), marker=None):
        self.dispatcher = dispatcher
        self.on_record = on_record
        self.servers = {}
        self.skipped = set(skipped)
        self.diverging = {}
        self.waiting = {}
        self.ended = {}
        self.marker = marker
        self.is_strict = is_strict
        self.differences = []
        self.outbox = {}
        self.reachable = {}
        self.latest = {}
        self.older = {}
        self.alike = set()
        self.failures = {}
        self.open = {}
        self.absent = {}

    def set_marker(self, marker) -> None:
        """From now on what is stepped is noted there; None = nowhere."""
        self.marker = marker

    def bind(self, uint32_t number, Server server) -> None:
        """Inputs of this number go to that server; None = nowhere."""
        self.servers[number] = server
        self.last = None

    def feed(self, const uint8_t[::1] segment, bytes journal_id, uint64_t block_end,
             uint64_t lsn_from, uint64_t lsn_to) -> None:
        """The frames of a segment up to a block; records outside [lsn_from, lsn_to] are passed.

        The segment has been walked and is sound up to there.

        Raises:
            NonDeterminism: An outcome differs (strict).
            JournalRefused: A record cannot be read in the server's types.
            CodecRefused: A frame cannot be read without other codecs or keys.
        """
        cdef segment_frame frame
        cdef journal_hash hash
        cdef uint64_t block = SEGMENT_HEADER_BLOCKS
        cdef const uint8_t *base = &segment[0]
        cdef const uint8_t *at
        cdef bytes opened
        memcpy(hash.bytes, <const uint8_t *>journal_id, 16)
        while block < block_end:
            if segment_frame_read(base + block * SEGMENT_BLOCK, &hash, &frame) != SEGMENT_SOUND:
                raise JournalRefused("segment", f"block {block} changed while it was replayed")
            if frame.first_lsn > lsn_to:
                return
            if frame.first_lsn + frame.records > lsn_from:
                at = base + block * SEGMENT_BLOCK + FRAME_HEADER_BYTES
                if frame.flags & FRAME_CODED:
                    opened = self.coder.decode_frame(
                        frame.epoch, frame.seq, frame.first_lsn, frame.records, frame.time_ns,
                        (<char *>at)[:frame.body_bytes])
                    self._records(opened, len(opened), frame.first_lsn, frame.records, lsn_from,
                                  lsn_to)
                else:
                    self._records(at, frame.body_bytes, frame.first_lsn, frame.records, lsn_from,
                                  lsn_to)
            block += segment_blocks_bytes(
                FRAME_HEADER_BYTES + <uint64_t>frame.body_bytes) // SEGMENT_BLOCK

    def feed_body(self, const uint8_t[::1] body, uint64_t lsn, uint32_t records) -> None:
        """Records that are not yet durable, from the frame's own buffer (Commit.pending)."""
        self._records(&body[0], body.shape[0], lsn, records, 0, 0xffffffffffffffff)

    def feed_absent(self, list records, skipped) -> None:
        """Records that were kept, as `absent` has them, and which of them are not to be stepped."""
        cdef const uint8_t[::1] record
        self.skipped.update(skipped)
        for lsn, time_ns, data in records:
            self.time_ns = time_ns
            record = data
            self._records(&record[0], record.shape[0], lsn, 1, 0, 0xffffffffffffffff)
        self.settle()

    cdef int _records(self, const uint8_t *data, size_t left, uint64_t lsn, uint32_t records,
                      uint64_t lsn_from, uint64_t lsn_to) except -1:
        cdef segment_record record
        cdef size_t size
        cdef uint32_t index
        for index in range(records):
            size = segment_record_read(data, left, &record)
            if size == 0:
                raise JournalRefused("segment", f"record {lsn} does not fit its frame")
            data += size
            left -= size
            if record.type == RECORD_TIME and record.payload_bytes == 8:
                memcpy(&self.time_ns, record.payload, 8) # little-endian machines only, as we are
            if lsn_from <= lsn <= lsn_to:
                self.records += 1
                self.lsn = lsn
                if record.type == RECORD_INPUT:
                    self._input(&record, lsn)
                elif record.type != RECORD_TIME:
                    self._other(&record, lsn)
                if self.keeps_absent:
                    self._keep_absent(&record, data - size, size, lsn)
            lsn += 1
        return 0

    cdef int _keep_absent(self, const segment_record *record, const uint8_t *data, size_t size,
                          uint64_t lsn) except -1:
        """What its server needs to be built again, when somebody has its code."""
        if record.type != RECORD_INPUT and record.type != RECORD_START \
                and record.type != RECORD_STATE and record.type != RECORD_SKIP:
            return 0
        if self._server(record.server) is None:
            self.absent.setdefault(record.server, []).append(
                [lsn, self.time_ns, (<const char *>data)[:size]])
        return 0

    cdef int _other(self, const segment_record *record, uint64_t lsn) except -1:
        payload = (<char *>record.payload)[:record.payload_bytes]
        if record.type == RECORD_FORGET: # what waits may have sent to it
            self.settle()
        elif self.waiting:
            self._go_on(record.server)
        if record.type == RECORD_SKIP:
            self._skip_recorded(record.server, int.from_bytes(payload[:8], "little"))
            return 0
        if record.type == RECORD_SERVER or record.type == RECORD_START \
                or record.type == RECORD_STATE or record.type == RECORD_STORE \
                or record.type == RECORD_FORGET:
            if record.type == RECORD_START:
                self.ended.pop(record.server, None)
            self._set_clock()
            self.servers[record.server] = self.on_record(
                record.type, record.server, payload, lsn)
            self.last = None
        elif record.type != RECORD_EFFECT: # to pass over what one does not know may be wrong
            raise JournalRefused(
                f"record {lsn}", f"it is of type {record.type}, which this version of pybehave "
                f"does not know: a newer one wrote it; use that one")
        return 0

    def erase(self, uint32_t number, str name) -> None:
        """A server is forgotten: it has no state, and nothing is under way to it."""
        for by_number in (self.servers, self.diverging, self.waiting, self.ended, self.latest,
                          self.older, self.failures, self.absent):
            by_number.pop(number, None)
        self.alike.discard(number)
        self.last = None
        self.open.pop(name, None)
        self.reachable.pop(name, None)
        _jobs.forget(self.outbox, name)

    cdef Server _server(self, uint32_t number):
        """Whose number that is, or None; most inputs are of the same server as the one before."""
        cdef Server found
        if self.last is not None and number == self.last_number:
            return self.last
        found = self.servers.get(number)
        if found is not None:
            self.last, self.last_number = found, number
        return found

    cdef int _input(self, const segment_record *record, uint64_t lsn) except -1:
        cdef Server server = self._server(record.server)
        cdef object message, result, output, name
        cdef Caller caller
        cdef Request request = None
        cdef int kind = record.kind
        if record.flags & RECORD_CAUSE:
            self._arrived(record.cause_lsn, record.cause_index)
        if server is None:
            return 0
        if kind == INPUT_CONTINUE:
            return self._not_continued(server, record, lsn)
        if self.waiting:
            self._go_on(record.server)
        server.ledger.last_lsn, server.ledger.sent, server.ledger.jobs = lsn, 0, 0
        if record.flags & RECORD_FAILED or (self.skipped and lsn in self.skipped):
            return self._pass_over(server, record, lsn) # (Y1)
        if self.ended:
            self._check_ended(server, record.server, lsn)
        caller = self._nobody(server)
        message = self._message(server, record, lsn, caller)
        self.inputs += 1
        server.inputs += 1
        if kind == INPUT_INFO:
            self._note_info(server, message)
        self._set_clock()
        if record.flags & RECORD_REQUEST:
            request = caller.request = self._request(server, record)
        self.dispatcher.current = server
        self.dispatcher.current_conn = NULL
        self.dispatcher.current_caller = caller if kind == INPUT_CALL else None
        if server.extras is not None:
            server.extras.idle_s = 0
        if self.marker is not None:
            self.marker[1] = record.server
            self.marker[2] = lsn
        try:
            if kind == INPUT_CALL and server.kind.is_fast_call and type(message) is not Together:
                result = server.kind.step(server.instance, message, server.state)
            else:
                if kind == INPUT_TIMER:
                    name, message = message
                    server.ledger.due.pop(name, None)
                result = self.dispatcher._callback(server, kind, message, caller)
            if PyTuple_CheckExact(result) and PyTuple_GET_SIZE(result) == 2:
                output = <object>PyTuple_GET_ITEM(result, 1)
                server.state = <object>PyTuple_GET_ITEM(result, 0)
            else:
                output = self._conclude(server, kind, result)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            kind_of = Diverged if record.server in self.diverging else NonDeterminism
            raise kind_of(server.name, lsn, record.outcome, 0) from error
        finally:
            self.dispatcher.current = self.dispatcher.current_caller = None
        if self.keep_recent:
            self.latest.setdefault(
                record.server, collections.deque(maxlen=self.keep_recent)).append(lsn)
        if request is not None and output is not NO_REPLY:
            caller.request = None
            request.keep(output, server.ledger.values)
        if record.outcome and server.ledger.values.outcome(output) != record.outcome \
                and record.server not in self.diverging \
                and (record.server not in self.older or record.server in self.alike):
            self._differs(server, lsn, record.outcome, server.ledger.values.outcome(output))
        return 0

    cdef object _message(self, Server server, const segment_record *record, uint64_t lsn,
                         Caller caller):
        """The input, as today's code wants it; and in `caller` where it came from."""
        cdef const uint8_t *at = record.payload
        cdef const uint8_t *end = record.payload + record.payload_bytes
        cdef Values values = server.ledger.values
        upcast = None
        if self.older and record.server in self.older:
            values, upcast = self.older[record.server]
        try:
            message = values._take(&at, end, 0)
            if record.flags & RECORD_FROM:
                caller.connection = values._take(&at, end, 0)
            if at != end:
                raise ValueError("bytes are left over behind it")
        except ValueError as error: # and msgspec's, of a declared type
            raise CodeRefused(
                f"record {lsn}", f"an input of server {server.name!r} cannot be read: {error}"
            ) from error
        if upcast is None:
            return message
        if record.kind == INPUT_TIMER:
            return [message[0], upcast(message[1], lsn)]
        return upcast(message, lsn)

    def failure_of(self, Server server):
        """The latest input that a server failed on in this incarnation: (lsn, message), or None.

        Raises:
            CodeRefused: It cannot be read in the server's types.
        """
        cdef segment_record record
        cdef bytes payload
        found = self.failures.get(server.number)
        if found is None:
            return None
        memset(&record, 0, sizeof(record))
        lsn, record.kind, record.flags, payload = found
        record.server = server.number
        record.payload = <const uint8_t *>payload
        record.payload_bytes = len(payload)
        message = self._message(server, &record, lsn, self._nobody(server))
        return lsn, message[1] if record.kind == INPUT_TIMER else message

    cdef int _check_ended(self, Server server, uint32_t number, uint64_t lsn) except -1:
        """(Y5)"""
        error = self.ended.get(number)
        if error is not None:
            kind_of = Diverged if number in self.diverging else NonDeterminism
            raise kind_of(server.name, lsn, 0, 0) from error
        return 0

    def recent(self, uint32_t number) -> list:
        """The lsns of that server's latest inputs, oldest first."""
        return list(self.latest.get(number, ()))

    cdef int _pass_over(self, Server server, const segment_record *record, uint64_t lsn) except -1:
        """An input that is not stepped: what is to be known of it all the same."""
        self.failed += 1
        if record.flags & RECORD_FAILED and record.outcome == OUTCOME_REFUSED:
            return 0 # it has arrived, and that is all
        if record.flags & RECORD_REQUEST:
            self._request(server, record).fail(f"lsn {lsn}")
        if record.kind == INPUT_TIMER:
            self._timer_gone(server, record)
        if record.kind == INPUT_INFO and server.ledger.asked is not None:
            server.ledger.asked.heard(self._first(server, record))
        if record.flags & RECORD_FAILED:
            self.failures[record.server] = (
                lsn, record.kind, record.flags, (<char *>record.payload)[:record.payload_bytes])
            return 0
        self.diverging.setdefault(record.server, set()).add(lsn) # (Y4)
        if self.on_skipped is not None:
            message = self._message(server, record, lsn, self._nobody(server))
            self.on_skipped(server, record.kind, message, lsn)
        return 0

    cdef int _skip_recorded(self, uint32_t number, uint64_t lsn) except -1:
        """From here on the server's records were made without that input."""
        found = self.diverging.get(number)
        if found is not None:
            found.discard(lsn)
            if not found:
                del self.diverging[number]
        return 0

    cdef Request _request(self, Server server, const segment_record *record):
        """A request that its client had named: from now on it is known."""
        key = (<char *>&record.client)[:8] + (<char *>&record.session)[:8]
        return server.requests_made().add(key, record.request, self.time_ns)

    cdef int _note_info(self, Server server, object message) except -1:
        """What it was told: of connections, which a new process has not, and what it asked for."""
        kind = type(message)
        if server.ledger.asked is not None:
            server.ledger.asked.heard(message)
        if kind is _actions.Opened or kind is _actions.Connected:
            self.open.setdefault(server.name, {})[id(message.connection)] = message.connection
        elif kind is _actions.Closed:
            self.open.get(server.name, {}).pop(id(message.connection), None)
        return 0

    cdef int _set_clock(self) except -1:
        self.dispatcher.now_ns = <uint64_t>(
            <int64_t>self.time_ns - self.dispatcher.wall_offset_ns)
        return 0

    cdef int _differs(self, Server server, uint64_t lsn, uint32_t expected,
                      uint32_t got) except -1:
        error = NonDeterminism(server.name, lsn, expected, got)
        if self.is_strict:
            raise error
        self.differences.append(error)
        return 0

    cdef int _timer_gone(self, Server server, const segment_record *record) except -1:
        name, _ = self._first(server, record)
        server.ledger.due.pop(name, None)
        return 0

    cdef object _first(self, Server server, const segment_record *record):
        """The input as it was recorded, whichever version of the server that was."""
        cdef const uint8_t *at = record.payload
        cdef Values values = self.older.get(record.server, (server.ledger.values,))[0]
        return values._take(&at, record.payload + record.payload_bytes, 0)

    cdef Caller _nobody(self, Server server):
        """Who waits for a reply here: a caller that has had one."""
        cdef Caller caller = self.nobody
        if caller is None or Py_REFCNT(<PyObject *>caller) > 2: # it is kept in a state
            caller = self.nobody = Caller.__new__(Caller)
            caller.is_done = True
        caller.server = server.name
        caller.connection = caller.request = None
        return caller

    cdef object _conclude(self, Server server, int kind, object result):
        """The new state, and of the actions those that are the server's own: timers, continues."""
        cdef tuple actions = self.dispatcher._checked(server, kind, result)
        server.state = result[0]
        self.act(server, actions)
        return result[1]

    cdef int _arrived(self, uint64_t lsn, uint32_t index) except -1:
        """A message of that input's, or of what continued it: then that had not failed (Y8)."""
        cdef Waiting each
        if (lsn, index) not in self.outbox:
            for number, each in list(self.waiting.items()):
                if each.lsn == lsn:
                    self._go_on(number)
        self.outbox.pop((lsn, index), None)
        return 0

    cdef int remember(self, Server server, tuple actions, list continues,
                      uint64_t seen) except -1:
        """What a step that was taken behind the record `seen` leaves behind."""
        for action in actions:
            kind = type(action)
            if kind is _actions.StartTimer:
                server.ledger.due[action.name] = (
                    self.time_ns + <int64_t>(min(action.seconds, 3.2e9) * 1e9), action.message)
            elif kind is _actions.CancelTimer:
                server.ledger.due.pop(action.name, None)
            elif kind is _actions.IdleTimeout:
                server.extra().idle_s = action.seconds
            elif kind is _actions.Continue:
                continues.append(action.term)
            elif (kind is _actions.Cast or kind is _actions.Info) and server.ledger.last_lsn:
                if self.reachable.get(action.server, PY_SSIZE_T_MAX) <= seen or (
                        self.is_member is not None and self.is_member(action.server)): # (Y6)
                    self.outbox[(server.ledger.last_lsn, server.ledger.sent)] = (
                        action.server, INPUT_CAST if kind is _actions.Cast else INPUT_INFO,
                        action.message)
                server.ledger.sent += 1
            elif kind is _actions.Run and server.ledger.last_lsn:
                self.outbox[(server.ledger.last_lsn, JOBS_FROM + server.ledger.jobs)] = (
                    server.name, INPUT_INFO, _jobs.promise(action))
                server.ledger.jobs += 1
            elif kind is _actions.Cancel:
                _jobs.cancel(self.outbox, server.name, action.tag)
            elif kind is _actions.Reply and type(action.to) is Caller:
                self._replied(server, <Caller>action.to, action.value)
            else:
                server.note(action)
        return 0

    cdef int _replied(self, Server server, Caller caller, object value) except -1:
        """A reply that had been put off: a request with a name has its outcome."""
        cdef Request request
        cdef Server owner
        named, caller.request = caller.request, None
        if type(named) is not tuple:
            request = named
        else: # (Q5)
            request = None
            for owner in self.servers.values():
                if owner is not None and owner.name == caller.server: # not of a worker that is gone
                    request, server = owner.request_named(named), owner
        if request is not None:
            request.keep(value, server.ledger.values)
        return 0

    def restore(self, Server server, dict due, double idle_s) -> None:
        """Timers of a server as a snapshot has them."""
        server.ledger.due.update(due)
        server.extra().idle_s = idle_s

    def initial(self, Server server, state, tuple actions) -> None:
        """`init` has returned, for a server that begins anew."""
        server.state = state
        server.ledger.due.clear()
        server.extra().idle_s = 0
        server.ledger.asked = None
        self.act(server, actions)

    def act(self, Server server, tuple actions) -> None:
        """Of a step's or an init's actions those that are the server's own."""
        cdef Waiting waiting
        cdef list continues = []
        self.remember(server, actions, continues, self.lsn)
        if not continues or self.dispatcher.stops(actions): # (Y7)
            return
        waiting = Waiting.__new__(Waiting)
        waiting.server, waiting.continues = server, continues
        waiting.lsn, waiting.seen = server.ledger.last_lsn or self.lsn, self.lsn
        waiting.time_ns = self.time_ns
        self.waiting[server.number] = waiting

    def settle(self, but=()) -> None:
        """Nothing follows that could say that a handle_continue had failed (Y8); but of those.

        Whoever asks what has become of them may have set the clock already: it stays as it is.
        """
        cdef uint64_t now_ns = self.dispatcher.now_ns
        for number in list(self.waiting):
            if number not in but:
                self._go_on(number)
        self.dispatcher.now_ns = now_ns

    cdef int _not_continued(self, Server server, const segment_record *record,
                            uint64_t lsn) except -1:
        """A handle_continue had failed, and what it was behind. Those before it had not (Y8)."""
        self.failed += 1
        place = self._first(server, record)
        self._go_on(record.server, place)
        return 0

    cdef int _go_on(self, uint32_t number, Py_ssize_t most=PY_SSIZE_T_MAX) except -1:
        """Call what waits of a server; so many times at most, and what is left was not called."""
        cdef Waiting waiting = self.waiting.pop(number, None)
        cdef Server server
        if waiting is None:
            return 0
        server, continues = waiting.server, waiting.continues
        now_ns, self.time_ns = self.time_ns, waiting.time_ns
        self._set_clock()
        self.dispatcher.current = server
        self.dispatcher.current_conn = NULL
        self.dispatcher.current_caller = None
        if self.marker is not None:
            self.marker[1], self.marker[2] = number, waiting.lsn
        try:
            while continues and most > 0:
                most -= 1
                again = self.dispatcher._callback(server, INPUT_CONTINUE, continues.pop(0), None)
                more = self.dispatcher._checked(server, INPUT_CONTINUE, again)
                self.dispatcher.check_actions(server, more)
                server.state = again[0]
                self.remember(server, more, continues, waiting.seen)
                if self.dispatcher.stops(more): # (Y7)
                    break
        except KeyboardInterrupt:
            raise
        except BaseException as error: # (Y5)
            self.ended[number] = error
        finally:
            self.dispatcher.current = None
            self.time_ns = now_ns
            self._set_clock()
        return 0
