"""Scenarios for a simple_one_for_one: made from a seed, run on the tree, or on OTP itself.

    python -m tests.conformance.otp.simple_scenarios        write simple_recorded.jsonl again

A scenario is flags, the template's fields and operations in plain data; children are known by a
number, their only argument. What is compared after every operation: its result, which inits and
terminates ran (sorted: OTP stops such children in no order), what which_children and
count_children say. OTP's children have no id, so ids are not compared.
"""

import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import NotFound, SimpleOneForOne, StartFailed, Stopped
from tests.builders import Idle, Run

Scenario = dict[str, Any]
RECORDED = Path(__file__).with_name("simple_recorded.jsonl")
PERIOD_S = 3600.0
TAGS_MAX = 6


def make(seed: int) -> Scenario:
    pick = random.Random(seed)
    auto = pick.choices(("never", "any_significant"), (4, 1))[0]
    restart = pick.choice(("permanent", "transient", "temporary"))
    ops: list[list[Any]] = []
    started = 0
    for _ in range(pick.randint(4, 16)):
        kind = pick.choices(
            ("start", "end", "fail", "terminate", "terminate_stranger", "restart", "delete"),
            (6, 7, 3, 4, 1, 1, 1),
        )[0]
        if kind == "start" and started < TAGS_MAX:
            if pick.random() < 0.2:
                ops.append(["fail", started, 1])
            ops.append(["start", started])
            started += 1
        elif kind == "terminate_stranger":
            ops.append([kind])
        elif started:
            tag = pick.randrange(started)
            if kind == "fail":
                ops.append(["fail", tag, pick.randint(1, 2)])
            reason = pick.choice(("boom", "boom", "normal", "shutdown"))
            ops.append(["end", tag, reason] if kind in ("end", "fail", "start") else [kind, tag])
    significant = auto != "never" and restart != "permanent" and pick.random() < 0.7
    return {
        "flags": {"intensity": pick.choice((0, 1, 2, 4)), "auto_shutdown": auto},
        "child": {"restart": restart, "significant": significant},
        "ops": ops,
    }


class OnTree:
    """Runs one scenario on the tree, and tells what OTP's recorder tells."""

    def __init__(self, scenario: Scenario) -> None:
        template = Worker("template", Idle, **scenario["child"])
        flags = {**scenario["flags"], "period": PERIOD_S, "id": "root"}
        self.run = Run(Supervisor("simple_one_for_one", [template], **flags))
        self.ops = scenario["ops"]
        self.refs: dict[int, Any] = {}
        self.lines: list[str] = []

    def record(self) -> list[str]:
        self.run.tree.start()
        self.report("scenario")
        for op in self.ops:
            result = "noproc" if self.run.tree.is_ended else self.operate(*op)
            self.run.host.run_deferred()
            self.report(result)
        self.run.tree.stop()
        self.report("stopped")
        return self.lines

    def operate(self, kind: str, tag: int = 0, detail: Any = None) -> str:
        tree, host, name = self.run.tree, self.run.host, str(tag)
        if kind == "fail":
            host.init_results.pop(name, None)
            host.fail_init(name, detail)
            return "ok"
        if kind == "end":
            if name not in host.names:
                return "noproc"
            host.crash(name, detail)
            return "ok"
        if kind == "terminate" and self.refs.get(tag) is None:
            return "none"
        ref = object() if kind == "terminate_stranger" else self.refs.get(tag)
        request = {
            "start": lambda: tree.start_child("root", [tag], name),
            "restart": lambda: tree.restart_child("root", name),
            "delete": lambda: tree.delete_child("root", name),
        }.get(kind, lambda: tree.terminate_child("root", ref))
        try:
            request().result()
        except (StartFailed, SimpleOneForOne, NotFound, Stopped) as error:
            return {"StartFailed": "failed", "SimpleOneForOne": "simple_one_for_one"}.get(
                type(error).__name__, "not_found"
            )
        return "ok"

    def report(self, result: str) -> None:
        host, tree = self.run.host, self.run.tree
        self.refs.update((int(name), running) for name, running in host.names.items())
        trace = sorted(host.trace)
        host.trace.clear()
        statuses, counts = "[]", ""
        if not tree.is_ended:
            statuses = f"[{','.join(sorted(c.status for c in tree.which_children('root')))}]"
            counts = ",".join(
                f"{key}={value}"
                for key, value in sorted(tree.count_children("root")._asdict().items())
            )
        self.lines.append(f"{result}|{','.join(trace)}|{statuses}|{counts}")


def record_on_otp(scenarios: list[Scenario], folder: Path) -> list[list[str]]:
    """Run scenarios on the OTP that is installed; one list of lines for each."""
    source = Path(__file__).with_name("simple_recorder.erl")
    subprocess.run(["erlc", "-o", str(folder), str(source)], check=True)
    given, results = folder / "scenarios.term", folder / "results.txt"
    given.write_text("".join(f"{term_of(s)}.\n" for s in scenarios))
    command = ["erl", "-noshell", "-pa", str(folder), "-run", "simple_recorder", "main"]
    subprocess.run([*command, str(given), str(results)], check=True, timeout=300, cwd=folder)
    recorded: list[list[str]] = []
    for line in results.read_text().splitlines():
        if line.startswith("scenario|"):
            recorded.append([])
        recorded[-1].append(line)
    return recorded


def term_of(scenario: Scenario) -> str:
    maps = (
        ", ".join(f"{key} => {str(value).lower()}" for key, value in scenario[part].items())
        for part in ("flags", "child")
    )
    flags, child = (f"#{{{each}}}" for each in maps)
    words = ((f"'{kind}'", *map(str, rest)) for kind, *rest in scenario["ops"])
    ops = ", ".join(f"{{{', '.join(op)}}}" for op in words)
    return f"{{{flags}, {child}, [{ops}]}}"


def main() -> None:
    seeds = range(100)
    with tempfile.TemporaryDirectory() as folder:
        recorded = record_on_otp([make(seed) for seed in seeds], Path(folder))
    lines = [
        json.dumps({"seed": seed, **make(seed), "otp": answers}, separators=(",", ":"))
        for seed, answers in zip(seeds, recorded, strict=True)
    ]
    RECORDED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
