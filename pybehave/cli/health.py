"""`pybehave health [PATH]`: whether a node that runs is well, and why not.

Exit statuses: 0 ok, 1 degraded, 2 failing, or no node answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from pybehave.cli.seconds import Seconds
from pybehave.errors import NotAnswered, RequestRefused
from pybehave.observer.client import ANSWER_S, AdminClient
from pybehave.runtime.node import DATA

STATUSES: Final = {"ok": 0, "degraded": 1, "failing": 2}


@click.command()
@click.argument("path", default=DATA)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=ANSWER_S,
    show_default=True,
    help="Seconds for the answer.",
)
def command(path: str, as_json: bool, timeout: float) -> None:
    """Say whether a node is ok, degraded or failing, and why; exit with 0, 1 or 2.

    PATH is the socket that `pybehave run` has named, or the folder of the node's journal (default:
    data). A node that does not answer is failing.
    """
    try:
        with AdminClient(path, timeout=timeout) as client:
            found = client.ask("health")
    except (NotAnswered, RequestRefused) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(STATUSES["failing"])
    for line in [json.dumps(found)] if as_json else lines(found):
        click.echo(line)
    sys.exit(STATUSES[found["status"]])


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The answer for people."""
    yield found["status"] + ("" if found["is_ready"] else "; not ready")
    for reason in found["reasons"]:
        since = f"  (for {reason['seconds']:.0f} s)" if reason["seconds"] else ""
        yield f"  {reason['level']:8}  {reason['what']:13}  {reason['text']}{since}"
    if found["reasons_more"]:
        yield f"  ... and {found['reasons_more']} more"
