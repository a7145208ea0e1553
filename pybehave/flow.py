"""How many messages a connection hands to its server before the server asks for more.

Theory. A connection is active (all messages come as they are read), passive (none does), or active
for a number of messages and passive then. "once" is the number 1: the server takes a message, does
what there is to do, perhaps over many inputs, and then asks for the next with the action `Active`.
What the client sends meanwhile waits in the connection and in the kernel, and holds the client up.

Does not know: connections.
Source: OTP inet:setopts/2, `{active, true | false | once | N}`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

ActiveMode: TypeAlias = bool | int | Literal["once"]

ACTIVE_ALWAYS: Final = 2**32 - 1
"""The count that means all of them (conn.h)."""

MESSAGES_MAX: Final = 32_767
"""As in OTP, whose count is of 16 bits: beyond it one may as well take all."""

MODES: Final = f'True, False, "once" or a number from 1 to {MESSAGES_MAX}'


def is_mode(value: Any) -> bool:
    """Whether a value is one of the modes."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return 1 <= value <= MESSAGES_MAX
    return isinstance(value, str) and value == "once"


def messages_of(mode: ActiveMode) -> int:
    """Return how many messages a mode stands for."""
    if mode is True:
        return ACTIVE_ALWAYS
    return 1 if mode == "once" else int(mode)
