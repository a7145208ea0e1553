from collections.abc import Container
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.codec import Codec
from pybehave._uring.commit import Commit

@disjoint_base
class Replies:
    @property
    def commit(self) -> Commit | None: ...
    def clients(
        self, codec: Codec, ids: Container[int] | None, count_max: int
    ) -> list[dict[str, Any]]: ...
