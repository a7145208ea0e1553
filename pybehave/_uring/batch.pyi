from collections.abc import Iterable
from typing import Any

from pybehave._uring.dispatch import Dispatcher

def call_many(
    dispatcher: Dispatcher, name: str, requests: Iterable[Any]
) -> tuple[list[Any], int]: ...
