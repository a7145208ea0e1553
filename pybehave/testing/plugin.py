"""The pytest plugin: a running node and a simulator of the application under test, by fixture.

    # conftest.py                                # or, in pytest's settings:
    @pytest.fixture                              # pybehave_app = "examples.kv:app"
    def pybehave_app():
        return app

    def test_it(node):                           # a real node on a free port of this machine
        assert node.call("kv1", [b"PING"]) ...

    @pytest.mark.pybehave(shake=True)
    def test_it_in_bad_weather(sim):             # the same on a simulated network and disk
        client = sim.connect()

pytest finds it by its entry point once pybehave is installed (`pip install pybehave[testing]`).
What is left to chance in `sim` follows from a seed. Each test has one of its own, drawn anew for
each session, so that every run looks at other weather; the report of a test that failed names it,
and `--pybehave-seed` gives it to all tests again.

Nothing that is compiled is imported until a test asks for it: the plugin is there in every run of
pytest in the same environment, also of programs that know nothing of pybehave.

Does not know: what the application is; how tests are chosen and run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pybehave.behaviours.application import Application
    from pybehave.runtime.node import Node
    from pybehave.testing.simulate import Simulator

SEEDS_MAX: Final = 1 << 32
"""Seeds that are drawn are below this: short enough to be typed."""

SESSION_SEED: Final = pytest.StashKey[int]()
TEST_SEED: Final = pytest.StashKey[int]()

MARK: Final = (
    "pybehave(app=None, shake=False, **options): for this test's `node` and `sim`: another "
    "application (or its MODULE:APP), the simulator's weather, options of the Simulator"
)
NO_APP: Final = (
    "which application is under test? Define a fixture `pybehave_app` that returns it, "
    'mark the test with pybehave(app=...), or set pybehave_app = "MODULE:APP" in pytest\'s settings'
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options and settings."""
    group = parser.getgroup("pybehave")
    group.addoption(
        "--pybehave-seed",
        type=int,
        metavar="SEED",
        help="the seed of every simulated test; by default each has its own, drawn anew",
    )
    group.addoption(
        "--pybehave-backend",
        metavar="NAME",
        help='what the fixture `node` runs on: "auto" (the default), "uring", "epoll", ...',
    )
    parser.addini("pybehave_app", 'MODULE:APP of the application under test; "" by default')


def pytest_configure(config: pytest.Config) -> None:
    """Declare our marker, and draw the session's seed."""
    config.addinivalue_line("markers", MARK)
    config.stash[SESSION_SEED] = secrets.randbelow(SEEDS_MAX)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the seed in the report of a simulated test that failed."""
    report = yield
    if report.failed and TEST_SEED in item.stash:
        seed = item.stash[TEST_SEED]
        text = f'seed {seed}; run it again with  pytest "{item.nodeid}" --pybehave-seed={seed}'
        report.sections.append(("pybehave", text))
    return report


@pytest.fixture
def pybehave_app(request: pytest.FixtureRequest) -> Application:
    """The application under test: the marker's, or that of the setting `pybehave_app`.

    Override it in a conftest.py, or beside the test.
    """
    target = request.config.getini("pybehave_app")
    if not target:
        raise pytest.UsageError(NO_APP)
    return _loaded(target, "pybehave_app")


@pytest.fixture
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A running node: its listeners on free ports of this machine, its journal in `tmp_path`.

    `node.urls` says where it listens.
    """
    from pybehave.errors import SourceUnavailable
    from pybehave.runtime.node import Node

    app, _ = _under_test(request)
    backend = request.config.getoption("--pybehave-backend")
    try:
        made = Node(app, backend=backend, listen=_urls(app, tmp_path), data=tmp_path / "data")
    except SourceUnavailable as error:
        raise pytest.UsageError(f"--pybehave-backend={backend}: {error}") from error
    with made.start():
        yield made


@pytest.fixture
def pybehave_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: `--pybehave-seed`, or one of its own; named when the test fails."""
    seed = request.config.getoption("--pybehave-seed")
    if seed is None:
        text = f"{request.config.stash[SESSION_SEED]} {request.node.nodeid}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    request.node.stash[TEST_SEED] = seed
    return int(seed)


@pytest.fixture
def sim(request: pytest.FixtureRequest, pybehave_seed: int) -> Iterator[Simulator]:
    """A started Simulator of the application, with a disk if a worker of it is journaled.

    The marker `pybehave` takes the Simulator's options, as `shake=True`.
    """
    from pybehave.behaviours.supervisor import workers
    from pybehave.testing.disk import SimDisk
    from pybehave.testing.simulate import Simulator

    app, options = _under_test(request)
    if "disk" not in options and any(worker.journal for worker in workers(app.tree)):
        options["disk"] = SimDisk(pybehave_seed)
    with Simulator(pybehave_seed, app, **options) as world:
        yield world


def _under_test(request: pytest.FixtureRequest) -> tuple[Application, dict[str, Any]]:
    """The application, and the options of the nearest marker."""
    mark = request.node.get_closest_marker("pybehave")
    options = dict(mark.kwargs) if mark is not None else {}
    app = options.pop("app", None)
    if mark is not None and mark.args:
        raise pytest.UsageError(f"the marker takes keywords only: {MARK}")
    if isinstance(app, str):
        app = _loaded(app, "the marker's app")
    return (request.getfixturevalue("pybehave_app") if app is None else app), options


def _loaded(target: str, where: str) -> Application:
    """The application that MODULE:APP means."""
    from pybehave.cli.load import Mistake, load

    try:
        return load(target)
    except Mistake as mistake:
        raise pytest.UsageError(f"{where}: {mistake.format_message()}") from mistake


def _urls(app: Application, folder: Path) -> tuple[str, ...]:
    """Where a node listens in a test: nobody else is there, and nobody outside comes in."""
    return tuple(
        f"unix://{folder}/{index}.sock" if listener.url.startswith("unix:") else "tcp://127.0.0.1:0"
        for index, listener in enumerate(app.listeners)
    )
