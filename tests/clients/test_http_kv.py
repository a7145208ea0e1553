"""examples/http_kv.py under the standard library's client and curl, killed in between."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Process, serving

TARGET = "examples.http_kv:app"
JSON = {"Content-Type": "application/json"}


class Client:
    """A connection that is kept."""

    def __init__(self, process: Process) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)

    def ask(self, method: str, path: str, *body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        data = json.dumps(body[0]) if body else None
        self._connection.request(method, path, data, JSON if body else {})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None


def test_keys_come_and_go(source: str) -> None:
    with serving(TARGET, source) as process:
        client = Client(process)
        assert client.ask("PUT", "/keys/a%20b", [1, {"c": None}]) == (204, None)
        assert client.ask("GET", "/keys/a%20b") == (200, [1, {"c": None}])
        assert client.ask("GET", "/keys/") == (200, ["a b"])
        assert client.ask("DELETE", "/keys/a%20b") == (204, None)
        assert client.ask("GET", "/keys/a%20b") == (404, {"error": "no such key"})
        assert client.ask("GET", "/nowhere") == (404, {"error": "there is nothing at /nowhere"})


def test_a_crash_loses_nothing_but_itself(source: str) -> None:
    with serving(TARGET, source) as process:
        client = Client(process)
        assert client.ask("PUT", "/keys/x", 1)[0] == 204
        status, said = client.ask("POST", "/crash")
        assert (status, said["crash_id"]) == (500, "store-1-2")
        assert client.ask("GET", "/keys/x") == (200, 1)


def test_what_was_answered_survives_a_kill(source: str, tmp_path: Path) -> None:
    with serving(TARGET, source, "--data", str(tmp_path)) as process:
        client = Client(process)
        for number in range(50):
            assert client.ask("PUT", f"/keys/k{number}", number)[0] == 204
        process.end(signal.SIGKILL)
    with serving(TARGET, source, "--data", str(tmp_path)) as process:
        client = Client(process)
        assert [client.ask("GET", f"/keys/k{number}")[1] for number in range(50)] == [*range(50)]


def test_the_examples_own_words_work(source: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    with serving(TARGET, source) as process:
        url = f"127.0.0.1:{process.port}"

        def said(*arguments: str) -> str:
            command = [curl, "-sS", "--max-time", "20", "-w", " %{http_code}", *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        kind = f"Content-Type: {JSON['Content-Type']}"
        assert said("-X", "PUT", f"{url}/keys/x", "-d", "[1, 2]", "-H", kind) == " 204"
        assert said(f"{url}/keys/x") == "[1,2] 200"
        assert said("-I", f"{url}/keys/x").startswith("HTTP/1.1 200 OK")
        assert said("-X", "POST", f"{url}/crash").endswith(" 500")
        assert said("-X", "PUT", f"{url}/keys/x", "-d", "1").endswith(" 415")
