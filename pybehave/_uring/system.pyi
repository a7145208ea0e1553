from collections import deque
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.handles import Caller
from pybehave._uring.mailboxes import Mailboxes
from pybehave._uring.servers import Asleep, Server
from pybehave._uring.values import Values

@disjoint_base
class System(Mailboxes):
    @property
    def suspended_count(self) -> int: ...
    on_hibernate: Callable[[Server], Asleep | None] | None
    on_wake: Callable[[Server, Asleep], Any] | None
    def hibernate(self, server: Server) -> int: ...
    def wake(self, server: Server) -> int: ...
    def suspend(self, server: Server) -> None: ...
    def resume(self, server: Server) -> None: ...
    def refuse_clients(self, server: Server) -> int: ...
    def set_debug(self, server: Server, debug: object) -> None: ...
    def replace(self, server: Server, state: Any, payload: bytes) -> int: ...
    def change_code(
        self,
        server: Server,
        instance: Any,
        state: Any,
        values: Values | None,
        is_fast_call: bool,
        is_fast_cast: bool,
        is_deaf: bool,
    ) -> None: ...
    def take_left(
        self,
    ) -> tuple[Caller | None, deque[tuple[Any, ...]] | None, int, int, Any] | None: ...
    def post_when_room(self, name: str, kind: int, message: Any, waiter: object) -> None: ...
