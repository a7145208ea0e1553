from collections.abc import Callable

from typing_extensions import disjoint_base

from pybehave._uring.acting import Acting
from pybehave._uring.servers import Server

@disjoint_base
class Gate(Acting):
    on_refused: Callable[[Server, Exception], None] | None
