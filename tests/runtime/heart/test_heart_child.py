"""What a process says of itself to the one that looks after it."""

from __future__ import annotations

import pytest

from pybehave.runtime.heart.child import announcement


def test_a_command_line_and_a_folder() -> None:
    assert announcement('[["python", "-m", "x"], "/srv"]') == (("python", "-m", "x"), "/srv")


@pytest.mark.parametrize(
    "how",
    [
        "",
        "5",
        "null",
        "[1, 2]",
        "[[], 0]",
        '[["a", 1], ""]',
        '[[], ""]',
        '["words", ""]',
        "[" * 9999,
    ],
)
def test_anything_else_is_nonsense(how: str) -> None:
    with pytest.raises(ValueError, match="no command line and folder"):
        announcement(how)
