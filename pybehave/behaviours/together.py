"""Step several commands as one input: all of them, or none.

Theory. Each command goes through the callback that it would have gone through alone, with the
state that the one before has left. What they return is gathered: outputs in a list, actions one
behind the other. Only then does the turn return, so what is seen of it is whole: one reply, one new
state, one record; and if a callback raises, the exception is the turn's, and there is nothing to be
undone. For the same reason an invariant is asked about the last state alone.

Invariants
  (T1) The actions of all are carried out behind the last command, in the order of the commands;
       `Continue` and `Stop` are actions like the others.
  (T2) Each is answered at once: a reply that is put off belongs to an input, and there is one only.

Does not know: records, callers, who asks about types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pybehave.actions import NO_REPLY, Action
from pybehave.errors import BadReturn, show

if TYPE_CHECKING:
    from pybehave.behaviours.gen_server import GenServer

AT_ONCE: Final = "a command that is sent Together with others is answered at once: return an output"
CALLBACKS: Final = {True: "handle_call", False: "handle_cast"}


def step_together(
    server: GenServer[Any, Any, Any],
    kind: type[GenServer[Any, Any, Any]],
    commands: tuple[Any, ...],
    is_call: bool,
    caller: Any,
    state: Any,
) -> tuple[Any, list[Any], list[Action]]:
    """Call a server's callback with each command.

    Args:
        server: The server.
        kind: Its class, or the one that it has below whatever looks over its shoulder.
        commands: In their order.
        is_call: Whether somebody waits for the reply.
        caller: Who waits.
        state: Before the first.

    Returns:
        The last state, all outputs, all actions.

    Raises:
        BadReturn: A callback has returned something else than it may, or has put a reply off (T2).
        BaseException: Whatever a callback raised; a note says which command it was.
    """
    from pybehave.behaviours.gen_server import interpret  # here: it has this as a method

    callback, name = CALLBACKS[is_call], server.context.name
    outputs: list[Any] = []
    actions: list[Action] = []
    for command in commands:
        try:
            if is_call:
                returned = kind.handle_call(server, command, caller, state)
            else:
                returned = kind.handle_cast(server, command, state)
            turn = interpret(name, callback, returned)
            if is_call and turn.output is NO_REPLY:
                raise BadReturn(name, callback, returned, AT_ONCE)
        except BaseException as error:
            place = f"command {len(outputs) + 1} of {len(commands)}, {show(command)}"
            error.add_note(f"{place}: none of them has happened")
            raise
        state = turn.state
        outputs.append(turn.output)
        actions += turn.actions
    return state, outputs, actions
