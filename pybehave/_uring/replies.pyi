from collections.abc import Container
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.codec import Codec
from pybehave._uring.commit import Commit
from pybehave._uring.handles import Connection
from pybehave._uring.servers import Present

@disjoint_base
class Replies(Present):
    @property
    def commit(self) -> Commit | None: ...
    def live_connection(self, slot: int, generation: int) -> Connection | None: ...
    def clients(
        self, codec: Codec, ids: Container[int] | None, count_max: int
    ) -> list[dict[str, Any]]: ...
