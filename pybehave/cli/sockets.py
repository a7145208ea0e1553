"""Where a node that `pybehave run` serves answers its operators: the admin socket, and a port."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple, Self

import click

from pybehave.cli.load import Mistake
from pybehave.cli.metrics import writer
from pybehave.errors import ListenFailed, SpecError
from pybehave.listener import parse_url
from pybehave.observer.admin import SOCKET, Admin
from pybehave.runtime.node import Node

if TYPE_CHECKING:
    from pybehave.observer.scrape import Scrape
    from pybehave.runtime.release.handover import Inheritance

logger = logging.getLogger("pybehave")


class Sockets(NamedTuple):
    """What the options say.

    Attributes:
        admin: The path of the admin socket; None takes the journal's folder ...
        no_admin: ... unless there is to be none.
        metrics: HOST:PORT for figures over HTTP; None is nowhere.
    """

    admin: str | None
    no_admin: bool
    metrics: str | None

    def checked(self) -> Self:
        """Return this, if it can be.

        Raises:
            Mistake: Says which option cannot, and why.
        """
        if self.admin is not None and self.no_admin:
            raise Mistake("--admin and --no-admin exclude each other; say one of them")
        if self.metrics is not None:
            writer()
            _, colon, port = self.metrics.rpartition(":")
            if not colon or not port.isdecimal() or "/" in self.metrics:
                raise Mistake(f"--metrics: {self.metrics!r} is no HOST:PORT, as 127.0.0.1:9100")
            _check("--metrics", f"tcp://{self.metrics}")
        if self.admin is not None:
            _check("--admin", f"unix://{os.path.abspath(self.admin)}")
        return self

    def open(self, node: Node, inherited: Inheritance | None) -> list[str] | None:
        """Open them; what is to be said of them, or None when the node cannot serve as asked."""
        said = []
        openers = {"--metrics": self._open_metrics, "--admin": self._open_admin}
        for option, opener in openers.items():
            try:
                said += opener(node, inherited)
            except (ListenFailed, SpecError) as error:
                click.echo(f"pybehave: {option}: {error}", err=True)
                node.exit_status = 1
                node.request_stop(drain=False)
                return None
        return said

    def _open_admin(self, node: Node, inherited: Inheritance | None) -> list[str]:
        path = self.admin
        if path is None and node.journal is not None and not self.no_admin:
            path = os.path.join(node.journal.disk.path, SOCKET)
        if path is None:
            return []
        try:
            Admin(node, path, takes_over=self.admin is None or inherited is not None).open()
        except (ListenFailed, SpecError) as error:
            if self.admin is not None:
                raise
            logger.warning("there is no admin socket: %s; --admin names another place", error)
            return []
        return [f"  look inside:  pybehave attach {path}"]

    def take_kept(self, node: Node) -> None:
        """Have those that outlived a process before; the node has not booted yet."""
        if self.metrics is not None:
            self._scrape(node).take_kept()

    def _scrape(self, node: Node) -> Scrape:
        from pybehave.observer.scrape import Scrape  # here, for it needs prometheus-client

        return Scrape(node, f"tcp://{self.metrics}")

    def _open_metrics(self, node: Node, inherited: Inheritance | None) -> list[str]:
        if self.metrics is None:
            return []
        scrape = self._scrape(node)
        if inherited is not None and not scrape.is_given:  # by a process of an earlier pybehave
            scrape.open_soon()
            return []
        scrape.open()
        return [f"  figures:  http://{scrape.url.removeprefix('tcp://')}/metrics"]


def _check(option: str, url: str) -> None:
    """What can be no address is told before anything is started."""
    try:
        parse_url(url)
    except SpecError as error:
        raise Mistake(f"{option}: {error}") from error
