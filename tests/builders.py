"""Trees, and a host to run them on, in one line each.

`FakeHost` is what the tree sees of a node, without a loop: time stands still until `advance`, the
loop's queue is run by `run_deferred`, and a terminate takes as long as the test wants (`slow`).
It makes real servers, so a transcript can be replayed on it. `host.trace` tells what happened to
workers, in order: `init a`, `initfail a`, `ignore a`, `term a`, `kill a`.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from pybehave.actions import NO_REPLY, Ignore
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer, Initial, interpret, interpret_init
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import AlreadyStarted, Crashed, NoProc
from pybehave.runtime.events import Event
from pybehave.runtime.tree.tree import Tree
from pybehave.testing.run import FixedContext
from pybehave.types import IGNORED, KILLED, is_clean


class Idle(GenServer[Any, Any, Any]):
    """A server that does nothing: the tests are about its life."""

    def step(self, command: Any, state: Any) -> Any:
        return state, None


class Boom(Exception):
    """What a test lets a server crash with."""


def workers(names: str, **fields: Any) -> list[Worker[Any, Any]]:
    """`workers("a b c")`: one worker per word, all with the same fields."""
    return [Worker(name, Idle, **fields) for name in names.split()]


def supervisor(strategy: str, *children: ChildSpec | str, **fields: Any) -> Supervisor:
    """`supervisor("one_for_all", "a b", Worker(...))`: words stand for workers."""
    flat: list[ChildSpec] = []
    for child in children:
        flat += workers(child) if isinstance(child, str) else [child]
    return Supervisor(strategy, flat, **fields)  # type: ignore[arg-type]


class Running:
    """A worker that the fake host has started: what the real node calls a server."""

    def __init__(
        self, worker: Worker[Any, Any], name: str, instance: Any, state: Any, incarnation: int,
        began: float,
    ):  # fmt: skip
        self.name = name
        self.worker = worker
        self.owner: object = worker
        self.instance = instance
        self.state = state
        self.incarnation = incarnation
        self.began = began

    def __repr__(self) -> str:
        return str(self.incarnation)


class FakeHost:
    """Carries the tree's orders out at once, and remembers them."""

    def __init__(self) -> None:
        self.tree: Tree | None = None
        self.time = 0.0
        self.trace: list[str] = []
        self.events: list[Event] = []
        self.names: dict[str, Running] = {}
        self.deferred: deque[Callable[[], None]] = deque()
        self.init_results: dict[str, deque[Any]] = {}
        self.terminate_results: dict[str, Any] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.on_crash: Callable[[str, Exception], None] | None = None
        self.slow: set[str] = set()
        self.stopping: dict[str, tuple[float | None, Callable[[object], None]]] = {}
        self.ending: dict[str, Running] = {}
        self.incarnations = 0
        self.alarms: list[tuple[float, int, Callable[[], None]]] = []
        self.luck = 0.0
        self.passed: list[BaseException] = []

    # --- what the tree asks ----------------------------------------------------

    def now(self) -> float:
        return self.time

    def defer(self, function: Callable[[], None]) -> None:
        self.deferred.append(function)

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        self.alarms.append((self.time + seconds, len(self.alarms), function))

    def draw(self) -> float:
        return self.luck

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def settled(self) -> None:
        pass

    def pass_through(self, error: BaseException) -> None:
        self.passed.append(error)

    def start_worker(self, worker: Worker[Any, Any], name: str, args: Any) -> object:
        if name in self.names:
            raise AlreadyStarted(name, self.names[name])
        self._hook(f"init {name}")
        scripted = self.init_results.get(name)
        result = scripted.popleft() if scripted else None
        if isinstance(result, BaseException):
            self.trace.append(f"initfail {name}")
            raise result
        instance: Any = worker.server()
        instance.context = FixedContext(name, self.incarnations + 1)
        initial = interpret_init(name, instance.init(args) if result is None else result)
        if not isinstance(initial, Initial):
            self.trace.append(f"ignore {name}")
            return IGNORED
        self.trace.append(f"init {name}")
        self.incarnations += 1
        running = Running(worker, name, instance, initial.state, self.incarnations, self.time)
        self.names[name] = running
        return running

    def stop_worker(
        self,
        ref: Any,
        reason: object,
        timeout: float | None,
        done: Callable[[object], None],
    ) -> None:
        name = ref.name
        if self.ending.get(name) is ref:  # its own terminate is under way: done is called then
            del self.ending[name]
            self.stopping[name] = timeout, done
            return
        assert self.names.pop(name) is ref
        if name in self.slow:
            self.trace.append(f"term {name} ...")
            self.stopping[name] = timeout, done
        else:
            done(self._terminate(ref, reason))

    def kill_worker(self, ref: Any) -> None:
        self.trace.append(f"kill {ref.name}")
        self.names.pop(ref.name, None)
        self.stopping.pop(ref.name, None)
        self.ending.pop(ref.name, None)

    def ended_name(self, ref: Any) -> str | None:
        is_ended = isinstance(ref, Running) and self.names.get(ref.name) is not ref
        return ref.name if is_ended else None

    # --- what the world does -----------------------------------------------------

    def crash(self, name: str, reason: object = None) -> None:
        """Let a server end by itself: its own terminate runs, then its supervisor hears."""
        running = self.names.pop(name)
        reason = Boom(name) if reason is None else reason
        assert self.tree is not None
        if name in self.slow:
            self.trace.append(f"term {name} ...")
            self.ending[name] = running
            self.stopping[name] = None, lambda _: self._ended(running, reason)
            return
        self.ending[name] = running
        outcome = self._terminate(running, reason)
        if self.ending.pop(name, None) is running:
            self.tree.worker_ended(running, outcome)
        else:  # its own terminate has asked for its end
            self.stopping.pop(name)[1](outcome)

    def call(self, name: str, request: Any) -> Any:
        """Call a server as a client would: a crash is answered at once, then supervised."""
        if name not in self.names:
            raise NoProc(name)
        running = self.names[name]
        try:
            returned = running.instance.handle_call(request, None, running.state)
            turn = interpret(name, "handle_call", returned)
        except Exception as error:
            if self.on_crash is not None:
                self.on_crash(name, error)
            self.crash(name, error)
            raise Crashed(name, f"{name}-{running.incarnation}", error) from error
        running.state = turn.state
        assert turn.output is not NO_REPLY
        return turn.output

    def finish(self, name: str, outcome: object = "shutdown") -> None:
        """Let a slow terminate come to its end."""
        _, done = self.stopping.pop(name)
        self.trace.append(f"term {name} done")
        done(outcome)

    def fail_init(self, name: str, times: int = 1) -> None:
        """Let the next starts of a server fail."""
        scripted = self.init_results.setdefault(name, deque())
        scripted.extend(Boom(f"init of {name}") for _ in range(times))

    def let_init(self, name: str) -> None:
        """Let one start of a server be an ordinary one, among those that are not."""
        self.init_results.setdefault(name, deque()).append(None)

    def ignore_init(self, name: str) -> None:
        """Let the next init of a server return Ignore()."""
        self.init_results.setdefault(name, deque()).append(Ignore())

    def advance(self, seconds: float) -> None:
        """Let time pass; alarms go off in order of their time."""
        end = self.time + seconds
        while due := [alarm for alarm in self.alarms if alarm[0] <= end]:
            alarm = min(due)
            self.alarms.remove(alarm)
            self.time = max(self.time, alarm[0])
            alarm[2]()
        self.time = end

    def run_deferred(self, times: int = 1_000) -> int:
        """Run what waits in the loop's queue, at most so many times; say how many it was."""
        count = 0
        while self.deferred and count < times:
            self.deferred.popleft()()
            count += 1
        return count

    def take(self) -> str:
        """Return the trace since the last call, as `"term b, term d, init b"`."""
        trace, self.trace = self.trace, []
        return ", ".join(trace)

    def reported(self, *kinds: type[Event]) -> list[str]:
        """Name the events of some kinds, as `["ChildTerminated b"]`; all but progress if none."""
        wanted = [
            event
            for event in self.events
            if (type(event) in kinds if kinds else event.severity > 20)
        ]
        return [f"{type(event).__name__} {event.child}" for event in wanted]

    @property
    def registered(self) -> dict[str, int]:
        """Names and incarnations of what runs."""
        return {name: running.incarnation for name, running in sorted(self.names.items())}

    def _terminate(self, running: Running, reason: object) -> object:
        name = running.name
        self.trace.append(f"term {name}")
        self._hook(f"term {name}")
        result = self.terminate_results.get(name)
        if isinstance(result, BaseException) or result == KILLED:
            return result
        running.instance.terminate(reason, running.state)
        return reason if result is None or not is_clean(reason) else result

    def _ended(self, running: Running, reason: object) -> None:
        assert self.tree is not None
        del self.ending[running.name]
        self.tree.worker_ended(running, reason)

    def _hook(self, moment: str) -> None:
        hook = self.hooks.get(moment)
        if hook is not None:
            hook()


class Run:
    """A tree on a fake host, started, with a clean trace."""

    def __init__(self, spec: Supervisor, host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.ended: list[object] = []
        self.tree = self.host.tree = Tree(spec, self.host, self.ended.append)

    def start(self) -> "Run":
        self.tree.start()
        self.host.take()
        self.host.events.clear()
        return self


def running(strategy: str, *children: ChildSpec | str, **fields: Any) -> Run:
    """`running("one_for_one", "a b c")`: a started tree whose trace is empty."""
    return Run(supervisor(strategy, *children, **fields)).start()
