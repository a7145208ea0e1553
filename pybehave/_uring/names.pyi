from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.servers import Address, Server
from pybehave._uring.turn import Turn
from pybehave._uring.values import Values

@disjoint_base
class Names(Turn):
    on_missing: Callable[..., bool] | None
    @property
    def addresses(self) -> dict[str, Address | Server]: ...
    def address(self, name: str) -> Address: ...
    def whereis(self, name: str) -> Server | None: ...
    def servers(self) -> list[Server]: ...
    def names(self) -> list[str]: ...
    def create(
        self,
        name: str,
        instance: Any,
        *,
        capacity: int,
        overflow: int,
        is_fast_call: bool,
        is_fast_cast: bool,
        is_deaf: bool = False,
        number: int = 0,
        values: Values | None = None,
        level: int = ...,
        incarnation: int = 0,
    ) -> Server: ...
