"""`pybehave run --show-config`: every setting with its value, its default and its origin."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pybehave.cli import main
from pybehave.cli.run import command
from tests.processes import run

SHOP = """
import msgspec
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Env(msgspec.Struct, frozen=True):
    greeting: str = "hello"
    loud: bool = False
    size: int = 3

def tree(env):
    below = Supervisor("rest_for_one", [Worker("c", GenServer, mailbox=env.size)], id="below")
    return Supervisor("one_for_one", [Worker("a", GenServer), below], intensity=7)

app = Application(
    "shop", tree, env=Env,
    listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="a", linger=1.5, name="front")],
)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop_for_settings.py").write_text(SHOP)
    (tmp_path / "a.toml").write_text("[shop]\ngreeting = 'good day'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PYBEHAVE_BACKEND", raising=False)
    return "shop_for_settings:app"


def shown(*words: str) -> list[str]:
    result = CliRunner().invoke(main, ["run", *words, "--show-config"])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_values_say_where_they_come_from(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBEHAVE_BACKEND", "epoll")
    words = ["--drain-timeout", "3", "--config", "a.toml", "--set", "shop.size=20", "--volatile"]
    lines = shown(shop, *words)
    assert {
        "--drain-timeout = 3.0  (argument; the default is 10.0)",
        "--volatile = True  (argument; the default is False)",
        "--step-budget = 0.5  (default)",
        "--backend = 'epoll'  (environment PYBEHAVE_BACKEND; the default is 'auto')",
        "shop.greeting = 'good day'  (a.toml; the default is 'hello')",
        "shop.size = 20  (--set shop.size; the default is 3)",
        "shop.loud = False  (default)",
    } <= set(lines)


def test_an_argument_wins_over_the_environment(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBEHAVE_BACKEND", "epoll")
    line = "--backend = 'basic'  (argument; the default is 'auto')"
    assert line in shown(shop, "--backend", "basic")


def test_what_the_code_says_stands_beside_its_defaults(shop: str) -> None:
    lines = shown(shop, "--set", "shop.size=20")
    assert {
        "root Supervisor(intensity=) = 7  (in code; the default is 1)",
        "root Supervisor(period=) = 5.0  (default)",
        "root/below Supervisor(intensity=) = 1  (default)",
        "root/below/c Worker(mailbox=) = 20  (in code; the default is 1024)",
        "front Listener(linger=) = 1.5  (in code; the default is 5.0)",
        "Worker(mailbox=) = 1024  (default)",
        "Supervisor(intensity=) = 1  (default)",
        "Options(segment_bytes=) = 67108864  (default)",
    } <= set(lines)
    assert not any("root/a Worker" in line for line in lines)


def test_every_option_is_shown_once(shop: str) -> None:
    names = [line.split(" = ")[0] for line in shown(shop)]
    options = {max(param.opts, key=len) for param in command.params if param.opts[0][0] == "-"}
    assert {name for name in names if name.startswith("--")} == options - {"--show-config", "--yes"}
    assert len(names) == len(set(names))


def test_nothing_is_started_and_nothing_is_written(shop: str, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    result = run("run", shop, "--show-config", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert after == before


def test_a_mistake_in_a_file_is_one_sentence_here_too(shop: str) -> None:
    result = run("run", shop, "--set", "shop.lod=7", "--show-config")
    assert result.returncode == 2
    assert "has no such key" in result.stderr
