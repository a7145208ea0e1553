"""`pybehave metrics [PATH]`: a node's figures, in the text format of Prometheus."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import click

from pybehave.cli.load import Mistake
from pybehave.cli.seconds import Seconds
from pybehave.errors import NotAnswered, RequestRefused
from pybehave.observer.client import ANSWER_S, AdminClient
from pybehave.runtime.node import DATA


@click.command()
@click.argument("path", default=DATA)
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=ANSWER_S,
    show_default=True,
    help="Seconds for the answer.",
)
def command(path: str, timeout: float) -> None:
    """Print a node's figures, for a textfile collector or a look.

    PATH is the socket that `pybehave run` has named, or the folder of the node's journal (default:
    data). `pybehave run --metrics HOST:PORT` lets Prometheus fetch them itself.
    """
    format_ = writer()
    try:
        with AdminClient(path, timeout=timeout) as client:
            click.echo(format_.text(client.ask("metrics")), nl=False)
    except (NotAnswered, RequestRefused) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(1)


def writer() -> ModuleType:
    """The module that writes figures.

    Raises:
        Mistake: What it needs is not installed.
    """
    try:
        return import_module("pybehave.observer.metrics")
    except ImportError as error:
        raise Mistake(
            f"metrics need prometheus-client ({error}); pip install 'pybehave[metrics]'"
        ) from error
