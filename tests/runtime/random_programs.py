"""Random programs for a node with a journal: servers that do what their inputs say.

An input is a script: a name of its own, and what the step that gets it is to do (`perform`):
actions of every kind, with scripts in them, crashes, and requests to the node. Every server keeps
the names of what it has stepped, in their order, and what it was told besides.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from pybehave import (
    NO_REPLY,
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    Listener,
    Supervisor,
    Worker,
    actions,
    both,
    either,
    events,
    family,
    statem,
)
from pybehave.errors import CalledInCallback, CallingSelf, PybehaveError
from pybehave.protocols import Lines, Protocol

Script = tuple[str, tuple[Any, ...]]

TCP = "tcp://127.0.0.1:7000"
PEER = "tcp://127.0.0.1:7900"
NOBODY = "tcp://127.0.0.1:7901"

STEADY = ("a", "b", "c", "side", "machine")
"""Journaled servers that the application always has, and that take scripts as they are."""

PLAIN = ("p", "q", "d", "engine")
MEMBERS = ("m-1", "m-2", "n-1")
MADE = ("x1", "x2", "y1", "y2")
PAIRED = ("either", "both")
MANAGERS = ("log", "news")
EVERYONE = (*STEADY, *PLAIN, *MEMBERS, *MADE, "nobody")
GROUPS = ("g", "h")
SUPERVISORS = ("root", "pair", "made", "m-*", "n-*")


class Here:
    """What steps find outside: the node that they may ask, if it runs."""

    node: Any = None
    wrong: ClassVar[list[str]] = []


# --- what a script may say ------------------------------------------------------------------------


class Writer:
    """Writes scripts.

    Args:
        dice: Everything follows from it.
        asks: Whether steps ask the node for something.
    """

    def __init__(self, dice: Random, *, asks: bool) -> None:
        self.dice = dice
        self.asks = asks
        self.count = 0
        self.scripts: dict[str, tuple[Any, ...]] = {}
        self.again: set[str] = set()

    def script(self, depth: int = 2, *, is_repeated: bool = False) -> Script:
        self.count += 1
        name = f"s{self.count}"
        sizes = {-1: (0,), 0: (0, 0, 1)}.get(depth, (0, 1, 1, 2, 3))
        size = self.dice.choice(sizes)
        ops = tuple(self.operation(depth, is_repeated=is_repeated) for _ in range(size))
        self.scripts[name] = ops
        if is_repeated:
            self.again.add(name)
        return name, ops

    def to(self, name: str, depth: int, *, is_repeated: bool = False) -> Any:
        """A message in the form that a server takes."""
        if name == "either":
            return self.dice.randrange(2), self.script(depth, is_repeated=is_repeated)
        if name == "both":
            return tuple(self.script(depth, is_repeated=is_repeated) for _ in range(2))
        if name in MANAGERS:
            return events.notify(self.script(depth, is_repeated=True))  # each handler does it
        return self.script(depth, is_repeated=is_repeated)

    def anybody(self) -> str:
        return self.dice.choice((*EVERYONE, *STEADY, *PAIRED))

    def operation(self, depth: int, *, is_repeated: bool) -> tuple[Any, ...]:
        dice = self.dice
        word = dice.choice(WORDS if depth else LEAVES)
        if word == "ask" and not self.asks:
            word = "now"
        if depth and word in CARRYING:
            return self.carrying(word, depth - 1, is_repeated=is_repeated)
        match word:
            case "join" | "leave":
                return word, dice.choice(GROUPS)
            case "cancel_timer" | "cancel_run":
                return word, dice.randrange(2)
            case "idle" | "state_timeout" | "event_timeout":
                return word, dice.choice(SECONDS)
            case "run":
                how = dice.choice(("works", "fails"))
                return word, how, dice.randrange(2), dice.choice((None, 0.05)), dice.random() < 0.5
            case "monitor" | "demonitor" | "link" | "unlink":
                return word, dice.choice((*EVERYONE, *PAIRED, *MANAGERS)), dice.randrange(2)
            case "connect":
                return word, dice.choice((PEER, NOBODY))
            case "stop":
                return word, dice.choice(("normal", "shutdown", "odd"))
            case "ask":
                script = self.script(0, is_repeated=True)
                return word, dice.choice(tuple(ASKED)), dice.randrange(1 << 20), script
            case "bad":
                return word, dice.randrange(len(BAD))
        return (word,)

    def carrying(self, word: str, depth: int, *, is_repeated: bool) -> tuple[Any, ...]:
        """An operation with a script in it."""
        dice = self.dice
        match word:
            case "cast" | "info":
                name = self.anybody()
                if word == "info" and name in PAIRED:  # whose infos have no side
                    name = "a"
                return word, name, self.to(name, depth, is_repeated=is_repeated)
            case "call":
                name, again = self.anybody(), dice.random() < 0.3
                # One that ends its sender, too, would do so again and again: it does nothing.
                message = self.to(name, -1 if again else depth, is_repeated=again or is_repeated)
                wait = dice.choice(("fail", "wait"))
                return word, name, message, dice.choice((0.01, 1.0, 5.0)), again, wait
            case "cast_group":
                return word, dice.choice(GROUPS), self.script(depth, is_repeated=True)
            case "timer":
                script = self.script(depth, is_repeated=is_repeated)
                return word, dice.randrange(2), dice.choice(SECONDS), script
        return word, self.script(depth, is_repeated=is_repeated)


SECONDS = (0, 0.001, 0.01, 0.5)
CARRYING = {"cast", "info", "call", "cast_group", "timer", "continue", "next_event"}
WORDS = (
    "cast", "cast", "cast", "info", "call", "call", "join", "leave", "cast_group", "continue",
    "timer", "timer", "cancel_timer", "idle", "run", "run", "cancel_run", "monitor", "demonitor",
    "link", "unlink", "connect", "send", "close", "active", "stop", "hibernate", "hibernate",
    "crash", "bad", "later", "later", "answer", "answer", "dice", "now", "ask", "ask", "next_event",
    "state_timeout", "event_timeout", "postpone", "toggle",
)  # fmt: skip
LEAVES = (
    "hibernate", "crash", "bad", "later", "answer", "dice", "now", "ask", "stop", "monitor", "link",
    "unlink", "join", "leave", "run", "cancel_run", "send", "close", "toggle", "postpone", "idle",
    "connect",
)  # fmt: skip
OF_MACHINES = {"next_event", "state_timeout", "event_timeout", "postpone", "toggle"}
NOT_OF_MACHINES = {"continue", "idle", "stop"}
NOT_OF_SIDES = {"connect", "idle", "join", "leave"}


def works(number: int) -> int:
    return number


def fails(number: int) -> int:
    raise ValueError("a job fails")


# --- requests to the node -------------------------------------------------------------------------


RESTARTS: tuple[Any, ...] = ("permanent", "transient", "temporary")


def _worker(name: str, number: int) -> Worker[Any, Any]:
    return Worker(name, Doer, journal=bool(number & 1), restart=RESTARTS[number % 3])


ASKED: dict[str, Callable[[Any, Random, Script], Any]] = {
    "start": lambda n, d, s: n.start_child(
        d.choice(("root", "pair")), _worker(d.choice(("z1", "z2")), d.randrange(6))
    ),
    "start made": lambda n, d, s: n.start_child("made", [], name=d.choice(MADE)),
    "terminate": lambda n, d, s: n.terminate_child(*d.choice(CHILDREN)),
    "remove": lambda n, d, s: n.remove_child(*d.choice(CHILDREN)),
    "restart": lambda n, d, s: n.restart(*d.choice(CHILDREN)),
    "restart child": lambda n, d, s: n.restart_child(*d.choice(CHILDREN)),
    "delete": lambda n, d, s: n.delete_child(*d.choice(CHILDREN)),
    "which": lambda n, d, s: n.which_children(d.choice(SUPERVISORS)),
    "count": lambda n, d, s: n.count_children(d.choice(SUPERVISORS)),
    "migrate": lambda n, d, s: n.migrate(d.choice("pqabcd"), to=d.choice(SUPERVISORS)),
    "cast": lambda n, d, s: n.cast(d.choice(EVERYONE), s),
    "info": lambda n, d, s: n.info(d.choice(EVERYONE), s),
    "abcast": lambda n, d, s: n.abcast(["a", "p", "nobody"], s),
    "request": lambda n, d, s: n.send_request(d.choice(EVERYONE), s),
    "request urgent": lambda n, d, s: n.send_request(d.choice(EVERYONE), s, priority=True),
    "watch": lambda n, d, s: n.monitor(d.choice(EVERYONE)),
    "stop other": lambda n, d, s: n.stop_application("other"),
    "start other": lambda n, d, s: n.start_application(other()),
    "applications": lambda n, d, s: n.which_applications(),
    "stats": lambda n, d, s: n.stats(),
    "kept": lambda n, d, s: n.kept(),
    "state": lambda n, d, s: n.get_state(d.choice(EVERYONE)),
    "status": lambda n, d, s: n.sys.get_status(d.choice(EVERYONE)),
    "reconfigure": lambda n, d, s: n.reconfigure(
        "pair", pair(d.choice(("one_for_all", "rest_for_one")), int(n.app.version))
    ),
}
"""What a step may ask for."""

REFUSED: dict[str, Callable[[Any, Random, Script], Any]] = {
    "call": lambda n, d, s: n.call(d.choice(EVERYONE), s),
    "suspend": lambda n, d, s: n.sys.suspend(d.choice(STEADY)),
    "replace": lambda n, d, s: n.sys.replace_state(d.choice(STEADY), lambda state: state),
    "forget": lambda n, d, s: n.forget(d.choice(("a", "b")), stop=True),
    "upgrade": lambda n, d, s: n.releases.rollback(),
    "end": lambda n, d, s: n.stop(),
    "multi": lambda n, d, s: n.multi_call(["a", "b"], s),
}
"""What a step may not ask for."""

ASKED |= REFUSED

CHILDREN = (
    ("root", "a"), ("root", "b"), ("root", "p"), ("root", "q"), ("root", "machine"),
    ("root", "pair"), ("pair", "c"), ("pair", "d"), ("root", "either"), ("root", "log"),
    ("made", "x1"), ("made", "y1"), ("m-*", "m-1"), ("root", "z1"), ("pair", "z2"),
    ("root", "m-*"), ("other", "side"), ("root", "engine"), ("root", "made"),
)  # fmt: skip


def ask(what: str, number: int, script: Script) -> None:
    """Ask the node for something, as code in a callback may; a replay finds nobody to ask."""
    node = Here.node
    if node is None:
        return
    try:
        ASKED[what](node, Random(number), script)
    except CalledInCallback:
        if what not in REFUSED:
            Here.wrong.append(f"{what} was refused")
    except CallingSelf:
        return
    except PybehaveError as error:
        if what in REFUSED:
            Here.wrong.append(f"{what} was refused by {error!r}")
    else:
        if what in REFUSED:
            Here.wrong.append(f"{what} was not refused")


# --- servers --------------------------------------------------------------------------------------


def told(message: Any) -> tuple[Any, ...]:
    """What a server keeps of an info that is no script."""
    kind = type(message).__name__
    match message:
        case actions.CallReply(tag=tag, value=(int(), str(script))):
            return kind, tag, script
        case actions.CallReply(tag=tag):
            return kind, tag
        case actions.CallFailed(tag=tag, error=error) | actions.RunFailed(tag=tag, error=error):
            return kind, tag, type(error).__name__
        case actions.RunDone(tag=tag, value=value):
            return kind, tag, value
        case actions.Down(name=name, tag=tag):
            return kind, name, tag
        case actions.Exit(name=name):
            return kind, name
        case tuple():
            return kind, *(type(each).__name__ for each in message)
    return (kind,)


def is_script(message: Any) -> bool:
    match message:
        case str(name), tuple():
            return name.startswith("s")
    return False


def fresh() -> dict[str, Any]:
    return {"log": [], "callers": [], "wires": []}


Op = tuple[Any, ...]

SIMPLE: dict[str, Callable[..., Any]] = {
    "cast": actions.Cast,
    "info": actions.Info,
    "join": actions.Join,
    "leave": actions.Leave,
    "cast_group": actions.CastGroup,
    "timer": actions.StartTimer,
    "cancel_timer": actions.CancelTimer,
    "cancel_run": actions.Cancel,
    "monitor": actions.Monitor,
    "demonitor": actions.Demonitor,
    "link": lambda to, _: actions.Link(to),
    "unlink": lambda to, _: actions.Unlink(to),
    "hibernate": actions.Hibernate,
    "continue": actions.Continue,
    "idle": actions.IdleTimeout,
    "stop": lambda reason: actions.Stop(ValueError("odd") if reason == "odd" else reason),
    "bad": lambda number: BAD[number](),
}
"""Operations that are an action, whoever steps them."""

BAD: list[Callable[[], Any]] = [
    lambda: actions.Send(None, b""),
    lambda: actions.Cast("a", object()),
    lambda: actions.StartTimer("t", 0, object()),
]


def perform(
    server: Any, script: Script, state: dict[str, Any], kind: str = "server"
) -> tuple[Any, list[Any], list[Op]]:
    """Do what a script says; returns the output, the actions, and what is for a machine."""
    name, ops = script
    place = len(state["log"])
    state["log"].append(name)
    output: Any = (place, name)
    wanted: list[Any] = []
    left: list[Op] = []
    for op in ops:
        word, *rest = op
        if word in OF_MACHINES or (kind == "machine" and word in NOT_OF_MACHINES):
            left.append(op)
        elif kind == "side" and word in NOT_OF_SIDES:
            continue
        elif word in SIMPLE:
            wanted.append(SIMPLE[word](*rest))
        elif word == "later":
            if kind == "server" and server.context.caller is not None:
                state["callers"].append(server.context.caller)
                output = NO_REPLY
        elif word in ("crash", "dice", "now", "ask"):
            note(server, op, state, name)
        else:
            wanted += asking(op, state, name, place)
    return output, wanted, left


def note(server: Any, op: Op, state: dict[str, Any], name: str) -> None:
    """What a step does that is no action."""
    match op:
        case ("crash",):
            raise ValueError(f"asked to crash by {name}")
        case ("dice",):
            state["log"].append(("dice", server.context.random.random()))
        case ("now",):
            state["log"].append(("now", server.context.now))
        case "ask", what, number, message:
            ask(what, number, message)


def asking(op: Op, state: dict[str, Any], name: str, place: int) -> list[Any]:
    """Actions that depend on the state, or on who asks."""
    match op:
        case "call", to, message, timeout, again, wait:
            return [actions.Call(to, message, f"{name}/{to}", timeout, again, wait)]
        case "run", how, tag, timeout, again:
            job = works if how == "works" else fails
            return [actions.Run(job, place, tag=tag, timeout=timeout, idempotent=again)]
        case "connect", url:
            return [actions.Connect(url, Scripts(), name)]
        case ("answer",):
            callers, state["callers"] = state["callers"], []
            return [actions.Reply(each, ("late", name)) for each in callers]
        case (("send" | "close" | "active") as word,) if state["wires"]:
            wire = state["wires"].pop() if word == "close" else state["wires"][-1]
            make: dict[str, Callable[[], Any]] = {
                "send": lambda: actions.Send(wire, ("pushed", name)),
                "close": lambda: actions.Close(wire),
                "active": lambda: actions.Active(wire, "once"),
            }
            return [make[word]()]
    return []


def keep_wire(server: Any, message: Any, state: dict[str, Any]) -> None:
    if isinstance(message, actions.Connected | actions.Opened):
        state["wires"] = [*state["wires"][-3:], message.connection]


class Doer(GenServer[dict[str, Any], Any, Any]):
    """Does what it is told, and keeps what it hears."""

    kind, told_kind = "server", "info"

    def init(self, args: Any) -> Any:
        return fresh()

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if not is_script(command):
            state["log"].append(("odd", type(command).__name__))
            return state, None
        output, wanted, _ = perform(self, command, state, self.kind)
        return state, output, wanted

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        if is_script(message):
            _, wanted, _ = perform(self, message, state, self.told_kind)
            return state, None, wanted
        state["log"].append(told(message))
        keep_wire(self, message, state)
        return state, None

    def handle_continue(self, term: Any, state: dict[str, Any]) -> Any:
        _, wanted, _ = perform(self, term, state, self.told_kind)
        return state, None, wanted


class Trapper(Doer):
    trap_exit = True


class Side(Doer):
    kind = told_kind = "side"


class OtherSide(Side):
    pass


class Machine(GenStatem):
    """Two states; what it postpones waits for the other one."""

    def init(self, args: Any) -> Any:
        return "even", fresh()

    def even(self, event_type: Any, content: Any, data: Any) -> Any:
        return self.event("even", event_type, content, data)

    def odd(self, event_type: Any, content: Any, data: Any) -> Any:
        return self.event("odd", event_type, content, data)

    def event(self, now: str, event_type: Any, content: Any, data: Any) -> Any:
        if not is_script(content):
            data["log"].append(told(content))
            keep_wire(self, content, data)
            return statem.KeepState(data)
        if now == "odd" and ("postpone",) in content[1]:
            return statem.KeepStateAndData(statem.Postpone())
        output, wanted, left = perform(self, content, data, "machine")
        if isinstance(event_type, tuple) and event_type[0] == "call":
            if ("later",) in content[1]:
                data["callers"].append(event_type[1])
            else:
                wanted.append(actions.Reply(event_type[1], output))
        for op in left:
            match op:
                case "next_event", message:
                    wanted.append(statem.NextEvent("internal", message))
                case "state_timeout", seconds:
                    wanted.append(statem.StateTimeout(seconds, ("tick", "tock")))
                case "event_timeout", seconds:
                    wanted.append(statem.EventTimeout(seconds, ("tick", "tock")))
                case "stop", reason:
                    return statem.Stop(reason if reason != "odd" else ValueError("odd"), data)
        if ("toggle",) in left or any(op[0] == "stop" for op in left):
            return statem.NextState("odd" if now == "even" else "even", data, wanted)
        return statem.KeepState(data, wanted)


class Recorder(EventHandler):
    """Keeps events; does what they say."""

    def init(self, args: Any) -> Any:
        return fresh()

    def handle_event(self, event: Any, state: Any) -> Any:
        if not is_script(event):
            state["log"].append(told(event))
            return state
        _, wanted, _ = perform(self, event, state, "handler")
        allowed = (actions.Cast, actions.Info, actions.Call, actions.Run, actions.Monitor)
        return events.Handled(state, [each for each in wanted if isinstance(each, allowed)])

    def handle_info(self, message: Any, state: Any) -> Any:
        state["log"].append(told(message))
        return state

    def handle_call(self, request: Any, state: Any) -> Any:
        state["log"].append(request[0])
        return state, (len(state["log"]) - 1, request[0])


class Second(Recorder):
    pass


class Scripts(Protocol):
    """Scripts as lines of text."""

    framing = Lines()

    def decode(self, message: bytes) -> Any:
        return ast.literal_eval(message.decode())

    def encode(self, output: Any) -> bytes:
        return repr(output).encode()


MANY: dict[str, Any] = {"intensity": 1000, "period": 1}
EITHER, BOTH = either(Side, OtherSide), both(Side, OtherSide)


class Doer2(Doer):
    """The next release's."""

    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return dumped

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return {**state, "log": list(state["log"])}


def pair(strategy: Any, version: int) -> Supervisor:
    kind = Doer if version == 1 else Doer2
    children = [Worker("c", kind, journal=True), Worker("d", kind)]
    return Supervisor(strategy, children, id="pair", **MANY)


def other() -> Application:
    side = Supervisor("one_for_one", [Worker("side", Doer, journal=True)], id="other", **MANY)
    return Application("other", side)


def program(strategy: Any = "one_for_all", version: int = 1) -> Application:
    """The application: a server of each kind, with a journal and without."""
    kind = Doer if version == 1 else Doer2
    recorders = [events.add_handler(Recorder, None)]
    children = [
        Worker("a", kind, journal=True),
        Worker("b", Trapper, journal=True),
        Worker("p", kind),
        Worker("q", Trapper),
        pair(strategy, version),
        Worker("machine", Machine, journal=True),
        Worker("engine", Machine),
        Worker("log", GenEvent, recorders, journal=True),
        Worker("news", GenEvent, recorders),
        Worker("either", EITHER, (None, None), journal=True),
        Worker("both", BOTH, (None, None), journal=True),
        family("m-*", Doer, journal=True, idle=0.3, **MANY),
        family("n-*", Doer, idle=0.3, **MANY),
        Supervisor("simple_one_for_one", [Worker("x", Doer, journal=True)], id="made", **MANY),
    ]
    tree = Supervisor("one_for_one", children, **MANY)
    listeners = [Listener(TCP, Scripts(), to="a", events=True)]
    return Application("programs", tree, version=str(version), listeners=listeners)


def logs_of(name: str, shown: Any) -> list[list[Any]]:
    """What a server has kept: of each side, of each handler."""
    if name in PAIRED:
        return [side["log"] for side in shown]
    if name in MANAGERS:
        return [state["log"] for _, state in shown]
    if name in ("machine", "engine"):
        return [shown[1]["log"]]
    return [shown["log"]]
