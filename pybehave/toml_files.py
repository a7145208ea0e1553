"""TOML files as tables, read no further than a file of settings can reach.

What is named may be a pipe (`--config <(generate)`), so it need not be a regular file; but a device
that never ends (/dev/zero, /dev/full) must not be read for ever.

Does not know: what the tables mean (config.py, deployment.py).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from pybehave.errors import ConfigError

FILE_BYTES_MAX: Final = 1 << 20
"""Far more than anybody writes by hand; 10,000 children of a map are half of it."""


def read_tables(path: str | Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Args:
        path: A file or a pipe of at most `FILE_BYTES_MAX` bytes.

    Raises:
        ConfigError: It is not TOML, or longer.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(
            str(path),
            f"more than {FILE_BYTES_MAX >> 20} MiB, which no configuration is; name a file",
        )
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"not TOML: {error}") from error
