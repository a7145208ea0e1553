"""What may be said on a connection, and when: a state machine between a listener and its server.

Theory. A protocol says what a message looks like; that one comes after another, or that a question
wants an answer first, no codec can say. A contract can: it is given each message of a connection,
and each reply, with the state that the one before has led to, and returns the next state. What it
has no next state for is refused, and the server neither sees nor journals it.

    class LogInFirst(Contract[str]):
        def initial(self):
            return "guest"

        def received(self, state, message):
            match state, message:
                case "guest", [b"AUTH", _]:
                    return "asked"
                case "asked", _:
                    raise ContractBroken("wait for the answer")
                case "user", _:
                    return "user"

        def replied(self, state, output):
            return {"asked": "user" if output == OK else "guest"}.get(state, state)

    Listener("tcp://127.0.0.1:7000", Resp(), to="kv", contract=LogInFirst())

A message is looked at once, when it comes, and a reply when it is made, to move the state when it
leaves; both as the server of today takes and gives them, whatever version the client speaks
(speaks.py). A message under a name (Once) is looked at without it; a Together is one message. What
a protocol answers itself (RESP's PING) and what a server sends unasked (Send) belongs to no
conversation.

Invariants
  (K1) A message that is refused leaves the state as it was.
  (K2) A reply that is made and does not leave, for its step crashes, moves nothing: the error that
       leaves instead is told (`failed`).
  (K3) A state is that of one version of its listener's contract: it is never handed to another
       version. A reply to a question that came under another one, or under none, is none of the
       conversation. Classes are not told apart: what takes another's place has another version.

Does not know: connections (exchanging.pyx keeps a Place for each), bytes.
Source: J. Armstrong, "Getting Erlang to talk to the outside world" (2002): the contract checker of
UBF; session types.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, NamedTuple

from pybehave.errors import ContractBroken, DecodeError, EncodeError, show
from pybehave.once import Once
from pybehave.types import State

VERSION_LOST = 0
"""No contract's: of a state that has no form in which another process could have got it."""


class Place(NamedTuple):
    """Where the contract of one connection stands.

    Attributes:
        version: Of the contract.
        state: What it returned last.
    """

    version: int
    state: Any


class Contract(Generic[State]):
    """A state machine over the messages of one connection: override `initial` and `received`.

    One object serves all connections of its listener, so it keeps no state of its own. A state is
    anything but None; when the process is replaced, it goes along if it is made of plain values.

    Attributes:
        version: Raise it when the states of before mean something else, or are no states any more:
            a connection that is in one hears so at its next message, and ends.
        closes: Whether a refused message ends the connection, behind what it is owed and the error.
            If not, it is as if the message had not come.
    """

    version: ClassVar[int] = 1
    closes: ClassVar[bool] = False

    def initial(self) -> State:
        """Return the state of a connection on which nothing has been said."""
        raise NotImplementedError(f"{type(self).__name__} has no initial(self)")

    def received(self, state: State, message: Any) -> State | None:
        """Return the state after a message.

        Args:
            state: Before it; not to be changed in place.
            message: What the server would get.

        Returns:
            The next state; None refuses the message.

        Raises:
            ContractBroken: It is refused, and the client hears this text. Any other exception
                refuses it, too: it is one of this machine's, and the client hears its name.
        """
        raise NotImplementedError(f"{type(self).__name__} has no received(self, state, message)")

    def replied(self, state: State, output: Any) -> State | None:
        """Return the state after a reply; by default the same.

        Args:
            state: Before it.
            output: What the server has returned, or replied later.

        Returns:
            The next state; None, or an exception, refuses the reply: a crash of who made it, as
            with an output that has no form in the protocol.
        """
        return state

    def failed(self, state: State, error: Exception) -> State | None:
        """Return the state after a message of which no reply came; by default the same.

        Args:
            state: Before it.
            error: What its client is told: `Crashed`, `Rejected`, `Overloaded`, `Timeout`, ...

        Returns:
            The next state; None, or an exception, leaves it as it was: the error is on its way.
        """
        return state

    # --- what the core asks ------------------------------------------------------------------

    def _after_message(self, place: Place | None, message: Any) -> Place:
        """Where a connection stands after a message.

        Raises:
            ContractBroken: It may not come there.
        """
        if place is not None and place.version != self.version:
            was = "another one" if place.version == VERSION_LOST else f"version {place.version}"
            raise ContractBroken(
                f"the contract of this connection was {was} and is version {self.version} now: "
                f"connect again",
                is_last=True,
            )
        own = message.request if isinstance(message, Once) else message
        try:
            state = self.initial() if place is None else place.state
            after = self.received(state, own)
        except (ContractBroken, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise ContractBroken(f"{type(error).__name__}: {error}") from error
        if after is None:
            raise ContractBroken(f"{show(own)} may not come in state {show(state)}")
        return Place(self.version, after)

    def _after_reply(self, place: Place | None, output: Any, error: Any) -> Place | None:
        """Where a connection stands after a reply, or after the error in its place.

        Raises:
            EncodeError: The reply may not come there.
        """
        if place is None or place.version != self.version:
            return place  # nothing was said under this contract (K3)
        if error is not None:
            return self._after_error(place, error)
        try:
            state = self.replied(place.state, output)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            detail = raised.detail if isinstance(raised, DecodeError) else repr(raised)
            raise EncodeError(output, f"the listener's contract: {detail}") from raised
        if state is None:
            detail = f"the listener's contract has it not in state {show(place.state)}"
            raise EncodeError(output, detail)
        return Place(self.version, state)

    def _after_error(self, place: Place, error: Exception) -> Place:
        try:
            state = self.failed(place.state, error)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 -- a client that is told of an error hears of that
            return place
        return place if state is None else Place(self.version, state)


def is_contract(value: Any) -> bool:
    """Say whether a value can be a listener's contract: an object of a complete class, and its
    version a number from 1 (0 is `VERSION_LOST`).
    """
    if not isinstance(value, Contract):
        return False
    kind = type(value)
    is_complete = kind.initial is not Contract.initial and kind.received is not Contract.received
    return is_complete and type(value.version) is int and value.version > VERSION_LOST
