"""Random machines for gen_statem: what they return is a script, the same here and on OTP.

An event is a number. The script says what its callback returns when the event is handled for the
first, the second, ... time; afterwards it keeps state and data. Inserted events and time-outs have
higher numbers, so that every scenario ends.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

from pybehave import statem
from pybehave.actions import Stop
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.behaviours.statem_engine import Machine, Turn
from pybehave.errors import InitStopped

EVENTS = 40
OUTSIDE = 6
STATES = 3
LONG = 1_000_000
KINDS = ("state_timeout", "timeout", "a", "b")
INSERTED = ("internal", "cast", "info", "call", "timeout", "state_timeout", "timeout_a")
RECORDER = Path(__file__).with_name("statem_recorder.erl")

Scenario = dict[str, Any]


def make(seed: int) -> Scenario:
    """A scenario: `enter`, `script` (key -> list of results), `events`."""
    dice = random.Random(seed)
    enter = dice.random() < 0.6
    script: list[list[Any]] = []
    for number in range(EVENTS):
        count = dice.choice((0, 1, 1, 1, 2, 3))
        script.append([number, [result(dice, number) for _ in range(count)]])
    if enter:
        for state in range(STATES):
            count = dice.choice((0, 1, 2, 4))
            found = [enter_result(dice) for _ in range(count)]
            script.append([["enter", state], found])
    events = [[dice.choice(("cast", "info", "call")), n] for n in range(dice.randint(1, OUTSIDE))]
    return {"enter": enter, "script": script, "events": events}


def result(dice: random.Random, number: int) -> list[Any]:
    kind = dice.choice(("next", "next", "next", "keep", "keepd", "repeat", "repeatd", "stop"))
    if kind == "stop":
        return ["stop"] if dice.random() < 0.2 else ["keepd", []]
    taken = [action(dice, number) for _ in range(dice.choice((0, 0, 1, 1, 2, 3)))]
    return ["next", dice.randrange(STATES), taken] if kind == "next" else [kind, taken]


def enter_result(dice: random.Random) -> list[Any]:
    kind = dice.choice(("keep", "keepd", "repeat", "repeatd"))
    return [kind, [timed(dice, EVENTS // 2) for _ in range(dice.choice((0, 0, 1, 2)))]]


def action(dice: random.Random, number: int) -> Any:
    choice = dice.random()
    if choice < 0.3:
        return "postpone"
    if choice < 0.55 and number + 1 < EVENTS:
        return ["next_event", dice.choice(INSERTED), dice.randrange(number + 1, EVENTS)]
    return timed(dice, number)


def timed(dice: random.Random, number: int) -> list[Any]:
    time = dice.choice((0, 0, 0, LONG, "cancel", "update"))
    return [dice.choice(KINDS), time, dice.randrange(min(number + 1, EVENTS - 1), EVENTS)]


# --- on OTP --------------------------------------------------------------------------------------


def as_term(value: Any) -> str:
    """A value as Erlang writes it: lists that begin with a word are tuples."""
    if isinstance(value, list):
        return "{" + ",".join(map(as_term, value)) + "}"
    return str(value)


def as_script(scenario: Scenario) -> str:
    lines = []
    for key, results in scenario["script"]:
        lines.append(f"{{{as_term(key)},[{','.join(map(as_result, results))}]}}")
    enter = "true" if scenario["enter"] else "false"
    events = ",".join(map(as_term, scenario["events"]))
    return f"{{{enter},[{','.join(lines)}],[{events}]}}.\n"


def as_result(found: list[Any]) -> str:
    if found == ["stop"]:
        return "stop"
    *head, actions = found
    return "{" + ",".join([*map(as_term, head), f"[{','.join(map(as_term, actions))}]"]) + "}"


def record_on_otp(scenarios: list[Scenario], folder: Path) -> list[str]:
    """What OTP does with each scenario. Needs erl and erlc."""
    (folder / "scenarios").write_text("".join(map(as_script, scenarios)))
    subprocess.run(["erlc", "-o", folder, RECORDER], check=True)
    words = ["erl", "-noshell", "-pa", folder, "-run", "statem_recorder", "main"]
    subprocess.run([*words, folder / "scenarios", folder / "results"], check=True, timeout=300)
    return (folder / "results").read_text().splitlines()


# --- here ----------------------------------------------------------------------------------------


class Scripted(GenStatem):
    """The machine that a scenario describes."""

    def __init__(self, scenario: Scenario) -> None:
        self.script = {
            tuple(key) if isinstance(key, list) else key: list(results)
            for key, results in scenario["script"]
        }
        self.trace: list[str] = []

    def init(self, args: Any) -> Any:
        return 0, 0

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        name = event_type if isinstance(event_type, str) else event_type[event_type[0] == "timeout"]
        self.trace.append(f"{name} {content} {state} {data}")
        results = self.script.get(("enter", state) if event_type == "enter" else content)
        if not results:
            return statem.KeepStateAndData()
        kind, *words = results.pop(0)
        if kind == "stop":
            return statem.Stop("normal", data + 1)
        actions = [as_action(found) for found in words[-1]]
        match kind:
            case "next":
                return statem.NextState(words[0], data + 1, actions)
            case "keep":
                return statem.KeepState(data + 1, actions)
            case "keepd":
                return statem.KeepStateAndData(actions)
            case "repeat":
                return statem.RepeatState(data + 1, actions)
        return statem.RepeatStateAndData(actions)


class Entering(Scripted):
    state_enter = True


def as_action(found: Any) -> Any:
    if found == "postpone":
        return statem.Postpone()
    kind, middle, number = found
    if kind == "next_event":
        special = {"call": ("call", None), "timeout_a": ("timeout", "a")}
        return statem.NextEvent(special.get(middle, middle), number)
    seconds = {"cancel": statem.CANCEL, "update": statem.UPDATE}.get(middle, middle)
    content = None if middle == "cancel" else number
    if kind == "state_timeout":
        return statem.StateTimeout(seconds, content)
    if kind == "timeout":
        return statem.EventTimeout(seconds, content)
    return statem.Timeout(kind, seconds, content)


def play_as_server(scenario: Scenario) -> str:
    """The same through the callbacks of the server that carries the machine."""
    server = (Entering if scenario["enter"] else Scripted)(scenario)
    try:
        initial = server._initial("scripted", None)
    except InitStopped:  # in its first turn, by a time-out of zero: it does not start
        return play(scenario)
    machine = initial.state
    for kind, number in scenario["events"]:
        if kind == "call":
            found = server.handle_call(number, None, machine)
        else:
            found = (server.handle_cast if kind == "cast" else server.handle_info)(number, machine)
        machine = found[0]
        if len(found) == 3 and any(type(action) is Stop for action in found[2]):
            server.trace.append(f"terminate - {machine.state} {machine.data}")
            break
    return ";".join(server.trace)


def play(scenario: Scenario) -> str:
    """What our engine does with a scenario."""
    server = (Entering if scenario["enter"] else Scripted)(scenario)
    turn = Turn(server, Machine(0, 0))
    turn.begin(None)
    types = {"call": ("call", None)}
    for kind, number in scenario["events"]:
        if turn.stop is not None:
            break
        machine = turn.machine()
        turn = Turn(server, machine)
        turn.run((types.get(kind, kind), number))
    if turn.stop is not None:
        server.trace.append(f"terminate - {turn.state} {turn.data}")
    return ";".join(server.trace)
