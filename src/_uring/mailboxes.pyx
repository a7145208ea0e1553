# cython: language_level=3, binding=True
"""Mailboxes: inputs that wait for their server, and callers that wait for their reply.

A mailbox has a capacity and a policy for what comes when it is full. A caller is answered at most
once, by a reply, by the end of whoever owes it, or by its time running out.

A patient caller (`on_restart="wait"`) outlives the incarnation that it called, as long as its
request has not begun: the request is kept with the name, in its place, and the next incarnation
takes it. Whether there will be one is the supervisors' business: `on_patient` asks them, and they
end the wait by `refuse_kept`.

Does not know: turns, that is, when a mailbox is served and what becomes of an input (dispatch.pyx).
"""

from libc.stdint cimport uint32_t, uint64_t

from .codec cimport Codec
from .commit cimport OUTCOME_REFUSED, RECORD_CAUSE, RECORD_FAILED
from .handles cimport FROM_CONNECTION, FROM_SERVER, FROM_WAITER, Caller, Connection
from .leaves cimport conn, conn_give_back, conn_takes_output, conns_find
from .names cimport Names
from .requests cimport Request
from .servers cimport (
    ACK_SERVERS, INPUT_CALL, INPUT_CAST, INPUT_INFO, INPUT_TIMER, OVERFLOW_DROP_OLDEST,
    OVERFLOW_REJECT, Address, Alarm, Answer, Port, Server,
)
from .values cimport Values, session_of

import collections

from pybehave import actions as _actions
from pybehave import jobs as _jobs
from pybehave.actions import NO_REPLY as _NO_REPLY
from pybehave.errors import (
    CallingSelf, EncodeError, NoProc, Overloaded, PybehaveError, Stopped,
)

# Messages that wait for a server which does not run; as many as a full mailbox of the usual size.
cdef Py_ssize_t KEPT_MAX = 65536

# Under `block` a server's casts to a full mailbox are taken up to this many times its capacity:
# a sender cannot wait for a receiver on the same thread. Beyond, they are refused and counted.
cdef Py_ssize_t HARD_LIMIT_FACTOR = 64


cdef object NO_REPLY = _NO_REPLY
cdef Values PLAIN = Values()
cdef uint32_t JOBS_FROM = _jobs.JOBS_FROM


cdef inline bint _is_urgent(object caller):
    return caller is not None and (<Caller>caller).is_urgent


# Not final: the Dispatcher is the rest of it.
cdef class Mailboxes(Names):
    """Who has mail, and who waits. Base of the Dispatcher."""

    def __cinit__(self):
        self.session = session_of(0)
        self.ready = collections.deque()
        self.stalled = []
        self.parked = []
        self.unwoken = []
        self.on_patient = None
        self.numbers = {}

    # ---- inputs --------------------------------------------------------------------------------

    cpdef post(self, str name, int kind, message, waiter):
        """A call (with a waiter), cast or info for a name, from outside the turn."""
        cdef Server server = self.whereis(name)
        cdef Caller caller = None
        if server is None:
            if self._waits_to_wake(name):
                self.unwoken.append((self.post, (name, kind, message, waiter), self.barrier))
                return
            server = self.answering(name)
        if waiter is not None:
            caller = self._waiter_caller(name, waiter)
            caller.is_patient = getattr(waiter, "is_patient", False)
        if server is None:
            if not self._kept_for_next(name, kind, message, caller):
                self._undeliverable(name, kind, caller)
            return
        if caller is not None:
            caller.owner = server
            caller.level = getattr(waiter, "level", ACK_SERVERS)
        self._post(server, kind, message, caller)

    def post_urgent(self, str name, message, waiter) -> None:
        """A call that goes ahead of what waits in its server's mailbox, but for other such calls;
        full is a mailbox for it only at the hard limit.
        """
        if self._waits_to_wake(name):
            self.unwoken.append((self.post_urgent, (name, message, waiter), self.barrier))
            return
        cdef Server server = self.answering(name)
        cdef Caller caller = self._waiter_caller(name, waiter)
        cdef Py_ssize_t place = 0
        caller.is_urgent = True
        caller.is_patient = getattr(waiter, "is_patient", False)
        caller.level = getattr(waiter, "level", ACK_SERVERS)
        if server is None:
            if not self._kept_for_next(name, INPUT_CALL, message, caller):
                self._undeliverable(name, INPUT_CALL, caller)
            return
        caller.owner = server
        if server.mail_count() >= server.kind.capacity * HARD_LIMIT_FACTOR:
            self._refused(server, caller)
            return
        for item in server.mail(): # none of the others pays for this: they stand behind
            if not _is_urgent(item[2]):
                break
            place += 1
        server.mail().insert(place, (INPUT_CALL, message, caller))
        self._make_ready(server)

    cdef int _send_on(self, Server server, str name, int kind, object message) except -1:
        """A message of one server to another. Between journaled ones it is part of the sender's
        input: it arrives once, also when a crash or a power cut comes between.
        """
        if not server.latest_lsn():
            self.post(name, kind, message, None)
            return 0
        index = server.ledger.sent
        server.ledger.sent += 1
        self.deliver(name, kind, message, server.ledger.last_lsn, index)
        return 0

    def deliver(self, str name, int kind, message, uint64_t lsn, uint32_t index) -> None:
        """A message that the input of that lsn has sent, as its message of that index.

        Whether it is kept until it arrives depends on what the journal has of the receiver by then,
        and on nothing else: a replay must come to the same (replay.pyx, Y6).
        """
        cdef bint waits = self._waits_to_wake(name)
        cdef Server server = None if waits else self.answering(name)
        if waits and name not in self.numbers: # its first start says whether it is journaled
            self.outbox[(lsn, index)] = (name, kind, message) # for a snapshot until then
            self.unwoken.append((self._deliver_woken, (name, kind, message, lsn, index),
                                 self.barrier))
            return
        if server is None and name not in self.numbers and self.on_missing is not None \
                and self.on_missing(name, True): # could not be started: a replay keeps it for a
            self._undeliverable(name, kind, None) # later start, so it must not arrive by now
            return
        if name not in self.numbers or (server is not None and not server.number):
            self.post(name, kind, message, None)
            return
        item = (kind, message, None, (lsn, index))
        self.outbox[(lsn, index)] = (name, kind, message)
        if server is None:
            self._keep(self.address(name), item)
            if waits:
                self.unwoken.append((self._wake_for_kept, (name,), self.barrier))
            return
        if server.mail_count() >= server.kind.capacity * HARD_LIMIT_FACTOR:
            self._lose(name, item)
            return
        server.barrier = max(server.barrier, self.barrier)
        server.mail().append(item)
        self._make_ready(server)

    def _deliver_woken(self, str name, int kind, message, uint64_t lsn, uint32_t index) -> None:
        if self.outbox.pop((lsn, index), None) is not None: # else the receiver was forgotten
            self.deliver(name, kind, message, lsn, index)

    cdef tuple owe_job(self, Server server, object action):
        """A job of a journaled server: until its answer is recorded, a promise stands for it."""
        promise = _jobs.promise(action)
        origin = (server.ledger.last_lsn, JOBS_FROM + server.ledger.jobs)
        server.ledger.jobs += 1
        self.outbox[origin] = (server.name, INPUT_INFO, promise)
        return origin

    def owe_again(self, str name, message, uint64_t lsn, uint32_t index) -> None:
        """A promise of an earlier start that still stands."""
        self.outbox[(lsn, index)] = (name, INPUT_INFO, message)

    def answer_job(self, str name, message, uint64_t lsn, uint32_t index) -> None:
        """What came of a journaled server's job; its current incarnation gets it, or the next."""
        cdef Address address = self.address(name)
        cdef Server server = address.server
        if (lsn, index) not in self.outbox: # who asked for it was forgotten
            return
        item = (INPUT_INFO, message, None, (lsn, index))
        self.outbox[(lsn, index)] = (name, INPUT_INFO, message)
        if server is None:
            self._keep(address, item)
            return
        server.mail().append(item)
        self._make_ready(server)

    cdef int _keep(self, Address address, tuple item) except -1:
        """Nobody answers to the name just now: the next incarnation gets it."""
        if address.kept is None:
            address.kept = []
        if len(address.kept) >= KEPT_MAX:
            return self._lose(address.name, item)
        address.kept.append(item)
        return 0

    cdef bint _outlive(self, Address address, tuple item, bint is_first=False) except -1:
        """Keep a patient caller's request that has not begun; False = it is none, or too many."""
        cdef Caller caller = item[2]
        if not caller.is_patient or self.on_patient is None:
            return False
        if caller.is_done: # it has given up: nothing is left to be done
            return True
        if address.kept is None:
            address.kept = []
        if len(address.kept) >= KEPT_MAX:
            address.kept = [kept for kept in address.kept
                            if kept[2] is None or not (<Caller>kept[2]).is_done]
        if len(address.kept) >= KEPT_MAX:
            return False
        address.kept.insert(0 if is_first else len(address.kept), item)
        return True

    cdef int _not_begun(self, Server server, int kind, object message, Caller caller) except -1:
        """What the server had yet to do before this input has ended it."""
        cdef Server following = self.whereis(server.name)
        if caller is None:
            return 0
        if not caller.is_patient or self.on_patient is None:
            return self._resolve(caller, None, NoProc(server.name))
        if following is not None: # started again already: the request goes before all that waits
            caller.owner = following
            following.mail().appendleft((kind, message, caller))
            return self._make_ready(following)
        error = NoProc(server.name)
        if not self.on_patient(server.name, server, error) \
                or not self._outlive(self.address(server.name), (kind, message, caller), True):
            return self._resolve(caller, None, error)
        return 0

    cdef bint _is_to_come(self, str name) except -1:
        """Nobody answers to the name: whether somebody will, who had it before."""
        cdef Address address = self.known(name)
        if self.on_patient is None or address is None or address.incarnation == 0:
            return False
        return self.on_patient(name, None, NoProc(name))

    cdef bint _kept_for_next(self, str name, int kind, object message, Caller caller) except -1:
        """Nobody answers to the name: keep a patient caller's request, if somebody will."""
        if caller is None or not caller.is_patient or not self._is_to_come(name):
            return False
        return self._outlive(self.address(name), (kind, message, caller))

    cdef int _take_kept(self, Server server, Address address) except -1:
        """What was kept for the name is the new incarnation's."""
        cdef list kept = address.kept
        address.kept = None
        for item in kept:
            if item[2] is not None:
                if (<Caller>item[2]).is_done:
                    continue
                (<Caller>item[2]).owner = server
            if len(item) == 4 and not server.number: # it keeps nothing any more
                self.outbox.pop(item[3], None)
                item = item[:3]
            server.mail().append(item)
        return 0

    def refuse_kept(self, str name, error) -> None:
        """Nobody will answer to the name any more: patient callers are told."""
        cdef Address address = self.known(name)
        if address is None or address.kept is None:
            return
        refused = [item for item in address.kept if item[2] is not None]
        address.kept = [item for item in address.kept if item[2] is None] or None
        self.barrier = 0
        for item in refused:
            self._resolve(item[2], None, error)

    def erase(self, str name) -> None:
        """A journaled server, which does not run, is forgotten: nothing is under way to it."""
        cdef Address address = self.known(name)
        self.refuse_kept(name, NoProc(name))
        _jobs.forget(self.outbox, name)
        if address is not None:
            address.kept = address.missed = None
            address.is_journaled = False

    cdef int _lose(self, str name, tuple item) except -1:
        """Everything is bounded: a committed message beyond the bound is given up, counted, and
        settled, so that no start brings it. (A job's answer is: then the job is told as lost.)"""
        cdef uint32_t index = item[3][1]
        if index < JOBS_FROM and name in self.numbers:
            self.settle(self.numbers[name], item[0], item[3][0], index)
        self.outbox.pop(item[3], None)
        self.stats.casts_lost += 1
        return 0

    cdef int settle(self, uint32_t number, int kind, uint64_t lsn, uint32_t index) except -1:
        """Record that the message of an input has arrived at a server and came to nothing."""
        try:
            self.commit.open_input(PLAIN, None, self.unix_ns(), None, 0, lsn, index)
            self.commit.close_input(kind, RECORD_FAILED | RECORD_CAUSE, number, OUTCOME_REFUSED)
        except PybehaveError: # no room: a later start brings it again, to the same end
            pass
        return 0

    cdef int _not_taken(self, Server server, tuple item) except -1:
        """A message of a journaled server was not recorded: the journal had no room, or its
        receiver had just stopped. What has no form in the journal is lost; a job's result that has
        none has failed."""
        if not server.runs:
            return self._keep(self.address(server.name), item)
        if self.commit.is_full or self.commit.is_behind:
            self.stalled.append((server, item))
        elif type(item[1]) is _actions.RunDone:
            failed = _actions.RunFailed(item[1].tag, self.refusal)
            self.answer_job(server.name, failed, item[3][0], item[3][1])
        else:
            self._lose(server.name, item)
        return 0

    def inform(self, Server server, message) -> None:
        """`tell` for Python: an info to that incarnation, if it still runs."""
        self.tell(server, message)

    def withdraw(self, Server server, wants) -> None:
        """Take infos back that wait in a mailbox: those for which `wants(message)` is true."""
        if server.mailbox is not None:
            kept = [item for item in server.mailbox
                    if not (item[0] == INPUT_INFO and wants(item[1]))]
            if len(kept) < len(server.mailbox):
                server.mailbox = type(server.mailbox)(kept)

    cdef int tell(self, Server server, object message) except -1:
        """An info from the runtime itself: not subject to the mailbox's bound."""
        if server is not None and server.runs:
            server.barrier = max(server.barrier, self.barrier)
            server.mail().append((INPUT_INFO, message, None))
            self._make_ready(server)
        return 0

    cdef int _undeliverable(self, str name, int kind, Caller caller) except -1:
        if caller is not None:
            return self._resolve(caller, None, NoProc(name))
        self.stats.casts_lost += 1
        return 0

    cdef int _post(self, Server server, int kind, object message, Caller caller) except -1:
        cdef Py_ssize_t waiting = server.mail_count()
        server.barrier = max(server.barrier, self.barrier) # it learns of what may not be durable
        if waiting >= server.kind.capacity and kind != INPUT_TIMER:
            if server.kind.overflow == OVERFLOW_DROP_OLDEST:
                if not self._drop_oldest(server):
                    return self._turned_away(server, message, caller)
            elif server.kind.overflow == OVERFLOW_REJECT \
                    or waiting >= server.kind.capacity * HARD_LIMIT_FACTOR:
                return self._turned_away(server, message, caller)
        server.mail().append((kind, message, caller))
        self._make_ready(server)
        return 0

    cdef bint _drop_oldest(self, Server server) except -1:
        """Make room by refusing the oldest call or cast; what the runtime itself sent stays."""
        cdef Py_ssize_t index
        for index in range(len(server.mailbox)):
            item = server.mailbox[index]
            if (item[0] == INPUT_CALL or item[0] == INPUT_CAST) and not _is_urgent(item[2]):
                del server.mailbox[index]
                self._refused(server, item[2])
                return True
        return False

    cdef int _turned_away(self, Server server, object message, Caller caller) except -1:
        if type(message) is _actions.Received:
            self._unheard_of(message)
        return self._refused(server, caller)

    cdef int _unheard_of(self, object received) except -1:
        """A message of an outbound connection is lost: its server cannot ask for the next one."""
        cdef conn *c = conns_find(self.conns, (<Connection>received.connection).token())
        if c != NULL:
            conn_give_back(self.conns, c)
        return 0

    cdef int _refused(self, Server server, Caller caller) except -1:
        self.stats.overloaded += 1
        if caller is not None:
            self._resolve(caller, None, Overloaded(server.name, server.kind.capacity))
        return 0

    cdef int _make_ready(self, Server server) except -1:
        if not server.is_ready:
            server.is_ready = True
            self.ready.append(server)
        return 0

    def filled(self, double share) -> list:
        """Servers whose mailboxes hold this share of their capacity or more. Only those that have
        mail are looked at; a suspended server's waits elsewhere."""
        cdef Server server
        return [server for server in (*self.ready, *self.parked)
                if server.mail_count() >= share * server.kind.capacity]

    # ---- mail that waits for the disk ----------------------------------------------------------

    cdef bint _waits_to_wake(self, str name) except -1:
        """Whether nobody answers to the name, and its family is to start nobody for now: a start is
        a record, and waits for the disk as inputs do, and for the code that it is to run. Who was
        there first is first."""
        if self.commit is None or len(self.unwoken) >= KEPT_MAX \
                or not (self.unwoken or self.is_deciding or self.commit.must_wait()):
            return False
        return self.on_missing is not None and self.whereis(name) is None \
            and self.on_missing(name, True)

    def _wake_for_kept(self, str name) -> None:
        if self._waits_to_wake(name):
            self.unwoken.append((self._wake_for_kept, (name,), self.barrier))
        else:
            self.answering(name)

    def decided(self) -> None:
        """It is known again which code servers run that start now."""
        self.is_deciding = False
        self.caught_up()

    cdef int caught_up(self) except -1:
        """Something was written, or nothing will be: go on with what waited for the disk."""
        if self.parked:
            self.ready.extend(self.parked)
            self.parked = []
        if self.stalled:
            self.resume_stalled()
        unwoken, self.unwoken = self.unwoken, []
        for post, arguments, self.barrier in unwoken:
            post(*arguments)
        return 0

    def resume_stalled(self) -> None:
        """The journal may have room again: what the runtime had to tell meanwhile is told now."""
        stalled, self.stalled = self.stalled, []
        for server, item in reversed(stalled):
            (<Server>server).mail().appendleft(item)
            self._make_ready(server)

    def still_due(self, Server server, Alarm alarm, tuple due) -> None:
        """If the full journal did not take a timer's message, the timer stands until it does."""
        of, item = self.stalled[-1]
        if of is server and item[0] == INPUT_TIMER and type(item[1]) is not Alarm:
            self.stalled[-1] = (server, (INPUT_TIMER, alarm, None))
            server.add_timer(alarm)
            server.ledger.due[alarm.name] = due

    # ---- callers -------------------------------------------------------------------------------

    cdef Caller _waiter_caller(self, str name, object waiter):
        cdef Caller caller = Caller.__new__(Caller)
        caller.kind = FROM_WAITER
        caller.server = name
        caller.waiter = waiter
        waiter.caller = caller
        return caller

    def abandon(self, waiter) -> None:
        """The waiter has given up: its reply is dropped, the request is still carried out."""
        caller = waiter.caller
        if caller is not None and not (<Caller>caller).is_done:
            self._close_caller(caller)

    def answer(self, Caller caller, value, error) -> None:
        """Answer a caller from outside a turn, with a value or an error; only the first counts."""
        try:
            if error is None:
                self._reply(caller, value)
            else:
                self._resolve(caller, None, error)
        except EncodeError:
            pass # whoever waited has been told

    cdef int _call_action(self, Server server, object action) except -1:
        cdef Caller caller = Caller.__new__(Caller)
        caller.kind = FROM_SERVER
        caller.server = action.server
        caller.sender = server
        caller.tag = action.tag
        caller.is_patient = action.on_restart == "wait"
        if action.server == server.name:
            return self._resolve(caller, None, CallingSelf(action.server))
        self._call_server(action, caller)
        if action.timeout is not None and not caller.is_done:
            caller.timer = self._alarm(action.timeout, caller, action.timeout, None)
        return 0

    def _call_woken(self, action, Caller caller) -> None:
        if not caller.is_done: # else its time was over meanwhile
            self._call_server(action, caller)

    cdef int _call_server(self, object action, Caller caller) except -1:
        cdef Server receiver
        if self._waits_to_wake(action.server):
            self.unwoken.append((self._call_woken, (action, caller), self.barrier))
            return 0
        receiver = self.answering(action.server)
        if receiver is not None:
            caller.owner = receiver
            return self._post(receiver, INPUT_CALL, action.request, caller)
        if not self._kept_for_next(action.server, INPUT_CALL, action.request, caller):
            return self._resolve(caller, None, NoProc(action.server))
        return 0

    cdef int _owe(self, Server server, Caller caller) except -1:
        """The reply is put off: remember who waits, so that a crash can tell them."""
        if caller.is_done:
            return 0
        if not server.runs: # it was stopped by its own turn: nobody will reply
            return self._resolve(caller, None, Stopped(server.name, "shutdown"))
        caller.owner = server
        if server.extra().waiting is None:
            server.extras.waiting = set()
        server.extras.waiting.add(caller)
        if caller.kind == FROM_CONNECTION:
            self._hold(caller)
        return 0

    cdef int _answered(self, Server server, Caller caller, bytes answer) except -1:
        """The reply to who asked on a connection, if a step has looked who: made, or put off."""
        if caller is None:
            return 0
        if answer is None:
            return self._owe(server, caller)
        caller.is_done = True
        return 0

    cdef int _reply(self, Caller caller, object value) except -1:
        """Whoever waits hears at once, also of a reply that cannot be encoded.

        A refusal has no form as a value: a client hears it as one (a manager whose ring is full).
        """
        if caller.kind == FROM_CONNECTION and isinstance(value, Overloaded):
            return self._resolve(caller, None, value)
        try:
            self._resolve(caller, value, None)
        except EncodeError as error:
            self._resolve(caller, None, error)
            raise
        return 0

    cdef int _resolve(self, Caller caller, object value, object error) except -1:
        """Answer a caller, once (D3). Raises EncodeError with the caller still waiting."""
        cdef conn *c
        cdef bytes answer
        cdef uint64_t barrier
        if caller.request is not None:
            self._settle_request(caller, value, error)
        if caller.is_done:
            return 0
        if caller.kind == FROM_CONNECTION:
            c = conns_find(self.conns, caller.connection.token())
            if c != NULL and error is not None:
                conn_give_back(self.conns, c)
            answer = None
            if c != NULL and conn_takes_output(c):
                answer = self._encoded_for(caller, c, value, error, None)
            self._close_caller(caller)
            return self._settle_connection(caller, answer)
        self._close_caller(caller)
        if caller.kind == FROM_WAITER:
            barrier = self.barrier
            if caller.level != ACK_SERVERS:
                barrier = self._wanted(caller.owner, caller.level, barrier)
            # It knows its caller: as a cycle both, and the error, would wait for the collector.
            waiter, caller.waiter = caller.waiter, None
            if barrier > self.conns.durable_batch and type(waiter) is not Answer:
                self.commit.hold(barrier, waiter.settle, (value, error))
            else:
                waiter.settle(value, error)
        elif error is None:
            self.tell(caller.sender, _actions.CallReply(caller.tag, caller.server, value))
        else:
            self.tell(caller.sender, _actions.CallFailed(caller.tag, caller.server, error))
        return 0

    cdef uint64_t _wanted(self, Server owner, int level, uint64_t batch) except? 1:
        """The batch that a reply waits for, of a caller that wants a level of its own."""
        if owner is not None:
            batch = max(batch, owner.barrier)
        return self.barrier_for(level, batch)

    def wanted(self, str name, int level, uint64_t batch) -> int:
        """What the outputs of a server's latest turns wait for at a level; `batch` at its own."""
        if level == ACK_SERVERS:
            return batch
        return self._wanted(self.whereis(name), level, batch)

    cdef int _close_caller(self, Caller caller) except -1:
        caller.is_done = True
        if caller.timer is not None:
            self.cancel_alarm(caller.timer)
            caller.timer = None
        if caller.owner is not None:
            (<Server>caller.owner).owes_not(caller)
        return 0

    # ---- requests with a name ------------------------------------------------------------------

    cdef Request _name_request(self, Server server):
        """The request that is about to be stepped, entered into its server's table."""
        request = server.requests_made().add(self.client, self.number, self.unix_ns())
        if not server.number:
            self.client = None # else the record needs it once more
        return request

    cdef int _remember(self, Server server, Request request, Caller caller,
                       object output) except -1:
        """The step has returned: what is known of the request now."""
        if output is not NO_REPLY:
            return request.keep(output, server.encoder())
        if caller is None:
            return request.lose()
        caller.request = request
        return 0

    cdef int _repeat(self, Server server, Request request, Caller caller) except -1:
        """Answer a repetition as the first was answered, or as it will be."""
        cdef conn *c
        if caller.kind == FROM_CONNECTION: # nobody steps it, who could ask for the next
            c = conns_find(self.conns, caller.connection.token())
            if c != NULL:
                conn_give_back(self.conns, c)
        if request.is_pending():
            if request.waiting is None:
                request.waiting = []
            request.waiting.append(caller)
            return self._owe(server, caller)
        try:
            output = request.outcome(server.name, server.encoder())
        except PybehaveError as error:
            return self._resolve(caller, None, error)
        try:
            return self._resolve(caller, output, None)
        except EncodeError as error: # asked over another protocol than the first time
            return self._resolve(caller, None, error)

    cdef int _settle_request(self, Caller caller, object value, object error) except -1:
        """The reply that was put off has come, or whoever owed it has ended."""
        cdef Server owner = caller.owner
        cdef Request request
        if type(caller.request) is tuple: # (Q5)
            owner = self.whereis(caller.server)
            request = None if owner is None else owner.request_named(caller.request)
        else:
            request = caller.request
        caller.request = None
        if request is None:
            return 0
        if error is not None:
            request.lose()
        else:
            request.keep(value, None if owner is None else owner.encoder())
        waiting, request.waiting = request.waiting, None
        for other in waiting or ():
            if error is None:
                self._repeat(owner, request, other)
            else:
                self._resolve(other, None, error)
        return 0
