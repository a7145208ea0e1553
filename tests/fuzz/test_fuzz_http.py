"""HTTP under streams that nobody meant: the promises of test_fuzz_codecs.py, and a node under them.

A failure names its seed; PYBEHAVE_FUZZ_SEED=N runs that one, PYBEHAVE_FUZZ_ROUNDS=N runs more.
"""

import os
import random

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Http
from pybehave.testing.simulate import Simulator
from tests.effort import rounds

ROUNDS = rounds("PYBEHAVE_FUZZ_ROUNDS")
FIRST_SEED = int(os.environ.get("PYBEHAVE_FUZZ_SEED", "1"))
NODE_ROUNDS = max(ROUNDS // 5, 1)

TOKENS = [
    b"POST /s HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"POST /s HTTP/1.0\r\n", b"HEAD * HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n", b"CONNECT h:1 HTTP/1.1\r\n", b"POST http://h/s HTTP/1.1\r\n",
    b"Host: h\r\n", b"Host: h\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\n",
    b"Upgrade: x\r\n", b"X: y\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"abc", b"3\r\nabc\r\n",
    b"0\r\n\r\n", b"0\r\nT: u\r\n\r\n", b"1;x=y\r\n.\r\n", b" ", b":", b"\0", b"\xff", b"%41",
]  # fmt: skip

WHOLE = [
    b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    (
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nT: u\r\n\r\n"
    ),
    b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\ncrash",
    b"GET /s HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST /nobody HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
]


class Server(GenServer):
    def step(self, command, state):
        if command == "crash":
            raise ValueError(command)
        return state, command


def stream_of(dice):
    """Whole requests, and mostly sense that is broken somewhere."""
    parts = []
    for _ in range(dice.randrange(1, 8)):
        if dice.random() < 0.6:
            parts.append(dice.choice(WHOLE))
        else:
            parts += [dice.choice(TOKENS) for _ in range(dice.randrange(12))]
    stream = bytearray(b"".join(parts))
    if stream and dice.random() < 0.3:
        stream[dice.randrange(len(stream))] = dice.randrange(256)
    return bytes(stream)


def outcome(stream, dice, size_max):
    """What was found in a stream, up to the last that there may be."""
    codec = Http(body_bytes_max=50, head_bytes_max=200).codec()
    found = []
    while stream:
        size = dice.randint(1, size_max)
        for each in codec.feed(stream[:size]):
            found.append(repr(each))
            if each.is_last:
                return found
        stream = stream[size:]
    return found


def test_requests_do_not_depend_on_the_cuts():
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        dice = random.Random(seed)
        stream = stream_of(dice)
        whole = outcome(stream, dice, 1 << 20)
        for size_max in (1, 9, 60):
            got = outcome(stream, dice, size_max)
            assert got == whole, f"seed {seed}, pieces up to {size_max}: {stream!r}"


def test_a_node_survives_every_stream_and_answers_whoever_makes_sense():
    app = Application(
        "fuzzed",
        Supervisor("one_for_one", [Worker("s", Server)], intensity=10**6),
        listeners=[Listener("tcp://127.0.0.1:0", Http(), to="s", frame_timeout=5)],
    )
    for seed in range(FIRST_SEED, FIRST_SEED + NODE_ROUNDS):
        dice = random.Random(seed)
        with Simulator(seed=seed, app=app, shake=True) as world:
            clients = [world.connect() for _ in range(3)]
            for client in clients:
                client.send(stream_of(dice))
            world.run(20)  # what is incomplete has been given up by now
            asking = world.connect()
            asking.send(WHOLE[0])
            world.run_until(lambda asked=asking: asked.received or not asked.is_open)
            assert asking.received.endswith(b"abc") or not asking.is_open, f"seed {seed}"
            assert world.node.whereis("s"), f"seed {seed}"
