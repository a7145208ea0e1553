"""`pybehave attach [PATH] [COMMAND ...]`: look into a node that runs, and act on its servers.

With a command it is carried out, and that is all. Without one, commands are read: from a terminal
with a prompt, help and completion, from anything else line by line, to the first that fails.

Does not know: the socket (observer/client.py), what the node does (observer/admin.py).
"""

from __future__ import annotations

import ast
import cmd
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, final

import click

from pybehave.cli import health
from pybehave.cli.load import Mistake
from pybehave.cli.seconds import Seconds
from pybehave.errors import NotAnswered, PybehaveError, RequestRefused
from pybehave.observer.client import AdminClient
from pybehave.observer.wire import has_form
from pybehave.runtime.node import CALL_TIMEOUT_S, DATA

DIGITS_MAX: Final = 18
"""Of a number of events; nobody waits for so many."""

QUOTED: Final = re.compile(r"""(["'])(.+?)\1(?:\s+|$)""")
"""A word of a line that was read, with spaces in it."""

OPTIONS: Final = ("--json", "--timeout")

CUT: Final = "... and more: name a part of what you look for"


@final
class Session:
    """One operator at one node.

    Args:
        path: The admin socket, or a journal's folder.
        as_json: Show answers as JSON, one object a line.
        timeout: Seconds for the reply to a call.
    """

    def __init__(self, path: str, *, as_json: bool, timeout: float) -> None:
        self.client = AdminClient(path)
        self.as_json = as_json
        self.timeout = timeout

    def run(self, name: str, rest: str | tuple[str, ...]) -> Iterator[str]:
        """Yield what a command says, line by line.

        Args:
            name: The command.
            rest: What stands behind it: words as a shell has divided them, or a line.

        Raises:
            Mistake: There is no such command, or it wants something else behind it.
            RequestRefused: The node says why.
            NotAnswered: The node is not there any more.
        """
        if name in OPTIONS:
            raise Mistake(f"write {name} before the path: pybehave attach {name} ...")
        if name not in COMMANDS:
            raise Mistake(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
        usage, _, function = COMMANDS[name]
        wanted = usage.split()
        if isinstance(rest, str):
            rest = _read(rest, wanted)
        words = _divided(rest, max(len(wanted), 1))
        needed = sum(not word.startswith("[") for word in wanted)
        if not needed <= len(words) <= len(wanted):
            raise Mistake(f"write: {name} {usage}".rstrip())
        return function(self, *words)

    def said(self, answer: Any, lines: Callable[[Any], Iterable[str]]) -> Iterator[str]:
        """An answer as JSON, or as lines for people."""
        if self.as_json:
            yield json.dumps(answer, default=repr)
        else:
            yield from lines(answer)

    def names(self, part: str) -> list[str]:
        """Names of servers, for completion."""
        try:
            rows = self.client.ask("list", match=part)["rows"]
        except PybehaveError:  # completion must not end the prompt
            return []
        return [row["server"] for row in rows if row["server"].startswith(part)]


def _read(line: str, wanted: list[str]) -> tuple[str, ...]:
    """The words of a line; quotes hold one with spaces together, but a literal keeps its own."""
    words: list[str] = []
    while line:
        left = wanted[len(words) :]
        if left != ["LITERAL"] and (quoted := QUOTED.match(line)):
            words.append(quoted[2])
            line = line[quoted.end() :]
        else:
            word, *more = [line] if len(left) <= 1 else line.split(maxsplit=1)
            words.append(word)
            line = more[0] if more else ""
    return tuple(words)


def _divided(words: tuple[str, ...], most: int) -> list[str]:
    """The words behind a command; what would be one too many belongs to the last.

    Args:
        words: As a shell divides them: they may have spaces in them, as names of servers may.
        most: How many the command knows, at least one.
    """
    last = " ".join(words[most - 1 :])
    return [*words[: most - 1], *([last] if last else [])]


# --- the commands ---------------------------------------------------------------------------------


def _list(session: Session, part: str = "") -> Iterator[str]:
    return session.said(session.client.ask("list", match=part), _table)


def _tree(session: Session) -> Iterator[str]:
    return session.said(session.client.ask("tree"), lambda found: _cut(found, found["lines"]))


def _inspect(session: Session, server: str) -> Iterator[str]:
    return session.said(session.client.ask("inspect", server=server), _facts)


def _call(session: Session, server: str, request: str) -> Iterator[str]:
    try:
        value = ast.literal_eval(request)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise Mistake(
            f'{request!r} is not a Python literal; write for example \'text\', 1, or [b"GET", b"x"]'
        ) from None
    if not has_form(value):
        raise Mistake(f"{request!r} cannot be sent; use what a journal can hold")
    seconds = session.timeout
    answer = session.client.ask("call", wait=seconds, server=server, request=value, timeout=seconds)
    return session.said(answer, lambda found: [_value(found)])


def _trace(session: Session, server: str, count: str = "") -> Iterator[str]:
    if count and not (count.isdecimal() and len(count) <= DIGITS_MAX):
        raise Mistake(f"{count!r} is no number of events")
    # A connection of its own: a trace ends when it is hung up.
    with AdminClient(session.client.path) as client:
        client.ask("trace", server=server)
        for event in islice(client.events(), int(count) if count else None):
            yield json.dumps({"event": event}) if session.as_json else event


def _crashes(session: Session, server: str = "") -> Iterator[str]:
    return session.said(session.client.ask("crashes", server=server or None), _reports)


def _suspend(session: Session, server: str) -> Iterator[str]:
    answer = session.client.ask("suspend", server=server)
    return session.said(answer, lambda _: [f"{server} is suspended; its inputs wait"])


def _resume(session: Session, server: str) -> Iterator[str]:
    answer = session.client.ask("resume", server=server)
    return session.said(answer, lambda _: [f"{server} runs"])


def _restart(session: Session, server: str) -> Iterator[str]:
    answer = session.client.ask("restart", server=server)

    def words(count: int | None) -> list[str]:
        return [f"{server} runs anew, as incarnation {count}" if count else f"{server} began anew"]

    return session.said(answer, words)


def _dead_letters(session: Session) -> Iterator[str]:
    return session.said(session.client.ask("dead_letters"), _letters)


def _kept(session: Session, part: str = "") -> Iterator[str]:
    return session.said(session.client.ask("kept", match=part), _table)


def _forget(session: Session, server: str, *words: str) -> Iterator[str]:
    said = _options(words, "--yes", "--stop")
    facts = {"server": server, "stop": "--stop" in said, "confirm": "--yes" in said}
    answer = session.client.ask("forget", wait=session.timeout, **facts)
    return session.said(answer, lambda _: [f"{server} is forgotten, with all that was kept of it"])


def _reset(session: Session, server: str, *words: str) -> Iterator[str]:
    confirm = "--yes" in _options(words, "--yes")
    seconds = session.timeout
    answer = session.client.ask("reset", wait=seconds, server=server, confirm=confirm)
    return session.said(answer, lambda _: [f"{server} has begun anew, with nothing"])


def _options(words: tuple[str, ...], *known: str) -> tuple[str, ...]:
    for word in words:
        if word not in known:
            raise Mistake(f"{word!r} is no option here; there are {', '.join(known)}")
    return words


def _stats(session: Session) -> Iterator[str]:
    return session.said(session.client.ask("stats"), lambda found: _flat("", found))


def _health(session: Session) -> Iterator[str]:
    return session.said(session.client.ask("health"), health.lines)


COMMANDS: Final[dict[str, tuple[str, str, Callable[..., Iterator[str]]]]] = {
    "list": ("[PART]", "Servers that run; with PART, those whose names contain it.", _list),
    "tree": ("", "The supervision tree as it is now.", _tree),
    "inspect": (
        "NAME",
        "All about a server, its state as format_status shows it.",
        _inspect,
    ),
    "call": ("NAME LITERAL", "Call a server with a Python literal; show its reply.", _call),
    "trace": ("NAME [COUNT]", "Its inputs and outputs as they happen; Ctrl-C ends it.", _trace),
    "suspend": ("NAME", "Let a server take no inputs; they wait.", _suspend),
    "resume": ("NAME", "Let it go on with what has waited.", _resume),
    "restart": ("NAME", "Stop a server, or PATH, and start it again in its place.", _restart),
    "crashes": ("[NAME]", "The newest crash reports, of one server or of all.", _crashes),
    "dead-letters": ("", "Inputs on which journaled servers failed.", _dead_letters),
    "kept": ("[PART]", "Servers that the journal keeps something of, and how they are.", _kept),
    "forget": (
        "NAME [--yes] [--stop]",
        "Remove all that the journal keeps of it; --stop: one that runs, too.",
        _forget,
    ),
    "reset": ("NAME [--yes]", "Let one that runs begin anew; all that it keeps is lost.", _reset),
    "stats": ("", "Counters of the loop, connections and journal.", _stats),
    "health": ("", "Whether the node is well, and why not.", _health),
}
"""Every command: what is written behind it, what it does, and the function for it."""


# --- answers as lines -----------------------------------------------------------------------------


def _table(found: Any) -> Iterator[str]:
    rows = [{key: str(value) for key, value in row.items()} for row in found["rows"]]
    heads = list(rows[0]) if rows else []
    widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in heads}
    for row in [dict(zip(heads, heads, strict=True)), *rows] if rows else []:
        yield "  ".join(row[head].ljust(widths[head]) for head in heads).rstrip()
    yield from _cut(found, [])


def _cut(found: Any, lines: Iterable[str]) -> Iterator[str]:
    yield from lines
    if found["is_cut"]:
        yield CUT


def _facts(found: Any) -> Iterator[str]:
    for name, value in found.items():
        if name in ("log", "crashes"):
            continue
        text = ", ".join(value) if isinstance(value, list) else str(value)
        yield f"{name:12} {text}".rstrip()
    for crash in found["crashes"]:
        yield f"{'crash':12} {_clock(crash['at'])} {crash['crash_id']}: {crash['reason']}"
    for event in found["log"]:
        yield f"{'log':12} {event}"


def _reports(found: Any) -> Iterator[str]:
    for row in found["rows"]:
        yield f"{_clock(row['at'])}  {row['crash_id']}  {row['reason']['text']}"
        asked = f" from {row['caller']}" if row["caller"] else ""
        yield f"  in       {row['callback']} on {row['message']}{asked}"
        yield f"  state    {row['state']}"
        yield f"  where    {row['path'] or 'nowhere in the tree'}, {row['restart']}, {row['kind']}"
        yield f"  had      {row['inputs']} inputs, {row['callers']} callers, {row['timers']} timers"
        if row["lsn"]:
            yield f"  letter   {row['lsn']}"
        if row["mailbox"]:
            yield f"  waited   {row['mailbox']} inputs, first {'; '.join(row['waiting'])}"
        for what, texts in (row["machine"] or {}).items():
            yield from [f"  {what:8} {'; '.join(texts)}"] if texts else []
        for frame in row["traceback"]:
            yield f"  at       {frame['file']}:{frame['line']} {frame['function']}: {frame['code']}"


def _letters(found: Any) -> Iterator[str]:
    for row in found["rows"]:
        yield f"{row['lsn']}  {_clock(row['at'])}  {row['server']}  {row['error']}"
    yield from _cut(found, [])


def _flat(prefix: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), each)
    else:
        yield f"{prefix:32} {value}"


def _value(answer: Any) -> str:
    if isinstance(answer, dict) and answer.keys() == {"shown"}:
        return str(answer["shown"])
    return repr(answer)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


# --- the prompt -----------------------------------------------------------------------------------


@final
class Prompt(cmd.Cmd):
    """Reads commands from a terminal.

    Args:
        session: Who carries them out.
        name: The application's, for the prompt.
    """

    def __init__(self, session: Session, name: str) -> None:
        super().__init__()
        self.session = session
        self.prompt = f"{name}> "

    def onecmd(self, line: str) -> bool:
        """Carry out one line; True ends the prompt."""
        name, _, rest = line.strip().partition(" ")
        if name in ("exit", "quit", "EOF"):
            return True
        if name in ("help", "?"):
            for command, (usage, text, _) in COMMANDS.items():
                click.echo(f"{command + ' ' + usage:24} {text}")
            click.echo(f"{'exit':24} Leave; the node goes on.")
        elif name:
            self._carry_out(name, rest.strip())
        return False

    def _carry_out(self, name: str, rest: str) -> None:
        try:
            for line in self.session.run(name, rest):
                click.echo(line)
        except KeyboardInterrupt:  # ends a trace, not the prompt
            click.echo("")
        except Mistake as error:
            click.echo(error.format_message())
        except RequestRefused as error:
            click.echo(str(error))

    def completenames(self, text: str, *ignored: Any) -> list[str]:
        """Commands that begin so."""
        return [name for name in (*COMMANDS, "help", "exit") if name.startswith(text)]

    def completedefault(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Servers whose names begin so, where a command wants one."""
        usage = COMMANDS.get(line.split(maxsplit=1)[0], ("",))[0]
        is_first = len(line[:begin].split()) == 1
        return self.session.names(text) if "NAME" in usage and is_first else []


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--json", "as_json", is_flag=True, help="Answers as JSON, one object a line.")
@click.option(
    "--timeout",
    type=Seconds(min=0, max=3600),
    default=CALL_TIMEOUT_S,
    show_default=True,
    help="Seconds for the reply to a call.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[PATH] [COMMAND ...]")
def command(words: tuple[str, ...], as_json: bool, timeout: float) -> None:
    """Look into a node that runs: list, tree, inspect NAME, call NAME LITERAL, trace NAME, suspend
    NAME, resume NAME, restart NAME, crashes, dead-letters, kept, forget NAME, reset NAME, stats,
    health.

    PATH is the socket that `pybehave run` has named, or the folder of the node's journal (default:
    data). Without a command they are read from the terminal, or from standard input.
    """
    path, words = _path_of(words)
    try:
        session = Session(path, as_json=as_json, timeout=timeout)
        with session.client:
            if words:
                _echo(session.run(words[0], words[1:]))
            elif sys.stdin.isatty():
                _prompt(session)
            else:
                for line in sys.stdin:
                    name, _, rest = line.strip().partition(" ")
                    if name:
                        _echo(session.run(name, rest.strip()))
    except (RequestRefused, NotAnswered) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:  # how a trace ends
        sys.exit(0)


def _path_of(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The socket's path and the command; a word that is a command is no path."""
    if not words or words[0] in COMMANDS:
        return DATA, words
    if "/" not in words[0] and not os.path.exists(words[0]):
        raise Mistake(
            f"{words[0]!r} is neither a command nor a socket; commands are {', '.join(COMMANDS)}"
        )
    return words[0], words[1:]


def _echo(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


def _prompt(session: Session) -> None:
    greeting = session.client.ask("hello")
    click.echo(
        f"{greeting['name']} {greeting['application']} on {greeting['source']}, process "
        f"{greeting['pid']}; help lists the commands"
    )
    prompt = Prompt(session, greeting["name"])
    while True:
        try:
            return prompt.cmdloop()
        except KeyboardInterrupt:  # at the prompt: a line is given up
            click.echo("")
