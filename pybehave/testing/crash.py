"""Fail again, in a test, the way a server failed: the same state, input, time and randomness."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from pybehave.behaviours.gen_server import interpret
from pybehave.behaviours.inputs import refusal
from pybehave.behaviours.recovery import call_init
from pybehave.behaviours.schema import Schema
from pybehave.journal.dead_letters import Letter
from pybehave.runtime.invariants import Invariants
from pybehave.runtime.servers import make_values, reader_of
from pybehave.testing.run import FixedContext
from pybehave.together import Together

TIMER: Final = 5
CALLBACKS: Final = {1: "handle_call", 2: "handle_cast"}
"""By the kind of input; all others are infos."""


def repeat(server: type[Any], letter: bytes) -> Any:
    """Give a server the input that a dead letter holds, in the state before it.

    Args:
        server: Its class.
        letter: The letter's bytes.

    Returns:
        What the callback returns, once it is mended.

    Raises:
        ValueError: The letter has no state.
        InputTypeMismatch, Rejected: The class does not take the input any more.
        JournalRefused: It is of another version of the class, which does not reach it.
        BadReturn, InvariantViolated: The callback returned, and the runtime did not take that.
        BaseException: Whatever the callback raises, as it did.
    """
    found = msgspec.msgpack.decode(letter, type=Letter)
    if found.state is None:
        raise ValueError(f"the letter of lsn {found.lsn} has no state: it could not be encoded")
    random = Random(0)
    instance = server()
    schema = Schema(found.server, instance)
    schema.check(found.version, found.lsn)
    values, upcast = reader_of(schema, make_values(found.server, instance), found.version)
    if found.random is not None:
        random.setstate(values.decode(found.random))
    instance.context = FixedContext(
        name=found.server,
        incarnation=found.incarnation,
        now=found.at,
        monotonic=found.at,
        random=random,
    )
    call_init(instance, values.decode(found.args) if found.args is not None else None)
    what = f"the state before lsn {found.lsn}"
    state = instance.load(schema.state(found.version, values.decode(found.state), what))
    message = values.decode(found.message)
    message = upcast(message[1] if found.kind == TIMER else message, found.lsn)
    Invariants().watch(instance)
    callback = CALLBACKS.get(found.kind, "handle_info")
    returned = _called(instance, callback, message, state)
    interpret(found.server, callback, returned)
    return returned


def _called(instance: Any, callback: str, message: Any, state: Any) -> Any:
    if callback == "handle_info":
        return instance.handle_info(message, state)
    error = refusal(instance.context.name, instance, message, state)
    if error is not None:
        raise error
    is_call = callback == "handle_call"
    if isinstance(message, Together) and instance._handle_together is not None:
        return instance._handle_together(message.commands, is_call, None, state)
    if is_call:
        return instance.handle_call(message, None, state)
    return instance.handle_cast(message, state)
