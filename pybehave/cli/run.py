"""`pybehave run MODULE:APP`: serve until told to stop."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click

from pybehave.behaviours.application import Application
from pybehave.behaviours.supervisor import workers
from pybehave.cli.codecs import codec_parameters, codecs
from pybehave.cli.configuration import config_options, deploy_options, planned, read_config
from pybehave.cli.heart import heart_options
from pybehave.cli.load import Mistake, load
from pybehave.cli.logs import configure_logging
from pybehave.cli.node_table import said, take_files
from pybehave.cli.recovery_report import check_report, reporting
from pybehave.cli.reset import check_reset, confirmed, without_reset
from pybehave.cli.seconds import Seconds
from pybehave.cli.sockets import Sockets
from pybehave.config import Config
from pybehave.errors import (
    CodecRefused,
    ConfigError,
    JournalLocked,
    JournalRefused,
    ListenFailed,
    NonDeterminism,
    NothingKept,
    SourceUnavailable,
    SpecError,
    StartFailed,
    show_reason,
)
from pybehave.journal.codec import Codec
from pybehave.journal.disk import Disk, FolderDisk, explain
from pybehave.journal.recovery import SEGMENT_BYTES, Options
from pybehave.protocols import Resp
from pybehave.runtime.health import HealthLimits
from pybehave.runtime.heart import child as heart_child
from pybehave.runtime.limits import DESCRIPTORS_MIN, descriptors_max, raise_descriptors
from pybehave.runtime.node import DATA, DRAIN_TIMEOUT_S, Node
from pybehave.runtime.node_options import default_backend
from pybehave.runtime.release.handover import Command, Inheritance, inheritance

BACKENDS = ("auto", "uring", "full", "basic", "epoll")
CONNECTIONS_LOW = 1000
"""Fewer than this is worth a word: the default soft limit of many systems is 1024."""


STEP_BUDGET_S = 0.5
"""Long enough for what a machine under load does to a program, short enough to be felt by users."""


HEALTH_EVERY_S = 10.0
"""Soon enough for who watches a service, seldom enough to cost an idle node nothing to speak of."""


CANNOT_SERVE = (
    ListenFailed,
    StartFailed,
    JournalLocked,
    JournalRefused,
    CodecRefused,
    NonDeterminism,
    NothingKept,
    OSError,
)
"""What is told in one sentence, with exit status 1."""

OF_THE_DISK = (errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS)
"""Here these come from the journal's folder: what else a start opens names its place itself."""

logger = logging.getLogger("pybehave")


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--listen", multiple=True, metavar="URL", help="Replaces a listener's own address.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Default: $PYBEHAVE_BACKEND, or auto.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"]),
    default="info",
    show_default=True,
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--data",
    default=DATA,
    show_default=True,
    metavar="DIR",
    help="Where the journal lies, when a worker has one.",
)
@click.option("--no-journal", is_flag=True, help="Keep everything in memory.")
@click.option(
    "--segment-bytes",
    type=click.IntRange(min=0),
    default=SEGMENT_BYTES,
    show_default=True,
    help="Size of a new journal's files; an old one keeps what it has.",
)
@codec_parameters
@click.option("--volatile", is_flag=True, help="Take a DIR in memory (tmpfs): lost with the power.")
@click.option(
    "--yes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=confirmed,
    help="Do what --reset says.",
)
@click.option(
    "--reset",
    multiple=True,
    callback=check_reset,
    metavar="NAME",
    help="Let a journaled server begin anew at this start; all that is kept of it is lost (--yes).",
)
@click.option(
    "--recovery-report",
    type=click.Path(dir_okay=False),
    callback=lambda _context, _option, path: check_report(path),
    metavar="FILE",
    help="Write what recovery found there as JSON, also when it refuses.",
)
@click.option(
    "--admin",
    metavar="PATH",
    help="The socket for `pybehave attach`; without it, admin.sock in the journal's folder.",
)
@click.option("--no-admin", is_flag=True, help="Open no such socket.")
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Answer Prometheus and probes there, over HTTP: /metrics, /health, /ready, /live.",
)
@click.option(
    "--drain-timeout",
    type=Seconds(min=0),
    default=DRAIN_TIMEOUT_S,
    show_default=True,
    help="Seconds for the last replies after SIGTERM.",
)
@click.option(
    "--step-budget",
    type=Seconds(min=0),
    default=STEP_BUDGET_S,
    show_default=True,
    help="Seconds after which a step is reported, with its stack; 0: nobody looks.",
)
@click.option(
    "--step-abort",
    type=Seconds(min=0, min_open=True),
    help="Seconds after which a step is aborted: a crash of its server. Default: never.",
)
@click.option(
    "--health-every",
    type=Seconds(min=0),
    default=HEALTH_EVERY_S,
    show_default=True,
    help="Seconds between two looks at the node's health, which log what has changed; 0: none.",
)
@partial(config_options, callback=take_files)
@deploy_options
@click.option(
    "--show-config",
    is_flag=True,
    help="Print every setting, its default, and where its value comes from; start nothing.",
)
@click.option(
    "--debug-isolation",
    is_flag=True,
    help="Look after each step for state that servers share by accident. Slow: for tests.",
)
@heart_options
def command(
    target: str,
    show_config: bool,
    files: tuple[str, ...],
    settings: tuple[str, ...],
    deploy: str | None,
    as_node: str | None,
    **options: Any,
) -> None:
    """Serve an application until SIGTERM (drains) or SIGINT (stops now).

    MODULE is found from the current directory, APP is an Application in it.
    """
    config = read_config(files, settings, deploy, as_node)
    if show_config:
        print_settings(click.get_current_context(), target, config)
        return
    try:
        status = serve(target, config, **options)
    except KeyboardInterrupt:  # while it serves, INT is a stop like any other
        click.echo("pybehave: interrupted before it served", err=True)
        status = 128 + signal.SIGINT
    sys.exit(status)


def print_settings(context: click.Context, target: str, found: Config) -> None:
    """Say with what a node would be started."""
    from pybehave.cli.settings import settings  # here, for only this needs it

    for setting in settings(context, planned(load(target), found), found):
        click.echo(str(setting))


def serve(
    target: str,
    config: Config,
    log_level: str,
    log_format: str,
    data: str,
    no_journal: bool,
    segment_bytes: int,
    volatile: bool,
    recovery_report: str | None,
    admin: str | None,
    no_admin: bool,
    metrics: str | None,
    step_budget: float,
    health_every: float,
    **options: Any,
) -> int:
    """Do what the options say; returns the exit status.

    Args:
        config: What files, `--set` and `--deploy` say.
        options: Those that the node takes as they are.
    """
    started = time.perf_counter()
    check_backend(options["backend"])
    sockets = Sockets(admin, no_admin, metrics).checked()
    configure_logging(log_level, log_format)
    room = room_for_connections()
    with inheriting() as inherited:
        application = load(target, code_folder(inherited))
        apps = planned(application, config)
        kept = journal_options(segment_bytes, codecs(options.pop("codec"), options.pop("key_file")))
        with failures(data):
            node = Node(
                application,
                data=None if no_journal else folder_of(apps, data, volatile),
                config=config,
                journal_options=kept,
                step_budget=step_budget or None,
                health=HealthLimits(every=health_every or None, **said("health")),
                **options,
                **said(),
            )
            sockets.take_kept(node)
            know_command(node, target, inherited)
            with reporting(node, recovery_report) as report:
                status = node.run(
                    partial(ready, room, started, report, sockets, inherited), is_last=True
                )
    return status


def code_folder(inherited: Inheritance | None) -> str | None:
    """Where the application's code is, when that is said by the process before or the parent."""
    return heart_child.code_folder() if inherited is None else inherited.folder


def know_command(node: Node, target: str, inherited: Inheritance | None) -> None:
    """Say how a process like this one is started; one that was so waits for the one before."""
    words = (sys.executable, "-m", "pybehave", *without_reset(sys.argv[1:]))
    own = node.releases.command = Command(words, target, code_folder(inherited) or "")
    node.releases.on_command = heart_child.say_command
    heart_child.begin(None if inherited is None else own)
    if inherited is not None:
        inherited.wait(node)


class CannotServe(Mistake):
    """What keeps a node from serving, and is not of the command line."""

    exit_code = 1


@contextlib.contextmanager
def inheriting() -> Iterator[Inheritance | None]:
    """What this process was started to take over; the one before hears why it ends in place of
    that.
    """
    inherited = inheritance()
    try:
        yield inherited
    except Exception as error:
        if inherited is not None:
            is_said = isinstance(error, Mistake)
            inherited.refuse(str(error) if is_said else show_reason(error))
        raise


@contextlib.contextmanager
def failures(data: str) -> Iterator[None]:
    """What keeps a node from serving, in one sentence and an exit status."""
    try:
        yield
    except (SpecError, ConfigError, SourceUnavailable) as error:
        raise Mistake(str(error)) from error
    except CANNOT_SERVE as error:
        refused: Exception = error
        if isinstance(error, OSError) and _is_of(error, data):
            refused = JournalRefused(data, explain(error, data))
        raise CannotServe(f"{refused}{_because(error)}") from error


def _is_of(error: OSError, data: str) -> bool:
    """Whether an error is about the journal's folder."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return os.path.dirname(str(error.filename)) == os.path.normpath(data)
    return error.errno in OF_THE_DISK


def _because(error: BaseException) -> str:
    """What a step raised that had not raised when its input was journaled."""
    if not isinstance(error, NonDeterminism) or error.__cause__ is None:
        return ""
    return f" (it raised {show_reason(error.__cause__)})"


def check_backend(backend: str | None) -> None:
    """What click cannot check: the environment may name the simulator."""
    if (backend or default_backend()) == "sim":
        raise Mistake("the simulator has no network to serve; use auto, uring or epoll")


def room_for_connections() -> int:
    """How many fit; so few open files that a node fails at one or the other are refused."""
    if (limit := descriptors_max()) < DESCRIPTORS_MIN:
        raise Mistake(
            f"this process may have only {limit} files open and a node needs {DESCRIPTORS_MIN}; "
            "let it have more (ulimit -n, LimitNOFILE of systemd)"
        )
    return raise_descriptors()


def folder_of(apps: list[Application], data: str, volatile: bool) -> Disk | str:
    """The folder of the journal; it is made only when a worker is journaled."""
    if not any(worker.journal for app in apps for worker in workers(app.tree)):
        return data
    return FolderDisk(data, is_volatile_allowed=volatile)


def journal_options(segment_bytes: int, codec: tuple[Codec, ...]) -> Options:
    """How the journal is kept."""
    try:
        return Options(segment_bytes=segment_bytes, codec=codec, **said("journal"))
    except ValueError as error:
        raise Mistake(f"--segment-bytes: {error}") from error


def ready(
    room: int,
    started: float,
    report: Callable[[], None],
    sockets: Sockets,
    inherited: Inheritance | None,
    node: Node,
) -> None:
    """The node serves: take over what the process before leaves, write the recovery's report, open
    what its operators ask it through, and say so.
    """
    if inherited is not None:
        inherited.take(node)
        heart_child.follow(node)
    report()
    said = sockets.open(node, inherited)
    if said is not None:
        say_ready(node, room, started, said)


def say_ready(node: Node, room: int, started: float, sockets: list[str]) -> None:
    """What runs, where, and how to talk to it."""
    lines = [f"{node.app.title} on {node.loop.source}: {node.loop.reason}"]
    for listener, url in node.listening:
        lines.append(f"  {url}  {type(listener.protocol).__name__} -> {listener.to}")
        if isinstance(listener.protocol, Resp):
            lines.append(f"  talk to it:  {redis_cli(url)}")
    if node.journal is not None:
        disk = node.journal.disk
        lines.append(f"  journal in {disk.path}: {disk.medium().sentence}")
    lines += sockets
    if room < CONNECTIONS_LOW:
        lines.append(f"  only {room} connections fit the limit of open files (ulimit -n)")
    lines.append(f"ready in {(time.perf_counter() - started) * 1000:.0f} ms")
    print_ready("\n".join(lines))


def print_ready(text: str) -> None:
    """Print what runs. A node serves also where that cannot be read: a closed pipe, a full disk."""
    if sys.stdout is None:  # the process was started without
        return
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        logger.warning("what runs cannot be printed: %s\n%s", error.strerror, text)
        # Python would try the rest of it again at the end, and fail with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def redis_cli(url: str) -> str:
    """The command line that reaches a RESP listener."""
    kind, _, rest = url.partition("://")
    if kind == "unix":
        return f"redis-cli -s {rest}"
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if host in ("*", "0.0.0.0", "::", ""):
        host = "127.0.0.1"
    return f"redis-cli -h {host} -p {port}" if host != "127.0.0.1" else f"redis-cli -p {port}"
