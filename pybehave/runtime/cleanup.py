"""A server's end: its `terminate`, at once or as a generator that gives the loop time back.

A plain `terminate` runs to its end and cannot be interrupted; that it took longer than its worker's
`shutdown` is told afterwards (host.py). One that yields seconds is resumed after them, and is given
up when a time limit is over: with no processes, that can bind only cleanup that yields. `shutdown`
limits what a supervisor has ordered; who ends by itself takes the time that it needs, until its
supervisor orders it to stop, too.

Source: OTP supervisor, child specification, `shutdown`; otp.md 1.2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, final

from pybehave.behaviours.gen_server import GenServer
from pybehave.types import KILLED


class Alarms(Protocol):
    """What a cleanup needs of the loop."""

    def start_alarm(self, seconds: float, function: Callable[[], None]) -> Any:
        """Call the function after so many seconds; what it returns cancels that."""

    def cancel_alarm(self, alarm: Any) -> bool:
        """Say whether the alarm was still to come; None is no alarm."""


def has_terminate(instance: Any) -> bool:
    """Say whether a server has anything to do at its end; most have not."""
    if getattr(type(instance), "_terminate", None) is not GenServer._terminate:
        return True
    return getattr(instance.terminate, "__func__", None) is not GenServer.terminate


def terminate(
    instance: Any,
    reason: object,
    state: Any,
    limit: float | None,
    alarms: Alarms,
    done: Callable[[object, BaseException | None], None],
) -> Cleanup | None:
    """Run a server's `terminate` and tell `done` how it went, maybe ticks later.

    Args:
        instance: The server.
        reason: Why it ends.
        state: Its last good state.
        limit: Seconds a yielding terminate may take; None for ever.
        alarms: The loop.
        done: Gets the reason the server ended with (terminate's own failure replaces it, "killed"
            when the limit was passed) and the exception terminate raised, or None.

    Returns:
        A yielding terminate on its way.
    """
    try:
        end = getattr(instance, "_terminate", None) or instance.terminate
        cleanup = end(reason, state)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- a server ends whatever its terminate raises
        done(error, error)
        return None
    if cleanup is not None and isinstance(cleanup, Generator):
        going = Cleanup(cleanup, reason, alarms, done)
        going.limit(limit)
        going.resume()
        return going
    done(reason, None)
    return None


@final
class Cleanup:
    """One generator on its way; resumed by alarms until it ends or its time does.

    Attributes:
        steps: The generator.
    """

    def __init__(
        self,
        steps: Generator[Any, None, None],
        reason: object,
        alarms: Alarms,
        done: Callable[[object, BaseException | None], None],
    ) -> None:
        self.steps = steps
        self._reason = reason
        self._alarms = alarms
        self._done = done
        self._next: Any = None
        self._limits: list[Any] = []
        self._is_dropped = False

    def limit(self, seconds: float | None) -> None:
        """Give it so much time from now on; None, or more than it has anyway, changes nothing."""
        if seconds is not None:
            self._limits.append(self._alarms.start_alarm(seconds, self._give_up))

    def resume(self) -> None:
        """Run to the next yield."""
        try:
            seconds = next(self.steps)
            if self._is_dropped:
                self.steps.close()
                return
            self._next = self._alarms.start_alarm(float(seconds or 0.0), self.resume)
        except StopIteration:
            self._end(self._reason, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- as above
            self._end(error, error)

    def drop(self) -> BaseException | None:
        """End it at once, and tell nobody; what it raises on its way out is returned."""
        self._is_dropped = True
        self._forget_alarms()
        if getattr(self.steps, "gi_running", False):  # its own doing: it ends at its next yield
            return None
        return self._closed()

    def _give_up(self) -> None:
        self._forget_alarms()
        self._end(KILLED, self._closed())

    def _closed(self) -> BaseException | None:
        try:
            self.steps.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- as above
            return error
        return None

    def _end(self, reason: object, error: BaseException | None) -> None:
        self._forget_alarms()
        if not self._is_dropped:
            self._done(reason, error)

    def _forget_alarms(self) -> None:
        for alarm in (self._next, *self._limits):
            self._alarms.cancel_alarm(alarm)
        self._next = None
        self._limits.clear()
