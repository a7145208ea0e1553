from collections.abc import Callable

from pybehave._uring.replies import Replies

class Alarms(Replies):
    def start_alarm(self, seconds: float, function: Callable[[], None]) -> int: ...
    def cancel_alarm(self, alarm: int) -> bool: ...
