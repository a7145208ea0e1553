"""`pybehave ping [PATH]`: the health check of a container.

Exit statuses: 0 the node answers (with `--ready`: and should get requests), 1 it does not. Those
are what `HEALTHCHECK` of a container's image and a probe that runs a command go by.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import click

from pybehave.cli.seconds import Seconds
from pybehave.errors import NotAnswered, RequestRefused
from pybehave.observer.client import AdminClient
from pybehave.runtime.node import DATA

TIMEOUT_S: Final = 3.0
"""Less than the ten seconds after which most of those who probe give up themselves."""


@click.command()
@click.argument("path", default=DATA)
@click.option("--ready", is_flag=True, help="Ask also whether it should get requests.")
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds for each answer.",
)
def command(path: str, ready: bool, timeout: float) -> None:
    """Exit with 0 if a node answers, else with 1: a health check for containers.

    PATH is the socket that `pybehave run` has named, or the folder of the node's journal (default:
    data).
    """
    began = time.perf_counter()
    try:
        with AdminClient(path, timeout=timeout) as client:
            greeting = client.ask("hello")
            took_ms = (time.perf_counter() - began) * 1000
            health = client.ask("health") if ready else None
    except (NotAnswered, RequestRefused) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(1)
    who = f"{greeting['name']} {greeting['application']}".rstrip()
    click.echo(f"{who} answers in {took_ms:.1f} ms (process {greeting['pid']})")
    if health is not None and not health["is_ready"]:
        why = "; ".join(reason["text"] for reason in health["reasons"])
        click.echo(f"pybehave: {who} is not ready: {why}", err=True)
        sys.exit(1)
