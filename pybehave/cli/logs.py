"""Where a served application's log goes, and its shape."""

from __future__ import annotations

import json
import logging
from typing import Any


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, traceback if there is one, and what is known of a crash."""
        entry: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        crash = getattr(record, "crash", None)
        if crash is not None:
            entry["crash"] = crash.as_dict()
        return json.dumps(entry)


def configure_logging(level: str, shape: str) -> None:
    """Log to stderr; the library itself never does this."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if shape == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler])
