"""Environments: types and defaults, values from files and options, errors that name the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave import config as configuration
from pybehave.errors import ConfigError, SpecError


class Env(msgspec.Struct, frozen=True):
    port: int = 7379
    words: dict[str, int] = {}
    name: str = "kv"


@dataclass(frozen=True)
class Other:
    seconds: float = 1.0


class Bare(msgspec.Struct):
    port: int


def app(name: str = "kv", env: Any = Env, **options: Any) -> Application:
    def tree(values: Any) -> Supervisor:
        return Supervisor("one_for_one", [Worker(f"{name}1", GenServer, values)])

    return Application(name, tree, env=env, **options)


def args_of(found: Application) -> Any:
    worker: Any = found.tree.children[0]
    return worker.args


def test_the_tree_is_made_for_the_defaults_and_again_for_other_values() -> None:
    assert args_of(app()) == Env()
    assert args_of(app().configured({"port": 1, "words": {"a": 1}})) == Env(1, {"a": 1})
    assert args_of(app(env=Other).configured({"seconds": 3})) == Other(3.0)
    assert args_of(app(env=None)) is None


@pytest.mark.parametrize(
    ("table", "key", "detail"),
    [
        ({"prot": 1}, "kv.prot", "no such key; it has: port, words, name"),
        ({"port": "7000"}, "kv.port", "Expected `int`, got `str`"),
        ({"words": {"a": "b"}}, "kv.words[...]", "Expected `int`, got `str`"),
        ({"words": 3}, "kv.words", "Expected `object`, got `int`"),
    ],
)
def test_what_is_not_allowed_is_named(table: Any, key: str, detail: str) -> None:
    with pytest.raises(ConfigError) as caught:
        app().configured(table)
    assert caught.value.key == key
    assert detail in str(caught.value)


def test_an_application_without_an_environment_takes_nothing() -> None:
    with pytest.raises(ConfigError, match="no such key; it has none"):
        app(env=None).configured({"port": 1})


@pytest.mark.parametrize(
    ("env", "said"), [(Bare, "needs a default for every key"), (int, "env=.*int"), ("x", "env='x'")]
)
def test_an_environment_that_cannot_be_is_refused(env: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        app(env=env)


def test_a_tree_that_cannot_be_made_is_refused_with_the_reason() -> None:
    def tree(values: Any) -> Supervisor:
        raise KeyError("x")

    with pytest.raises(SpecError, match="its tree cannot be made: KeyError: 'x'"):
        Application("kv", tree)


def test_later_files_and_then_options_win_key_by_key(tmp_path: Path) -> None:
    first, second = tmp_path / "1.toml", tmp_path / "2.toml"
    first.write_text("[kv]\nport = 1\nname = 'first'\n[kv.words]\na = 1\nb = 1\n")
    second.write_text("[kv]\nport = 2\n[kv.words]\nb = 2\n")
    settings = ["kv.words.c=3", "kv.name=plain text"]
    found = configuration.read([first, second], settings)
    configured = found.configured(app())
    assert configured.env == Env(2, {"a": 1, "b": 2, "c": 3}, "plain text")
    assert [
        (key, origin) for _, key, _, origin in configuration.effective([configured], found)
    ] == [
        ("port", str(second)),
        ("words", "--set kv.words.c"),
        ("name", "--set kv.name"),
    ]
    assert found.origin_of("kv", "other") == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kv\n", "1.toml: not TOML: "),
        ("kv = 3\n", "1.toml: kv: a table is expected"),
        ("[kv]\nport = 'x'\n", "1.toml: kv.port: Expected `int`, got `str`"),
        ("[kv]\nport = 1\nport = 2\n", "1.toml: not TOML: Cannot overwrite a value"),
        ("\xff", "1.toml: not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "1.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        configuration.read([path]).configured(app())
    assert said in str(caught.value)


@pytest.mark.parametrize("setting", ["", "kv", "kv=1", "kv.=1", ".port=1", "kv.port"])
def test_a_setting_of_another_form_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"write APPLICATION\.KEY=VALUE"):
        configuration.read([], [setting])


def test_what_an_application_depends_on_or_includes_is_configured_too() -> None:
    top = app("top", depends=[app("below")], included=[app("inside")])
    found = configuration.Config.of({"below": {"port": 1}, "inside": {"port": 2}}).configured(top)
    assert args_of(found.depends[0]).port == 1
    inside: Any = found.tree.children[1]
    assert (inside.id, inside.children[0].args.port) == ("inside", 2)
    assert args_of(found) == Env()
