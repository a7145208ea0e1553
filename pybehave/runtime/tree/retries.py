"""Restarts that wait: a child's back-off, a supervisor's pause, and the spaced starts after it.

What waits is decided in `pybehave.behaviours.restart`; here alarms are set. An alarm is never taken
back: one whose attempt was overtaken is ignored when it comes (R7).

Source: Suture v4, `EventBackoff`, `EventResume`; features.md E-5, E-6, E-7.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pybehave.behaviours import restart
from pybehave.behaviours.plan import (
    DELAY,
    Plan,
)
from pybehave.runtime.events import RestartDelayed, SupervisorPaused, SupervisorResumed

if TYPE_CHECKING:
    from pybehave.runtime.tree.child import TreeChild
    from pybehave.runtime.tree.supervisor import SupervisorNode


def wait(node: SupervisorNode, child: TreeChild, plan: Plan, reason: object) -> None:
    """Let a child wait for its next start, as a plan DELAY or PAUSE that has begun says."""
    child.reason = reason
    host = node.tree.host
    waits = plan.wait
    if plan.verdict is DELAY:
        assert waits is not None
        host.after(waits.seconds, partial(child.retry, child.attempt))
        host.emit(RestartDelayed(node.path, child.id, reason, waits.failures, waits.seconds))
    elif waits is None:
        host.emit(RestartDelayed(node.path, child.id, reason, 0, None))
    else:
        host.after(waits.seconds, partial(node.post, (_handle_resume, None, None)))
        host.emit(SupervisorPaused(node.path, child.id, reason, waits.failures, waits.seconds))


def retry_later(node: SupervisorNode, child: TreeChild) -> None:
    """Let a child whose restart failed be tried again: after its back-off, or in its turn."""
    host = node.tree.host
    plan = restart.plan_delay(child, host.now(), host.draw())
    if plan is None:
        host.defer(partial(child.retry, child.attempt))
    else:
        restart.begin(node.state, plan)
        wait(node, child, plan, child.reason)


def _handle_resume(node: SupervisorNode, _: object, __: object) -> None:
    """The pause is over: start those that waited, one after the other."""
    waiting = restart.resume(node.state)
    host, every = node.tree.host, node.state.spec.resume_every
    host.emit(SupervisorResumed(node.path, "", len(waiting)))
    for place, (child, attempt) in enumerate(waiting):
        event = (_handle_resumed, child, attempt)
        if place * every > 0:
            host.after(place * every, partial(node.post, event))
        else:
            node.inbox.append(event)  # the machine is on its way: it takes it next


def _handle_resumed(node: SupervisorNode, child: TreeChild, attempt: int) -> None:
    """Start a child that has waited for the end of a pause; that is not charged."""
    if restart.is_retry_due(child, attempt):
        host = node.tree.host
        plan = restart.plan_retry(node.state, child.id, host.now(), host.draw(), is_free=True)
        node.take_up(plan, child)
