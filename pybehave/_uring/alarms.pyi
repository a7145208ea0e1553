from collections.abc import Callable

from typing_extensions import disjoint_base

from pybehave._uring.replies import Replies

@disjoint_base
class Alarms(Replies):
    def start_alarm(self, seconds: float, function: Callable[[], None]) -> int: ...
    def cancel_alarm(self, alarm: int) -> bool: ...
