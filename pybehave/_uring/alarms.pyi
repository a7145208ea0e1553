from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from pybehave._uring.asked import Asked
from pybehave._uring.replies import Replies
from pybehave._uring.requests import Requests
from pybehave._uring.servers import Alarm, Server

@disjoint_base
class Alarms(Replies):
    def start_alarm(self, seconds: float, function: Callable[[], None]) -> Alarm: ...
    def cancel_alarm(self, alarm: Alarm | None) -> bool: ...
    def revive(
        self,
        server: Server,
        state: Any,
        due: dict[Any, tuple[int, Any]],
        idle_s: float,
        requests: Requests | None = None,
        asked: Asked | None = None,
    ) -> None: ...
