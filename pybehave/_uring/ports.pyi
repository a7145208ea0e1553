from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.codec import Codec
from pybehave._uring.dispatch import Dispatcher
from pybehave._uring.handles import Connection
from pybehave._uring.servers import Address, Port, Server

@disjoint_base
class Ports:
    @property
    def dispatcher(self) -> Dispatcher: ...
    def listen(
        self,
        name: str,
        url: str,
        address: bytes,
        codec: Codec,
        to: Address,
        settings: Any,
        fd: int = -1,
        is_dual: bool = False,
    ) -> Port: ...
    def peer_uid(self, connection: Connection) -> int: ...
    def close_listeners(self) -> None: ...
    def close_port(self, port: Port) -> None: ...
    def hold(self, ports: list[Port]) -> int: ...
    def let_go(self, ports: list[Port]) -> None: ...
    def held(self, port: Port) -> list[tuple[int, int, bytes]]: ...
    def take_over(self, port: Port, fd: int, protocol: int, carry: bytes) -> None: ...
    def connect(
        self, url: str, address: bytes, codec: Codec, server: Server, tag: Any, settings: Any
    ) -> None: ...
