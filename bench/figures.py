"""Medians, quartiles, ratios, tables, files: what becomes of the numbers."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

CALLS: Final = 100_000
"""Calls of a function, to see what one takes."""


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and upper quartile; of fewer than four values the least and the largest."""
    if len(values) < 4:
        return min(values), max(values)
    cuts = statistics.quantiles(values, n=4, method="inclusive")
    return cuts[0], cuts[2]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: only rounds of the same moment are comparable."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 0) -> str:
    """`median (lower-upper quartile)`."""
    low, high = quartiles(values)
    return (
        f"{median(values) / scale:.{digits}f} ({low / scale:.{digits}f}-{high / scale:.{digits}f})"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; reads well in a terminal."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        shown.append("| " + " | ".join(cells) + " |")
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(shown)


def verdict(ratio: float, bar: float) -> str:
    """Whether a bar is met, in words."""
    return f"{'met' if ratio >= bar else 'MISSED'}: {ratio:.2f} x, bar {bar:g} x"


@cache
def facts() -> dict[str, Any]:
    """What one must know of the machine to compare."""
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "a call": f"{call_ns():.0f} ns",
    }


def call_ns() -> float:
    """What a call of a small Python function takes here, in nanoseconds: interpreters of the same
    version differ by a third, by how they were built.
    """

    def grown(value: int) -> int:
        return value + 1

    def calls(count: int) -> float:
        value, began = 0, time.perf_counter()
        for _ in range(count):
            value = grown(value)
        return (time.perf_counter() - began) / count * 1e9

    return min(calls(CALLS) for _ in range(5))


def save(path: str, name: str, result: Any) -> None:
    """Write a result with the machine's facts as JSON."""
    Path(path).write_text(json.dumps({"bench": name, "facts": facts(), "result": result}, indent=2))


def plot(path: str, title: str, series: dict[str, dict[str, float]], unit: str) -> None:
    """Bars by group; SVG or PNG by the file's name. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5))
    groups = list(series)
    names = sorted({name for values in series.values() for name in values})
    width = 0.8 / max(1, len(names))
    for place, name in enumerate(names):
        at = [index + place * width for index in range(len(groups))]
        axes.bar(at, [series[group].get(name, 0.0) for group in groups], width, label=name)
    axes.set_xticks([index + 0.4 for index in range(len(groups))], groups)
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
