"""Which versions the clients of a running node speak, and whether new code understands them.

`pybehave release check` asks the node in whose journal it looks, if it runs: what is spoken there
is known to nobody else. The same is looked at again when the release is to change
(release/listeners.py), and refused then.

Does not know: journals, what becomes of a state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click

from pybehave.behaviours.application import Application
from pybehave.errors import NotAnswered, RequestRefused
from pybehave.observer.admin import SOCKET
from pybehave.observer.client import AdminClient
from pybehave.runtime.release.listeners import range_of, too_old


def check_clients(application: Application, data: str) -> bool:
    """Say what is spoken to the node that runs, and not understood; returns whether there is any.

    Args:
        application: The new code's.
        data: The folder of the node's journal.
    """
    path = os.path.join(data, SOCKET)
    try:
        with AdminClient(path) as client:
            facts = client.ask("release_status")["listeners"]
    except (NotAnswered, RequestRefused):
        click.echo(f"no node answers at {path}: which versions its clients speak is not looked at")
        return False
    flaws = list(_flaws(application, facts))
    for flaw in flaws:
        click.echo(flaw)
    return bool(flaws)


def spoken_lines(facts: list[dict[str, Any]]) -> Iterator[str]:
    """Say of each listener that has had other versions what its clients speak."""
    for each in facts:
        spoken = [(version, count) for version, count in each["spoken"] if count]
        if each["version"] > 1 or len(spoken) > 1:
            counts = ", ".join(f"{count} of version {version}" for version, count in spoken)
            understood = f"versions {each['oldest']} to {each['version']}"
            yield f"{each['name']} understands {understood}; clients: {counts or 'none'}"


def _flaws(application: Application, facts: list[dict[str, Any]]) -> Iterator[str]:
    """What is not understood, of an application and those that it needs."""
    for app in (application, *application.depends):
        running = [each for each in facts if each["application"] == app.name]
        for listener, known in zip(app.listeners, running, strict=False):
            spoken = {int(version): int(count) for version, count in known["spoken"]}
            flaw = too_old(range_of(listener), spoken)
            if flaw:
                yield f"listener {known['name']!r}: {flaw}"
