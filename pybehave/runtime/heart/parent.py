"""A parent that looks after a node: started again when it dies, or when its loop stands still.

Theory. Supervisors live in the process that they supervise. A fault in a library's C code, memory
that runs out, a step that never returns end them all, and only another process can begin again. So
this one holds next to nothing: a notice socket, the listening sockets that outlive its child, and a
count of restarts. It imports no application, and knows of its child only what the kernel and the
notices say. Towards the child it stands in systemd's place; towards systemd, in the child's.

| phase    | event            | phase then | what is done                                         |
|----------|------------------|------------|------------------------------------------------------|
| WAITING  | the wait is over | STARTING   | start a process with the kept sockets                |
| STARTING | READY            | SERVING    | from now on the loop must beat                       |
| SERVING  | WATCHDOG         | SERVING    | it has so much time again                            |
| SERVING  | no time is left  | HUNG       | SIGABRT: its stack goes to the log                   |
| HUNG     | no time is left  | HUNG       | SIGKILL                                              |
| any      | STOPPING         | STOPPING   | a drain takes as long as it takes                    |
| any      | MAINPID          | SERVING    | another process has taken over, and is looked after  |
| any      | it ends          | HANDING    | if one is about to take over: that one gets time     |
| any      | it ends          | WAITING    | or what `behaviours/heart.py` says: the end          |
| HANDING  | READY            | SERVING    | it has taken over                                    |
| HANDING  | no time is left  | HANDING    | SIGKILL                                              |
| HANDING  | that ends, too   | WAITING    | as above, for the end before                         |

TERM and INT are passed on and make the next end the last; HUP and USR1 go to a process that serves.

Invariants
  (P1) At most one process is started by us at a time, and the next one only after its end.
  (P2) A signal goes by a process's descriptor, and so to no stranger, whoever has reaped it.
  (P3) A descriptor is kept until it is taken back, replaced, or a stop is asked for.
  (P4) When we end, the process we look after is told to (heart/child.py).

Does not know: applications, journals, what a restart costs.
Source: OTP kernel, heart; systemd.service(5), WatchdogSec=, FileDescriptorStoreMax=; prctl(2),
PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import random
import select
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, final

from pybehave.behaviours.heart import Again, End, Heart, HeartRules
from pybehave.runtime import systemd
from pybehave.runtime.heart import child as heart_child
from pybehave.runtime.heart import report as heart_report
from pybehave.runtime.heart.notices import Notice, Notices
from pybehave.runtime.heart.process import (
    Shelf,
    Watched,
    parent_of,
    set_subreaper,
    start_process,
)
from pybehave.runtime.heart.report import HeartReport

ABORT_S: Final = 5.0
"""For the stack, and for a core dump of some size, after SIGABRT; then comes SIGKILL."""

HANDING_S: Final = 120.0
"""More than a replacement may take in all (release/handover.py)."""

PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PID_DIGITS_MAX: Final = 10

TOLD_ON: Final = ("READY", "STATUS", "EXTEND_TIMEOUT_USEC")
"""What systemd may hear as the child says it; MAINPID and the watchdog are our own."""

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})

Successor: TypeAlias = tuple[Watched, tuple[str, ...], str]
"""A process that is to take another one's place: its command line, where its code is looked for."""

logger = logging.getLogger("pybehave.heart")


class Phase(enum.Enum):
    """Where the process that is looked after stands; see the table."""

    WAITING = "waiting"
    STARTING = "starting"
    SERVING = "serving"
    HUNG = "hung"
    STOPPING = "stopping"
    HANDING = "handing"


def keep_alive(
    words: tuple[str, ...],
    rules: HeartRules,
    *,
    again: tuple[str, ...] | None = None,
    data: str | None = None,
) -> int:
    """Start a command, again and again, until an end is wanted; on the main thread.

    Args:
        words: The command line, its program first; a `pybehave run`.
        rules: When it is ended, and how often it is started.
        again: The command line once a process has served; None = the same.
        data: The folder for reports; None = they are only logged.

    Returns:
        The exit status for this process.

    Raises:
        OSError: No process has served yet, and there is no room for one, or no such program.
    """
    parent = Parent(words, rules, again or words, data)
    with parent.listening():
        return parent.run()


@final
class Parent:
    """The process that looks after another one.

    Args:
        words, rules, again, data: As of `keep_alive`.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        rules: HeartRules,
        again: tuple[str, ...],
        data: str | None,
    ) -> None:
        self._words, self._again, self._folder = words, again, ""
        self._rules = rules
        self._data = data
        self._heart = Heart(rules)
        self._notices = Notices()
        self._shelf = Shelf()
        self._poll = select.poll()
        self._signals = self._signals_end = -1
        self._phase = Phase.WAITING
        self._child: Watched | None = None  # None = there is none that has not ended
        self._since = 0.0
        self._due: float | None = 0.0  # when this phase's time is over
        self._has_served = self._has_said_stop = self._has_told_stop = False
        self._end: tuple[int, End, bool] | None = None  # of whose place somebody is to take
        self._successors: dict[int, Successor] = {}
        self._status: int | None = None
        self._feed_at = 0.0

    def run(self) -> int:
        """Look after processes until an end is wanted; returns our exit status."""
        while self._status is None:
            now = time.monotonic()
            self._feed(now)
            self._look(now)
            self._wait()
            gone = [each for each in self._successors.items() if each[1][0].has_ended()]
            self._pass_signals_on()
            self._take_notices()  # a successor's last words before its end: they may be READY
            self._forget_successors(gone)
            self._reap()
        if not self._has_told_stop:
            systemd.notify("STOPPING=1")
        return self._status

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals, notices and ends while the block runs."""
        self._signals, self._signals_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, *PASSED_ON)}
        wake_before = signal.set_wakeup_fd(self._signals_end, warn_on_full_buffer=False)
        for number, handler in before.items():
            if handler is not signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, lambda _number, _frame: None)
        set_subreaper(is_one=True)
        self._poll.register(self._signals, select.POLLIN)
        self._poll.register(self._notices, select.POLLIN)
        try:
            yield
        finally:
            set_subreaper(is_one=False)
            signal.set_wakeup_fd(wake_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            for fd in (self._signals, self._signals_end):
                os.close(fd)
            self._notices.close()
            self._shelf.clear()
            for process, _, _ in self._successors.values():
                process.close()

    # --- time ----------------------------------------------------------------------------------

    def _feed(self, now: float) -> None:
        """Let systemd hear that we are there: it watches us, and we watch the loop."""
        limit = systemd.watchdog_s()
        if limit is None:
            self._feed_at = now + HANDING_S
        elif now >= self._feed_at:
            systemd.notify("WATCHDOG=1", wait=0.0)
            self._feed_at = now + limit / systemd.NOTICES_PER_LIMIT

    def _wait(self) -> None:
        due = self._feed_at if self._due is None else min(self._due, self._feed_at)
        seconds = max(0.0, due - time.monotonic())
        with contextlib.suppress(InterruptedError):
            self._poll.poll(seconds * 1000 + 1)

    def _look(self, now: float) -> None:
        """Do what is done when no time is left."""
        if self._due is None or now < self._due:
            return
        if self._phase is Phase.WAITING:
            self._start(now)
        elif self._phase is Phase.SERVING:
            logger.error(
                "the loop of process %d has not turned for %g s: it is aborted",
                self._pid,
                self._rules.timeout,
            )
            self._enter(Phase.HUNG, now + ABORT_S)
            self._kill(signal.SIGABRT)
        elif self._phase is Phase.HUNG:
            self._enter(Phase.HUNG, now + ABORT_S)
            self._kill(signal.SIGKILL)
        else:
            assert self._phase is Phase.HANDING
            self._enter(Phase.HANDING, now + ABORT_S)
            self._kill(signal.SIGKILL)

    def _start(self, now: float) -> None:
        assert self._child is None  # (P1)
        self._has_served = self._has_said_stop = False
        self._since = now
        says = {heart_child.VARIABLE: str(os.getpid()), heart_child.CODE: self._folder}
        says["NOTIFY_SOCKET"] = self._notices.address
        if self._rules.timeout:
            says["WATCHDOG_USEC"] = str(int(self._rules.timeout * 1e6))
        try:
            self._child = self._watched(start_process(self._words, says, self._shelf))
        except OSError as error:
            if not self._heart.has_served:
                raise
            self._judge(0, End(None), why=f"it could not be started: {error}")
            return
        self._enter(Phase.STARTING, None)
        logger.info("process %d looks after process %d", os.getpid(), self._pid)

    def _enter(self, phase: Phase, due: float | None) -> None:
        self._phase, self._due = phase, due

    # --- processes -----------------------------------------------------------------------------

    @property
    def _pid(self) -> int:
        """The number of the process that we look after; 0 = there is none."""
        return 0 if self._child is None else self._child.pid

    def _is_child(self, pid: int) -> bool:
        """Whether it is the process that we look after; senders whom nobody knows here are 0."""
        return self._child is not None and pid == self._child.pid

    def _is_of_ours(self, pid: int) -> bool:
        """Whether the process that we look after has started it: a node may start others, which
        have our address, and are replaced, too.
        """
        father = parent_of(pid)
        return self._is_child(father) or father == os.getpid()  # as soon as that one has ended

    def _watched(self, process: Watched) -> Watched:
        self._poll.register(process, select.POLLIN)
        return process

    def _forget(self, process: Watched) -> None:
        self._poll.unregister(process)
        process.close()

    # --- signals -------------------------------------------------------------------------------

    def _pass_signals_on(self) -> None:
        try:
            came = os.read(self._signals, 4096)
        except BlockingIOError:
            return
        for number in came:
            if number in STOPS:
                self._heart.asked.add(number)
                self._shelf.clear()  # (P3): clients are to be refused
                if self._phase is Phase.WAITING:
                    self._status = 0
                self._kill(number)
            elif number in PASSED_ON and self._phase is Phase.SERVING:
                self._kill(number)  # before, it would be the end of a process without handlers

    def _kill(self, number: int) -> None:
        """Send a signal to the process that we look after, or that is about to be it (P2)."""
        if self._phase is Phase.HANDING:
            self._kill_successors(number)
        elif self._child is not None:
            self._child.kill(number)

    def _kill_successors(self, number: int) -> None:
        for process, _, _ in self._successors.values():
            process.kill(number)

    # --- notices -------------------------------------------------------------------------------

    def _take_notices(self) -> None:
        for notice in self._notices.take():
            self._noticed(notice)

    def _noticed(self, notice: Notice) -> None:
        fields = notice.fields
        if notice.fds and "FDSTORE" in fields and not self._heart.asked:
            self._shelf.put(fields.get("FDNAME", ""), notice.fds)
        else:
            for fd in notice.fds:
                os.close(fd)
        if "FDSTOREREMOVE" in fields:
            self._shelf.remove(fields.get("FDNAME", ""))
        if heart_child.SUCCESSOR in fields and self._is_of_ours(notice.pid):
            self._announced(notice.pid, fields[heart_child.SUCCESSOR])
        if "READY" in fields:
            self._is_ready(notice.pid)
        main = fields.get("MAINPID", "")
        is_known = main.isascii() and main.isdigit() and len(main) <= PID_DIGITS_MAX
        if self._is_child(notice.pid) and is_known:
            self._is_ready(int(main))
        if not self._is_child(notice.pid):
            return
        if heart_child.COMMAND in fields:
            self._code_changed(fields[heart_child.COMMAND])
        if "WATCHDOG" in fields and self._phase is Phase.SERVING:
            self._enter(Phase.SERVING, self._beat_due())
        if "STOPPING" in fields:
            self._has_said_stop = True
            if self._phase is not Phase.HUNG:
                self._enter(Phase.STOPPING, None)
        self._tell_on(fields)

    def _tell_on(self, fields: Mapping[str, str]) -> None:
        """Let systemd hear how a start or a stop goes."""
        told = [f"{name}={fields[name]}" for name in TOLD_ON if name in fields]
        if "STOPPING" in fields and self._heart.asked:
            told.append("STOPPING=1")
            self._has_told_stop = True
        if told:
            systemd.notify("\n".join(told))

    def _code_changed(self, how: str) -> None:
        """It runs other code now: so is the next one to, which finds the states of that code."""
        try:
            self._again, self._folder = heart_child.announcement(how)
        except ValueError as error:
            logger.warning("process %d says how it is to be started: %s", self._pid, error)
        else:
            self._words = self._again

    def _beat_due(self) -> float | None:
        return time.monotonic() + self._rules.timeout if self._rules.timeout else None

    def _is_ready(self, pid: int) -> None:
        """A process serves: ours, or one that has taken its place."""
        if pid in self._successors:
            process, self._again, self._folder = self._successors.pop(pid)
            logger.info("process %d has taken the place of process %d", pid, self._pid)
            if self._child is not None:
                self._forget(self._child)
            self._child, self._end = process, None
            self._since = time.monotonic()
            self._has_said_stop = False
            for number in self._heart.asked:  # for the one before it came too late
                process.kill(number)
        if self._is_child(pid) and self._phase is not Phase.STOPPING:
            self._has_served = self._heart.has_served = True
            self._words = self._again
            self._enter(Phase.SERVING, self._beat_due())

    # --- successors ----------------------------------------------------------------------------

    def _announced(self, pid: int, how: str) -> None:
        try:
            words, folder = heart_child.announcement(how)
            process = self._watched(Watched(pid))
        except (ValueError, OSError) as error:  # it has ended already, or says nonsense
            logger.warning("process %d is to take over, and cannot be watched: %s", pid, error)
            return
        if pid in self._successors:  # it has said so before
            self._forget(self._successors[pid][0])
        self._successors[pid] = (process, words, folder)

    def _forget_successors(self, gone: list[tuple[int, Successor]]) -> None:
        """Those that have ended, and did not take a place before."""
        for pid, successor in gone:
            if self._successors.get(pid) is successor:
                self._forget(self._successors.pop(pid)[0])
        if self._phase is Phase.HANDING and not self._successors:
            assert self._end is not None
            ended, self._end = self._end, None
            self._judge(*ended)

    # --- ends ----------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take the ends of all that ended: ours, and orphans that became ours. A process that has
        taken another one's place may be that one's child yet, so its end is for nobody to take.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._ended(pid, status)
        if self._child is not None and self._child.has_ended():
            self._ended(self._child.pid, self._child.status())

    def _ended(self, pid: int, status: int | None) -> None:
        """A process has ended; `status` as wait(2) says it, None = nobody knows it any more."""
        if self._is_child(pid):
            self._take_notices()  # its last words may have come just now: who takes its place, say
        if self._child is None or pid != self._child.pid:
            return
        self._forget(self._child)
        self._child = None
        code = 0 if status is None else os.waitstatus_to_exitcode(status)
        end = End(
            status=None if status is None or code < 0 else code,
            signal=max(0, -code),
            has_served=self._has_served,
            has_said_stop=self._has_said_stop,
            is_hung=self._phase is Phase.HUNG,
        )
        has_core = status is not None and os.WCOREDUMP(status)
        if self._successors and not self._heart.asked:
            self._end = (pid, end, has_core)
            self._enter(Phase.HANDING, time.monotonic() + HANDING_S)
        else:
            self._judge(pid, end, has_core)

    def _judge(self, pid: int, end: End, has_core: bool = False, why: str = "") -> None:
        now = time.monotonic()
        restarts = self._heart.restarts
        verdict = self._heart.ended(end, now, random.random())
        wait = verdict.wait if isinstance(verdict, Again) else None
        report = HeartReport(
            at=time.time(),
            pid=pid,
            why=why or heart_report.why_of(end, self._rules.timeout),
            signal=heart_report.name_of(end.signal),
            status=end.status,
            is_hung=end.is_hung,
            has_served=end.has_served,
            uptime_s=round(now - self._since, 3),
            restarts=restarts,
            wait_s=wait,
            core=heart_report.core_hint(end, pid, has_core=has_core),
        )
        if isinstance(verdict, Again):
            self._tell(report)
            self._enter(Phase.WAITING, now + verdict.wait)
            return
        self._status = verdict.status
        if verdict.has_given_up:
            self._tell(report)
            logger.critical(
                "%d restarts in %g s are borne, and this would be one more: nothing is started any "
                "more",
                self._rules.intensity,
                self._rules.period,
            )

    def _tell(self, report: HeartReport) -> None:
        logger.error("%s", report, extra={"crash": report})
        if self._data is not None:
            heart_report.keep(report, self._data)
