"""help() of a public name says what each of its fields is, and what a wrong one raises."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any

import pytest

import pybehave
from pybehave import (
    AsyncioTask,
    Bridge,
    Release,
    Speaks,
    TerminateTree,
    actions,
    both,
    either,
    events,
    family,
    protocols,
    statem,
    testing,
)
from pybehave.protocols import Http, HttpReply
from tests.behaviours.test_hostile_fields import MAKERS

MODULES = (pybehave, actions, events, protocols, statem, testing)
UNNAMED = (Parameter.POSITIONAL_ONLY, Parameter.VAR_KEYWORD)

SPEC_ERRORS = (*MAKERS, AsyncioTask, Bridge, Http, Release, Speaks, both, either, family)
OTHERS: dict[Callable[..., Any], str] = {
    HttpReply: "ValueError",
    TerminateTree: "ValueError",
    **dict.fromkeys(
        (events.add_handler, events.add_sup_handler, events.call, events.delete_handler,
         events.done, events.swap_handler, events.swap_sup_handler),
        "TypeError",
    ),
}  # fmt: skip


def public() -> Iterator[Callable[..., Any]]:
    """What our public modules have for users to call."""
    for module in MODULES:
        for name in getattr(module, "__all__", None) or vars(module):
            found = getattr(module, name)
            is_ours = getattr(found, "__module__", "").startswith("pybehave")
            is_made = callable(found) and not getattr(found, "_is_protocol", False)
            if is_ours and is_made and not name.startswith("_"):
                yield found


def named_fields(maker: Callable[..., Any]) -> list[str]:
    """Of a function of one value the first sentence says what it is."""
    try:
        parameters = list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):  # a typing construct
        return []
    if len(parameters) == 1 and not isinstance(maker, type):
        return []
    return [each.name for each in parameters if each.kind not in UNNAMED]


FIELDS = {
    f"{maker.__module__}.{maker.__qualname__}.{field}": (maker, field)
    for maker in public()
    for field in named_fields(maker)
    if maker is not protocols.Push  # a list, made as lists are
}


@pytest.mark.parametrize(("maker", "field"), FIELDS.values(), ids=FIELDS)
def test_help_says_what_a_field_is(maker: Callable[..., Any], field: str) -> None:
    assert re.search(rf"^ +(\w+, )*{field}(, \w+)*: \S", inspect.getdoc(maker) or "", re.M)


def test_there_are_fields_to_ask_about() -> None:
    assert len(FIELDS) > 150


@pytest.mark.parametrize(
    ("maker", "error"),
    [*((maker, "SpecError") for maker in SPEC_ERRORS), *OTHERS.items()],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_help_says_what_a_wrong_field_raises(maker: Callable[..., Any], error: str) -> None:
    raises = (inspect.getdoc(maker) or "").partition("Raises:")[2]
    assert re.search(rf"\b{error}\b.*: \S", raises)
