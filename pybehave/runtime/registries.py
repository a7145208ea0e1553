"""Which running servers stand in registries of the user's own (`GenServer.via`).

A key is registered before `init` is called and taken back when the incarnation takes no more
inputs, both on the loop's thread: as a server's own name is.

Invariants
  (V1) A name has at most one key, and what was registered for an incarnation is taken back once.
  (V2) A registry that raises at the end of a server is logged, and does not hold its end up.

Does not know: supervisors, the journal; who looks keys up.
Source: OTP stdlib, gen: register_name/1, unregister_name/1.
"""

from __future__ import annotations

import logging
from typing import Any, Final, final

from pybehave.behaviours.gen_server import GenServer
from pybehave.errors import AlreadyStarted, BadReturn, show
from pybehave.via import Via

ALLOWED: Final = "return a Via, or None"

_DEFAULT: Final = GenServer.via

logger = logging.getLogger("pybehave.server")


@final
class Registries:
    """The keys of one node's servers."""

    def __init__(self) -> None:
        self._keys: dict[str, Via] = {}

    def enter(self, name: str, instance: Any, args: Any) -> None:
        """Register a server that is about to be started, if its class says where.

        Args:
            name: The server's.
            instance: Its GenServer, with its context.
            args: What its init will get.

        Raises:
            AlreadyStarted: The key leads to another server.
            BadReturn: `via` has returned something else.
            BaseException: What `via` or the registry raised.
        """
        own = type(instance).via
        if own is None or own is _DEFAULT:
            return
        via = instance.via(args)
        if via is None:
            return
        if type(via) is not Via:
            raise BadReturn(name, "via", via, ALLOWED)
        if not via.registry.register_name(via.key, name):
            raise AlreadyStarted(show(via.key), via.registry.whereis_name(via.key))
        self._keys[name] = via  # (V1)

    def leave(self, name: str) -> None:
        """Take a server's key back, if it has one."""
        via = self._keys.pop(name, None)
        if via is None:
            return
        try:
            via.registry.unregister_name(via.key)
        except KeyboardInterrupt:
            raise
        except BaseException:  # (V2), also for sys.exit()
            logger.exception("the key %s of server %r stays registered", show(via.key), name)
