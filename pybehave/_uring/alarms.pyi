from collections.abc import Callable

from typing_extensions import disjoint_base

from pybehave._uring.replies import Replies
from pybehave._uring.servers import Alarm

@disjoint_base
class Alarms(Replies):
    def start_alarm(self, seconds: float, function: Callable[[], None]) -> Alarm: ...
    def cancel_alarm(self, alarm: Alarm | None) -> bool: ...
