"""The benchmarks' arithmetic and their C programs; no test here depends on speed."""

from __future__ import annotations

import os
import socket

import pytest

from bench import build, echo, figures, generator, resp, servers


def test_quartiles_of_few_values_are_the_extremes() -> None:
    assert figures.quartiles([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert figures.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


def test_ratios_are_taken_round_by_round() -> None:
    assert figures.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError):
        figures.ratios([1.0], [1.0, 2.0])


def test_a_bar_is_met_or_missed() -> None:
    assert figures.verdict(1.0, 1.0).startswith("met")
    assert figures.verdict(0.99, 1.0).startswith("MISSED")


def test_tables_line_up() -> None:
    lines = figures.table(["", "k/s"], [["a", "1"], ["long name", "22"]]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_the_load_generator_measures_a_real_server() -> None:
    with servers.running({"C epoll": echo.CONTENDERS["C epoll"]}) as (server,):
        load = generator.Load(server, 4, 2)
        try:
            while (result := load.window(0.05))["count"] < 8:
                pass  # a busy machine needs more than one
        finally:
            load.close()
    assert result["errors"] == 0
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["p999_us"]


KEYS_DRAWN = 500
"""One of seven keys is in none of so many draws once in 10^32 runs."""


@pytest.mark.parametrize("pipeline", [1, 3])
def test_the_load_generator_sets_keys(pipeline: int) -> None:
    with servers.running({resp.OURS: resp.CONTENDERS[resp.OURS]}) as (server,):
        load = generator.Load(server, 2, pipeline, size=5, keys=7)
        try:
            count = 0.0
            while count < KEYS_DRAWN:
                result = load.window(0.05)
                assert result["errors"] == 0
                count += result["count"]
        finally:
            load.close()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            for key in range(8):  # those drawn from, and one more
                client.sendall(b"GET key:%012d\r\n" % key)
                answer = b"$5\r\nxxxxx\r\n" if key < 7 else b"$-1\r\n"
                assert client.recv(100) == answer


def test_a_contender_that_cannot_start_is_left_out_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with servers.running({"broken": lambda _port: (["false"], {})}) as up:
        assert up == []
    assert "left out: broken" in capsys.readouterr().err


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "OUT", build.OUT / "nowhere")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(build.CannotBuildError, match="apt-get install gcc"):
        build.compiled("load/load.c", "m")
