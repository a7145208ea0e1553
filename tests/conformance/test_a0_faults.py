"""The five faults of the earlier implementation (features.md, A0), each as a regression test.

(4) and the loop's half of (5) need a loop: they are told again with real sockets elsewhere. Here
stands what the tree owes to them.
"""

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.errors import Crashed, NoProc, NotFound
from tests.builders import Boom, Idle, Run, running, supervisor


class Fragile(Idle):
    def step(self, command: object, state: object) -> object:
        if command == "crash":
            raise Boom(str(command))
        return state, command


def fragile() -> Run:
    return Run(supervisor("one_for_one", Worker("kv", Fragile))).start()


def test_fault_1_rest_for_one_must_not_make_its_subtree_the_new_root() -> None:
    """Everything outside of the restarted subtree vanished."""
    run = running("one_for_one", "kv1", supervisor("rest_for_one", "kv2 kv3"), "kv4")
    run.host.crash("kv2")
    assert run.host.registered == {"kv1": 1, "kv2": 5, "kv3": 6, "kv4": 4}
    assert list(run.tree.supervisors) == ["root", "root/supervisor-2"]


def test_fault_2_one_for_all_must_not_walk_the_entire_tree() -> None:
    run = running("one_for_one", "a", supervisor("one_for_all", "b c"), "d")
    run.host.crash("b")
    assert run.host.take() == "term b, term c, init b, init c"
    assert (run.host.registered["a"], run.host.registered["d"]) == (1, 4)


def test_fault_3_rest_for_one_must_handle_a_later_sibling_that_is_a_supervisor() -> None:
    inner = supervisor("one_for_one", "b", supervisor("one_for_all", "c d"))
    run = running("rest_for_one", "a", inner, "e")
    run.host.crash("a")
    assert run.host.take() == (
        "term a, term e, term d, term c, term b, init a, init b, init c, init d, init e"
    )


def test_fault_4_a_crashed_request_must_be_answered_before_the_restart_is_seen() -> None:
    run = fragile()
    with pytest.raises(Crashed) as caught:
        run.host.call("kv", "crash")
    assert isinstance(caught.value.reason, Boom)
    assert run.host.call("kv", "hello") == "hello"


def test_fault_5_an_unknown_name_must_not_reach_the_restart() -> None:
    run = fragile()
    with pytest.raises(NoProc):
        run.host.call("kv9", "hello")
    run.tree.worker_ended(object(), Boom("nobody"))
    with pytest.raises(NotFound):
        run.tree.restart_child("kv9", "kv").result()
    assert run.host.take() == ""
    assert run.host.call("kv", "hello") == "hello"
