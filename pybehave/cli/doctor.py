"""`pybehave doctor`: what this machine allows, and what to do about what it does not."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import click

from pybehave._uring.loop import Loop
from pybehave._version import __version__
from pybehave.errors import JournalRefused, SourceUnavailable
from pybehave.journal.disk import FolderDisk
from pybehave.journal.testdisk import measure
from pybehave.runtime.limits import DESCRIPTORS_RESERVED, memlock_kib, raise_descriptors
from pybehave.runtime.node_options import default_backend

SOURCES = ("full", "basic", "epoll")
TRIAL_CALLS = 1000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--data", metavar="DIR", help="Try a folder for the journal too.")
@click.option("--volatile", is_flag=True, help="Take a DIR in memory (tmpfs), as `run` would.")
def command(as_json: bool, data: str | None, volatile: bool) -> None:
    """Say which backends can be had here and why not, which limits hold, and what to do.

    Exit status 1: there is no backend, or DIR cannot hold a journal.
    """
    facts = examine()
    if data is not None:
        facts["journal"] = try_folder(data, is_volatile_allowed=volatile)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(describe(facts)))
    is_usable = data is None or facts["journal"]["usable"]
    sys.exit(0 if facts["chosen"] and is_usable else 1)


def examine() -> dict[str, Any]:
    """Try everything; nothing is left open."""
    sources = {name: try_source(name) for name in SOURCES}
    chosen: dict[str, Any] | None
    wanted = default_backend()
    try:
        loop = Loop(wanted)
        batch = trial(loop)
        chosen = {"source": loop.source, "reason": loop.reason, "batch": batch}
        loop.close()
    except SourceUnavailable as error:
        chosen = None
        sources[wanted] = {"available": False, "reason": str(error)}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sources": sources,
        "chosen": chosen,
        "io_uring_disabled": read_number("/proc/sys/kernel/io_uring_disabled"),
        "seccomp": read_status("Seccomp"),
        "memlock_kib": memlock_kib(),
        "connections_max": raise_descriptors(),
    }


def try_source(name: str) -> dict[str, Any]:
    """Open one source and close it again."""
    try:
        loop = Loop(name)
    except SourceUnavailable as error:
        return {"available": False, "reason": error.reason}
    reason = loop.reason
    loop.close()
    return {"available": True, "reason": reason}


def try_folder(path: str, *, is_volatile_allowed: bool = False) -> dict[str, Any]:
    """What a folder is good for, measured with a few commits; nothing is left there.

    Args:
        is_volatile_allowed: Take one in memory too.
    """
    missing = [each for each in (Path(path), *Path(path).parents) if not each.exists()]
    try:
        disk = FolderDisk(path, is_volatile_allowed=is_volatile_allowed)
        found = measure(disk)
    except (JournalRefused, OSError) as error:
        return {"usable": False, "reason": str(error)}
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # it was not made, or another has put something in
                made.rmdir()
    return {
        "usable": True,
        "medium": found.sentence,
        "commit_us": {"p50": round(found.p50_us), "p99": round(found.p99_us)},
        "plausible": found.is_plausible,
    }


def trial(loop: Loop) -> list[int]:
    """Ticks of an empty loop: the histogram that `Node.stats()` shows, completions by tick."""
    for _ in range(TRIAL_CALLS):
        loop.wake()
        loop.run_once(0.001)
    batch: list[int] = loop.stats()["loop"]["batch"]
    return batch


def describe(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        f"pybehave {facts['version']}, Python {facts['python']}, kernel {facts['kernel']}",
        "",
        "backends",
    ]
    for name, found in facts["sources"].items():
        word = "yes" if found["available"] else "no "
        lines.append(f"  {name:6} {word}  {found['reason']}")
    if facts["chosen"]:
        lines.append(f"  in use: {facts['chosen']['source']} ({facts['chosen']['reason']})")
        lines.append(f"  completions by tick in {TRIAL_CALLS} trial ticks (0, 1, 2-3, 4-7, ...): ")
        lines[-1] += " ".join(map(str, facts["chosen"]["batch"]))
    locked = facts["memlock_kib"]
    spare = f"{DESCRIPTORS_RESERVED}, or a quarter"
    lines += [
        "",
        "limits",
        f"  connections     {facts['connections_max']} (open files less {spare})",
        f"  locked memory   {'no limit' if locked is None else f'{locked} KiB'}",
    ]
    if "journal" in facts:
        lines += ["", "journal", *describe_folder(facts["journal"])]
    advice = advise(facts)
    return [*lines, "", "to do", *(advice or ["  nothing"])]


def describe_folder(found: dict[str, Any]) -> list[str]:
    """The folder, for people."""
    if not found["usable"]:
        return [f"  no  {found['reason']}"]
    times = found["commit_us"]
    return [
        f"  yes  {found['medium']}",
        f"  a commit takes {times['p50']} us (99 of 100: {times['p99']} us)",
    ]


def advise(facts: dict[str, Any]) -> list[str]:
    """What to change, if anything."""
    lines = []
    if facts["io_uring_disabled"]:
        lines.append(
            f"  kernel.io_uring_disabled={facts['io_uring_disabled']}: io_uring is off by policy; "
            "epoll serves, or ask whoever set it"
        )
    elif facts["seccomp"] and not facts["sources"]["full"]["available"]:
        lines.append("  a seccomp profile blocks io_uring: see docs/operating/backends.md")
    if not facts.get("journal", {}).get("usable", True):
        lines.append("  the journal cannot be kept there: see above for the reason and the mend")
    if not facts.get("journal", {}).get("plausible", True):
        lines.append("  no device flushes that fast: this folder would not survive a power cut")
    if facts["connections_max"] < 10_000:
        lines.append("  few connections fit: raise the hard limit of open files (LimitNOFILE=)")
    return lines


def read_number(path: str) -> int | None:
    """A number from a file of one line; None when there is no such file."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def read_status(label: str) -> int | None:
    """A number from /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{label}:"):
            return int(line.split()[1])
    return None
