from typing import Any, final

@final
class Partial:
    def __init__(self, reader: Any) -> None: ...
