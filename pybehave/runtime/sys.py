"""System requests to the servers of a node: look, hold, watch, change. `node.sys`.

    node.sys.get_state("kv")                      what the server keeps
    node.sys.replace_state("kv", lambda s: {})    something else in its place
    node.sys.suspend("kv"); node.sys.resume("kv")
    node.sys.trace("kv", print)                   every input and output, as it happens
    node.sys.log("kv", 100); node.sys.get_log("kv")

They work from any thread, and on the loop's own between two inputs; they are no inputs themselves:
not counted, not journaled, and a suspended server answers them too. What changes a server is
refused from within a callback, for that is in the middle of an input.

A request comes behind what waits for the server when it comes, as a message would (OTP): who has
cast before sees the cast's effect. One to a suspended server is carried out at once, and so is one
from within a tick of the loop (a hook, `run_on_loop`, `pybehave attach`), which cannot wait.

All of it belongs to an incarnation, as in OTP: a restarted server is neither suspended nor watched.

A journaled server's state is replaced by a record in the journal, so that a replay replaces it in
the same place. A state that `load(dump(state))` does not give back is refused, and nothing has
changed.

Does not know: where requests come from (observer/admin.py), how inputs are stepped.
Source: OTP sys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeVar, final

from pybehave.behaviours.child_spec import Ref
from pybehave.behaviours.gen_server import replaced_state, shape_of, shown_state
from pybehave.behaviours.statem_engine import Held, held_by
from pybehave.errors import (
    CallbackFailed,
    CalledInCallback,
    NoProc,
    NotJournalable,
    UpgradeRefused,
    show,
    show_reason,
)
from pybehave.runtime.crashes import shaped, shown_held
from pybehave.runtime.debug import LOG_COUNT, LOG_COUNT_MAX, Debug, Event, Statistics
from pybehave.runtime.servers import OVERFLOWS
from pybehave.runtime.waiters import OUTSIDE, ThreadWaiter, check_timeout, settling
from pybehave.via import Via

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave._uring.values import Values
    from pybehave.runtime.debug import Installed, Watcher
    from pybehave.runtime.node import Node

T = TypeVar("T")
Name = str | Ref[Any, Any] | Via

TIMEOUT_S: Final = 5.0
"""How long a request waits for the loop, which may be in a long step (OTP, sys)."""

_POLICIES: Final = {number: name for name, number in OVERFLOWS.items()}


@final
@dataclass(frozen=True, slots=True)
class Status:
    """What a server is at this moment (OTP, sys:get_status/1).

    Attributes:
        server: Its name.
        incarnation: Which start of it.
        kind: Its class, `module:Name`.
        path: Where it stands in the tree: ids from the root, joined by "/"; "" where it has none.
        mode: `"running"` or `"suspended"`.
        state: As `format_status` shows it.
        inputs: How many this incarnation has taken.
        mailbox: Inputs that wait.
        capacity: How many may.
        overflow: What happens to those beyond.
        callers: Whose reply was put off.
        timers: Armed.
        is_journaled: Whether its inputs are.
        debug: What is switched on.
        log: The newest events, as `format_status` shows them.
        machine: What a GenStatem holds beside its state: postponed events and time-outs, each as
            `format_status` shows it under "message", and the callback modules; None for others.
    """

    server: str
    incarnation: int
    kind: str
    path: str
    mode: Literal["running", "suspended"]
    state: Any
    inputs: int
    mailbox: int
    capacity: int
    overflow: str
    callers: int
    timers: int
    is_journaled: bool
    debug: tuple[str, ...]
    log: Any
    machine: Held | None = None


@final
class Sys:
    """The system requests of one node.

    All of them raise NoProc when no server has the name, and Timeout when the loop does not come
    round to them in `timeout` seconds; what has been asked for is then carried out all the same.
    ValueError says that `timeout` is no time, and that nothing was asked for.

    Args:
        node: Whose servers.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- looking ----------------------------------------------------------------------------------

    def get_state(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> Any:
        """Return the state as the server's own code knows it, the object itself.

        Of a GenStatem that is `(state, data)`, of a GenEvent a list of `(handler, state)`.
        """
        return self._look(server, lambda found: shown_state(found.instance, found.state), timeout)

    def state_now(self, name: str) -> Any:
        """As `get_state`, on the loop's thread, ahead of what waits for the server."""
        return self._awake(name, lambda found: shown_state(found.instance, found.state))

    def get_status(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> Status:
        """Return what is known of a server, shaped by its `format_status`."""
        return self._look(server, self._status, timeout)

    # --- holding ----------------------------------------------------------------------------------

    def suspend(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> None:
        """Let a server take no more inputs until it is resumed or ends.

        They wait by the policy of its mailbox; its timers go on, and their expiries wait too.
        System requests are answered, and its supervisor can stop it.

        Raises:
            CalledInCallback: From within a callback.
        """
        self._change(server, partial(self._hold, is_held=True), timeout)

    def resume(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> None:
        """Let a suspended server go on, with what has waited, in its order.

        One whose code is just being changed goes on when that is decided.

        Raises:
            CalledInCallback: From within a callback.
        """
        self._change(server, partial(self._hold, is_held=False), timeout)

    def _hold(self, server: Server, *, is_held: bool) -> None:
        changing = self._node.releases.holding(server)
        if changing is not None:
            changing.was_suspended = is_held
        elif is_held:
            self._node.loop.dispatcher.suspend(server)
        else:
            self._node.loop.dispatcher.resume(server)

    # --- changing ---------------------------------------------------------------------------------

    def replace_state(
        self,
        server: Name,
        function: Callable[[Any], Any],
        *,
        timeout: float | None = TIMEOUT_S,
    ) -> Any:
        """Put what a function makes of the state in its place; returns the new state.

        Of a journaled server this returns when the new state is durable. A function that changes
        the state in place and then raises leaves it half changed, unless the server is journaled.

        Args:
            function: Gets what `get_state` returns, and returns the same form.

        Raises:
            CallbackFailed: The function raised, or what it returned is no state; nothing changed.
            InvariantViolated: The server's class says that this state may not be.
            NotJournalable, RecordTooLarge, JournalFull: The journal cannot keep the new state;
                nothing changed.
            UpgradeRefused: Its code is just being changed; try again.
            CalledInCallback: From within a callback.
        """
        batches: list[int] = []

        def replace(found: Server) -> Any:
            if self._node.releases.holding(found) is not None:
                what = f"another state of {found.name}"
                raise UpgradeRefused(what, "its code is just being changed; try again")
            state, batch = self._replace(found, function)
            batches.append(batch)
            return state

        return self._change(server, replace, timeout, batches)

    # --- ending -----------------------------------------------------------------------------------

    def terminate(
        self, server: Name, reason: object = "normal", *, timeout: float | None = TIMEOUT_S
    ) -> None:
        """Let a server end with a reason, as if by itself (OTP, sys:terminate/2).

        This returns when it takes no more inputs; its `terminate` may still be under way. What its
        supervisor does then depends on its restart type and the reason. A suspended server ends,
        too. `node.stop_server` waits for the end.

        Args:
            reason: `"normal"`, `"shutdown"`, `Shutdown(term)` are clean; all else is a crash.

        Raises:
            CalledInCallback: From within a callback.
        """
        self._change(server, lambda found: self._node.host.end_worker(found, reason), timeout)

    def change_code(self, server: Name, kind: Callable[[], Any], extra: Any = None) -> None:
        """Give a suspended server other code: `code_change` of the new class gets its old `version`
        and its state. It stays suspended. Its restarts use the new class, too.

        A journaled server's boundary is a snapshot, and this returns when it is durable.

        Args:
            kind: A GenServer class, or a function without arguments that makes one.
            extra: What `code_change` gets.

        Raises:
            UpgradeRefused: It is not suspended, or nothing leads to the new class; another
                behaviour wants the Migration of a Release.
            UpgradeFailed: `code_change` raised; it goes on with its old code and state.
            CalledInCallback: From within a callback, or within a tick of the loop.

        Source: OTP sys:change_code/4.
        """
        self._node.releases.change_server(name_of(server), kind, extra)

    # --- watching ---------------------------------------------------------------------------------

    def trace(
        self,
        server: Name,
        to: Watcher | Literal[False] | None,
        *,
        timeout: float | None = TIMEOUT_S,
    ) -> None:
        """Call a function with every Event of a server from now on; None or False ends that.

        It runs on the loop's thread, in the middle of things: it must be quick.

        Args:
            to: `print`, a list's `append`, ...

        Raises:
            TypeError: It cannot be called.
        """
        watcher = None if to is None or to is False else _callable(to, "to", "print")

        def switch(debug: Debug) -> None:
            debug.remove(_traced)
            if watcher is not None:
                debug.install(_traced, watcher)

        self._debug(server, switch, timeout)

    def log(
        self, server: Name, count: int = LOG_COUNT, *, timeout: float | None = TIMEOUT_S
    ) -> None:
        """Keep the newest events of a server; 0 keeps none, and forgets those that were.

        Raises:
            ValueError: More than 10,000, or less than 0.
        """
        if type(count) is not int or not 0 <= count <= LOG_COUNT_MAX:
            raise ValueError(f"count={show(count)} is not allowed; use 0 to {LOG_COUNT_MAX}")
        self._debug(server, lambda debug: debug.keep_log(count), timeout)

    def get_log(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> list[Event]:
        """Return the events that are kept, oldest first; none when no log is."""

        def look(found: Server) -> list[Event]:
            debug = _debug_of(found)
            return [] if debug is None else list(debug.log or ())

        return self._look(server, look, timeout)

    def statistics(
        self, server: Name, is_on: bool | None = None, *, timeout: float | None = TIMEOUT_S
    ) -> Statistics | None:
        """Switch counting on or off, or look at the counts.

        Args:
            is_on: True begins at zero, or goes on; False ends it; None changes nothing.

        Returns:
            The counts so far; None when they are not kept.
        """
        if is_on is not None and type(is_on) is not bool:
            raise TypeError(f"is_on={show(is_on)} is not allowed; use True, False, or None to look")
        if is_on is not None:
            self._debug(server, lambda debug: debug.count(is_on=is_on), timeout)

        def look(found: Server) -> Statistics | None:
            debug = _debug_of(found)
            return None if debug is None else debug.statistics()

        return self._look(server, look, timeout)

    def log_to_file(
        self,
        server: Name,
        path: str | os.PathLike[str] | Literal[False] | None,
        *,
        timeout: float | None = TIMEOUT_S,
    ) -> None:
        """Write every Event of a server to a file, a line each, from now on; None or False ends it.

        The file is written on the loop's thread: for looking into something, not for ever. One
        that cannot be written to any more is given up, and the log says so.

        Args:
            path: Lines are added to what is there.

        Raises:
            OSError: It cannot be opened.
            TypeError: It is no path. A number would be taken for an open file of the process.
        """
        check_timeout(timeout)
        file = None if path is None or path is False else _opened(path)

        def switch(debug: Debug) -> None:
            debug.keep_file(file)

        try:
            self._debug(server, switch, timeout)
        except BaseException:
            if file is not None:
                file.close()
            raise

    def no_debug(self, server: Name, *, timeout: float | None = TIMEOUT_S) -> None:
        """Switch off all that watches a server: traces, logs, statistics, installed functions."""
        self._debug(server, Debug.switch_off, timeout)

    def install(
        self,
        server: Name,
        function: Installed,
        state: Any = None,
        *,
        timeout: float | None = TIMEOUT_S,
    ) -> None:
        """Let a function see every Event of a server, with a state of its own.

        One that raises is removed, and logged.

        Args:
            function: `function(state, event)` returns its next state, or DONE to be removed.
            state: Its first; a function that is installed already goes on with the one it has.

        Raises:
            TypeError: It cannot be called.
        """
        _callable(function, "function", "a function of a state and an Event")
        self._debug(server, lambda debug: debug.install(function, state), timeout)

    def remove(
        self, server: Name, function: Installed, *, timeout: float | None = TIMEOUT_S
    ) -> None:
        """Take an installed function away; one that is not there is no error."""
        self._debug(server, lambda debug: debug.remove(function), timeout)

    # --- how requests reach a server --------------------------------------------------------------

    def _look(self, server: Name, look: Callable[[Server], T], timeout: float | None) -> T:
        name, loop = name_of(server), self._node.loop
        check_timeout(timeout)
        if loop.is_here:
            self._catch_up(name)
            return self._awake(name, look)
        waiter = ThreadWaiter()
        ask = settling(lambda: self._awake(name, look), waiter)
        return self._node.waited(  # type: ignore[no-any-return]
            partial(loop.dispatcher.in_turn, name, ask), waiter, name, timeout
        )

    def _catch_up(self, name: str) -> None:
        """Between two ticks of the loop a server can take at once what waits for it."""
        loop = self._node.loop
        found = loop.dispatcher.whereis(name)
        if found is not None and not loop.is_running and loop.dispatcher.stepping_name is None:
            loop.dispatcher.take_waiting(found)

    def _awake(self, name: str, look: Callable[[Server], T]) -> T:
        journal, found = self._node.journal, self._found(name)
        return look(found) if journal is None else journal.hibernation.look(found, look)

    def _change(
        self,
        server: Name,
        change: Callable[[Server], T],
        timeout: float | None,
        batches: list[int] | None = None,
    ) -> T:
        """Do something to a server; with `batches`, wait until what is recorded is durable."""
        name = name_of(server)
        check_timeout(timeout)
        node = self._node

        def work() -> T:
            stepping = node.loop.dispatcher.stepping_name
            if stepping is not None:
                raise CalledInCallback(stepping, name, OUTSIDE)
            found = self._found(name)
            node.loop.dispatcher.wake(found)
            return change(found)

        if node.loop.is_here:
            self._catch_up(name)
            result = work()
            if batches:
                node.wait_durable(batches[0], name, timeout)
            return result
        in_turn = partial(node.loop.dispatcher.in_turn, name)
        waiter = ThreadWaiter()
        if batches is None or node.journal is None:
            ask = partial(in_turn, settling(work, waiter))
            answer: T = node.waited(ask, waiter, name, timeout)
            return answer
        commit = node.journal.commit

        def begin() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)
            else:
                commit.settle_when_durable(batches[0], waiter, result)

        settled: T = node.waited(partial(in_turn, begin), waiter, name, timeout)
        return settled

    def _found(self, name: str) -> Server:
        """The server, between two inputs: what the last one had left to do is done."""
        dispatcher = self._node.loop.dispatcher
        found = dispatcher.whereis(name)
        if found is not None:
            dispatcher.finish(found)
            found = dispatcher.whereis(name)  # that may have been its end
        if found is None:
            raise NoProc(name)
        return found

    def _debug(self, server: Name, switch: Callable[[Debug], None], timeout: float | None) -> None:
        dispatcher = self._node.loop.dispatcher

        def change(found: Server) -> None:
            debug = _debug_of(found) or Debug(found, dispatcher.unix_now)
            switch(debug)
            dispatcher.set_debug(found, None if debug.is_idle else debug)

        self._change(server, change, timeout)

    # --- answers ----------------------------------------------------------------------------------

    def _status(self, found: Server) -> Status:
        instance = found.instance
        debug = _debug_of(found)
        shape = shape_of(instance, found.state)
        shown = shaped(
            shape,
            {
                "state": shown_state(instance, found.state),
                "log": [] if debug is None else list(debug.log or ()),
            },
        )
        is_suspended = found.control is not None and found.control.is_suspended
        kind = type(instance)
        return Status(
            server=found.name,
            incarnation=found.incarnation,
            kind=f"{kind.__module__}:{kind.__qualname__}",
            path=self._node.applications.path_of(found),
            mode="suspended" if is_suspended else "running",
            state=shown.get("state"),
            inputs=found.inputs,
            mailbox=found.mailbox_count,
            capacity=found.capacity,
            overflow=_POLICIES[found.overflow],
            callers=found.callers_count,
            timers=found.timers_count,
            is_journaled=found.number != 0,
            debug=() if debug is None else debug.words(),
            log=shown.get("log"),
            machine=shown_held(shape, held_by(kind, found.state)),
        )

    def _replace(self, found: Server, function: Callable[[Any], Any]) -> tuple[Any, int]:
        """The new state as it is shown, and the batch that makes it durable."""
        before = shown_state(found.instance, found.state)
        replaced = self._put(found, function)
        self._node.host.observed.replaced(found, before)
        return replaced

    def _put(self, found: Server, function: Callable[[Any], Any]) -> tuple[Any, int]:
        dispatcher = self._node.loop.dispatcher
        instance, values = found.instance, found.values
        check = self._node.host.invariants.check
        if values is None:
            state = _made(found, function)
            check(found.name, instance, "replace_state", state)
            return shown_state(instance, state), dispatcher.replace(found, state, b"")
        before = values.encode(instance.dump(found.state))
        try:
            state = _made(found, function)
            check(found.name, instance, "replace_state", state)
            payload = _kept(found, values, state)
            return shown_state(instance, state), dispatcher.replace(found, state, payload)
        except Exception:
            # The function may have changed in place what the journal will not hear of.
            if values.encode(instance.dump(found.state)) != before:
                found.replace_state(instance.load(values.decode(before)))
            raise


def name_of(server: Name) -> str:
    """Return the name of a server that is given by name, by its worker's ref, or by a Via.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(server, str):
        return server
    if isinstance(server, Ref | Via):
        return server.name
    raise TypeError(f"a server is named by a str, worker.ref or Via, not by {show(server)}")


def _callable(function: T, word: str, example: str) -> T:
    if not callable(function):
        raise TypeError(f"{word}={show(function)} cannot be called; give {example}")
    return function


def _opened(path: str | os.PathLike[str]) -> TextIO:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path={show(path)} is no path; give a str or a Path, or None to end it")
    return open(path, "a", encoding="utf-8")


def _made(found: Server, function: Callable[[Any], Any]) -> Any:
    instance, state = found.instance, found.state
    try:
        return replaced_state(instance, state, function(shown_state(instance, state)))
    except Exception as error:
        raise CallbackFailed(found.name, "replace_state", error) from error


def _kept(found: Server, values: Values, state: Any) -> bytes:
    """The state as its record keeps it: what a replay loads must be the same state."""
    instance = found.instance
    payload = values.encode(instance.dump(state))
    try:
        again = values.encode(instance.dump(instance.load(values.decode(payload))))
    except Exception as error:
        raise NotJournalable(f"load(dump(state)) raised {show_reason(error)}") from error
    if again != payload:
        raise NotJournalable("load(dump(state)) is another state")
    return payload


def _traced(to: Watcher, event: Event) -> Watcher:
    to(event)
    return to


def _debug_of(found: Server) -> Debug | None:
    return None if found.control is None else found.control.debug
