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
    Contract,
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    Listener,
    Observer,
    Once,
    Pool,
    Supervisor,
    Together,
    Via,
    Worker,
    actions,
    both,
    either,
    events,
    family,
    statem,
)
from pybehave.awaiting import await_all, await_any
from pybehave.errors import CalledInCallback, CallingSelf, PybehaveError
from pybehave.protocols import Lines, Protocol
from tests.runtime.random_scripts import (
    EVERYONE,
    MADE,
    MANAGERS,
    MOVED,
    NOT_OF_MACHINES,
    NOT_OF_SIDES,
    OF_MACHINES,
    PAIRED,
    POLITE,
    STEADY,
    SUPERVISORS,
    TCP,
    Script,
)


class Here:
    """What steps find outside: the node that they may ask, if it runs."""

    node: Any = None
    wrong: ClassVar[list[str]] = []
    shown: ClassVar[list[Any]] = []
    """The log that the observer of "pure" saw last."""

    names: ClassVar[dict[Any, str]] = {}
    """Where the keys of "keyed" lead."""


class Table:
    """A registry of keys (`Via`), which is there anyway."""

    def register_name(self, key: Any, name: str) -> bool:
        return Here.names.setdefault(key, name) == name

    def unregister_name(self, key: Any) -> None:
        del Here.names[key]

    def whereis_name(self, key: Any) -> str | None:
        return Here.names.get(key)


VIA = Via(Table(), ("a key", 7))


def address(name: str) -> Any:
    """Whom a script means: "via" is whoever has the key."""
    return VIA if name == "via" else name


def works(number: int) -> int:
    return number


def fails(number: int) -> int:
    raise ValueError("a job fails")


JOBS: dict[str, Callable[[int], int]] = {"works": works, "fails": fails}


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
    "migrate": lambda n, d, s: n.migrate(d.choice(MOVED), to=d.choice(SUPERVISORS)),
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
    ("root", "m-*"), ("other", "side"), ("root", "engine"), ("root", "made"), ("root", "jobs"),
    ("root", "procs"), ("root", "pure"), ("root", "maybe"), ("k-*", "k-1"), ("root", "keyed"),
    ("root", "memory"), ("root", "sleepy"),
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
    return {"log": [], "callers": [], "wires": [], "awaits": []}


Op = tuple[Any, ...]

SIMPLE: dict[str, Callable[..., Any]] = {
    "cast": lambda to, message: actions.Cast(address(to), message),
    "info": lambda to, message: actions.Info(address(to), message),
    "join": actions.Join,
    "leave": actions.Leave,
    "cast_group": actions.CastGroup,
    "timer": actions.StartTimer,
    "cancel_timer": actions.CancelTimer,
    "cancel_run": actions.Cancel,
    "monitor": lambda to, tag: actions.Monitor(address(to), tag),
    "demonitor": actions.Demonitor,
    "link": lambda to, _: actions.Link(address(to)),
    "unlink": lambda to, _: actions.Unlink(to),
    "hibernate": actions.Hibernate,
    "continue": actions.Continue,
    "idle": actions.IdleTimeout,
    "stop": lambda reason: actions.Stop(ValueError("odd") if reason == "odd" else reason),
    "bad": lambda number: BAD[number % len(BAD)](),
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
        elif word == "pad" or (kind in ("side", "handler") and word in NOT_OF_SIDES):
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
            tag = f"{name}/{to}"
            return [actions.Call(address(to), message, tag, timeout, again, wait)]
        case "together", to, scripts:
            return [actions.Cast(address(to), Together(scripts))]
        case "once", to, script:
            once = Once(f"by {name}", 1, script)
            return [actions.Call(address(to), once, (name, n), idempotent=True) for n in (1, 2)]
        case "run", how, tag, timeout, again, pool:
            limits = {"timeout": timeout, "idempotent": again}
            return [actions.Run(JOBS[how], place, tag=tag, pool=pool, **limits)]
        case "connect", url, mode:
            return [actions.Connect(url, Scripts(), name, mode)]
        case "gather", until, wanted:
            ask_for = await_all if until == "all" else await_any
            effects = {number: effect(each) for number, each in enumerate(wanted)}
            waiting, asked = ask_for(effects, tag=name)
            state["awaits"].append(waiting)
            return list(asked)
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


def effect(op: Op) -> Any:
    match op:
        case "call", to, message, timeout:
            return actions.Call(address(to), message, timeout=timeout, idempotent=True)
        case "run", how, pool, again:
            return actions.Run(JOBS[how], 0, pool=pool, idempotent=again)
        case "connect", url:
            return actions.Connect(url, Scripts())


def keep(message: Any, state: dict[str, Any]) -> list[Any]:
    """Keep what an info brings: a connection, or what is waited for."""
    if isinstance(message, actions.Connected | actions.Opened):
        state["wires"] = [*state["wires"][-3:], message.connection]
    waiting, given_up = [], []
    for each in state["awaits"]:
        taken = each.take(message)
        if taken.is_done:
            state["log"].append(("gathered", taken.tag, *taken.values, "not", *taken.errors))
            given_up += taken.cancels
        else:
            waiting.append(taken)
    state["awaits"] = waiting
    return given_up


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
        return state, None, keep(message, state)

    def handle_continue(self, term: Any, state: dict[str, Any]) -> Any:
        _, wanted, _ = perform(self, term, state, self.told_kind)
        return state, None, wanted


class Trapper(Doer):
    trap_exit = True


class Keyed(Doer):
    def via(self, args: Any) -> Via:
        return VIA


class Maybe(Doer):
    """Does not start every time."""

    def init(self, args: Any) -> Any:
        return actions.Ignore() if self.context.random.random() < 0.4 else fresh()


class Sleepy(Doer):
    """Sleeps behind each command."""

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        done = super().step(command, state)
        return (*done[:2], [*(done[2] if len(done) > 2 else ()), actions.Hibernate()])


class Pure(Doer):
    """Leaves the states alone that it gets."""

    pure = True

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        return super().step(command, copied(state))

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        return super().handle_info(message, copied(state))

    def handle_continue(self, term: Any, state: dict[str, Any]) -> Any:
        return super().handle_continue(term, copied(state))


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) for key, value in state.items()}


class Watcher(Observer):
    """Remembers what it was shown of "pure"; what it has passed on cannot be taken back."""

    def on_start(self, server: str, state: Any) -> None:
        Here.shown[:] = state["log"]

    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        if "replaced" not in new["log"] and new["log"][: len(Here.shown)] != Here.shown:
            Here.wrong.append(f"an observer was shown {new['log']} after {Here.shown}")
        Here.shown[:] = new["log"]


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
            return statem.KeepState(data, keep(content, data))
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
        match ast.literal_eval(message.decode()):
            case "once", client, number, script:
                return Once(client, number, script)
            case "once together", client, number, scripts:
                return Once(client, number, Together(scripts))
            case "together", scripts:
                return Together(scripts)
            case script:
                return script

    def encode(self, output: Any) -> bytes:
        return repr(output).encode()


class Polite(Contract[int]):
    """Counts what was answered, and refuses every seventh script."""

    def initial(self) -> int:
        return 0

    def received(self, state: int, message: Any) -> int | None:
        if is_script(message) and int(message[0][1:]) % 7 == 0:
            return None
        return state + 1

    def replied(self, state: int, output: Any) -> int | None:
        return state + 1


MANY: dict[str, Any] = {"intensity": 1000, "period": 1}
EITHER, BOTH = either(Side, OtherSide), both(Side, OtherSide)


class Next:
    """The next release's."""

    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return dumped

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return {**state, "log": list(state["log"])}


class Doer2(Next, Doer):
    pass


class Pure2(Next, Pure):
    pass


class Sleepy2(Next, Sleepy):
    pass


class Maybe2(Next, Maybe):
    pass


class Machine2(Machine):
    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, state: Any, data: Any) -> Any:
        return state, data

    def code_change(self, old_version: Any, state: Any, data: Any, extra: Any) -> Any:
        return state, {**data, "log": list(data["log"])}


def pair(strategy: Any, version: int) -> Supervisor:
    kind = Doer if version == 1 else Doer2
    children = [Worker("c", kind, journal=True), Worker("d", kind)]
    return Supervisor(strategy, children, id="pair", **MANY)


def other() -> Application:
    side = Supervisor("one_for_one", [Worker("side", Doer, journal=True)], id="other", **MANY)
    return Application("other", side)


RELEASES: dict[int, tuple[Any, ...]] = {
    1: (Doer, Pure, Sleepy, Maybe, Machine),
    2: (Doer2, Pure2, Sleepy2, Maybe2, Machine2),
}


def program(strategy: Any = "one_for_all", version: int = 1) -> Application:
    """The application: a server of each kind, with a journal and without."""
    kind, pure, sleepy, maybe, machine = RELEASES[version]
    recorders = [events.add_handler(Recorder, None)]
    children = [
        Pool("jobs", size=(0, 2), queue=2),
        Pool("procs", kind="process", size=(1, 2), queue=4),
        Worker("a", kind, journal=True),
        Worker("b", Trapper, journal=True),
        Worker("p", kind),
        Worker("q", Trapper),
        pair(strategy, version),
        Worker("machine", machine, journal=True),
        Worker("engine", machine),
        Worker("os", kind, journal=True, acknowledge="os"),
        Worker("memory", kind, journal=True, acknowledge="memory"),
        Worker("tight", kind, journal=True, mailbox=2, overflow="reject"),
        Worker("loose", kind, journal=True, mailbox=3, overflow="drop_oldest"),
        Worker("pure", pure, journal=True, observers=[Watcher()]),
        Worker("sleepy", sleepy, journal=True),
        Worker("maybe", maybe, journal=True),
        Worker("keyed", Keyed),
        Worker("narrow", Doer, mailbox=1, overflow="reject"),
        Worker("log", GenEvent, recorders, journal=True),
        Worker("news", GenEvent, recorders),
        Worker("either", EITHER, (None, None), journal=True),
        Worker("both", BOTH, (None, None), journal=True),
        family("m-*", Doer, journal=True, idle=0.3, **MANY),
        family("k-*", Maybe, journal=True, idle=0.3, **MANY),
        family("n-*", Doer, idle=0.3, **MANY),
        Supervisor("simple_one_for_one", [Worker("x", Doer, journal=True)], id="made", **MANY),
    ]
    tree = Supervisor("one_for_one", children, **MANY)
    polite: dict[str, Any] = {"contract": Polite(), "active": "once", "events": True}
    listeners = [
        Listener(TCP, Scripts(), to="a", events=True),
        Listener(POLITE, Scripts(), to="pure", **polite),
    ]
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
