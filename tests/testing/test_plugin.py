"""The pytest plugin as a user's tests see it: found by its entry point, in a pytest apart."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

APP = '''
"""An application to be tested."""
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Echo(GenServer):
    def init(self, args):
        return []

    def step(self, command, state):
        return [*state, command], command

def make(url="tcp://127.0.0.1:7000", **options):
    tree = Supervisor("one_for_one", [Worker("echo", Echo, **options)])
    return Application("app", tree, listeners=[Listener(url, Lines(), to="echo")])

app = make()
'''
SEED = re.compile(r"seed (\d+); run it again with  pytest \"(\S+)\" --pybehave-seed=(\d+)")


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's folder with an application in it, which the settings name."""
    pytester.makepyfile(application=APP)
    pytester.makeini("[pytest]\npybehave_app = application:app\n")
    monkeypatch.syspath_prepend(pytester.path)
    return pytester


def test_node_is_a_running_node_on_a_free_port(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import socket

        def test_echo(node):
            assert not node.urls[0].endswith(":7000")
            host, port = node.urls[0].removeprefix("tcp://").split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"hello\\n")
                assert client.recv(100) == b"hello\\n"
            assert node.call("echo", b"x") == b"x"
        """
    )
    user.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("backend", ["basic", "epoll"])
def test_the_completion_source_is_an_option(
    user: pytest.Pytester, backend: str, request: pytest.FixtureRequest
) -> None:
    from pybehave._uring.loop import Loop
    from pybehave.errors import SourceUnavailable

    try:
        Loop(backend).close()
    except SourceUnavailable as error:
        pytest.skip(f"{backend}: {error.reason}")
    user.makepyfile(
        f"""
        def test_it(node):
            assert node.loop.source.endswith({backend!r})
        """
    )
    user.runpytest(f"--pybehave-backend={backend}").assert_outcomes(passed=1)


def test_a_completion_source_that_there_is_not_is_one_sentence(user: pytest.Pytester) -> None:
    user.makepyfile("def test_it(node): pass")
    result = user.runpytest("--pybehave-backend=steam")
    result.assert_outcomes(errors=1)
    assert "steam" in result.stdout.str()


def test_a_fixture_of_the_user_says_which_application(user: pytest.Pytester) -> None:
    user.makeconftest(
        """
        import pytest
        from application import make

        @pytest.fixture
        def pybehave_app(tmp_path):
            return make("unix:///nobody/there.sock", journal=True)
        """
    )
    user.makepyfile(
        """
        import pytest
        import application

        def test_sockets_and_journals_lie_in_tmp_path(node, tmp_path):
            assert node.urls == (f"unix://{tmp_path}/0.sock",)
            node.call("echo", b"x")
            assert (tmp_path / "data").is_dir()

        def test_a_simulated_disk_is_there(sim):
            assert sim.node.call("echo", b"x") == b"x"
            assert sim.disk.contents()

        @pytest.mark.pybehave(app=application.app, shake=True, buffers=2)
        def test_the_marker_says_otherwise(sim):
            assert sim.disk is None
            assert sim.network.knobs
        """
    )
    user.runpytest("--strict-markers").assert_outcomes(passed=3)


FAILS = """
    def test_fails(sim):
        client = sim.connect()
        client.send(b"hello\\n")
        sim.run_until(lambda: client.received)
        print("drawn", sim.node.host.draw())
        assert False

    def test_passes(sim):
        pass

    def test_fails_without_chance(node):
        assert False
"""


def test_the_report_of_a_failure_names_the_seed_and_the_seed_repeats_it(
    user: pytest.Pytester,
) -> None:
    user.makepyfile(FAILS)
    first = user.runpytest().stdout.str()
    [(seed, nodeid, again)] = SEED.findall(first)
    assert seed == again
    assert nodeid.endswith("::test_fails")
    drawn = re.findall(r"drawn (\S+)", first)
    repeated = user.runpytest(nodeid, f"--pybehave-seed={seed}").stdout.str()
    assert SEED.findall(repeated)[0][0] == seed
    assert re.findall(r"drawn (\S+)", repeated) == drawn


def test_each_session_looks_at_other_weather(user: pytest.Pytester) -> None:
    user.makepyfile(FAILS)
    seeds = {SEED.findall(user.runpytest().stdout.str())[0][0] for _ in range(2)}
    assert len(seeds) == 2


def test_a_test_may_ask_for_the_seed_alone(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        def test_a(pybehave_seed):
            assert pybehave_seed == 42
        """
    )
    user.runpytest("--pybehave-seed=42").assert_outcomes(passed=1)
    assert "seed 7;" in user.runpytest("--pybehave-seed=7").stdout.str()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("", "which application is under test?"),
        ("pybehave_app = application:nothing", "pybehave_app: module 'application' has no"),
    ],
)
def test_without_an_application_the_error_says_what_to_do(
    user: pytest.Pytester, setting: str, sentence: str
) -> None:
    user.makeini(f"[pytest]\n{setting}\n")
    user.makepyfile("def test_it(node): pass")
    result = user.runpytest()
    result.assert_outcomes(errors=1)
    assert sentence in result.stdout.str()


def test_a_marker_may_name_an_application(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest

        @pytest.mark.pybehave(app="application:app")
        def test_it(sim): sim.node.call("echo", b"x")

        @pytest.mark.pybehave(app="application:nothing")
        def test_nothing(sim): pass
        """
    )
    result = user.runpytest()
    result.assert_outcomes(passed=1, errors=1)
    assert "the marker's app: module 'application' has no" in result.stdout.str()


def test_a_marker_without_keywords_is_refused(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest

        @pytest.mark.pybehave("application:app")
        def test_it(sim): pass
        """
    )
    assert "the marker takes keywords only" in user.runpytest().stdout.str()


def test_nothing_compiled_is_imported_unless_a_test_asks(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "pybehave.testing" in sys.modules
            assert "pybehave._uring" not in sys.modules
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
