"""A trial finds planted mistakes of each kind, makes them small, and plays them again."""

from __future__ import annotations

import re
from threading import Lock
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Supervisor, Worker
from pybehave.actions import Call, CallReply, Reply
from pybehave.errors import SpecError
from pybehave.testing import Faults, Model, Trial, TrialFailed
from pybehave.testing.script import (
    NO_FAULTS,
    Ask,
    Crash,
    DiskFault,
    GiveUp,
    PowerCut,
    Restart,
    Snapshot,
    show_script,
)

SEEDS = range(60)
EVERYTHING = Faults(lose=100, crashes=3, disk_faults=2, power_cuts=2, restarts=2, snapshots=2)


class Bank(GenServer[dict[str, int], Any, Any]):
    """Pays only what is there."""

    def init(self, args: Any) -> dict[str, int]:
        return {"Ann": 100, "Bob": 100}

    def step(self, command: Any, state: dict[str, int]) -> Any:
        match command:
            case ("pay", payer, payee, amount) if state[payer] >= amount:
                state[payer] -= amount
                state[payee] += amount
                return state, "paid"
            case ("look", name):
                return state, state[name]
        return state, "refused"


def ask(dice: Any) -> tuple[str, Any]:
    if dice.random() < 0.3:
        return "bank", ("look", dice.choice(("Ann", "Bob")))
    return "bank", ("pay", *dice.sample(("Ann", "Bob"), 2), dice.randrange(150))


def application(*workers: Worker[Any, Any]) -> Application:
    return Application("trial", Supervisor("one_for_one", workers, intensity=100))


def bank(kind: type = Bank, *, journal: bool = True) -> Application:
    return application(Worker("bank", kind, journal=journal))


def solvent(states: Any) -> bool:
    return min(states["bank"].values()) >= 0


def whole(node: Any) -> bool:
    return sum(node.call("bank", ("look", name)) for name in ("Ann", "Bob")) == 200


def found(trial: Trial, seeds: Any = SEEDS) -> TrialFailed:
    with pytest.raises(TrialFailed) as caught:
        trial.check(seeds)
    played = caught.value.played
    assert played.failure is not None
    again = trial.play(played.seed, played.script)
    assert (again.failure, again.trace_hash) == (played.failure, played.trace_hash)
    return caught.value


# --- nothing is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("shake", [False, True])
def test_an_application_without_a_mistake_passes_with_all_faults(
    *, shake: bool, once: bool
) -> None:
    trial = Trial(
        bank,
        ask,
        faults=EVERYTHING,
        shake=shake,
        once=once,
        always={"solvent": solvent},
        at_end={"whole": whole},
        model={"bank": Model.of(Bank)},
    )
    counts = trial.check(range(100))
    met = ["answers", "lost", "crashes", "restarts", "power cuts", "disk faults", "snapshots"]
    met += ["ends", "linearizable", *(["asked again"] if once else ["given up"])]
    assert [what for what in met if not counts[what]] == []
    assert counts["seeds"] == counts["linearizable"] == 100


def test_without_a_journal_restarts_forget_and_nothing_else_is_wrong() -> None:
    trial = Trial(bank(journal=False), ask, always={"solvent": solvent})
    counts = trial.check(SEEDS)
    assert counts["power cuts"]
    assert counts["simulated crashes"]


@pytest.mark.parametrize("journal", [False, True])
def test_the_same_seed_gives_the_same_play_to_the_byte(*, journal: bool) -> None:
    trial = Trial(bank(journal=journal), ask, faults=EVERYTHING, shake=True)
    first = [trial.play(seed) for seed in range(25)]
    again = [trial.play(seed) for seed in range(25)]
    assert [one.trace_hash for one in first] == [two.trace_hash for two in again]
    assert [one.counts for one in first] == [two.counts for two in again]
    assert len({one.trace_hash for one in first}) == 25


class Dice(GenServer[int, Any, Any]):
    """Says what a step may know besides its input."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        return state, (self.context.random.random(), self.context.now)


@pytest.mark.parametrize("journal", [False, True])
def test_randomness_and_time_of_a_step_follow_from_the_seed(*, journal: bool) -> None:
    trial = Trial(application(Worker("dice", Dice, journal=journal)), lambda dice: ("dice", None))
    once, again, other = trial.play(1), trial.play(1), trial.play(2)
    heard = [
        [each.output for each in played.histories["dice"].operations]
        for played in (once, again, other)
    ]
    assert heard[0] == heard[1] != heard[2]


def test_names_that_nobody_has_are_told() -> None:
    trial = Trial(bank(), lambda dice: (dice.choice(["bank", "bnak"]), ("sum",)))
    with pytest.raises(SpecError, match=r"ask names 'bnak', and no server .* there are 'bank'"):
        trial.check(range(2))


def test_what_is_no_application_or_model_is_refused() -> None:
    with pytest.raises(SpecError, match="app=5 is not allowed; use an Application"):
        Trial(5, ask)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="use a dict from servers' names to Models"):
        Trial(bank(), ask, model=Model.of(Bank))  # type: ignore[arg-type]


# --- one planted mistake for each promise ---------------------------------------------------------


class Locked(Bank):
    def init(self, args: Any) -> Any:
        return {**super().init(args), "lock": Lock()}


def test_a_state_that_no_snapshot_can_keep_is_found() -> None:
    failed = found(Trial(bank(Locked), ask, faults=EVERYTHING))
    assert failed.played.failure is not None
    assert str(failed.played.failure).startswith("snapshot 'dump': the state of server 'bank'")


class Generous(Bank):
    def step(self, command: Any, state: dict[str, int]) -> Any:
        if command[0] == "pay" and command[3] == 149:
            state[command[1]] -= command[3]
        return super().step(command, state)


def test_a_broken_invariant_is_found_and_one_request_is_left() -> None:
    failed = found(Trial(bank(Generous), ask, always={"solvent": solvent}, requests=100))
    assert failed.played.failure is not None
    assert (failed.played.failure.promise, failed.played.failure.name) == ("invariant", "solvent")
    [act] = failed.played.script
    assert isinstance(act, Ask)
    assert act.request[3] == 149
    assert len(failed.found.script) > 50


def test_what_is_shown_plays_the_same_again() -> None:
    trial = Trial(bank(Generous), ask, always={"solvent": solvent}, requests=100)
    failed = found(trial)
    text = str(failed)
    assert text.startswith(f"seed {failed.played.seed}: invariant 'solvent': Server 'bank'")
    shown = re.search(r"^trial\.play\(.*", text, re.S | re.M)
    assert shown is not None
    again = eval(shown[0], {"trial": trial, "Ask": Ask})
    assert again.trace_hash == failed.played.trace_hash


class Forgetful(Bank):
    def step(self, command: Any, state: dict[str, int]) -> Any:
        return super().step(command, state) if command[0] == "look" else (state, "paid")


def test_a_wrong_answer_is_found_by_the_model() -> None:
    failed = found(Trial(bank(Forgetful), ask, model={"bank": Model.of(Bank)}))
    assert failed.played.failure is not None
    assert failed.played.failure.promise == "history"
    assert len(failed.played.script) <= 2


def test_forgetting_by_a_crash_is_found_by_the_model() -> None:
    trial = Trial(bank(journal=False), ask, model={"bank": Model.of(Bank)})
    failed = found(trial)
    assert any(isinstance(act, Crash | Restart | PowerCut) for act in failed.played.script)
    assert len(failed.played.script) <= 4


class Careless(Bank):
    def step(self, command: Any, state: dict[str, int]) -> Any:
        if command[0] == "look" and state[command[1]] == 0:
            raise ZeroDivisionError
        return super().step(command, state)


def ask_for_all(dice: Any) -> tuple[str, Any]:
    server, request = ask(dice)
    return server, (*request[:3], 100) if request[0] == "pay" else request


def test_an_exception_that_nobody_expects_is_found() -> None:
    failed = found(Trial(bank(Careless), ask_for_all))
    assert failed.played.failure is not None
    assert (failed.played.failure.promise, failed.played.failure.name) == (
        "crash",
        "ZeroDivisionError",
    )
    assert len(failed.played.script) == 2


def test_an_exception_that_is_expected_is_not() -> None:
    counts = Trial(bank(Careless), ask_for_all, expected=(ZeroDivisionError,)).check(SEEDS)
    assert counts["crashes"] > counts["simulated crashes"]


class Silent(Bank):
    def step(self, command: Any, state: dict[str, int]) -> Any:
        state, output = super().step(command, state)
        return state, NO_REPLY if output == "refused" else output


def test_a_request_that_is_never_answered_is_found() -> None:
    failed = found(Trial(bank(Silent), ask))
    assert failed.played.failure is not None
    assert failed.played.failure.promise == "unanswered"
    assert all(isinstance(act, Ask) for act in failed.played.script)


class Leaky(Bank):
    """Keeps a part of its state outside of it, where no journal sees it."""

    def init(self, args: Any) -> dict[str, int]:
        self.fees = 0
        return super().init(args)

    def step(self, command: Any, state: dict[str, int]) -> Any:
        if command == ("look", "Ann"):
            return state, state["Ann"] - self.fees
        state, output = super().step(command, state)
        if output == "paid":
            self.fees += 1
            state["Ann"] += 1
        return state, output


def test_a_state_that_is_not_kept_is_found_at_the_end_only_after_a_cut() -> None:
    failed = found(Trial(bank(Leaky), ask, faults=NO_FAULTS, at_end={"whole": whole}))
    assert failed.played.failure is not None
    assert (failed.played.failure.promise, failed.played.failure.name) == ("end", "whole")
    assert len(failed.played.script) == 1


class Stubborn(Bank):
    def init(self, args: Any, recovery: Any = None) -> Any:
        if recovery is not None and min(recovery.state.values()) == 0:
            raise LookupError("somebody has nothing")
        return {"Ann": 100, "Bob": 100} if recovery is None else recovery.state


def test_a_node_that_does_not_start_again_is_found() -> None:
    failed = found(Trial(bank(Stubborn), ask_for_all, faults=Faults(crashes=0)))
    assert failed.played.failure is not None
    assert failed.played.failure.promise == "start"
    assert len(failed.played.script) <= 2


# --- several servers ------------------------------------------------------------------------------


class Clerk(GenServer[None, Any, Any]):
    """Asks the bank what there is, then pays: between the two others come. A race."""

    def step(self, command: Any, state: None) -> Any:
        tag = (command, self.context.caller)
        return state, NO_REPLY, Call("vault", ("look",), tag)

    def handle_info(self, message: Any, state: None) -> Any:
        if not isinstance(message, CallReply):
            return state, None
        amount, caller = message.tag
        if isinstance(message.value, int) and message.value >= amount:
            return state, None, [Call("vault", ("take", amount), None), Reply(caller, "paid")]
        return state, None, Reply(caller, "refused")


class Vault(GenServer[int, Any, Any]):
    def init(self, args: Any) -> int:
        return 100

    def step(self, command: Any, state: int) -> Any:
        match command:
            case ("take", amount):
                return state - amount, state - amount
        return state, state


def test_a_race_between_servers_is_found_and_what_raced_is_left() -> None:
    app = application(Worker("vault", Vault), Worker("clerk", Clerk))
    trial = Trial(
        app,
        lambda dice: ("clerk", dice.randrange(1, 100)),
        requests=12,
        seconds=0.0001,
        faults=Faults(crashes=0, restarts=0, power_cuts=0),
        always={"not overdrawn": lambda states: states["vault"] >= 0},
    )
    failed = found(trial, range(200))
    assert 2 <= len(failed.played.script) <= 3
    assert sum(act.request for act in failed.played.script if isinstance(act, Ask)) > 100


# --- scripts --------------------------------------------------------------------------------------


def test_a_script_by_hand_is_played_in_the_order_of_its_times() -> None:
    script = [
        Ask(0.5, "b", "bank", ("look", "Bob")),
        PowerCut(0.3),
        Ask(0.1, "a", "bank", ("pay", "Ann", "Bob", 60)),
        Restart(0.4),
        Snapshot(0.2),
        Crash(0.6, "bank"),
        Ask(0.7, "c", "bank", ("pay", "Bob", "Ann", 1)),
        DiskFault(0.8, "short"),
        Ask(0.9, "d", "bank", ("look", "Bob")),
    ]
    played = Trial(bank, ask).play(1, script)
    heard = [(each.client, each.output) for each in played.histories["bank"].operations]
    assert played.failure is None
    assert [one for one in heard if one[0] != "c"] == [("a", "paid"), ("b", 160), ("d", 160)]
    assert "UNANSWERED" in repr(heard)
    assert (played.counts["power cuts"], played.counts["restarts"]) == (2, 1)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_what_is_lost_is_asked_again_only_by_name(lost: Any) -> None:
    script = [
        Ask(0.1, "a", "bank", ("pay", "Ann", "Bob", 60), lost=lost),
        Ask(1.0, "b", "bank", ("look", "Bob")),
    ]
    for once, bob in ((True, 160), (False, 160 if lost == "reply" else 100)):
        played = Trial(bank, ask, once=once).play(1, script)
        pay, look = played.histories["bank"].operations
        assert look.output == bob
        assert (pay.output == "paid") == once


def test_a_client_that_gives_up_hears_nothing_and_the_server_goes_on() -> None:
    script = [
        Ask(0.1, "a", "bank", ("pay", "Ann", "Bob", 60), back=0.5),
        GiveUp(0.2, "a"),
        Ask(1.0, "b", "bank", ("look", "Bob")),
    ]
    pay, look = Trial(bank, ask).play(1, script).histories["bank"].operations
    assert (repr(pay.output), look.output) == ("UNANSWERED", 160)


def test_a_script_is_printed_as_what_makes_it() -> None:
    script = Trial(bank, ask, faults=EVERYTHING).script(3)
    kinds = {kind.__name__: kind for kind in map(type, script)}
    assert eval(show_script(script), kinds) == script


def test_all_kinds_of_acts_are_drawn() -> None:
    trial = Trial(bank, ask, faults=EVERYTHING)
    drawn = {type(act) for seed in range(30) for act in trial.script(seed)}
    assert drawn == {Ask, GiveUp, Crash, DiskFault, Snapshot, Restart, PowerCut}


@pytest.mark.parametrize("field", ["clients", "requests", "seconds"])
def test_a_trial_of_nothing_is_refused(field: str) -> None:
    options: dict[str, Any] = {field: 0}
    with pytest.raises(SpecError, match=f"{field}=0 is not allowed"):
        Trial(bank, ask, **options)


def test_a_script_with_something_else_in_it_is_refused() -> None:
    script: Any = ["nothing"]
    with pytest.raises(TypeError, match="'nothing' is no act"):
        Trial(bank, ask).play(1, script)
