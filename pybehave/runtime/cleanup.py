"""A server's end: its `terminate`, at once or as a generator that gives the loop time back.

A plain `terminate` runs to its end and cannot be interrupted; that it took longer than its worker's
`shutdown` is told afterwards (host.py). One that yields seconds is resumed
after them, and is given up when its worker's `shutdown` is over: with no processes, a time limit
can bind only cleanup that yields.

Source: OTP supervisor, child specification, `shutdown`.
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
) -> Generator[Any, None, None] | None:
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
        The generator that a yielding terminate is.
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
        _Cleanup(cleanup, reason, limit, alarms, done).resume()
        return cleanup
    done(reason, None)
    return None


@final
class _Cleanup:
    """One generator on its way; resumed by alarms until it ends or its time does."""

    def __init__(
        self,
        steps: Generator[Any, None, None],
        reason: object,
        limit: float | None,
        alarms: Alarms,
        done: Callable[[object, BaseException | None], None],
    ) -> None:
        self._steps = steps
        self._reason = reason
        self._alarms = alarms
        self._done = done
        self._next: Any = None
        self._limit = None if limit is None else alarms.start_alarm(limit, self._give_up)

    def resume(self) -> None:
        """Run to the next yield."""
        try:
            seconds = next(self._steps)
            self._next = self._alarms.start_alarm(float(seconds or 0.0), self.resume)
        except StopIteration:
            self._end(self._reason, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- as above
            self._end(error, error)

    def _give_up(self) -> None:
        self._limit = None
        self._alarms.cancel_alarm(self._next)
        try:
            self._steps.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- as above
            self._end(KILLED, error)
        else:
            self._end(KILLED, None)

    def _end(self, reason: object, error: BaseException | None) -> None:
        self._alarms.cancel_alarm(self._limit)
        self._limit = None
        self._done(reason, error)
