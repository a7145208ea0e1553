from typing_extensions import disjoint_base

from pybehave._uring.commit import Commit

@disjoint_base
class Replies:
    @property
    def commit(self) -> Commit | None: ...
