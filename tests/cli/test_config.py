"""`--config`, `--set` and `pybehave config`; several applications on the command line."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from pybehave.errors import ConfigError
from pybehave.toml_files import FILE_BYTES_MAX, read_tables
from tests.conftest import receive
from tests.processes import COMMAND, run, serving

SHOP = """
import msgspec
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Env(msgspec.Struct, frozen=True):
    greeting: str = "hello"
    loud: bool = False

class Greeter(GenServer):
    def step(self, line, state):
        text = f"{state.greeting}, {line.decode()}"
        return state, (text.upper() if state.loud else text).encode()

def tree(env):
    return Supervisor("one_for_one", [Worker("greeter", Greeter, env)])

base = Application("base", Supervisor("one_for_one", [Worker("below", GenServer)]), version="2")
app = Application(
    "shop", tree, env=Env, depends=[base], version="1",
    listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="greeter")],
)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop_for_test.py").write_text(SHOP)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{before}" if before else str(tmp_path))
    (tmp_path / "a.toml").write_text("[shop]\ngreeting = 'good day'\n")
    return "shop_for_test:app"


def test_a_server_runs_with_what_was_configured(shop: str, tmp_path: Path, source: str) -> None:
    options = ("--config", str(tmp_path / "a.toml"), "--set", "shop.loud=true")
    with serving(shop, source, *options) as served:
        assert served.lines[0].startswith("shop 1 on ")
        with socket.create_connection(("127.0.0.1", served.port), 10) as client:
            client.sendall(b"you\n")
            assert receive(client, 14) == b"GOOD DAY, YOU\n"


def test_config_prints_values_and_where_they_come_from(shop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.toml")
    result = run("config", shop, "--config", path)
    assert result.stdout.splitlines() == [
        f"shop.greeting = 'good day'  ({path})",
        "shop.loud = False  (default)",
    ]
    assert "nothing can be set" in run("config", "examples.kv:app").stderr


@pytest.mark.parametrize("command", ["run", "tree", "config"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("shop.loud=7", "--set shop.loud: shop.loud: Expected `bool`, got `int`"),
        ("shop.lod=7", "application 'shop' has no such key; it has: greeting, loud"),
        ("loud", "write APPLICATION.KEY=VALUE"),
    ],
)
def test_a_mistake_in_a_setting_is_one_sentence(
    shop: str, command: str, setting: str, said: str
) -> None:
    result = run(command, shop, "--set", setting)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_pipe_is_a_file_of_settings(shop: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"[shop]\nloud = true\n")
    os.close(writing)
    try:
        ran = subprocess.run(
            [*COMMAND, "config", shop, "--config", f"/dev/fd/{reading}"],
            capture_output=True, text=True, timeout=60, check=True, pass_fds=(reading,),
        )  # fmt: skip
    finally:
        os.close(reading)
    assert f"shop.loud = True  (/dev/fd/{reading})" in ran.stdout


@pytest.mark.parametrize("over", [0, 1])
def test_a_file_of_settings_ends_at_its_limit(tmp_path: Path, over: int) -> None:
    path = tmp_path / "long.toml"
    path.write_bytes(b"#" * (FILE_BYTES_MAX + over))
    if not over:
        assert read_tables(path) == {}
        return
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        read_tables(path)


def test_tree_shows_all_applications_in_the_order_of_their_starts(shop: str) -> None:
    lines = run("tree", shop).stdout.splitlines()
    assert lines[0] == "application base 2"
    assert lines[3] == "application shop 1"
