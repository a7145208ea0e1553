"""Exceptions carry fields for programs and one sentence for people, and survive pickling."""

import pickle

import pytest

from pybehave import errors
from pybehave.errors import (
    BadReturn,
    Crashed,
    FrameTooLong,
    NoProc,
    PybehaveError,
    SpecError,
    StartFailed,
    Stopped,
    Timeout,
    show,
    show_reason,
)

SAMPLES = [
    errors.NoProc("kv"),
    errors.NothingKept("kv"),
    errors.StillRuns("kv", "stop it first"),
    errors.Timeout("kv", 5.0),
    errors.Crashed("kv", "kv-1-7", ZeroDivisionError("division by zero")),
    errors.Suspended("kv"),
    errors.CallbackFailed("kv", "replace_state", ZeroDivisionError("division by zero")),
    errors.Stopped("kv", "shutdown"),
    errors.UpgradeRefused("kv 2", "version 1 runs here, not 0"),
    errors.UpgradeFailed("kv 2", "kv1", ZeroDivisionError("division by zero")),
    errors.InitStopped("kv", "no license"),
    errors.CallingSelf("kv"),
    errors.CalledInCallback("kv", "other"),
    errors.RequestKnown("kv", 7, "its reply was lost"),
    errors.InputTypeMismatch("kv", [b"GET"], (int, str)),
    errors.Rejected("kv", "the account is closed"),
    errors.EphemeralTrace("kv", 5, "ask for StartTimer"),
    errors.Overloaded("kv", 1024),
    errors.PoolOverloaded("crunch", 1024),
    errors.RingOverloaded("bus", 1024),
    errors.JobCancelled("crunch"),
    errors.JobTimedOut("crunch", 1.5),
    errors.JobLost("crunch"),
    errors.WorkerDied("crunch", "signal SIGSEGV"),
    errors.StepAborted("kv", 5.0),
    errors.DecodeError("not a number"),
    errors.FrameTooLong(65536),
    errors.ContractBroken("log in first"),
    errors.EncodeError(object(), "no such type"),
    errors.EndlessTurn("m", "in state 'a' events were handled", 10),
    errors.BadReturn("kv", "step", 7),
    errors.InvariantViolated("bank", "no debts", ("pay", 5), {"Ann": -5}, "Ann has -5"),
    errors.SpecError("Worker 'kv'", "shutdown=-1 is not allowed"),
    errors.StartFailed("root/kv", ValueError("no disk")),
    errors.DoNotRestart("all done"),
    errors.TerminateTree("no disk", scope="supervisor"),
    errors.AlreadyStarted("root/kv", 3),
    errors.AlreadyPresent("root/kv"),
    errors.NotFound("root/kv"),
    errors.Running("root/kv"),
    errors.Restarting("root/kv"),
    errors.SimpleOneForOne("root/kv"),
    errors.Fenced("kv", 3, 4),
    errors.InboxFull("kv", 100),
    errors.LeaseHeld("kv", "node-1", 2.5),
    errors.NotQueued("kv", 7),
    errors.SequenceMismatch("kv", 3, 4),
    errors.StoreRefused("kv", "it is so"),
    errors.Trimmed("kv", 8),
    errors.NotJournalable("a value of type builtins.object"),
    errors.StateNotKept("kv", "a value of type builtins.object"),
    errors.RecordTooLarge(1 << 20),
    errors.JournalBusy(1 << 20),
    errors.Interrupted("a call of server 'b'"),
    errors.NotStarted("kv"),
    errors.ApplicationEnded("kv", "its supervisors gave up"),
    errors.ConfigError("kv.port", "Expected `int`, got `str`", "kv.toml"),
    errors.JournalFull("data"),
    errors.DurabilityLost("Input/output error"),
    errors.JournalLocked("data", 4711),
    errors.CodecRefused("the frame of lsn 7", "zlib", "it is too short"),
    errors.CodeRefused("server 's'", "version 2 of its class has written it; start the newer code"),
    errors.JournalRefused("data/MANIFEST", "none of its copies is sound"),
    errors.NonDeterminism("kv", 7, 0x1234, 0x5678),
    errors.RequestRefused("There is no request 'x'"),
    errors.NotAnswered("admin.sock", FileNotFoundError(2, "No such file or directory")),
    errors.SourceUnavailable("uring", "seccomp forbids it; use epoll"),
    errors.LoopForked(),
    errors.LoopClosed(),
    errors.ListenFailed("tcp://:1", PermissionError(13, "Permission denied")),
]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_every_exception_has_a_sample() -> None:
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PybehaveError)
    }
    bases = {PybehaveError, errors.ChildError, errors.JobError}
    assert classes - {type(sample) for sample in SAMPLES} == bases


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_pickling_keeps_the_sentence_and_the_fields(error: PybehaveError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy).keys() == vars(error).keys()


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_the_sentence_is_one_line_without_a_full_stop(error: PybehaveError) -> None:
    assert str(error)
    assert "\n" not in str(error)
    assert not str(error).endswith(".")


def test_all_of_them_are_of_one_module_wherever_they_are_written() -> None:
    assert {type(sample).__module__ for sample in SAMPLES} == {"pybehave.errors"}
    assert PybehaveError.__module__ == "pybehave.errors"


def test_timeout_is_a_timeout_error_with_fields() -> None:
    error = Timeout("kv", 0.5)
    assert isinstance(error, TimeoutError)
    assert (error.server, error.seconds) == ("kv", 0.5)


def test_spec_error_is_a_value_error() -> None:
    assert isinstance(SpecError("Worker 'a'", "id"), ValueError)


def test_frame_too_long_is_a_decode_error() -> None:
    assert isinstance(FrameTooLong(10), errors.DecodeError)


def test_the_sentence_names_the_server_and_the_mend() -> None:
    assert "'kv'" in str(NoProc("kv"))
    assert "names()" in str(NoProc("kv"))


def test_a_crash_leads_to_the_exception_behind_it() -> None:
    reason = ZeroDivisionError("division by zero")
    error = Crashed("kv", "kv-1-7", reason)
    assert error.reason is reason
    assert error.__cause__ is reason
    assert "kv-1-7" in str(error)


def test_stopped_keeps_a_reason_that_is_no_exception() -> None:
    assert Stopped("kv", "normal").reason == "normal"
    assert Stopped("kv", "normal").__cause__ is None


def test_start_failed_finds_the_innermost_reason() -> None:
    innermost = OSError("no disk")
    error = StartFailed("root/a", StartFailed("root/a/b", innermost))
    assert error.root_cause is innermost
    assert "'root/a/b'" in str(error)
    assert isinstance(error.__cause__, StartFailed)
    assert error.__cause__.__cause__ is innermost


def test_a_bad_return_shows_the_value_bounded() -> None:
    text = str(BadReturn("kv", "step", "x" * 10_000))
    assert "xxx" in text
    assert len(text) < 400


@pytest.mark.parametrize("callback", ["handle_call", "handle_cast"])
def test_who_has_written_only_a_step_is_told_of_a_step(callback: str) -> None:
    error = BadReturn("kv", callback, None)
    assert str(error).startswith(f"Server 'kv': {callback} (or step) returned None; return (state,")
    assert error.callback == callback
    assert "(or step)" not in str(BadReturn("kv", "handle_info", None))


def test_showing_a_value_never_raises() -> None:
    assert "Unshowable" in show(Unshowable())
    assert "repr raised" in show(type("list", (), {})())


def test_a_reason_is_shown_as_its_class_and_text() -> None:
    assert show_reason(KeyError("x")) == "KeyError: 'x'"
    assert show_reason(AssertionError()) == "AssertionError"
    assert show_reason("shutdown") == "'shutdown'"
