"""Crash reports: what is known of a server that ended abnormally, for people and for programs."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pybehave import (
    NO_REPLY,
    Application,
    GenEvent,
    GenServer,
    GenStatem,
    Listener,
    Supervisor,
    Worker,
    events,
)
from pybehave.actions import Call, StartTimer, Stop
from pybehave.cli.logs import JsonFormatter
from pybehave.errors import Crashed, SpecError, StartFailed
from pybehave.journal import dead_letters
from pybehave.protocols import Lines
from pybehave.runtime.crashes import FRAMES_SHOWN, CrashReport
from pybehave.statem import KeepStateAndData
from tests.conftest import dial, receive
from tests.power.machine import wait_for


class Fragile(GenServer[dict[str, Any], Any, Any]):
    def init(self, args: Any) -> dict[str, Any]:
        if args == "no":
            raise ValueError("no disk")
        return {"secret": "hush"}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        match command:
            case "later":
                return state, NO_REPLY, StartTimer("t", 60.0, "tick")
            case "stop":
                return state, "stopping", Stop("out of order")
            case "leave":
                return state, NO_REPLY, Stop("out of order")
            case "soon":
                return state, None, StartTimer("t", 0.0, "over")
            case "deep":
                return self.step(command, state)
            case ("ask", name):
                return state, None, Call(name, "break", "tag")
            case ("to", name, request):
                return state, None, Call(name, request, "tag")
            case "break":
                try:
                    {}["key"]
                except KeyError as error:
                    raise ValueError("a deliberate bug") from error
        return state, command

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        return state, NO_REPLY, Stop("out of order") if message == "over" else None

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        if "state" in status:
            status = {**status, "state": {"secret": "***"}}
        if status.get("message") == "password":
            status = {**status, "message": "***"}
        return status


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "shut", {"count": 1}

    def shut(self, kind: Any, content: Any, data: Any) -> Any:
        raise ValueError("jammed")


def application(**options: Any) -> Application:
    inner = Supervisor("one_for_one", [Worker("a", Fragile, **options)], id="sub", intensity=100)
    tree = Supervisor(
        "one_for_one", [inner, Worker("b", Fragile), Worker("door", Door)], intensity=100
    )
    listener = Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="a")
    return Application("fragile", tree, listeners=[listener])


@pytest.fixture
def node(start: Callable[..., Any]) -> Any:
    return start(application())


def crash(node: Any, name: str = "a", request: Any = "break") -> CrashReport:
    with pytest.raises(Crashed):
        node.call(name, request)
    report: CrashReport = node.crashes()[-1]
    return report


def test_a_report_says_who_it_was_where_it_stood_and_what_it_did(node: Any) -> None:
    node.call("a", 1)
    report = crash(node)
    assert (report.server, report.incarnation, report.inputs) == ("a", 1, 2)
    assert (report.path, report.restart) == ("root/sub/a", "permanent")
    assert report.kind.endswith(":Fragile")
    assert (report.callback, report.message) == ("step", "break")
    assert report.crash_id == "a-1-2"
    assert report.lsn == 0


def test_a_report_names_a_callback_of_ones_own(start: Callable[..., Any]) -> None:
    class Own(Fragile):
        def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
            return self.step(request, state)

    tree = Supervisor("one_for_one", [Worker("a", Own)], intensity=9)
    node = start(Application("own", tree))
    node.cast("a", "break")
    wait_for(lambda: len(node.crashes()) == 1 and "a" in node.names(), "it runs again")
    with pytest.raises(Crashed):
        node.call("a", "break")
    assert {report.callback for report in node.crashes()} == {"handle_call", "step"}


def test_a_report_says_who_asked(node: Any) -> None:
    assert crash(node).caller == "a thread or task"
    with dial(node) as client:
        client.sendall(b"break\n")
        assert receive(client, 7) == b"error: "
    assert node.crashes()[-1].caller.startswith("connection ")
    node.call("b", ("ask", "a"))
    while len(node.crashes()) < 3:
        pass
    assert node.crashes()[-1].caller == "server 'b'"
    node.cast("a", "break")
    while len(node.crashes()) < 4:
        pass
    assert node.crashes()[-1].caller == ""


def test_a_report_says_what_waited(node: Any) -> None:
    def burst() -> None:
        post = node.loop.dispatcher.post
        for message in ("later", "break", "password", *range(20)):
            post("a", 2, message, None)

    node.run_on_loop(burst)
    while not node.crashes():
        pass
    [report] = node.crashes()
    assert (report.mailbox, len(report.waiting), report.timers) == (21, 10, 1)
    found = report.as_dict()
    assert found["waiting"][:3] == ["cast '***'", "cast 0", "cast 1"]
    assert "with 21 more waiting" in str(report)


def test_a_report_has_the_log_of_a_server_that_was_watched(node: Any) -> None:
    node.sys.log("a")
    node.call("a", 1)
    report = crash(node)
    assert [event.what for event in report.log] == ["in", "out", "in", "ended"]
    assert "in call 1" in report.as_dict()["log"][0]


def test_for_programs_a_report_is_plain_and_hides_what_format_status_hides(node: Any) -> None:
    found = json.loads(json.dumps(crash(node).as_dict()))
    assert found["reason"]["type"] == "builtins.ValueError"
    assert found["reason"]["text"] == "ValueError: a deliberate bug"
    assert found["reason"]["cause"] == "KeyError: 'key'"
    assert found["traceback"][-1]["function"] == "step"
    assert found["traceback"][-1]["code"].startswith("raise ValueError")
    assert found["state"] == "{'secret': '***'}"
    assert "hush" not in json.dumps(found)


def test_a_format_status_that_raises_hides_all_but_why_it_ended(node: Any) -> None:
    def fails(_status: dict[str, Any]) -> Any:
        raise LookupError("no status")

    found = structs.replace(crash(node), shape=fails).as_dict()
    assert found["reason"]["text"] == "ValueError: a deliberate bug"
    assert "no status" in found["state"]
    assert "no status" in found["message"]
    assert "hush" not in json.dumps(found)


def test_the_innermost_frames_are_enough(node: Any) -> None:
    report = crash(node, request="deep")
    assert len(report.as_dict()["traceback"]) == FRAMES_SHOWN


def test_a_reason_that_is_no_exception_is_reported_too(node: Any) -> None:
    node.call("a", "stop")
    while not node.crashes():
        pass
    found = node.crashes()[-1].as_dict()
    assert found["reason"]["text"] == "'out of order'"
    assert (found["traceback"], found["callback"], found["message"]) == ([], "step", "'stop'")
    assert found["caller"] == "a thread or task"


def test_a_stop_is_reported_with_its_input_and_who_asked(node: Any) -> None:
    with dial(node) as client:
        client.sendall(b"stop\n")
        assert receive(client, 9) == b"stopping\n"
    wait_for(lambda: len(node.crashes()) == 1, "it is reported")
    assert node.crashes()[-1].caller.startswith("connection ")
    node.call("b", ("to", "a", "stop"))
    wait_for(lambda: len(node.crashes()) == 2, "it is reported")
    report = node.crashes()[-1]
    assert (report.callback, report.message, report.caller) == ("step", "stop", "server 'b'")
    node.cast("a", "stop")
    wait_for(lambda: len(node.crashes()) == 3, "it is reported")
    report = node.crashes()[-1]
    assert (report.callback, report.message, report.caller) == ("step", "stop", "")
    node.call("a", "soon")
    wait_for(lambda: len(node.crashes()) == 4, "it is reported")
    report = node.crashes()[-1]
    assert (report.callback, report.message, report.caller) == ("handle_info", "over", "")


def test_a_stop_that_puts_the_reply_off_is_reported_with_who_waited(node: Any) -> None:
    with pytest.raises(Crashed):
        node.call("a", "leave")
    report = node.crashes()[-1]
    assert (report.message, report.caller) == ("leave", "a thread or task")


def test_a_terminate_that_raises_is_reported_as_such(start: Callable[..., Any]) -> None:
    class Untidy(Fragile):
        def terminate(self, reason: object, state: Any) -> None:
            raise OSError("no room to tidy up")

    tree = Supervisor("one_for_one", [Worker("a", Untidy)], intensity=9)
    node = start(Application("untidy", tree))
    node.call("a", "stop")
    wait_for(lambda: len(node.crashes()) == 2, "both are reported")
    first, second = node.crashes()
    assert (first.callback, first.message, first.reason) == ("step", "stop", "out of order")
    assert (second.callback, second.message) == ("terminate", "stop")
    assert str(second.reason) == "no room to tidy up"


def test_a_machine_is_reported_with_its_state_and_data(node: Any) -> None:
    report = crash(node, "door", "push")
    assert report.state == ("shut", {"count": 1})


def test_a_failed_init_is_reported_and_logged_once(
    node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pybehave"):
        with pytest.raises(StartFailed):
            node.start_child("root", Worker("c", Fragile, "no"))
    [report] = node.crashes()
    assert (report.callback, report.message, report.restart) == ("init", "no", "permanent")
    assert "no disk" in str(report.reason)
    assert node.stats()["crashes"] == 0
    assert len([record for record in caplog.records if record.exc_info]) <= 1


def test_a_log_record_carries_the_report(node: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "pybehave.server"):
        report = crash(node)
    [record] = [record for record in caplog.records if hasattr(record, "crash")]
    assert record.crash is report
    entry = json.loads(JsonFormatter().format(record))
    assert entry["crash"]["crash_id"] == report.crash_id
    assert "Traceback" in entry["traceback"]


def test_the_report_of_a_journaled_server_leads_to_its_dead_letter(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    node = start(application(journal=True), data=data)
    with pytest.raises(Crashed) as failed:
        node.call("a", "break")
    report = node.crashes()[-1]
    node.stop()
    assert dead_letters.get(str(data), report.lsn).crash_id == report.crash_id
    assert (failed.value.lsn, failed.value.crash_id) == (report.lsn, report.crash_id)


def test_only_the_newest_reports_are_kept(start: Callable[..., Any]) -> None:
    worker = Worker("a", Fragile)
    node = start(Application("x", Supervisor("one_for_one", [worker], intensity=1000)))
    for _ in range(130):
        crash(node)
    reports = node.crashes()
    assert (len(reports), reports[-1].incarnation) == (128, 130)


def functions(error: object) -> list[str]:
    """The stack of an exception, outermost first."""
    assert isinstance(error, BaseException)
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_an_init_that_raises_is_shown_from_its_own_line_on(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    tree = Supervisor("one_for_one", [Supervisor("one_for_one", [Worker("a", Fragile, "no")])])
    with caplog.at_level(logging.ERROR, "pybehave"), pytest.raises(StartFailed) as caught:
        start(Application("fragile", tree))
    assert functions(caught.value.root_cause) == ["init"]
    (shown,) = (record.exc_info for record in caplog.records if record.exc_info)
    assert shown is not None and functions(shown[1]) == ["init"]


def test_a_machine_that_raises_is_shown_from_its_own_line_on(start: Callable[..., Any]) -> None:
    node = start(application())
    with pytest.raises(Crashed):
        node.call("door", "slam")
    frames = node.crashes()[-1].as_dict()["traceback"]
    assert [frame["file"] for frame in frames] == [__file__] * len(frames) and frames


@pytest.mark.parametrize("journal", [False, True])
def test_a_factory_that_makes_no_server_is_named_with_what_it_made(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path, journal: bool
) -> None:
    def forgot_to_return() -> Any:
        Fragile()

    tree = Supervisor("one_for_one", [Worker("a", forgot_to_return, journal=journal)])
    says = "forgot_to_return: the factory returned NoneType, not a GenServer"
    with (
        caplog.at_level(logging.ERROR, "pybehave"),
        pytest.raises(StartFailed, match=f"'root/a' did not start because .*{says}"),
    ):
        start(Application("fragile", tree), data=str(tmp_path / "data"))
    assert [record.exc_info for record in caplog.records] == [None]


def test_a_factory_that_makes_no_server_is_named_in_a_replay_too(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    def begin(factory: Callable[[], Any]) -> Any:
        tree = Supervisor("one_for_one", [Worker("a", factory, journal=True)])
        return start(Application("fragile", tree), data=str(tmp_path / "data"))

    node = begin(Fragile)
    node.call("a", 1)
    node.stop()
    with pytest.raises(SpecError, match="the factory returned int, not a GenServer"):
        begin(lambda: 42)


class Broken(GenStatem):
    def init(self, args: Any) -> Any:
        raise ValueError("no hinges")

    def shut(self, kind: Any, content: Any, data: Any) -> Any:
        return KeepStateAndData()


@pytest.mark.parametrize(
    "worker, says",
    [
        (Worker("a", Broken), "no hinges"),
        (Worker("a", GenEvent, [events.add_handler("tests.builders:Idle", None)]), "EventHandler"),
    ],
    ids=["machine", "manager"],
)
def test_an_init_that_raises_says_why_also_of_a_machine_and_a_manager(
    start: Callable[..., Any], worker: Worker[Any, Any], says: str
) -> None:
    with pytest.raises(StartFailed, match=f"the init of 'root/a' failed with .*{says}"):
        start(Application("fragile", Supervisor("one_for_one", [worker])))
