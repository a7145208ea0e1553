from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.names import Names
from pybehave._uring.servers import Server

@disjoint_base
class Mailboxes(Names):
    def post(self, name: str, kind: int, message: Any, waiter: object) -> None: ...
    def inform(self, server: Server, message: Any) -> None: ...
    def abandon(self, waiter: Any) -> None: ...
