"""Scenarios for a supervision tree: made from a seed, run on the tree, or on OTP itself.

A scenario is a tree and a list of operations, in plain data:

    ["script", name, results]     what the next inits of a worker do: "ok", "fail", "ignore", "hold"
    ["end", name, reason]         a worker ends by itself
    ["end_meanwhile", name, reason, requests]
                                  the same; if it is restarted its init fails ("hold"), and the
                                  requests reach the supervisor before the retry does
    ["clear"]                     forget all scripts
    ["start", supervisor, spec]   start_child, and likewise "terminate", "restart", "delete"

What is compared after every operation: its result, the order of inits and terminates, and what
which_children says of every supervisor.
"""

import random
import subprocess
from pathlib import Path
from typing import Any

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import ChildError, NotFound, StartFailed, Stopped
from tests.builders import Idle, Run

Scenario = dict[str, Any]
PERIOD_S = 3600.0

WORDS = {
    "AlreadyStarted": "already_started",
    "AlreadyPresent": "already_present",
    "NotFound": "not_found",
    "Running": "running",
    "Restarting": "restarting",
}

# --- making them -------------------------------------------------------------


class Maker:
    """Makes one scenario from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.workers: list[str] = []
        self.supervisors: list[tuple[str, str]] = []  # id and auto_shutdown
        self.children: dict[str, list[str]] = {}

    def scenario(self) -> Scenario:
        tree = self.supervisor(depth=0, above="never")
        count = self.random.randint(3, 14)
        script = self.script() if self.random.random() < 0.15 else []
        return {"tree": tree, "ops": script + [op for _ in range(count) for op in self.op()]}

    def supervisor(self, depth: int, above: str) -> dict[str, Any]:
        pick = self.random
        name = f"sup{len(self.supervisors)}"
        auto = pick.choices(("never", "any_significant", "all_significant"), (6, 1, 2))[0]
        self.supervisors.append((name, auto))
        self.children[name] = []
        flags = {
            "strategy": pick.choice(("one_for_one", "one_for_all", "rest_for_one")),
            "intensity": pick.choice((0, 1, 1, 2, 4)),
            "auto_shutdown": auto,
            **self.restart(above),
        }
        children = []
        for _ in range(pick.randint(1, 4) if depth else pick.randint(2, 5)):
            if depth < 2 and pick.random() < 0.25:
                child = self.supervisor(depth + 1, auto)
            else:
                child = self.worker(auto)
            self.children[name].append(child["id"])
            children.append(child)
        return {"id": name, "flags": flags, "children": children}

    def worker(self, above: str) -> dict[str, Any]:
        name = f"w{len(self.workers)}"
        self.workers.append(name)
        shutdown = self.random.choices((5000, "brutal_kill", "infinity"), (8, 1, 1))[0]
        return {"id": name, "flags": {"shutdown": shutdown, **self.restart(above)}}

    def restart(self, above: str) -> dict[str, Any]:
        restart = self.random.choices(("permanent", "transient", "temporary"), (6, 3, 2))[0]
        can_signify = above != "never" and restart != "permanent"
        return {"restart": restart, "significant": can_signify and self.random.random() < 0.6}

    def op(self) -> list[list[Any]]:
        kind = self.random.choices(("end", "meanwhile", "script", "request"), (10, 3, 4, 7))[0]
        if kind == "script":
            return [*self.script(), self.end()]
        if kind == "request":
            return [self.request()]
        if kind == "meanwhile":
            return self.meanwhile()
        return [self.end()]

    def end(self) -> list[Any]:
        reasons = ("boom", "boom", "boom", "normal", "shutdown")
        return ["end", self.random.choice(self.workers), self.random.choice(reasons)]

    def script(self) -> list[list[Any]]:
        results = self.random.choices(("fail", "ok", "ignore"), (5, 2, 1), k=3)
        return [["script", self.random.choice(self.workers), results]]

    def meanwhile(self) -> list[list[Any]]:
        """Under the root only, and with no other script: its first attempt must reach the hold."""
        root = self.supervisors[0][0]
        names = [name for name in self.children[root] if name.startswith("w")]
        if not names:
            return [self.end()]
        name = self.random.choice(names)
        requests = [self.request(root) for _ in range(self.random.randint(1, 2))]
        results = ["hold", *self.random.choices(("fail", "ok"), k=2)]
        held = ["end_meanwhile", name, "boom", requests]
        return [["clear"], ["script", name, results], held]

    def request(self, supervisor: str | None = None) -> list[Any]:
        name, auto = self.random.choice(self.supervisors)
        if supervisor is not None:
            name, auto = supervisor, self.supervisors[0][1]
        kind = self.random.choice(("start", "terminate", "restart", "delete"))
        if kind != "start":
            known = [child for children in self.children.values() for child in children]
            own = self.children[name] or known
            return [kind, name, self.random.choice(own if self.random.random() < 0.9 else known)]
        if self.random.random() < 0.3:
            again = self.random.choice(self.workers)
            return ["start", name, {"id": again, "flags": self.worker(auto)["flags"]}]
        child = self.worker(auto)
        self.children[name].append(child["id"])
        return ["start", name, child]


def make(seed: int) -> Scenario:
    return Maker(seed).scenario()


# --- running them on the tree --------------------------------------------------


def spec_of(data: dict[str, Any], is_root: bool = False) -> ChildSpec:
    flags = dict(data["flags"])
    if "children" in data:
        if is_root:
            del flags["restart"], flags["significant"]
        children = [spec_of(child) for child in data["children"]]
        return Supervisor(children=children, id=data["id"], period=PERIOD_S, **flags)
    shutdown = flags.pop("shutdown", 5000)
    limit = shutdown / 1000 if isinstance(shutdown, int) else shutdown
    return Worker(data["id"], Idle, shutdown=limit, **flags)


class OnTree:
    """Runs one scenario on the tree, and tells what OTP's recorder tells."""

    def __init__(self, scenario: Scenario) -> None:
        spec = spec_of(scenario["tree"], is_root=True)
        assert isinstance(spec, Supervisor)
        self.run = Run(spec)
        self.host = self.run.host
        self.ops = scenario["ops"]
        self.lines: list[str] = []

    def record(self) -> list[str]:
        self.report("scenario")
        ops = list(self.ops)
        while ops and ops[0][0] == "script":
            self.operate(ops.pop(0))
        try:
            self.run.tree.start()
        except StartFailed:
            self.report("failed")
            return self.lines
        self.report("started")
        for op in ops:
            result = self.operate(op)
            self.host.run_deferred()
            self.report(result)
        self.run.tree.stop()
        self.report("stopped")
        return self.lines

    def operate(self, op: list[Any]) -> str:
        if op[0] == "clear":
            self.host.init_results.clear()
            return "ok"
        if op[0] == "script":
            self.script(op[1], op[2])
            return "ok"
        if op[0] == "end":
            return self.end(op[1], op[2])
        if op[0] == "end_meanwhile":
            if op[1] not in self.host.names:
                self.host.init_results.clear()
                return "noproc"
            starts = len(self.host.init_results[op[1]])
            self.end(op[1], op[2])
            if len(self.host.init_results[op[1]]) == starts:
                self.host.init_results.clear()
                return "not_restarted"
            return f"[{','.join([self.request(request) for request in op[3]])}]"
        return self.request(op)

    def script(self, name: str, results: list[str]) -> None:
        self.host.init_results.pop(name, None)
        for result in results:
            if result == "ignore":
                self.host.ignore_init(name)
            elif result == "ok":
                self.host.let_init(name)
            else:
                self.host.fail_init(name)

    def end(self, name: str, reason: str) -> str:
        if name not in self.host.names:
            return "noproc"
        self.host.crash(name, reason)
        return "ok"

    def request(self, op: list[Any]) -> str:
        tree = self.run.tree
        kind, supervisor, what = op
        try:
            path = tree.supervisor(supervisor).path
        except NotFound:
            return "noproc"
        methods = {
            "start": lambda: tree.start_child(path, spec_of(what)),
            "terminate": lambda: tree.terminate_child(path, what),
            "restart": lambda: tree.restart_child(path, what),
            "delete": lambda: tree.delete_child(path, what),
        }
        try:
            value = methods[kind]().result()
        except ChildError as error:
            return WORDS[type(error).__name__]
        except StartFailed:
            return "failed"
        except Stopped:
            return "noproc"
        return "ignored" if value is None and kind in ("start", "restart") else "ok"

    def report(self, result: str) -> None:
        tree = self.run.tree
        trace = [word for word in self.host.trace if not word.startswith("kill")]
        self.host.trace.clear()
        states = {
            path.rpartition("/")[2]: ",".join(
                f"{c.id}:{c.status}" for c in tree.which_children(path)
            )
            for path in tree.supervisors
        }
        words = " ".join(f"{name}={children}" for name, children in sorted(states.items()))
        self.lines.append(f"{result}|{', '.join(trace)}|{words}")


# --- running them on OTP -------------------------------------------------------


def record_on_otp(scenarios: list[Scenario], folder: Path, timeout: float = 300) -> list[list[str]]:
    """Run scenarios on the OTP that is installed; one list of lines for each."""
    source = Path(__file__).with_name("recorder.erl")
    subprocess.run(["erlc", "-o", str(folder), str(source)], check=True)
    given, results = folder / "scenarios.term", folder / "results.txt"
    given.write_text("".join(f"{term_of_scenario(s)}.\n" for s in scenarios))
    command = ["erl", "-noshell", "-pa", str(folder), "-run", "recorder", "main"]
    subprocess.run([*command, str(given), str(results)], check=True, timeout=timeout, cwd=folder)
    recorded: list[list[str]] = []
    for line in results.read_text().splitlines():
        if line.startswith("scenario|"):
            recorded.append([])
        recorded[-1].append(line)
    return recorded


def term_of_scenario(scenario: Scenario) -> str:
    ops = ",\n  ".join(term_of_op(op) for op in scenario["ops"])
    return f"{{{term_of_spec(scenario['tree'])},\n [{ops}]}}"


def term_of_spec(data: dict[str, Any]) -> str:
    flags = ", ".join(f"{key} => {term(value)}" for key, value in data["flags"].items())
    if "children" in data:
        children = ", ".join(term_of_spec(child) for child in data["children"])
        return f"{{supervisor, {data['id']}, #{{{flags}}}, [{children}]}}"
    return f"{{worker, {data['id']}, #{{{flags}}}}}"


def term_of_op(op: list[Any]) -> str:
    if op == ["clear"]:
        return "{clear}"
    kind, name, *rest = op
    if kind == "start":
        return f"{{start, {name}, {term_of_spec(rest[0])}}}"
    if kind == "end_meanwhile":
        requests = ", ".join(term_of_op(request) for request in rest[1])
        return f"{{end_meanwhile, {name}, {rest[0]}, [{requests}]}}"
    word = "'end'" if kind == "end" else kind
    return f"{{{word}, {name}, {term(rest[0])}}}"


def term(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(term(item) for item in value)}]"
    return str(value)
