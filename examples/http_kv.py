"""A key-value store over HTTP: a route says which server gets what.

    pybehave run examples.http_kv:app

    curl -X PUT  127.0.0.1:8080/keys/x -d '[1, 2]' -H 'Content-Type: application/json'
    curl         127.0.0.1:8080/keys/x
    curl -X POST 127.0.0.1:8080/crash

`store` keeps a journal: what was answered with 204 survives a power cut.
"""

from __future__ import annotations

from typing import Any

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Http, HttpReply, HttpRequest

Values = dict[str, Any]
PREFIX = "/keys/"


class Store(GenServer[Values, list[Any], Any]):
    """Keys and JSON values."""

    def init(self, args: object) -> Values:
        """Start empty."""
        return {}

    def step(self, command: list[Any], state: Values) -> tuple[Values, Any]:
        """One command; what is not there is 404, and is no crash."""
        match command:
            case ["put", key, value]:
                state[key] = value
                return state, HttpReply(204)
            case ["get", key] if key in state:
                return state, state[key]
            case ["delete", key] if key in state:
                del state[key]
                return state, HttpReply(204)
            case ["keys"]:
                return state, sorted(state)
            case ["crash"]:  # a deliberate bug: store restarts as it was before it
                return state, 1 // 0
        return state, HttpReply(404, {"error": "no such key"})


def route(request: HttpRequest) -> tuple[str, list[Any]] | None:
    """Say which server gets what; None is 404."""
    key = request.path.removeprefix(PREFIX)
    match request.method, request.path.startswith(PREFIX) and bool(key):
        case "PUT", True:
            return "store", ["put", key, request.body]
        case "GET" | "DELETE" as method, True:
            return "store", [method.lower(), key]
        case "GET", False if request.path == PREFIX:
            return "store", ["keys"]
        case "POST", False if request.path == "/crash":
            return "store", ["crash"]
    return None


app = Application(
    "http_kv",
    Supervisor("one_for_one", [Worker("store", Store, journal=True)], intensity=10, period=10),
    listeners=[Listener("tcp://127.0.0.1:8080", Http(route=route, body="json"), to="store")],
)
