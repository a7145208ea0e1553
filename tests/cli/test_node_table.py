"""`[pybehave]` in a file: every option of the node, each mistake with its file and key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pybehave.cli import main
from pybehave.cli.node_table import OF_NODE, PARTS
from pybehave.cli.run import command
from pybehave.journal.recovery import Options
from pybehave.runtime.health import HealthLimits
from pybehave.runtime.node_options import NODE_RULES
from tests.processes import run, serving

WHOLE = """
[pybehave]
listen = ["tcp://127.0.0.1:0"]
backend = "epoll"
log-level = "warning"
log_format = "json"
data = "elsewhere"
no_journal = false
segment_bytes = 262144
codec = ["zlib"]
key_file = "keys"
volatile = true
recovery_report = "report.json"
admin = "/tmp/a.sock"
no_admin = false
metrics = "127.0.0.1:0"
drain_timeout = 3
step_budget = 0.25
step_abort = 7
health_every = 20
debug_isolation = true
heart = false
heart_timeout = 9.5
heart_restarts = 4
heart_period = 30
seed = 5
buffers = 256
buffer_bytes = 2048
submissions = 512
completions = 4096

[pybehave.journal]
frame_bytes_max = 65536
depth = 2
strict = true
tail_bytes = 131072

[pybehave.health]
healthy_after = 10
failing_after = 20
mailbox_share = 0.5
disk_segments = 2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBEHAVE_BACKEND", raising=False)
    return tmp_path


def shown(*words: str) -> dict[str, str]:
    result = CliRunner().invoke(main, ["run", "examples.kv:app", *words, "--show-config"])
    assert (result.exit_code, result.stderr) == (0, "")
    pairs = [line.partition(" = ") for line in result.stdout.splitlines()]
    return {name: value for name, _, value in pairs}


def refused(text: str, *words: str) -> str:
    Path("node.toml").write_text(text)
    result = CliRunner().invoke(main, ["run", "examples.kv:app", "--config", "node.toml", *words])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    [line] = result.stderr.splitlines()
    return line


def test_every_option_can_be_set_and_says_its_file() -> None:
    Path("node.toml").write_text(WHOLE)
    found = shown("--config", "node.toml")
    from_file = {name for name, value in found.items() if "(node.toml; the default is" in value}
    options = {max(each.opts, key=len) for each in command.params if each.opts[0].startswith("--")}
    told = {"--config", "--set", "--show-config", "--reset", "--yes", "--deploy", "--as"}
    node = {f"pybehave.{name}" for name in OF_NODE}
    parts = {
        f"pybehave.{part}.{name}"
        for part, (_, fields) in PARTS.items()
        for name in fields
        if name not in ("segment_bytes", "codec", "every")
    }
    assert from_file == options - told | node | parts
    assert found["--drain-timeout"] == "3.0  (node.toml; the default is 10.0)"
    assert found["pybehave.journal.depth"] == "2  (node.toml; the default is 1)"


def test_what_a_node_takes_is_all_there() -> None:
    """An option that is new in one of them is new in the file, or this fails."""
    options = {each.name for each in command.params}
    own = {"config", "journal_options", "health"}
    assert NODE_RULES.keys() - own <= options | set(OF_NODE)
    assert {each.name for each in dataclasses.fields(Options)} == set(PARTS["journal"][1])
    assert {each.name for each in msgspec.structs.fields(HealthLimits)} == set(PARTS["health"][1])


def test_the_command_line_beats_the_later_file_beats_the_earlier(folder: Path) -> None:
    (folder / "a.toml").write_text("[pybehave]\ndrain_timeout = 1\nstep_budget = 1\nseed = 1\n")
    (folder / "b.toml").write_text("[pybehave]\ndrain_timeout = 2\nstep_budget = 2\n")
    found = shown("--drain-timeout", "3", "--config", "a.toml", "--config", "b.toml")
    assert found["--drain-timeout"] == "3.0  (argument; the default is 10.0)"
    assert found["--step-budget"] == "2.0  (b.toml; the default is 0.5)"
    assert found["pybehave.seed"] == "1  (a.toml; the default is 0)"
    assert found["--health-every"] == "10.0  (default)"


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("node.toml").write_text('[pybehave]\nbackend = "basic"\n')
    assert shown("--config", "node.toml")["--backend"].startswith("'basic'  (node.toml;")
    monkeypatch.setenv("PYBEHAVE_BACKEND", "epoll")
    monkeypatch.setenv("PYBEHAVE_KEY_FILE", "keys")
    found = shown("--config", "node.toml")
    assert found["--backend"] == "'epoll'  (environment PYBEHAVE_BACKEND; the default is 'auto')"
    assert found["--key-file"] == "'keys'  (environment PYBEHAVE_KEY_FILE; the default is None)"


@pytest.mark.parametrize(
    ("line", "key", "why"),
    [
        ("drain_timeout = -1", "drain_timeout", "-1"),
        ('drain_timeout = "3"', "drain_timeout", "use a number of seconds"),
        ("drain-timeout = true", "drain-timeout", "use a number of seconds"),
        ('backend = "sim"', "backend", "sim"),
        ("backend = 1", "backend", "use a text"),
        ('listen = "tcp://127.0.0.1:0"', "listen", "use a list of texts"),
        ('listen = ["nonsense"]', "listen", "has no known scheme"),
        ('metrics = "9100"', "metrics", "is no HOST:PORT"),
        ('recovery_report = "none/report.json"', "recovery_report", "its folder is not there"),
        ("segment_bytes = 5", "segment_bytes", "use a multiple of 4096"),
        ("no_admin = 1", "no_admin", "use true or false"),
        ("heart_timeout = 0.01", "heart_timeout", "is not allowed"),
        ("buffers = 3", "buffers", "a power of two"),
        ("seed = -1", "seed", "an integer from 0"),
        ('reset = ["kv1"]', "reset", "on the command line only"),
        ("drian_timeout = 3", "drian_timeout", "is it drain_timeout?"),
        ("journal = 5", "journal", "a table is expected"),
        ("journal.depth = 9", "journal.depth", "depth=9 is not allowed; use 1 to 8"),
        ("journal.depth = true", "journal.depth", "use an integer"),
        ("journal.strict = 1", "journal.strict", "use true or false"),
        ("journal.segment_bytes = 65536", "journal.segment_bytes", "there is no such option"),
        ("health.disk_segments = -1", "health.disk_segments", "disk_segments=-1"),
        ("drain-timeout = 1\ndrain_timeout = 1", "drain_timeout", "it is there twice"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(line: str, key: str, why: str) -> None:
    said = refused(f"[pybehave]\n{line}\n")
    assert said.startswith(f"pybehave: node.toml: pybehave.{key}: ")
    assert why in said


def test_a_table_that_is_none() -> None:
    assert refused("pybehave = 1\n") == (
        "pybehave: node.toml: pybehave: a table is expected, with options of the node"
    )


def test_a_setting_is_told_its_option() -> None:
    said = refused("", "--set", "pybehave.drain_timeout=3")
    assert "the node's own options are said as --drain-timeout" in said


def test_a_node_runs_as_its_file_says(source: str, folder: Path) -> None:
    data = folder / "there"
    (folder / "node.toml").write_text(
        f'[pybehave]\nmetrics = "127.0.0.1:0"\nbuffers = 64\nadmin = "{folder}/a.sock"\n'
        f"segment_bytes = 262144\n\n[pybehave.journal]\ndepth = 2\n"
    )
    words = ("--config", "node.toml", "--data", str(data))
    with serving("examples.kv:app", source, *words) as process:
        assert any(line.startswith("figures:") for line in process.lines)
        assert f"look inside:  pybehave attach {folder}/a.sock" in process.lines
        sizes = {path.stat().st_size for path in data.glob("*.seg*")}
        assert not sizes or sizes == {262144}


def test_other_commands_take_the_file_too() -> None:
    Path("node.toml").write_text(WHOLE)
    result: Any = run("config", "examples.kv:app", "--config", "node.toml")
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)
