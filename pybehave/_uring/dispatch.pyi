from collections.abc import Callable
from typing import Any, final

from pybehave._uring.asked import Asked
from pybehave._uring.ephemeral import Ephemeral
from pybehave._uring.handles import Connection
from pybehave._uring.requests import Requests
from pybehave._uring.servers import Server

@final
class Dispatcher(Ephemeral):
    on_ended: Callable[[Server, object, int, Any], None]
    on_unexpected: Callable[[Server, Any], None] | None
    def begin(self, server: Server, state: Any, actions: tuple[Any, ...]) -> None: ...
    def live_connection(self, slot: int, generation: int) -> Connection | None: ...
    def revive(
        self,
        server: Server,
        state: Any,
        due: dict[Any, tuple[int, Any]],
        idle_s: float,
        requests: Requests | None = None,
        asked: Asked | None = None,
    ) -> None: ...
    def retire(self, server: Server, error: BaseException) -> None: ...
    def finish(self, server: Server) -> None: ...
    def call(self, name: str, request: Any) -> Any: ...
    def call_urgent(self, name: str, request: Any) -> Any: ...
