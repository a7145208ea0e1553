"""`--deploy FILE --as NODE`: which node runs which children (A3-43)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pybehave.observer.client import AdminClient
from tests.processes import COMMAND, run, serving

SHOP = """
from pybehave import Application, GenServer, Listener, Release, Supervisor, Worker
from pybehave.protocols import Lines

class Name(GenServer):
    def step(self, command, state):
        return state, f"{self.context.name}: {command}"

def worker(name):
    return Worker(name, Name)

def listener(to):
    return Listener("tcp://127.0.0.1:0", Lines("utf-8"), to=to)

audit = Application("audit", Supervisor("one_for_one", [worker("log")]))
group = Supervisor("one_for_all", [worker("x"), worker("y")], id="pair")
shards = Supervisor("one_for_one", [worker("one"), worker("two")])
children = [worker("web"), group, shards] + [worker(name) for name in MORE]
app = Application(
    "shop",
    Supervisor("one_for_one", children),
    version=VERSION,
    listeners=[listener(name) for name in ("web", "one", "two", "x")],
)
all = Application("all", Supervisor("one_for_one", []), depends=[audit, app])
near = Application("near", Supervisor("one_for_one", [worker("n")]), depends=[audit])
release = None if VERSION == "1" else Release(app, upgrades="1")
"""

MAP = """
[deploy]
"shop/web" = "edge"
"shop/pair" = "edge"
"shop/supervisor-3/one" = "edge"
"shop/supervisor-3/two" = "back"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)
    text = SHOP.replace("MORE", "()").replace("VERSION", "'1'")
    (tmp_path / "shop.py").write_text(text)

    def write(text: str) -> str:
        (tmp_path / "map.toml").write_text(text)
        return "map.toml"

    return write


def ask(port: int, line: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"{line}\n".encode())
        return client.makefile("rb").readline().decode().strip()


def test_A3_43_a_node_runs_what_the_map_says(write: Callable[[str], str], source: str) -> None:
    place = write(MAP)
    with serving("shop:app", source, "--deploy", place, "--as", "back") as back:
        listening = [line for line in back.lines if "->" in line]
        assert [line.split("-> ")[1] for line in listening] == ["two"]
        assert ask(back.port, "hello") == "two: hello"
    with serving("shop:app", source, "--deploy", place, "--as", "edge") as edge:
        listening = [line for line in edge.lines if "->" in line]
        assert [line.split("-> ")[1] for line in listening] == ["web", "one", "x"]


def test_the_tree_shows_all_nodes_or_one(write: Callable[[str], str]) -> None:
    place = write(MAP)
    shown = run("tree", "shop:app", "--deploy", place).stdout
    edge, _, back = shown.partition("node back\n")
    assert edge.startswith("node edge\n")
    assert all(word in edge for word in ("web", "pair", "supervisor-3", "one"))
    assert "two" not in edge
    assert "two" in back
    assert not any(word in back for word in ("web", "pair", "one\n"))
    assert run("tree", "shop:app", "--deploy", place, "--as", "back").stdout == back


def test_applications_are_placed_whole_or_by_their_children(write: Callable[[str], str]) -> None:
    place = write('[deploy]\nshop = "a"\naudit = "b"\n')
    shown = run("tree", "shop:all", "--deploy", place)
    a, _, b = shown.stdout.partition("node b\n")
    assert "application shop" in a
    assert "application audit" not in a
    assert "application audit" in b
    assert "application shop" not in b
    assert "application all" in a  # what has no children of its own is everywhere
    assert "application all" in b


MISTAKES = {
    "no child": ('"shop/wab" = "a"', "shop/wab: there is no such child; there is: shop, shop/web"),
    "no application": ('shop = "a"\nshup = "a"', "shup: there is no such application; there is: "),
    "no node": ('"shop/web" = "a"', "shop/pair/x: it is on no node"),
    "two nodes": (
        'shop = "a"\n"shop/web" = "b"',
        "shop/web: it is placed twice: with 'shop' on 'a', and by itself",
    ),
    "said twice": ('shop = "a"\nshop = "b"', "not TOML"),
    "bound together": (
        MAP.replace('[deploy]', "").replace(
            '"shop/pair" = "edge"', '"shop/pair/x" = "edge"\n"shop/pair/y" = "back"'
        ),
        "shop/pair: its children are on 'back', 'edge', and strategy='one_for_all' binds them",
    ),
    "no text": ("shop = 5", "shop: 5 is not allowed; use the name of one node"),
    "not quoted": ('shop.web = "a"', "shop: {'web': 'a'} is not allowed; use the name of one"),
    "nothing": ("", "deploy: a table is expected"),
    "another node": ('shop = "c"', "--as: 'a' is no node; there is: c"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "why"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_map_that_is_wrong_is_told_before_anything_starts(
    write: Callable[[str], str], text: str, why: str
) -> None:
    place = write(f"[deploy]\n{text}")
    result = run("run", "shop:app", "--deploy", place, "--as", "edge" if "edge" in text else "a")
    assert result.returncode == 2
    assert f"map.toml: {why}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_an_application_depends_on_is_beside_it(write: Callable[[str], str]) -> None:
    place = write('[deploy]\nnear = "a"\naudit = "b"\n')
    result = run("tree", "shop:near", "--deploy", place)
    assert "near: it depends on 'audit', so all of both stands on one node" in result.stderr
    place = write('[deploy]\nnear = "a"\naudit = "a"\n')
    assert run("tree", "shop:near", "--deploy", place).returncode == 0


def test_other_tables_and_half_of_the_options_are_refused(write: Callable[[str], str]) -> None:
    place = write('[deploy]\nshop = "a"\n[shop]\nport = 1\n')
    assert "only a table [deploy]" in run("tree", "shop:app", "--deploy", place).stderr
    for half in (("--deploy", place), ("--as", "a")):
        assert "belong together" in run("run", "shop:app", *half).stderr


def test_A3_43_a_release_is_cut_as_what_it_follows(
    write: Callable[[str], str], source: str, tmp_path: Path
) -> None:
    place = write(MAP + '"shop/new" = "back"\n')
    next_one = tmp_path / "next"
    next_one.mkdir()
    text = SHOP.replace("MORE", "('new', 'other')").replace("VERSION", "'2'")
    (next_one / "shop.py").write_text(text)
    (tmp_path / "shop.py").write_text(SHOP.replace("MORE", "('new',)").replace("VERSION", "'1'"))
    words = ("--deploy", place, "--as", "edge", "--admin", str(tmp_path / "s"))
    with serving("shop:app", source, *words):
        upgrade = (
            "upgrade",
            "shop:release",
            "--path",
            str(next_one),
            "--node",
            str(tmp_path / "s"),
        )
        result = run("release", *upgrade)
        assert result.returncode != 0
        assert "shop/other: it is on no node" in result.stderr
        (next_one / "shop.py").write_text(text.replace(", 'other'", ","))
        result = run("release", *upgrade)
        assert (result.returncode, result.stderr) == (0, "")
        with AdminClient(str(tmp_path / "s")) as asking:
            assert "new" not in str(asking.ask("tree"))
    assert COMMAND
