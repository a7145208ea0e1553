"""What a node's figures are: read by Prometheus's own parser, bounded, and as the node counts."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.errors import Crashed, ListenFailed
from pybehave.observer import figures
from pybehave.observer.figures import SERVERS_MAX, cumulative, families
from pybehave.observer.metrics import NodeCollector, text
from pybehave.observer.scrape import HEAD_BYTES_MAX, PAGES, Scrape
from pybehave.protocols import Lines
from pybehave.runtime.node import Node
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import SMALL
from tests.runtime.work import until


class Fragile(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        return state, command


def application(**fields: Any) -> Application:
    tree = Supervisor(
        "one_for_one",
        [
            Worker("a", Fragile, **fields),
            Supervisor("one_for_one", [Worker("b", Fragile)], id="below", intensity=100),
            Supervisor("simple_one_for_one", [Worker("m", Fragile)], id="many"),
        ],
        intensity=1000,
    )
    listener = Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="a", name="front")
    return Application("shop", tree, version="7", listeners=[listener])


def read(data: bytes) -> dict[str, float]:
    """Sample and its labels -> value, as Prometheus's own parser finds them."""
    return {
        s.name + "".join(f" {key}={value}" for key, value in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(data.decode())
        for s in family.samples
    }


def told(node: Any) -> dict[str, float]:
    return read(text(node.run_on_loop(lambda: families(node, node.watch.look()))))


@pytest.fixture
def node(start: Callable[..., Any], tmp_path: Path) -> Any:
    return start(application(journal=True), data=tmp_path / "d", step_budget=5.0)


@pytest.fixture
def scrape(node: Any) -> Iterator[http.client.HTTPConnection]:
    made = Scrape(node, "tcp://127.0.0.1:0")
    made.open()
    host, _, port = made.url.removeprefix("tcp://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    yield connection
    connection.close()


def fetched(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> Any:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read(), response


# --- the figures ----------------------------------------------------------------------------------


def test_they_are_what_the_node_counts(node: Any) -> None:
    for _ in range(3):
        node.call("a", "x")
    with pytest.raises(Crashed):
        node.call("b", "break")
    found = told(node)
    assert found["pybehave_server_inputs_total server=a"] == 3
    assert found["pybehave_crashes_total"] == 1
    assert found["pybehave_supervisor_failures_total supervisor=root/below"] == 1
    assert found["pybehave_supervisor_restarts_total supervisor=root/below"] == 1
    assert found["pybehave_server_incarnation server=b"] == 2
    assert found["pybehave_health status=degraded"] == 1
    assert found["pybehave_health status=ok"] == 0
    assert found["pybehave_health_reasons reason=crashes"] == 1
    assert found["pybehave_ready"] == 1
    assert found["pybehave_listener_connections listener=front"] == 0
    assert found["pybehave_journal_records_total"] >= 4
    assert found["pybehave_dead_letters_total"] == 0
    assert found["pybehave_steps_too_long_total"] == 0
    source = node.loop.source
    name = f"pybehave_info application=shop release=7 source={source} version="
    assert any(key.startswith(name) for key in found)


def test_ticks_and_commits_are_histograms(node: Any) -> None:
    for _ in range(5):
        node.call("a", "x")
    found = told(node)
    ticks = [v for k, v in found.items() if k.startswith("pybehave_loop_tick_seconds_bucket")]
    assert ticks == sorted(ticks)
    assert ticks[-1] == found["pybehave_loop_tick_seconds_count"] > 0
    assert found["pybehave_loop_tick_seconds_sum"] == found["pybehave_loop_busy_seconds_total"] > 0
    assert found["pybehave_journal_commit_seconds_count"] >= 1
    mean = found["pybehave_journal_commit_seconds_sum"]
    assert 0 < mean < 60
    assert "pybehave_journal_commit_seconds_bucket le=+Inf" in found


def test_a_journal_is_not_told_where_there_is_none(start: Callable[..., Any]) -> None:
    found = told(start(application(), data=None))
    assert not [name for name in found if "journal" in name or "snapshot" in name]


def test_children_that_come_and_go_are_counted_at_their_supervisor(node: Any) -> None:
    for _ in range(5):
        node.start_child("root/many", [])
    found = told(node)
    assert found["pybehave_supervisor_children supervisor=root/many"] == 5
    servers = [name.split("=")[1] for name in found if name.startswith("pybehave_server_inputs_")]
    assert servers == ["a", "b"]


@pytest.mark.parametrize("count", [SERVERS_MAX - 1, SERVERS_MAX, SERVERS_MAX + 1])
def test_series_are_bounded(count: int, start: Callable[..., Any]) -> None:
    spec = Supervisor("one_for_one", [Worker(f"w{n}", Fragile) for n in range(count)])
    found = told(start(Application("t", spec)))
    servers = [name for name in found if name.startswith("pybehave_server_mailbox ")]
    assert len(servers) == min(count, SERVERS_MAX)


def test_every_name_has_a_sentence_and_a_unit_of_its_own(node: Any) -> None:
    found = node.run_on_loop(lambda: families(node, node.watch.look()))
    names = [name for name, *_ in found]
    assert len(names) == len(set(names))
    for name, kind, sentence, _ in found:
        assert sentence.endswith(".") and kind in ("counter", "gauge", "histogram")
        assert not name.endswith(("_total", "_us", "_ns", "_ms", "_count", "_sum"))


def test_buckets_are_cumulative_and_the_last_has_no_end() -> None:
    assert cumulative([(1e-6, 2), (2e-6, 0), (4e-6, 3)]) == [
        ("1e-06", 2),
        ("2e-06", 2),
        ("+Inf", 5),
    ]


def test_a_simulated_node_has_the_same_figures() -> None:
    disk = SimDisk()
    with Simulator(1, application(journal=True), disk=disk, journal_options=SMALL) as sim:
        sim.node.call("a", "x")
        found = told(sim.node)
        assert found["pybehave_server_inputs_total server=a"] == 1
        assert found["pybehave_journal_commit_seconds_count"] >= 1


def test_a_program_s_own_registry_collects_a_node(node: Any) -> None:
    registry = CollectorRegistry()
    registry.register(NodeCollector(node))
    assert read(generate_latest(registry))["pybehave_ready"] == 1
    node.stop()
    assert read(generate_latest(registry)) == {}


def test_a_node_that_has_not_started_collects_to_nothing(source: str) -> None:
    registry = CollectorRegistry()
    registry.register(NodeCollector(Node(application(), backend=source)))
    assert read(generate_latest(registry)) == {}


# --- over HTTP ------------------------------------------------------------------------------------


def test_prometheus_fetches_again_and_again_on_one_connection(scrape: Any, node: Any) -> None:
    for count in range(3):
        status, body, response = fetched(scrape, "/metrics")
        assert status == 200
        assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4")
        assert read(body)["pybehave_server_inputs_total server=a"] == count
        node.call("a", "x")


def test_probes_get_their_answer_by_the_status(scrape: Any, node: Any) -> None:
    assert fetched(scrape, "/live")[:2] == (200, b"ok\n")
    assert fetched(scrape, "/ready")[0] == 200
    with pytest.raises(Crashed):
        node.call("b", "break")
    status, body, _ = fetched(scrape, "/health")
    assert (status, json.loads(body)["status"]) == (200, "degraded")
    status, body, _ = fetched(scrape, "/ready?verbose=1")
    assert status == 200 and b"root/below/b has failed once" in body


def test_a_node_that_is_not_ready_says_503(scrape: Any, node: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(node.watch, "_is_serving", False)
    assert fetched(scrape, "/ready")[:2] == (503, b"failing\nthe node has not started yet\n")
    assert fetched(scrape, "/health")[0] == 503
    assert fetched(scrape, "/live")[0] == 200


def test_a_head_has_no_body(scrape: Any) -> None:
    status, body, response = fetched(scrape, "/metrics", "HEAD")
    assert (status, body) == (200, b"")
    assert int(response.getheader("Content-Length")) > 1000
    assert fetched(scrape, "/live")[0] == 200


def test_what_is_not_there_is_named(scrape: Any) -> None:
    status, body, _ = fetched(scrape, "/")
    assert status == 404
    assert body == f"there are {', '.join(PAGES)}\n".encode()


def test_other_methods_are_refused(scrape: Any) -> None:
    status, _, response = fetched(scrape, "/metrics", "POST")
    assert (status, response.getheader("Allow")) == (405, "GET, HEAD, OPTIONS")
    assert fetched(scrape, "/live")[0] == 200


@pytest.mark.parametrize(
    "bad", [b"hello\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"x" * (HEAD_BYTES_MAX + 1), b"\0\r\n\r\n"]
)
def test_what_is_no_request_is_answered_and_harms_nobody(scrape: Any, bad: bytes) -> None:
    scrape.connect()
    scrape.sock.sendall(bad)
    assert scrape.sock.recv(4096).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    scrape.close()
    assert fetched(scrape, "/live")[0] == 200


def test_a_page_that_fails_is_a_500(scrape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(node: Any) -> Any:
        raise ValueError("a deliberate bug")

    monkeypatch.setattr(figures, "_of_listeners", fail)
    assert fetched(scrape, "/metrics")[0] == 500
    assert fetched(scrape, "/live")[0] == 200


def test_a_port_is_had_as_soon_as_the_process_before_lets_go(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybehave.observer.scrape.AGAIN_S", 0.01)
    with socket.socket() as before:
        before.bind(("127.0.0.1", 0))
        before.listen()
        made = Scrape(node, f"tcp://127.0.0.1:{before.getsockname()[1]}")
        node.run_on_loop(made.open_soon)
        assert made.port is None
    until(lambda: made.port is not None)
    assert made.url.endswith(str(made.port.url.rpartition(":")[2]))


def test_a_port_that_is_taken_leaves_no_server_behind(node: Any) -> None:
    taken = Scrape(node, "tcp://127.0.0.1:0")
    taken.open()
    names = node.names()
    node.run_on_loop(
        lambda: node.loop.dispatcher.retire(
            node.loop.dispatcher.whereis("pybehave.metrics"), ListenFailed("x", OSError("y"))
        )
    )
    with pytest.raises(ListenFailed):
        Scrape(node, taken.url).open()
    assert set(node.names()) == set(names) - {"pybehave.metrics"}
