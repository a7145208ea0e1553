"""The admin socket's requests about releases: what runs, another one, and back.

New code is imported on a thread, for an import may take long; what follows is of the loop.

Does not know: frames, sockets (admin.py); what a change of release is (release/releases.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pybehave.behaviours.rules import is_count, is_number
from pybehave.errors import LoopClosed, RequestRefused, UpgradeRefused, show
from pybehave.observer.wire import Message
from pybehave.runtime.release.code import import_release
from pybehave.runtime.release.handover import start_successor
from pybehave.runtime.release.probation import CRASHES, WATCH_S
from pybehave.runtime.release.releases import Report
from pybehave.runtime.release.specs import Wish

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

Answer = Callable[..., None]


def status(node: Node, answer: Answer) -> None:
    """What runs, and what has been."""
    answer(node.releases.status())


def upgrade(node: Node, request: Message, answer: Answer) -> None:
    """Import a release, then begin the upgrade to it.

    Raises:
        RequestRefused: An argument is none.
    """
    target = _text(request, "target", "MODULE:APP")
    folder = _text(request, "path", "a folder", is_optional=True)
    expected = _text(request, "from", "a version", is_optional=True)
    watch, crashes = request.get("watch", WATCH_S), request.get("crashes", CRASHES)
    if not is_number(watch) or watch < 0:
        raise RequestRefused(f"watch={show(watch)} is no time; use seconds >= 0")
    if not is_count(crashes) or crashes < 1:
        raise RequestRefused(f"crashes={show(crashes)} is no count; use an integer >= 1")
    if folder is not None and not os.path.isabs(folder):
        raise RequestRefused(f"path={show(folder)} is not absolute; the node has its own folder")
    assert target is not None
    future = node.host.workers.submit(import_release, target, folder, expected)

    def imported() -> None:
        error = future.exception()
        if error is not None:
            answer(None, error)
            return
        release, code = future.result()
        wish = Wish(release, [], expected, code, watch=float(watch), crashes=crashes)
        command = node.releases.command
        if command is not None and release.app.name == node.app.name:
            wish.command = command.of(target, folder)
        node.releases.begin(wish, _answer_to(answer))

    _then(node, future, imported)


def replace(node: Node, request: Message, answer: Answer) -> None:
    """Start a process, and let it take this one's place once it has loaded its code.

    Raises:
        RequestRefused: An argument is none, or nobody knows how to start one.
    """
    target = _text(request, "target", "MODULE:APP", is_optional=True)
    folder = _text(request, "path", "a folder", is_optional=True)
    expected = _text(request, "from", "a version", is_optional=True)
    command = node.releases.command
    if command is None:
        raise RequestRefused("Only a node that `pybehave run` has started can be replaced")
    future = node.host.workers.submit(start_successor, command.of(target or command.target, folder))

    def loaded() -> None:
        error = future.exception()
        if error is not None:
            answer(None, error)
            return
        try:
            node.releases.begin_replacement(future.result(), expected, answer)
        except UpgradeRefused as refusal:
            answer(None, refusal)

    _then(node, future, loaded)


def _then(node: Node, future: Future[Any], function: Callable[[], None]) -> None:
    """Go on at the loop when a thread is done."""

    def done(_: object) -> None:
        try:
            node.host.defer(function)
        except LoopClosed:  # and with it who asked
            return

    future.add_done_callback(done)


def rollback(node: Node, answer: Answer) -> None:
    """Begin to go back."""
    node.releases.begin_rollback(None, _answer_to(answer))


def _answer_to(answer: Answer) -> Callable[[Report | None, BaseException | None], None]:
    def answered(report: Report | None, error: BaseException | None) -> None:
        answer(None if report is None else asdict(report), error)

    return answered


def _text(request: Message, key: str, what: str, *, is_optional: bool = False) -> str | None:
    value = request.get(key)
    if isinstance(value, str) or (value is None and is_optional):
        return value
    raise RequestRefused(f"{key}={show(value)} is no text; write {what}")
