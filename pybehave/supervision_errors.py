# ruff: noqa: N818 -- OTP's own words (running, not_found): facts, not "...Error", as in errors.py
"""The exceptions of supervisors and of what is asked of them. Their name for the world is
`pybehave.errors`, which has them all.

Does not know: supervisors; it only names what they refuse, and what is asked of them by raising.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pybehave.error_base import PybehaveError, show, show_reason

PATHS_SHOWN_MAX: Final = 5
"""Of several supervisors that an id may mean."""


class DoNotRestart(PybehaveError):
    """An order to the supervisor: this server has ended for good, whatever its restart type.

    Raise it from a callback, also as the cause of another exception, or end with it:
    `Stop(DoNotRestart("all done"))`. Source: Suture v4, `ErrDoNotRestart`.

    Attributes:
        why: For people.
    """

    def __init__(self, why: object = "it has said so") -> None:
        super().__init__(f"This server is not to be started again: {show_reason(why)}")
        self.why = why


class TerminateTree(PybehaveError):
    """An order to the supervisor: something is wrong that no restart will mend.

    Raise it from a callback, also as the cause of another exception, or end with it. The other
    children stop, then the supervisor ends. Source: Suture v4, `ErrTerminateSupervisorTree`.

    Attributes:
        scope: `"supervisor"`: the supervisor above does not start it again (Suture,
            `DontPropagateTermination`). `"root"`: that one ends, too, and so on to the process.
        why: For people.

    Raises:
        ValueError: There is no such scope.
    """

    def __init__(self, why: object = "it has said so", *, scope: str = "root") -> None:
        if scope not in ("supervisor", "root"):
            raise ValueError(f'scope={show(scope)} is not allowed; use "supervisor" or "root"')
        super().__init__(f"The {scope} of this server is to end: {show_reason(why)}")
        self.scope = scope
        self.why = why


class ChildError(PybehaveError):
    """A request to a supervisor about one of its children was refused.

    Attributes:
        child: The child's id, path or name.
    """

    def __init__(self, child: str, sentence: str) -> None:
        super().__init__(sentence)
        self.child = child


class AlreadyStarted(ChildError):
    """The id or the name is taken by a child that runs. Source: OTP, `already_started`.

    Attributes:
        ref: The running child's reference, when known.
    """

    def __init__(self, child: str, ref: object = None, *, is_application: bool = False) -> None:
        what, mend = "Child", "use another id and name, or terminate it first"
        if is_application:
            what, mend = "Application", "stop it first, or give this one another name"
        super().__init__(child, f"{what} {child!r} runs already; {mend}")
        self.ref = ref


class AlreadyPresent(ChildError):
    """The id belongs to a child that does not run. Source: OTP, `already_present`."""

    def __init__(self, child: str) -> None:
        super().__init__(
            child,
            f"Child {child!r} is in the list but does not run; use restart_child to start it, or "
            f"delete_child to forget it",
        )


class NotStarted(PybehaveError):
    """No such application runs on the node. Source: OTP, `not_started`.

    Attributes:
        application: Its name.
    """

    def __init__(self, application: str) -> None:
        super().__init__(
            f"Application {application!r} does not run here; which_applications() lists those "
            "that do"
        )
        self.application = application


class ApplicationEnded(PybehaveError):
    """An application has ended by itself, and it was not to: leaving the block of its node raises
    this, unless the block has raised something itself. `__cause__` is what it failed of, if that
    is known.

    Attributes:
        application: Its name.
        why: For people.
    """

    def __init__(self, application: str, why: str) -> None:
        super().__init__(f"Application {application!r} has ended by itself: {why}")
        self.application = application
        self.why = why


class NotFound(ChildError):
    """There is no such child, supervisor or event handler, or an id is that of several supervisors.
    Source: OTP, `not_found`.
    """

    def __init__(
        self,
        child: str,
        kind: str = "child or supervisor",
        listed_by: str = "which_children",
        *,
        several: Sequence[str] = (),
    ) -> None:
        sentence = f"There is no {kind} {child!r}; {listed_by} lists them"
        if several:
            shown = ", ".join(map(repr, several[:PATHS_SHOWN_MAX]))
            sentence = f"{len(several)} supervisors are called {child!r}; use a path: {shown}"
        super().__init__(child, sentence)


class Running(ChildError):
    """The child runs, so it can be neither restarted nor deleted. Source: OTP, `running`."""

    def __init__(self, child: str) -> None:
        super().__init__(child, f"Child {child!r} runs; use terminate_child first")


class SimpleOneForOne(ChildError):
    """A request that means nothing to a supervisor of this strategy. Source: OTP, error
    `simple_one_for_one`.
    """

    def __init__(self, child: str) -> None:
        super().__init__(
            child,
            f"Child {child!r} belongs to a simple_one_for_one, which forgets what is stopped; "
            f"use start_child for another, and terminate_child with a name or reference",
        )


class Restarting(ChildError):
    """The child's start failed and is being tried again. Source: OTP, `restarting`."""

    def __init__(self, child: str) -> None:
        super().__init__(
            child,
            f"Child {child!r} is being restarted; wait for it, or end the attempts with "
            f"terminate_child",
        )
