"""The tree as data: checked at construction, printed, written to JSON, walked."""

import json
import pickle
from functools import partial
from typing import Any

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.observer import Observer
from pybehave.behaviours.supervisor import DEPTH_MAX, Supervisor, find, walk
from pybehave.behaviours.supervisor import workers as workers_of
from pybehave.errors import SpecError
from pybehave.types import Rollback
from tests.builders import Idle, supervisor, workers

TREE = supervisor(
    "one_for_one",
    "kv1",
    supervisor(
        "rest_for_one", "kv2", Worker("kv3", Idle, restart="transient", shutdown="infinity")
    ),
)

WRONG = [
    ("strategy", "one_for_some"),
    ("strategy", None),
    ("id", ""),
    ("id", "a/b"),
    ("intensity", -1),
    ("intensity", 1.0),
    ("intensity", True),
    ("period", 0),
    ("period", -5),
    ("period", float("inf")),
    ("auto_shutdown", "any"),
    ("restart", "sometimes"),
    ("shutdown", "soon"),
    ("significant", None),
]


def test_S1_1_flags_have_the_defaults_of_OTP() -> None:
    tree = Supervisor("one_for_one", [])
    assert (tree.intensity, tree.period, tree.auto_shutdown) == (1, 5.0, "never")
    assert (tree.restart, tree.shutdown, tree.significant) == ("permanent", "infinity", False)


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_S1_1_a_wrong_flag_is_named_with_its_value_and_the_mend(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"strategy": "one_for_one", "children": [], field: value}
    with pytest.raises(SpecError, match=rf"{field}=.* is not allowed; use "):
        Supervisor(**fields)


def test_S1_1_periods_may_be_fractions_of_a_second() -> None:
    assert Supervisor("one_for_one", [], period=0.25).period == 0.25


def test_S1_1_duplicate_ids_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"Supervisor 'kv' child 'a': id='a' is taken"):
        supervisor("one_for_one", "a b a", id="kv")


def test_S1_1_the_same_id_may_stand_under_different_supervisors() -> None:
    inner = Supervisor("one_for_one", [Worker("a", Idle, name="a2")])
    assert supervisor("one_for_one", "a", inner)


@pytest.mark.parametrize("children", [None, "ab", {"a": 1}, [Idle], 7])
def test_S1_1_children_are_workers_and_supervisors(children: Any) -> None:
    with pytest.raises(SpecError, match="children"):
        Supervisor("one_for_one", children)


@pytest.mark.parametrize(
    ("auto_shutdown", "restart", "is_allowed"),
    [
        ("never", "permanent", False),
        ("never", "transient", False),
        ("never", "temporary", False),
        ("any_significant", "permanent", False),
        ("any_significant", "transient", True),
        ("any_significant", "temporary", True),
        ("all_significant", "permanent", False),
        ("all_significant", "transient", True),
        ("all_significant", "temporary", True),
    ],
)
def test_S1_1_significance_needs_auto_shutdown_and_an_end(
    auto_shutdown: str, restart: str, is_allowed: bool
) -> None:
    children = workers("a", restart=restart, significant=True)
    if is_allowed:
        assert supervisor("one_for_one", *children, auto_shutdown=auto_shutdown)
    else:
        with pytest.raises(SpecError, match="child 'a': significant=True"):
            supervisor("one_for_one", *children, auto_shutdown=auto_shutdown)


def test_worker_names_are_unique_in_the_whole_tree() -> None:
    inner = Supervisor("one_for_one", [Worker("b", Idle, name="a")])
    with pytest.raises(SpecError, match="name='a' is taken"):
        supervisor("one_for_one", "a", inner)


def test_supervisors_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    tree = supervisor("one_for_one", "a")
    for _ in range(DEPTH_MAX - 1):
        tree = supervisor("one_for_one", tree)
    assert tree.depth == DEPTH_MAX
    with pytest.raises(SpecError, match=f"at most {DEPTH_MAX}"):
        supervisor("one_for_one", tree)


def test_A0_6_a_tree_prints() -> None:
    assert TREE.dump().splitlines() == [
        "root  one_for_one  1 in 5 s",
        "├── kv1  Idle  shutdown 5 s",
        "└── supervisor-2  rest_for_one  1 in 5 s",
        "    ├── kv2  Idle  shutdown 5 s",
        "    └── kv3  Idle  shutdown infinity  transient",
    ]


def test_A0_6_a_tree_survives_JSON() -> None:
    assert Supervisor.from_json(TREE.to_json()) == TREE


def test_a_tree_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(TREE)) == TREE


def test_JSON_with_a_wrong_value_is_refused_by_supervisor_child_and_field() -> None:
    data = json.loads(supervisor("one_for_one", "cache", id="kv").to_json())
    data["children"][0]["shutdown"] = -1
    with pytest.raises(SpecError) as caught:
        Supervisor.from_json(json.dumps(data))
    assert str(caught.value) == (
        "Supervisor 'kv' child 'cache': shutdown=-1 is not allowed; "
        'use seconds >= 0, "brutal_kill" or "infinity"'
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shutdwon": 1}, "no field 'shutdwon'"),
        ({"server": "no.such.module:X"}, "cannot be found"),
        ({"server": "tests.builders:Nobody"}, "cannot be found"),
        ({"server": 7}, "cannot be found"),
    ],
)
def test_JSON_that_names_what_is_not_there_is_refused(change: dict[str, Any], why: str) -> None:
    data = json.loads(supervisor("one_for_one", "a").to_json())
    data["children"][0] |= change
    with pytest.raises(SpecError, match=why):
        Supervisor.from_json(json.dumps(data))


@pytest.mark.parametrize("args", [(1, 2), {1: 2}, object(), {1, 2}])
def test_args_that_JSON_would_change_are_refused(args: Any) -> None:
    with pytest.raises(SpecError, match="args="):
        Supervisor("one_for_one", [Worker("a", Idle, args)]).to_json()


def idle_by_name() -> Idle:
    return Idle()


@pytest.mark.parametrize("server", [partial(Idle), lambda: Idle().__class__()])
def test_a_server_that_cannot_be_found_again_is_not_written_to_JSON(server: Any) -> None:
    with pytest.raises(SpecError, match="server="):
        Supervisor("one_for_one", [Worker("a", server)]).to_json()


def test_a_factory_at_the_top_of_a_module_survives_JSON() -> None:
    tree = Supervisor("one_for_one", [Worker("a", idle_by_name)])
    assert Supervisor.from_json(tree.to_json()) == tree


def test_walking_is_depth_first_in_start_order() -> None:
    paths = ["root", "root/kv1", "root/supervisor-2"]
    paths += ["root/supervisor-2/kv2", "root/supervisor-2/kv3"]
    assert [path for path, _ in walk(TREE)] == paths
    assert [worker.id for worker in workers_of(TREE)] == ["kv1", "kv2", "kv3"]


def test_a_worker_is_found_by_its_name() -> None:
    found = find(TREE, "kv3")
    assert found is not None
    assert found.restart == "transient"
    assert find(TREE, "kv9") is None


def test_how_a_journaled_worker_is_kept_survives_JSON_or_is_refused() -> None:
    kept = Worker("a", Idle, journal=True, recovery="clean", acknowledge="os")
    tree = Supervisor("one_for_one", [kept])
    assert Supervisor.from_json(tree.to_json()) == tree
    for field, value in (("recovery", Rollback(1)), ("observers", [Observer()])):
        tree = Supervisor("one_for_one", [Worker("a", Idle, **{field: value})])
        with pytest.raises(SpecError, match=rf"Worker 'a'.*{field}="):
            tree.to_json()
