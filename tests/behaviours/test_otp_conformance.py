"""OTP's rules for gen_server, gen_statem, gen_event, supervisor and sys, one test each, on nodes.

Each test's docstring names the function and the rule. What is compared with OTP itself, scenario by
scenario, is in tests/conformance/otp; what differs on purpose is in docs/guide/from_erlang.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    TIMEOUT,
    Application,
    GenServer,
    Shutdown,
    Supervisor,
    Worker,
)
from pybehave.actions import (
    Call,
    CallFailed,
    CancelTimer,
    Cast,
    Continue,
    Demonitor,
    Down,
    Hibernate,
    IdleTimeout,
    Ignore,
    Info,
    Link,
    Monitor,
    Reply,
    StartTimer,
    Stop,
)
from pybehave.errors import (
    AlreadyStarted,
    BadReturn,
    CallbackFailed,
    CallingSelf,
    Crashed,
    NoProc,
    NotFound,
    StartFailed,
    Stopped,
    Timeout,
)
from pybehave.testing.simulate import Simulator
from tests.conftest import until

Start = Callable[..., Any]
TRACE: list[Any] = []


class Lab(GenServer[list[Any], Any, Any]):
    """Does what it is told: a request is a function of the server and its state, or is kept."""

    def init(self, args: Any) -> Any:
        TRACE.append(f"init {self.context.name}")
        return args(self) if callable(args) else []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        if callable(request):
            return request(self, state)
        return [*state, ("call", request)], request

    def handle_cast(self, message: Any, state: list[Any]) -> Any:
        if callable(message):
            return message(self, state)
        return [*state, ("cast", message)], None

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        if callable(message):
            return message(self, state)
        return [*state, ("info", message)], None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        if callable(term):
            return term(self, state)
        return [*state, ("continue", term)], None

    def terminate(self, reason: Any, state: list[Any]) -> None:
        TRACE.append((f"terminate {self.context.name}", reason, list(state)))
        if state and callable(state[-1]):
            state[-1]()


def fail(_self: Any, _state: Any) -> Any:
    raise ValueError("asked to")


def lab(*names: str, args: Any = None, **words: Any) -> Application:
    workers = [Worker(name, Lab, args, **words) for name in names or ("a", "b")]
    return Application("lab", Supervisor("one_for_one", workers, intensity=1000))


@pytest.fixture(autouse=True)
def _clean() -> None:
    TRACE.clear()


@pytest.fixture
def node(start: Start) -> Any:
    return start(lab())


def seen(node: Any, name: str = "a", count: int = 0) -> list[Any]:
    until(node, lambda: len(node.get_state(name)) >= count)
    return list(node.get_state(name))


# --- gen_server: init --------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "shutdown", "odd"])
def test_gen_server_init_stop_is_an_error_whatever_the_reason(start: Start, reason: str) -> None:
    """Module:init/1 {stop, Reason}: start fails with it, also normal; terminate is not called."""
    with pytest.raises(StartFailed) as caught:
        start(lab("a", args=lambda _: Stop(reason)))
    assert reason in str(caught.value)
    assert TRACE == ["init a"]


def test_gen_server_init_that_raises_frees_the_name_and_calls_no_terminate(start: Start) -> None:
    """gen:init_it: an exception in init is the start's error; terminate is not called."""
    node = start(lab("a"))
    with pytest.raises(StartFailed):
        node.start_child("root", Worker("x", Lab, lambda self: fail(self, None)))
    assert node.whereis("x") is None
    assert TRACE == ["init a", "init x"]
    node.start_child("root", Worker("x", Lab))
    assert node.call("x", 1) == 1


def test_gen_server_init_ignore_is_no_failure(start: Start) -> None:
    """{ignore}: kept as stopped by its supervisor, the name is free."""
    node = start(lab("a", args=lambda _: Ignore()))
    (child,) = node.which_children("root")
    assert (child.id, node.whereis("a")) == ("a", None)
    assert node.count_children("root")[:2] == (1, 0)


def test_gen_server_a_taken_name_is_already_started(node: Any) -> None:
    """start_link/4 {error, {already_started, Pid}}: nothing is started."""
    with pytest.raises(AlreadyStarted):
        node.start_child("root", Worker("other", Lab, name="a"))
    assert TRACE == ["init a", "init b"]


def test_gen_server_init_continue_comes_before_what_was_sent_during_init(start: Start) -> None:
    """{ok, S, {continue, T}}: before all that waits, also what init itself caused."""

    def init(self: Any) -> Any:
        return [], Info("a", "sent in init"), Continue("first")

    node = start(lab("a", args=init))
    assert seen(node, count=2) == [("continue", "first"), ("info", "sent in init")]


# --- gen_server: calls and casts ---------------------------------------------------------------


def test_gen_server_a_reply_goes_out_before_the_continue_and_stands(node: Any) -> None:
    """{reply, R, S, {continue, T}}: a crash in handle_continue does not take the reply back."""
    assert node.call("a", lambda _, state: (state, "replied", Continue(fail))) == "replied"
    until(node, lambda: node.whereis("a") == 2)


def test_gen_server_continues_chain_before_anything_else(node: Any) -> None:
    """handle_continue may return another continue; inputs wait."""

    def chain(_self: Any, state: Any) -> Any:
        return [*state, 1], None, Continue("second")

    node.call("a", lambda _, state: (state, None, [Info("a", "waits"), Continue(chain)]))
    assert seen(node, count=3) == [1, ("continue", "second"), ("info", "waits")]


def test_gen_server_stop_with_reply_terminates_with_the_new_state_first(node: Any) -> None:
    """{stop, Reason, Reply, S}: terminate has the new state, and runs before the reply."""
    order: list[str] = []

    def stop(_: Any, state: Any) -> Any:
        return [*state, lambda: order.append("terminate")], "bye", Stop("normal")

    assert node.call("a", stop) == "bye"
    assert order == ["terminate"]


def test_gen_server_a_terminate_that_raises_takes_the_reply_of_a_stop_not_away(node: Any) -> None:
    """{stop, Reason, Reply, S} with a terminate that raises: the reply is sent all the same."""

    def wrong() -> None:
        raise ValueError("in terminate")

    assert node.call("a", lambda _, state: ([wrong], "bye", Stop("normal"))) == "bye"


def test_gen_server_stop_without_reply_tells_the_caller_the_reason(node: Any) -> None:
    """{stop, Reason, S} in handle_call: the caller gets the reason at once."""
    with pytest.raises(Stopped) as caught:
        node.call("a", lambda _, state: (state, NO_REPLY, Stop(Shutdown("why"))))
    assert caught.value.reason == Shutdown("why")


@pytest.mark.parametrize("is_mine", [True, False], ids=["its own stop", "sys.terminate"])
def test_gen_server_an_abnormal_end_is_a_crash_to_whoever_waits(node: Any, is_mine: bool) -> None:
    """{stop, Reason, S} and sys:terminate/2: callers exit with the reason; the report is found."""
    waiting = node.send_request("a", lambda _, state: (state, NO_REPLY))
    if is_mine:
        node.cast("a", lambda _, state: (state, None, Stop("odd")))
    else:
        node.sys.terminate("a", "odd")
    error = waiting.exception(10)
    assert (type(error), error.reason) == (Crashed, "odd")
    assert error.crash_id == node.crashes()[-1].crash_id


def test_gen_server_reply_from_anywhere_once(node: Any) -> None:
    """reply/2: from another server; a second reply is ignored."""

    def hand_over(self: Any, state: Any) -> Any:
        caller = self.context.caller
        both = [Reply(caller, "from b"), Reply(caller, "again")]
        return state, NO_REPLY, Cast("b", lambda _, other: (other, None, both))

    assert node.call("a", hand_over) == "from b"
    assert node.call("a", "alive") == "alive"


@pytest.mark.parametrize("to", [None, "a", ("caller", 1)])
def test_gen_server_a_reply_to_nobody_is_a_crash(node: Any, to: Any) -> None:
    """reply/2 and {reply, From, R} with what is no From: badarg, or no clause."""
    with pytest.raises(Crashed, match="Reply: to is a caller, not") as caught:
        node.call("a", lambda _, state: (state, NO_REPLY, Reply(to, "lost")), timeout=9)
    assert isinstance(caught.value.reason, TypeError)


def test_gen_server_a_callers_timeout_leaves_the_effect_and_no_late_reply(node: Any) -> None:
    """call/3: the server still runs the request; its late reply is never seen."""
    kept: list[Any] = []

    def slow(self: Any, state: Any) -> Any:
        kept.append(self.context.caller)
        return [*state, "effect"], NO_REPLY

    with pytest.raises(Timeout):
        node.call("a", slow, timeout=0.01)
    node.cast("b", lambda _, state: (state, None, Reply(kept[0], "late")))
    assert node.call("b", "next") == "next"
    assert node.get_state("a") == ["effect"]


def test_gen_server_noproc_and_calling_self(node: Any) -> None:
    """call/2: noproc at once for an unknown name; a call to oneself is calling_self."""
    with pytest.raises(NoProc):
        node.call("nobody", 1)
    node.call("a", lambda _, state: (state, None, Call("a", 1, tag="self")))
    (_, failed), *_ = seen(node, count=1)
    assert isinstance(failed, CallFailed)
    assert isinstance(failed.error, CallingSelf)


def test_gen_server_a_crash_answers_every_queued_caller_and_loses_casts(node: Any) -> None:
    """What had queued is lost with the process: calls fail with its reason, casts vanish."""
    node.sys.suspend("a")
    asked = [node.send_request("a", request) for request in (fail, 1, 2)]
    node.cast("a", "vanishes")
    until(node, lambda: node.loop.dispatcher.whereis("a").mailbox_count == 4)
    node.sys.resume("a")
    for future in asked:
        crash = future.exception(10)
        assert isinstance(crash, Crashed)
        assert isinstance(crash.reason, ValueError)
    assert node.get_state("a") == []


def test_gen_server_cast_is_ok_also_to_nobody(node: Any) -> None:
    """cast/2: always ok."""
    node.cast("nobody", 1)
    node.abcast(["nobody", "a"], 2)
    assert seen(node, count=1) == [("cast", 2)]


def test_gen_server_inputs_of_one_sender_keep_their_order(node: Any) -> None:
    """Calls and casts and infos alike, in the order sent."""
    node.cast("a", 1)
    node.info("a", 2)
    node.call("a", 3)
    node.cast("a", 4)
    assert seen(node, count=4) == [("cast", 1), ("info", 2), ("call", 3), ("cast", 4)]


def test_gen_server_send_request_and_collections(node: Any) -> None:
    """send_request/2, wait_response/2, request collections: replies as they come."""
    futures = {node.send_request("a", number): number for number in range(5)}
    done, pending = wait(futures, timeout=10)
    assert (len(done), pending) == (5, set())
    assert all(future.result() == number for future, number in futures.items())
    assert isinstance(node.send_request("nobody", 1).exception(10), NoProc)
    given_up = node.send_request("a", lambda self, state: (state, NO_REPLY))
    until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 1)
    assert given_up.cancel()
    until(node, lambda: node.loop.dispatcher.whereis("a").callers_count == 0)


def test_gen_server_multi_call_and_abcast(node: Any) -> None:
    """multi_call/4 {Replies, BadNodes}: the bad ones are those that do not answer."""
    assert node.multi_call(["a", "nobody", "b"], 1, 5.0) == ([("a", 1), ("b", 1)], ["nobody"])


# --- gen_server: time --------------------------------------------------------------------------


def test_gen_server_timeout_any_input_cancels_it_for_good() -> None:
    """Timeout in a return value: an info only if no input comes first; it is not armed again."""
    with Simulator(1, lab()) as sim:
        node = sim.node
        node.call("a", lambda _, state: (state, None, IdleTimeout(10)))
        sim.run(9)
        node.cast("a", "comes first")
        sim.run(100)
        assert node.get_state("a") == [("cast", "comes first")]
        node.call("b", lambda _, state: (state, None, IdleTimeout(10)))
        sim.run(100)
        assert node.get_state("b") == [("info", TIMEOUT)]


def test_gen_server_timeout_zero_loses_against_waiting_input(node: Any) -> None:
    """Timeout 0: only if nothing waits; waiting input wins and the timeout is lost."""
    node.call("a", lambda _, state: (state, None, [Info("a", "waits"), IdleTimeout(0)]))
    node.call("a", "and later")
    assert seen(node, count=2) == [("info", "waits"), ("call", "and later")]
    node.call("b", lambda _, state: (state, None, IdleTimeout(0)))
    assert seen(node, "b", 1) == [("info", TIMEOUT)]


def test_gen_server_system_requests_do_not_deliver_or_cancel_a_timeout() -> None:
    """sys:get_state during a timeout: it is neither delivered nor lost."""
    with Simulator(1, lab()) as sim:
        sim.node.call("a", lambda _, state: (state, None, IdleTimeout(10)))
        sim.run(6)
        assert sim.node.sys.get_state("a") == []
        sim.run(20)
        assert sim.node.get_state("a") == [("info", TIMEOUT)]


def test_timers_a_cancelled_expiry_is_never_delivered(node: Any) -> None:
    """erlang:cancel_timer/1 and flush: also one whose expiry is on its way."""
    timers = [StartTimer("t", 0, "expired"), CancelTimer("t")]
    node.call("a", lambda _, state: (state, None, timers))
    assert node.call("a", "last") == "last"
    assert node.get_state("a") == [("call", "last")]


def test_gen_server_hibernate_changes_nothing_that_can_be_seen(node: Any) -> None:
    """{noreply, S, hibernate}: memory only; any input wakes it."""
    node.call("a", lambda _, state: ([*state, "kept"], None, Hibernate()))
    assert node.sys.get_state("a") == ["kept"]
    assert node.call("a", 1) == 1
    assert node.get_state("a") == ["kept", ("call", 1)]


# --- gen_server: ends --------------------------------------------------------------------------


def test_gen_server_terminate_gets_the_error_and_the_state_before_the_callback(node: Any) -> None:
    """An exception in a callback: terminate(Reason, state before it)."""
    node.call("a", "kept")
    with pytest.raises(Crashed):
        node.call("a", fail)
    name, reason, state = TRACE[2]
    assert (name, state) == ("terminate a", [("call", "kept")])
    assert isinstance(reason, ValueError)


def test_gen_server_a_bad_return_is_shown_and_terminate_has_the_old_state(node: Any) -> None:
    """bad_return_value: the crash shows it."""
    with pytest.raises(Crashed, match="nonsense") as caught:
        node.call("a", lambda _self, _state: "nonsense")
    assert isinstance(caught.value.reason, BadReturn)
    assert TRACE[2][2] == []


def test_gen_server_the_reason_of_a_terminate_that_raises_replaces_the_exit_reason(
    node: Any,
) -> None:
    """terminate/2 that raises: its reason is what others hear."""

    def wrong() -> None:
        raise KeyError("in terminate")

    down = node.monitor("a")
    node.call("a", lambda _, state: ([wrong], "bye", Stop("normal")))
    assert isinstance(down.result(10).reason, KeyError)


def test_gen_server_an_info_without_handler_is_a_warning(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """handle_info/2 is optional: without it a warning is logged, and the info ignored."""

    class Deaf(GenServer[int, Any, Any]):
        def step(self, command: Any, state: int) -> Any:
            return state, command

    node = start(Application("deaf", Supervisor("one_for_one", [Worker("deaf", Deaf)])))
    logging.getLogger("pybehave").setLevel(logging.WARNING)
    with caplog.at_level(logging.WARNING, "pybehave"):
        node.info("deaf", "hello")
        assert node.call("deaf", 1) == 1
    assert "'deaf' has no handle_info and ignores the info 'hello'" in caplog.text


@pytest.mark.parametrize("reason", ["normal", "shutdown", Shutdown(1), "odd"])
def test_gen_server_stop_from_outside(node: Any, reason: Any) -> None:
    """stop/3: returns when it is gone, whatever the reason given; its supervisor then acts."""
    node.call("a", "kept")
    node.stop_server("a", reason)
    assert TRACE[2] == ("terminate a", reason, [("call", "kept")])
    until(node, lambda: node.whereis("a") == 2)
    with pytest.raises(NoProc):
        node.stop_server("nobody")


def test_gen_server_stop_times_out_and_the_server_ends_all_the_same(start: Start) -> None:
    """stop/3 with a timeout: exit(timeout), and the server still ends later."""

    class Slow(Lab):
        def terminate(self, reason: Any, state: Any) -> Any:
            yield 0.05
            TRACE.append("slow one is gone")

    tree = Supervisor("one_for_one", [Worker("slow", Slow, restart="temporary")])
    node = start(Application("slow", tree))
    with pytest.raises(Timeout):
        node.stop_server("slow", timeout=0.001)
    until(node, lambda: "slow one is gone" in TRACE)
    assert node.whereis("slow") is None


def test_gen_server_stop_tells_of_another_reason(node: Any) -> None:
    """proc_lib:stop/3: ended with another reason than the one given is an exit of the caller."""

    def wrong() -> None:
        raise KeyError("in terminate")

    node.call("a", lambda _, state: ([wrong], None))
    with pytest.raises(Crashed, match="crashed with KeyError: 'in terminate'") as caught:
        node.stop_server("a")
    assert isinstance(caught.value.reason, KeyError)
    assert caught.value.crash_id == node.crashes()[-1].crash_id


def test_gen_server_format_status_that_raises_hides_and_does_not_hurt(start: Start) -> None:
    """format_status/1 that raises: a placeholder is shown, reporting goes on."""

    class Shy(Lab):
        def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
            raise ValueError("no")

    node = start(Application("shy", Supervisor("one_for_one", [Worker("a", Shy)])))
    assert node.sys.get_status("a").mode == "running"
    with pytest.raises(Crashed):
        node.call("a", fail)
    assert len(node.crashes()) == 1


# --- supervisor --------------------------------------------------------------------------------


def test_supervisor_the_failed_childs_terminate_then_the_rest_then_starts(start: Start) -> None:
    """rest_for_one with a b c d and b failing: term b, term d, term c, init b, init c, init d."""
    tree = Supervisor("rest_for_one", [Worker(name, Lab) for name in "abcd"])
    node = start(Application("order", tree))
    TRACE.clear()
    with pytest.raises(Crashed):
        node.call("b", fail)
    said = [event if isinstance(event, str) else event[0] for event in TRACE]
    assert said == ["terminate b", "terminate d", "terminate c", "init b", "init c", "init d"]


def test_supervisor_gives_up_with_shutdown_which_a_transient_parent_does_not_restart(
    start: Start,
) -> None:
    """reached_max_restart_intensity: the reason is shutdown, a clean one; the failing child is not
    started once more."""
    inner = Supervisor(
        "one_for_one", [Worker("x", Lab)], id="inner", intensity=0, restart="transient"
    )
    node = start(Application("give up", Supervisor("one_for_one", [inner, Worker("a", Lab)])))
    with pytest.raises(Crashed):
        node.call("x", fail)
    assert (node.whereis("x"), node.whereis("a")) == (None, 1)
    assert TRACE.count("init x") == 1


def test_supervisor_defaults() -> None:
    """sup_flags() and child_spec(): 1 in 5 s, never; permanent, 5000 ms, not significant."""
    tree = Supervisor("one_for_one", [])
    worker = Worker("a", Lab)
    assert (tree.intensity, tree.period, tree.auto_shutdown) == (1, 5, "never")
    assert (worker.restart, worker.shutdown, worker.significant) == ("permanent", 5.0, False)


@pytest.mark.parametrize("is_simple", [True, False])
def test_supervisor_progress_of_a_template_s_child_is_for_debugging(
    start: Start, caplog: pytest.LogCaptureFixture, is_simple: bool
) -> None:
    """progress reports: info; debug for the children of a simple_one_for_one."""
    made = Supervisor("simple_one_for_one", [Worker("made", Lab)], id="family")
    node = start(Application("lab", Supervisor("one_for_one", [made])))
    with caplog.at_level(logging.DEBUG, "pybehave"):
        if is_simple:
            node.start_child("family", [], name="x")
        else:
            node.start_child("root", Worker("x", Lab))
    [record] = [each for each in caplog.records if each.getMessage().endswith("/x started")]
    assert record.levelno == (logging.DEBUG if is_simple else logging.INFO)


def test_supervisor_which_child(node: Any) -> None:
    """which_child/2: one of which_children/1; not_found for others."""
    assert node.which_child("root", "a") == node.which_children("root")[1]
    assert node.get_childspec("root", "a").id == "a"
    for ask in (node.which_child, node.get_childspec):
        with pytest.raises(NotFound):
            ask("root", "nobody")


# --- sys ---------------------------------------------------------------------------------------


def test_sys_suspend_resume_and_state(node: Any) -> None:
    """suspend/1: inputs queue, system requests are answered, resume handles them in order."""
    node.sys.suspend("a")
    futures = [node.send_request("a", number) for number in (1, 2)]
    assert node.sys.get_state("a") == []
    assert node.sys.get_status("a").mode == "suspended"
    node.sys.replace_state("a", lambda state: [*state, "new"])
    node.sys.resume("a")
    assert [future.result(10) for future in futures] == [1, 2]
    assert node.get_state("a") == ["new", ("call", 1), ("call", 2)]
    with pytest.raises(CallbackFailed):
        node.sys.replace_state("a", lambda state: 1 / 0)
    assert len(node.get_state("a")) == 3


def test_sys_terminate_ends_a_server_also_a_suspended_one(node: Any) -> None:
    """terminate/2: terminate(Reason) runs, then the supervisor acts."""
    node.sys.suspend("a")
    node.sys.terminate("a", Shutdown("enough"))
    assert TRACE[2] == ("terminate a", Shutdown("enough"), [])
    until(node, lambda: node.whereis("a") == 2)
    assert node.crashes() == []
    node.sys.terminate("b", "odd")
    assert [report.server for report in node.crashes()] == ["b"]
    with pytest.raises(NoProc):
        node.sys.terminate("nobody")


def test_sys_terminate_of_a_transient_child_by_reason(start: Start) -> None:
    """A transient child is restarted after an abnormal reason only."""
    node = start(lab("a", "b", restart="transient"))
    node.sys.terminate("a", "normal")
    node.sys.terminate("b", "odd")
    until(node, lambda: node.whereis("b") == 2)
    assert node.whereis("a") is None


def test_sys_log_to_file_and_no_debug(node: Any, tmp_path: Any) -> None:
    """log_to_file/2, no_debug/1: events are lines; then nothing is on."""
    path = tmp_path / "a.log"
    node.sys.log_to_file("a", path)
    node.sys.statistics("a", True)
    node.call("a", "hello")
    assert [line.split()[2] for line in path.read_text().splitlines()] == ["in", "out"]
    node.sys.no_debug("a")
    node.call("a", "unseen")
    assert "unseen" not in path.read_text()
    assert node.sys.get_status("a").debug == ()
    with pytest.raises(OSError, match="Is a directory"):
        node.sys.log_to_file("a", tmp_path)


# --- links and monitors ------------------------------------------------------------------------


def test_monitor_one_notice_with_the_reason_and_none_after_demonitor(node: Any) -> None:
    """monitor/2, demonitor/2 with flush; of nothing: noproc at once."""
    watch = [Monitor("b", 1), Monitor("nobody", 2), Monitor("b", 3), Demonitor("b", 3)]
    node.call("a", lambda _, state: (state, None, watch))
    node.stop_server("b", Shutdown("x"))
    assert seen(node, "a", 2) == [
        ("info", Down("nobody", 0, "noproc", 2)),
        ("info", Down("b", 1, Shutdown("x"), 1)),
    ]


@pytest.mark.parametrize(("reason", "incarnation"), [("normal", 1), ("shutdown", 2), ("odd", 2)])
def test_link_takes_the_partner_along_unless_normal(
    node: Any, reason: str, incarnation: int
) -> None:
    """link/1 without trapping: any reason but normal ends the partner, too."""
    node.call("a", lambda _, state: (state, None, Link("b")))
    node.stop_server("b", reason)
    until(node, lambda: node.whereis("b") == 2 and node.whereis("a") == incarnation)


def test_fifty_callers_and_a_crash_each_hears_once(node: Any) -> None:
    """gen:call: every caller gets exactly one answer."""
    answers: list[Any] = []

    def ask(number: int) -> None:
        try:
            answers.append(node.call("a", fail if number == 25 else number))
        except Crashed as error:
            answers.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 50
