"""Who was told to end and has not: the report over the whole tree, with where each one stands.

It is made without the loop's help, from any thread, for a `terminate` that blocks blocks the loop.

Source: Suture v4, `UnstoppedServiceReport`, which knows one level and no stacks; features.md E-12.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from types import FrameType, GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pybehave.runtime.host import LoopHost
    from pybehave.runtime.tree.tree import Tree


class Unstopped(NamedTuple):
    """One server whose `terminate` is not over.

    Attributes:
        path: Its place in the tree, ids from the root; its name alone when it has none any more.
        name: Its name.
        is_blocking: Its terminate holds the loop up now; else it has yielded.
        stack: Where it stands, innermost call last, as a traceback is printed.
    """

    path: str
    name: str
    is_blocking: bool
    stack: str


def unstopped(trees: list[Tree], host: LoopHost) -> list[Unstopped]:
    """Return the servers whose `terminate` is under way, those that were told first before."""
    paths = {
        id(child.ref): child.path
        for tree in trees
        for node in list(tree.supervisors.values())
        for child in node.children()
        if child.ref is not None
    }
    found = []
    for server, cleanup in list(host.terminating.items()):
        is_blocking = cleanup is None
        frames = _blocked(host.loop.thread) if cleanup is None else _frames_of(cleanup.steps)
        where = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
        stack = "".join(where.format())
        path = paths.get(id(server), server.name)
        found.append(Unstopped(path, server.name, is_blocking, stack))
    return found


def _blocked(thread: int) -> list[FrameType]:
    """What the loop's thread is doing, from the terminate on."""
    frame = sys._current_frames().get(thread)
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    calls = [place for place, each in enumerate(frames) if each.f_code.co_name == "terminate"]
    return frames[calls[-1] :] if calls else frames


def _frames_of(steps: Generator[Any, None, None]) -> list[FrameType]:
    """A generator's frame, and those of the generators that it delegates to."""
    frames: list[FrameType] = []
    waiting: Any = steps
    while isinstance(waiting, GeneratorType):
        if waiting.gi_frame is not None:
            frames.append(waiting.gi_frame)
        waiting = waiting.gi_yieldfrom
    return frames
