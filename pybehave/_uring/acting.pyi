from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.servers import Server
from pybehave._uring.system import System

NOT_STOPPED: object

@disjoint_base
class Acting(System):
    on_action: Callable[[Server, object, int, int], None]
    def check_actions(self, server: Server, actions: tuple[Any, ...]) -> None: ...
    def act_held(self, server: Server, action: Any, lsn: int, index: int) -> None: ...
    def repeat(self, server: Server, action: Any) -> None: ...
    def unmiss(self, name: str) -> None: ...
