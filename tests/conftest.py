"""Options and fixtures for every test: completion sources, nodes that are always stopped."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.errors import SourceUnavailable
from pybehave.journal.recovery import Options
from tests.skips import is_gap

# A module that a test writes again within the second would be read as it was.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

# What a shell's background job, or nohup, ignores, would be ignored by what tests start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile(
    "ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)  # a machine that has much to do is no mistake of a test
settings.load_profile("ci")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A skip that hides a gap from CI is a failure (tests/skips.py)."""
    report = yield
    is_skip = report.skipped and not hasattr(report, "wasxfail")
    if is_skip and item.get_closest_marker("power") is None:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if is_gap(reason):
            report.outcome = "failed"
            report.longrepr = f"CI must not skip this: {reason}. Mend: see tests/skips.py."
    return report


TOLD = "told"


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a line at the end of the run. A worker of pytest-xdist has no terminal to print it to."""

    def say(line: str) -> None:
        request.node.user_properties.append((TOLD, line))

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have told, below the names of the tests."""
    reports = [
        report
        for category in terminalreporter.stats.values()
        for report in category
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    told = [(r.nodeid, line) for r in reports for name, line in r.user_properties if name == TOLD]
    if told:
        terminalreporter.section("counts")
    for nodeid, line in told:
        terminalreporter.write_line(f"{nodeid}\n    {line}")


SOURCES = ("full", "basic", "epoll")

SMALL = Options(segment_bytes=1 << 20)
"""Most journals of tests hold a few records; two segments of the usual size take 128 MiB."""


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    """Each completion source with a kernel under it; one that cannot be had is skipped, aloud."""
    from pybehave._uring.loop import Loop

    name: str = request.param
    try:
        Loop(name).close()
    except SourceUnavailable as error:
        pytest.skip(f"{name}: {error.reason}")
    return name


@pytest.fixture
def threads() -> Callable[[str], int]:
    """How many threads of that name (a beginning of it) this test has.

    A job of a test before that does not end keeps its thread, for nothing can take that from it.
    """
    before = set(threading.enumerate())

    def count(name: str) -> int:
        return sum(t.name.startswith(name) for t in set(threading.enumerate()) - before)

    return count


@pytest.fixture
def start(source: str) -> Iterator[Callable[..., Any]]:
    """Start applications on the source under test; they are stopped at the end."""
    nodes: list[Any] = []
    logger = logging.getLogger("pybehave")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # deliberate crashes need no traceback on the terminal

    def begin(app: Application, **options: Any) -> Any:
        options.setdefault("journal_options", SMALL)
        node = app.start(backend=source, **options)
        nodes.append(node)
        return node

    yield begin
    for node in nodes:
        node.stop(drain=False)
    logger.setLevel(level)


@pytest.fixture
def serve(start: Callable[..., Any]) -> Callable[..., Any]:
    """Serve one server class on a free port: serve(Class, protocol, **listener options)."""

    def begin(
        server: type[GenServer[Any, Any, Any]], protocol: Any, *, args: Any = None, **options: Any
    ) -> Any:
        loop_options = options.pop("loop", {})
        worker_options = options.pop("worker", {})
        app = Application(
            "test",
            Supervisor(
                "one_for_one", [Worker("s", server, args, **worker_options)], intensity=1000
            ),
            listeners=[Listener("tcp://127.0.0.1:0", protocol, to="s", **options)],
        )
        return start(app, **loop_options)

    return begin


def dial(node: Any, timeout: float = 10.0) -> socket.socket:
    """A client of a node's first listener."""
    host, _, port = node.urls[0].removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


def until(node: Any, condition: Callable[[], Any]) -> None:
    """Turn over with the loop until something holds; the deadline is the test's own."""
    while not node.run_on_loop(condition):
        pass


def kept_by(node: Any, name: str) -> Any:
    """What the runtime keeps for a server: a machine's or a manager's is more than its state."""
    return node.run_on_loop(lambda: node.loop.dispatcher.whereis(name).state)


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < count:
        got = client.recv(min(1 << 20, count - len(data)))
        if not got:
            break
        data += got
    return bytes(data)


def receive_all(client: socket.socket) -> bytes:
    """Everything until the end of the stream."""
    data = bytearray()
    while got := client.recv(1 << 16):
        data += got
    return bytes(data)
