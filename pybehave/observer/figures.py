"""The figures of a node: what its counters say, by name, as plain data.

    families(node)        on the loop's thread: tuples that the admin socket can send

Names and units are those of Prometheus: seconds and bytes, `_total` for what only grows. Nothing is
counted here: the core's counters are read, and a few dictionaries of what fails rarely.

What bears a label is bounded, for each value of a label is a series that somebody stores: servers
that the code names, up to SERVERS_MAX, and supervisors up to as many. Children that are made while
the node runs (simple_one_for_one, families) come and go under names that never come again, so they
are counted at their supervisor.

Does not know: how the figures are written and fetched (metrics.py, scrape.py).
Source: Prometheus, "Metric and label naming".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pybehave._version import __version__
from pybehave.behaviours.child_spec import Worker
from pybehave.runtime.counters import totals_of
from pybehave.runtime.health import Health

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.node import Node
    from pybehave.runtime.tree.supervisor import SupervisorNode

SERVERS_MAX: Final = 100
"""Series of one name; a page of them is more than anybody looks at."""

LATENCY_BUCKETS: Final = 25
"""Of a commit's time, in powers of two of microseconds: the last one is 2 ** 25, half a minute."""

US: Final = 1e-6

Labels: TypeAlias = dict[str, str]

Sample: TypeAlias = tuple[Labels, Any]
"""Labels and a number; of a histogram ([(upper bound, how many up to it), ...], sum or None)."""

Family: TypeAlias = tuple[str, str, str, list[Sample]]
"""Name, kind ("counter", "gauge", "histogram"), a sentence, samples."""

COUNTERS: Final = (
    ("loop_ticks", "Turns of the loop.", ("loop", "ticks")),
    (
        "loop_waits",
        "Turns that waited for something to do.",
        ("loop", "waits_blocking"),
    ),
    ("commands", "Messages that came over connections.", ("loop", "commands")),
    ("crashes", "Callbacks of servers that raised.", ("loop", "crashes")),
    ("decode_errors", "Messages that had no meaning.", ("loop", "decode_errors")),
    ("contracts_broken", "Messages that a contract refused.", ("loop", "contracts_broken")),
    ("inputs_refused", "Inputs refused or dropped at a full mailbox.", ("loop", "overloaded")),
    ("casts_lost", "Casts to a name that nobody had.", ("loop", "casts_lost")),
    ("timers_fired", "Timers that have gone off.", ("loop", "timers_fired")),
    ("keys_ahead", "Keys fetched for requests to come.", ("loop", "keys_ahead")),
    ("connections_opened", "Connections made.", ("connections", "opened")),
    ("connections_refused", "Connections over connections_max.", ("loop", "refused")),
    ("accept_errors", "Connections that could not be accepted.", ("loop", "accept_errors")),
    ("received_bytes", "Bytes read from connections.", ("connections", "recv_bytes")),
    ("sent_bytes", "Bytes written to connections.", ("connections", "sent_bytes")),
    ("system_calls", "Calls of the kernel by the completion source.", ("io", "enters")),
    ("submissions", "Operations handed to the completion source.", ("io", "submissions")),
    ("completions", "Operations that came back.", ("io", "completions")),
    ("steps_too_long", "Steps over their budget.", ("watchdog", "steps_too_long")),
    ("steps_aborted", "Steps aborted by the watchdog.", ("watchdog", "steps_aborted")),
    ("journal_records", "Records journaled.", ("journal", "records")),
    ("journal_commits", "Frames written: group commits.", ("journal", "frames")),
    ("journal_written_bytes", "Bytes of frames written.", ("journal", "bytes")),
    ("journal_segments_rolled", "Segments filled.", ("journal", "rolls")),
    ("journal_stalls", "Times that a commit waited for a segment.", ("journal", "stalls")),
    ("snapshots_taken", "Snapshots made durable.", ("journal", "snapshots", "taken")),
    ("snapshots_failed", "Snapshots that could not be made.", ("journal", "snapshots", "failed")),
)
"""Name, sentence, and where the counter stands in `node.stats()`; those that are not there are not
told."""

GAUGES: Final = (
    ("connections_open", "Connections that hold a slot.", ("connections", "open")),
    ("timers_armed", "Timers that will go off.", ("timers", "armed")),
    ("output_bytes", "Memory of output that waits to be sent.", ("output", "bytes_used")),
    ("journal_replies_held", "Things that wait for the disk.", ("journal", "held")),
    ("journal_durable_lsn", "The latest record that is durable.", ("journal", "durable_lsn")),
    (
        "servers_asleep",
        "States that are out of memory.",
        ("journal", "hibernation", "asleep"),
    ),
)


def families(node: Node, health: Health) -> list[Family]:
    """Return all figures; on the loop's thread.

    Args:
        health: What `node.watch.look` has found just now.
    """
    stats = totals_of(node)
    found: list[Family] = [
        ("info", "gauge", "Which application, release and completion source.", [_info(node)]),
        *_of_table("counter", COUNTERS, stats),
        *_of_table("gauge", GAUGES, stats),
        ("loop_busy_seconds", "counter", "Time in which the loop did not wait.", [_busy(stats)]),
        *_histograms(stats),
        *_of_health(health),
        *_of_listeners(node),
        *_of_pools(stats),
        *_of_trees(node),
    ]
    if node.journal is not None:
        letters: list[Sample] = [({}, node.journal.letters.count)]
        found.append(("dead_letters", "counter", "Inputs put aside since the start.", letters))
    return found


def _info(node: Node) -> Sample:
    labels = {
        "application": node.app.name,
        "release": node.app.version,
        "source": node.loop.source,
        "version": __version__,
    }
    return (labels, 1)


def _busy(stats: dict[str, Any]) -> Sample:
    return ({}, stats["loop"]["busy_ns"] / 1e9)


def _of_table(
    kind: str, table: Iterable[tuple[str, str, tuple[str, ...]]], stats: dict[str, Any]
) -> Iterator[Family]:
    for name, sentence, place in table:
        value: Any = stats
        for part in place:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            yield (name, kind, sentence, [({}, value)])


# --- histograms -----------------------------------------------------------------------------------


def _histograms(stats: dict[str, Any]) -> Iterator[Family]:
    loop = stats["loop"]
    ticks = [(2**index * US, count) for index, count in enumerate(loop["tick_us"])]
    yield (
        "loop_tick_seconds",
        "histogram",
        "Work of a tick, its wait not counted.",
        [({}, (cumulative(ticks), loop["busy_ns"] / 1e9))],
    )
    batches = [(2**index - 1, count) for index, count in enumerate(loop["batch"])]
    yield (
        "loop_tick_completions",
        "histogram",
        "Completions that a tick took together.",
        [({}, (cumulative(batches), stats["io"]["completions"]))],
    )
    if "journal" in stats:
        counts = stats["journal"]["latency_us"]
        commits = [(2**index * US, counts.get(2**index, 0)) for index in range(LATENCY_BUCKETS + 1)]
        total = stats["journal"]["latency_us_sum"] * US
        yield (
            "journal_commit_seconds",
            "histogram",
            "From handing a frame to the disk until it is durable.",
            [({}, (cumulative(commits), total))],
        )


def cumulative(buckets: Iterable[tuple[float, int]]) -> list[tuple[str, int]]:
    """Return buckets as Prometheus wants them: each with all that is below; the last has no end."""
    found: list[tuple[str, int]] = []
    total = 0
    for bound, count in buckets:
        total += count
        found.append((f"{bound:.9g}", total))
    found[-1] = ("+Inf", total)
    return found


# --- what bears labels ----------------------------------------------------------------------------


def _of_health(health: Health) -> Iterator[Family]:
    statuses = [
        ({"status": each}, int(health.status == each)) for each in ("ok", "degraded", "failing")
    ]
    yield ("health", "gauge", "1 for how the node fares.", statuses)
    yield ("ready", "gauge", "1 if the node should get requests.", [({}, int(health.is_ready))])
    whats = dict.fromkeys(reason.what for reason in health.reasons)
    counts = [({"reason": w}, sum(r.what == w for r in health.reasons)) for w in whats]
    yield ("health_reasons", "gauge", "What is wrong, and at how many places.", counts)


def _of_listeners(node: Node) -> Iterator[Family]:
    ports = [
        ({"listener": listener.name}, port)
        for listener, port in islice(node.applications.listening(), SERVERS_MAX)
    ]
    opened = [(labels, port.connections) for labels, port in ports]
    accepted = [(labels, port.accepted) for labels, port in ports]
    yield ("listener_connections", "gauge", "Connections of a listener.", opened)
    yield ("listener_accepted", "counter", "Connections that a listener took.", accepted)


def _of_pools(stats: dict[str, Any]) -> Iterator[Family]:
    pools = list(islice(stats["pools"].items(), SERVERS_MAX))
    waiting = [({"pool": name}, pool["waiting"]) for name, pool in pools]
    yield ("pool_waiting", "gauge", "Jobs that wait for a worker.", waiting)
    workers = [
        ({"pool": name, "state": state}, count)
        for name, pool in pools
        for state, count in pool["hands"].items()
    ]
    yield ("pool_workers", "gauge", "Workers of a pool, by what they do.", workers)


def _of_trees(node: Node) -> Iterator[Family]:
    supervisors = [
        (path, supervisor)
        for tree in node.applications.trees()
        for path, supervisor in tree.supervisors.items()
    ]
    counts = [({"supervisor": path}, len(s.state.children)) for path, s in supervisors]
    yield ("supervisor_children", "gauge", "Children in its list.", counts[:SERVERS_MAX])
    failures = node.watch.failures
    for name, counters, sentence in (
        ("supervisor_failures", failures.failed, "Children that failed or did not start."),
        ("supervisor_restarts", failures.restarted, "Children that were started again."),
    ):
        samples = [({"supervisor": path or "others"}, n) for path, n in counters.items()]
        yield (name, "counter", sentence, samples[:SERVERS_MAX])
    named = list(islice(named_servers(s for _, s in supervisors), SERVERS_MAX))
    for name, kind, attribute, sentence in (
        ("server_inputs", "counter", "inputs", "Inputs of its incarnation."),
        ("server_mailbox", "gauge", "mailbox_count", "Inputs that wait."),
        ("server_incarnation", "gauge", "incarnation", "How often it has been started."),
    ):
        series = [({"server": server.name}, getattr(server, attribute)) for server in named]
        yield (name, kind, sentence, series)
    waiting = sum(server.mailbox_count for server in node.loop.dispatcher.filled(0.0))
    yield ("mailboxes", "gauge", "Inputs that wait in all mailboxes.", [({}, waiting)])


def named_servers(supervisors: Iterable[SupervisorNode]) -> Iterator[Server]:
    """Yield the running servers that the code has named one by one, in the order of their start."""
    for supervisor in supervisors:
        spec = supervisor.state.spec
        if spec.is_simple or spec.pattern is not None:
            continue
        for child_id in spec.child_ids:
            child = supervisor.state.children.get(child_id)
            if child is not None and isinstance(child.spec, Worker) and child.ref is not None:
                yield child.ref
