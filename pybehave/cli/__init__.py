"""The command `pybehave`: one file a command, imported only when it is asked for.

Exit statuses: 0 stopped as asked, 1 the application ended by itself or could not start, 2 the
command line or what it names is wrong. `health`, `ping` and `release check` have their own.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from pybehave._version import __version__

COMMANDS = {
    "run": ("pybehave.cli.run", "Serve an application."),
    "attach": ("pybehave.cli.attach", "Look into a node that runs, and act on its servers."),
    "top": ("pybehave.cli.top", "What a node does just now: servers, restarts, connections, disk."),
    "health": ("pybehave.cli.health", "Say whether a node is well, and why not."),
    "ping": ("pybehave.cli.ping", "Ask whether a node answers: a health check of containers."),
    "metrics": ("pybehave.cli.metrics", "Print a node's figures as Prometheus reads them."),
    "release": ("pybehave.cli.release", "Take a running node to new code, and back."),
    "replay": ("pybehave.cli.replay", "Step through a journal's history."),
    "tree": ("pybehave.cli.tree", "Print an application's supervision tree."),
    "config": ("pybehave.cli.config", "What may be set, and where its value comes from."),
    "crash": ("pybehave.cli.crash", "How journaled servers failed, and tests that repeat it."),
    "dead-letters": ("pybehave.cli.dead_letters", "Inputs that failed: look, send again, forget."),
    "journal": ("pybehave.cli.journal", "Verify, export, import, compact a journal."),
    "doctor": ("pybehave.cli.doctor", "Say what this machine allows, and what to do about it."),
}


FULL = (errno.EDQUOT, errno.ENOSPC)
"""What a write to standard output may fail with, where that is a file."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is used: `--help` must be quick."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Carry a command out; where its words find no room, that is said in one sentence."""
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.filename is not None or error.errno not in FULL:
                raise
            click.echo(f"pybehave: its output cannot be written: {error.strerror}", err=True)
            # Python would try the rest of it again at the end, and fail with a status of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, from the table: without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pybehave")
def main() -> None:
    """Erlang/OTP's behaviours for Python: supervised servers on one io_uring loop.

    `pybehave run first:app` serves the Application that is called app in first.py, or in an
    installed module. A clone of the repository has some: `pybehave run examples.kv:app`.
    """
