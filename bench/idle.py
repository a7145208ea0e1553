"""Memory of an idle connection: as many as the limit of descriptors allows, all answering."""

from __future__ import annotations

import resource
import socket
from typing import Any

from bench import echo, figures, servers

CONNECTIONS = 19_000
SPARE = 500
BAR_BYTES = 400
NAMES = ("pybehave uring", "pybehave epoll", "asyncio protocol", "uvloop protocol")


def measure(server: servers.Server, count: int) -> dict[str, float]:
    """Open so many, look, have all of them answer, look again."""
    message = b"x" * echo.SIZE
    with socket.create_connection(("127.0.0.1", server.port)) as warm:
        warm.sendall(message)
        warm.recv(echo.SIZE)
    before = server.rss_bytes()
    clients: list[socket.socket] = []
    try:
        while len(clients) < count:
            clients.append(socket.create_connection(("127.0.0.1", server.port)))
        clients[-1].sendall(message)
        clients[-1].recv(echo.SIZE)  # accepted in order: now all of them are
        idle = server.rss_bytes()
        for client in clients:
            client.sendall(message)
        answered = sum(client.recv(echo.SIZE, socket.MSG_WAITALL) == message for client in clients)
        used = server.rss_bytes()
    finally:
        for client in clients:
            client.close()
    return {
        "idle": (idle - before) / count,
        "after all spoke": (used - before) / count,
        "answered": answered,
    }


def main(quick: bool) -> Any:
    """Run, print, return."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(1000 if quick else CONNECTIONS, hard - SPARE)
    results = {}
    for name in NAMES:
        with servers.running({name: echo.CONTENDERS[name]}) as up:
            for server in up:
                results[name] = measure(server, count)
    rows = [
        [name, f"{r['idle']:.0f}", f"{r['after all spoke']:.0f}", f"{r['answered']:.0f}"]
        for name, r in results.items()
    ]
    print(f"{count} connections, resident bytes for each\n")
    print(figures.table(["", "idle", "after all spoke", "answered"], rows))
    ours = results.get(NAMES[0])
    if ours is not None:
        ratio = BAR_BYTES / max(ours["idle"], 1.0)
        print(f"  {BAR_BYTES} B / {NAMES[0]}: {figures.verdict(ratio, 1.0)}")
    return results
