"""An application's environment: what may be set from outside, with types and defaults.

It is declared as a class whose fields all have defaults, a msgspec Struct or a dataclass:

    class Env(msgspec.Struct, frozen=True):
        port: int = 7379

What comes from a file or a command line is checked against it before anything starts.

Does not know: files, where a value comes from (config.py).
Source: OTP kernel, application: `env` of the application resource file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pybehave.behaviours.rules import refused
from pybehave.errors import ConfigError, SpecError, show

_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$(?P<path>[^`]*)`$", re.DOTALL)
"""How msgspec says where a value stands."""


def defaults(path: str, kind: Any) -> Any:
    """Return the environment in which every key has its default.

    Args:
        path: The application, as errors name it.
        kind: The class that declares the keys.

    Raises:
        SpecError: It is no such class, or a key has no default.
    """
    if not isinstance(kind, type) or keys_of(kind) is None:
        raise refused(path, "env", kind, "a msgspec.Struct or dataclass that declares the keys")
    try:
        return kind()
    except TypeError as error:
        raise SpecError(path, f"env={show(kind)} needs a default for every key: {error}") from error


def keys_of(kind: Any) -> tuple[str, ...] | None:
    """Return the names of the keys, or None when the class declares none."""
    try:
        found = msgspec.inspect.type_info(kind)
    except (TypeError, NotImplementedError):
        return None
    if not isinstance(found, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        return None
    return tuple(each.encode_name for each in found.fields)


def changed(name: str, env: Any, table: Mapping[str, Any]) -> Any:
    """Return an environment with other values for some keys; tables within it are merged.

    Args:
        name: The application's.
        env: The environment as it is; None when the application declares none.
        table: Key -> value, as TOML gives it.

    Raises:
        ConfigError: A key is unknown, or its value has another type than declared.
    """
    known = () if env is None else keys_of(type(env)) or ()
    for key in table:
        if key not in known:
            there = f"it has: {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{name}.{key}", f"application {name!r} has no such key; {there}")
    if env is None:
        return None
    before = msgspec.to_builtins(env)
    try:
        return msgspec.convert(merged(before, table), type(env))
    except msgspec.ValidationError as error:
        found = _PLACE.match(str(error))
        if found is None:
            raise ConfigError(name, str(error)) from error
        raise ConfigError(f"{name}{found['path']}", found["what"]) from error


def differences(before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return what changed: keys with new values, new keys with theirs, keys that are gone.

    Source: OTP kernel, application: `config_change/3`.
    """
    old, new = _as_dict(before), _as_dict(after)
    return (
        {key: value for key, value in new.items() if key in old and old[key] != value},
        {key: value for key, value in new.items() if key not in old},
        [key for key in old if key not in new],
    )


def _as_dict(env: Any) -> dict[str, Any]:
    if env is None:
        return {}
    return {key: getattr(env, key) for key in keys_of(type(env)) or ()}


def merged(before: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with values of another one laid over it, table by table."""
    result = dict(before)
    for key, value in table.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value
    return result
