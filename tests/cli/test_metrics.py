"""`pybehave metrics` and `pybehave run --metrics`."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from pybehave.cli import main
from tests.processes import run, serving


def names(text: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(text)}


def test_figures_come_over_the_admin_socket_and_over_http(source: str, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    options = ("--data", data, "--metrics", "127.0.0.1:0")
    with serving("examples.kv:app", source, *options) as served:
        result = CliRunner().invoke(main, ["metrics", data])
        assert (result.exit_code, result.stderr) == (0, "")
        (line,) = (line for line in served.lines if line.startswith("figures:"))
        with urllib.request.urlopen(line.split()[1], timeout=20) as answer:
            fetched = answer.read().decode()
    assert names(result.stdout) == names(fetched) >= {"pybehave_journal_commit_seconds"}


def test_a_node_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["metrics", str(tmp_path / "none.sock")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["metrics", "x.sock"], ["run", "examples.echo:app", "--metrics", ":0"]]
)
def test_without_the_library_the_mend_is_named(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybehave.observer.metrics", None)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "pip install 'pybehave[metrics]'" in result.stderr


@pytest.mark.parametrize("place", ["9100", "9100x", "127.0.0.1", "http://127.0.0.1:9100", ""])
def test_a_place_that_is_none_is_one_sentence(place: str) -> None:
    result = run("run", "examples.echo:app", "--metrics", place)
    assert result.returncode == 2
    assert result.stderr == f"pybehave: --metrics: {place!r} is no HOST:PORT, as 127.0.0.1:9100\n"


@pytest.mark.parametrize(
    ("option", "place"),
    [("--metrics", "127.0.0.1:65536"), ("--admin", "x" * 200)],
)
def test_what_can_be_no_address_is_a_mistake_and_starts_nothing(option: str, place: str) -> None:
    result = run("run", "examples.echo:app", "--listen", "tcp://127.0.0.1:0", option, place)
    assert result.returncode == 2
    [sentence] = result.stderr.splitlines()
    assert sentence.startswith(f"pybehave: {option}: Listener: url=")


def test_a_port_that_is_taken_ends_the_node() -> None:
    with serving("examples.echo:app", "epoll") as first:
        result = run(
            "run",
            "examples.echo:app",
            "--listen",
            "tcp://127.0.0.1:0",
            "--metrics",
            f"127.0.0.1:{first.port}",
            "--log-level",
            "error",
        )
    assert result.returncode == 1
    assert result.stderr.startswith("pybehave: --metrics: ")
