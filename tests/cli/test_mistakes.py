"""What is wrong at the command line is one sentence that names the thing and the mend."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pybehave.cli import main
from pybehave.runtime.limits import DESCRIPTORS_MIN
from tests.processes import COMMAND, run

PROGRAM = """
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Count(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        return state + 1 // command, state

sup = Supervisor("one_for_one", [Worker("s", Count, journal=True)])
app = Application("shop", sup, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")])
quiet = Application("quiet", Supervisor("one_for_one", [Worker("q", Count)]))
number = 42
worker = Worker("s", Count)

def factory():
    return app
"""

FILES = {
    "good.py": PROGRAM,
    "binary.py": "x = 1\0\n",
    "raises.py": "x = 1\nraise ValueError('at import')\n",
    "exits.py": "import sys\nsys.exit(3)\n",
    "missing.py": "import nowhere_to_be_found\n",
    "folder/inner.py": PROGRAM,
    "void/notes.txt": "",
    "file.txt": "no journal",
    "empty": "",
    "unknown.toml": "[nobody]\nport = 1\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs and other files in the current folder."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def journal(here: Path) -> Path:
    """A sound journal in ./data: two inputs of `s`, one of which has failed."""
    namespace: dict[str, object] = {"__name__": "good"}
    exec(PROGRAM, namespace)
    with namespace["app"].start(data="data", backend="epoll") as node:  # type: ignore[attr-defined]
        node.call("s", 1)
        with pytest.raises(Exception, match="ZeroDivisionError"):
            node.call("s", 0)
    return here


def said(result: Result) -> str:
    """The only line on stderr of a command that was refused."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    return line.removeprefix("pybehave: ")


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words)


TARGETS = {
    "binary:app": "binary.py: source code string cannot contain null bytes",
    "raises:app": 'line 2); python -c "import raises" shows the traceback',
    "exits:app": "importing 'exits' ends the program (",
    "missing:app": "No module named 'nowhere_to_be_found' (",
    "../good:app": "go to its folder with `cd ..`, and name the module: good:app",
    "/x/y/good.py:app": "go to its folder with `cd /x/y`, and name the module: good:app",
    "./folder/inner.py:app": "name the module: folder.inner:app",
    "folder:app": "'folder' is a folder, not a module; name a module in it, as folder.inner:app",
    "void:app": "'void' is a folder without any module in it",
    "raises.deeper:app": "there is no module 'raises.deeper'",
    "good:other": "module 'good' has no 'other'; it has: app, quiet",
    "good:number": "good:number is an int, not a pybehave.Application",
    "good:factory": "is a function, not a pybehave.Application; if it makes one, write app = f",
    "good:sup": 'is a Supervisor, not a pybehave.Application; wrap it: app = Application("NAME"',
    "good:worker": 'Application("NAME", Supervisor("one_for_one", [worker]))',
    "good:Count": "good:Count is the class Count, not a pybehave.Application",
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_target_is_named_with_what_it_is(here: Path, target: str) -> None:
    result = run("tree", target)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert TARGETS[target] in line and "--log-level" not in line and "None" not in line


RUNS = {
    ("good:app", "--data", ""): (1, "a folder's name cannot be empty"),
    ("good:app", "--config", "unknown.toml"): (
        2,
        "unknown.toml: nobody: there is no such application; there is: shop",
    ),
    ("good:app", "--set", "nobody.x=1"): (
        2,
        "--set nobody.x: nobody: there is no such app",
    ),
    ("good:app", "--admin", "/nonexistent/a.sock"): (1, "--admin: Cannot listen on unix:///nonex"),
    ("good:app", "--listen", "unix:///nonexistent/x.sock"): (
        1,
        "x.sock: the folder is missing; ",
    ),
    ("good:app", "--listen", "unix:///proc/x.sock"): (
        1,
        "x.sock: no socket can be made in its folder; choose another address",
    ),
    ("good:app", "--config", "/dev/full"): (2, "/dev/full: more than 1 MiB, which no config"),
    ("good:app", "--deploy", "/dev/zero", "--as", "x"): (2, "/dev/zero: more than 1 MiB, which no"),
    ("good:app", "--listen", "fd://99"): (1, "fd://99: this process has inherited no such descr"),
    ("good:app", "--listen", "tcp://:0", "--listen", "tcp://:0"): (
        2,
        "--listen: 2 addresses for one listener; give at most one for each",
    ),
    ("good:quiet", "--listen", "tcp://:0"): (2, "--listen: the application has no listener"),
    ("good:app", "--step-budget", "nan"): (2, "'--step-budget': nan is no time"),
    ("good:app", "--step-abort", "inf"): (2, "'--step-abort': inf is no time"),
    ("good:app", "--step-abort", "0"): (2, "'--step-abort': 0.0 is not in the range"),
    ("good:app", "--step-budget", "1e300"): (2, "'--step-budget': 1e+300 is not in the range"),
    ("good:app", "--drain-timeout", "-1"): (2, "'--drain-timeout': -1.0 is not in the range"),
}


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_what_run_is_given_wrongly_is_one_sentence(here: Path, words: tuple[str, ...]) -> None:
    status, sentence = RUNS[words]
    result = run("run", *words, "--log-level", "error")
    assert result.returncode == status
    assert sentence in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr and "Errno" not in result.stderr


COMMANDS = ("verify", "stat", "dump", "export", "compact --copy-to new", "repair --copy-to new")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("folder", ["nowhere", "void", "", "file.txt"])
def test_where_there_is_no_journal_it_is_said(here: Path, command: str, folder: str) -> None:
    name, *options = command.split()
    line = said(invoke("journal", name, folder, *options))
    assert line.startswith(f"there is no journal in {folder or repr('')}")
    assert ("which is a file" in line) is (folder == "file.txt")
    assert not (here / "new").exists() and not (here / "nowhere").exists()


def test_a_journal_without_its_manifest_is_damaged_and_not_missing(journal: Path) -> None:
    (journal / "data" / "MANIFEST").unlink()
    assert "MANIFEST: it is missing" in said(invoke("journal", "verify", "data"))


JOURNALS = {
    "journal repair data --copy-to new": "the journal in data is sound: nothing has to be repaired",
    "journal compact data --copy-to file.txt": "file.txt: it is a file; name a folder",
    "journal compact data --copy-to void": "the folder is not empty; name one",
    "journal import new empty": "empty: it is empty; `pybehave journal export` writes what",
    "journal dump data --from 100 --to 2": "--from 100 is behind --to 2; nothing lies between",
    "journal export data --from 100 --to 2": "--from 100 is behind --to 2",
    "journal dump data --server nope": "no journaled server is named 'nope'; those are: s",
    "journal export data --server nope": "no journaled server is named 'nope'; those are: s",
    "dead-letters show 99": "data: there is no dead letter of lsn 99; `pybehave dead-letters list`",
    "crash show 99": "data: there is no dead letter of lsn 99",
    "attach word": "'word' is neither a command nor a socket",
}


@pytest.mark.parametrize("line", JOURNALS)
def test_what_a_journals_tools_are_given_wrongly_is_one_sentence(journal: Path, line: str) -> None:
    assert JOURNALS[line] in said(invoke(*line.split()))
    assert not (journal / "new").exists()


@pytest.mark.parametrize("literal", ["object()", "[1,", "{[]: 1}", "open"])
def test_a_message_that_is_no_literal_is_refused_with_some_that_are(
    journal: Path, literal: str
) -> None:
    lsn = invoke("dead-letters", "list").stdout.split()[0]
    line = said(invoke("dead-letters", "requeue", lsn, "--message", literal))
    assert line == (
        f'{literal!r} is not a Python literal; write for example \'text\', 1, or [b"GET", b"x"]'
    )


def test_a_message_that_has_no_form_in_the_journal_is_refused(journal: Path) -> None:
    lsn = invoke("dead-letters", "list").stdout.split()[0]
    line = said(invoke("dead-letters", "requeue", lsn, "--message", "2j"))
    assert line.startswith("'2j' cannot be journaled: ")


@pytest.mark.parametrize(
    "words, suffix",
    [("requeue LSN", ".tmp"), ("delete LSN", ".requeue"), ("purge --yes", ".requeue")],
)
def test_a_letter_that_cannot_be_written_or_removed_is_one_sentence(
    journal: Path, words: str, suffix: str
) -> None:
    """As on a disk that is full or read-only: it was a traceback."""
    lsn = invoke("dead-letters", "list").stdout.split()[0]
    place = Path("data", "dead-letters", f"{int(lsn):016x}{suffix}")
    place.mkdir()
    line = said(invoke("dead-letters", *words.replace("LSN", lsn).split()))
    assert line == f"{place}: Is a directory"


def test_an_lsn_behind_the_end_is_pointed_out(journal: Path) -> None:
    result = run("replay", "good:app", "--to", "99999")
    assert result.returncode == 0
    end = result.stdout.splitlines()[0].removeprefix("# lsn ")
    assert result.stderr == f"the journal ends with lsn {end}, before --to 99999\n"
    assert run("replay", "good:app").stderr == ""
    assert run("replay", "good:app", "--to", end).stderr == ""
    assert invoke("journal", "dump", "data", "--from", "100").stderr == (
        f"no record was selected; the journal ends with lsn {end}\n"
    )


def test_a_server_that_the_application_does_not_have_is_refused_in_a_replay(journal: Path) -> None:
    result = run("replay", "good:app", "--server", "nope")
    assert (result.returncode, result.stdout) == (2, "")
    assert "no journaled server is named 'nope'; those are: s" in result.stderr


def test_a_file_is_no_admin_socket(here: Path) -> None:
    result = invoke("attach", "file.txt", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("pybehave: file.txt is no socket; name the admin socket of a")


FULL = """
import errno
from pybehave.journal.disk import FolderDisk
from good import app

def fill(self, name, count):
    raise OSError(errno.{error}, "as the kernel says it")

FolderDisk.fill = fill
"""


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ("ENOSPC", "there is no room left on the device; free some, or use another folder"),
        ("EROFS", "the file system is read-only; remount it, or use another folder"),
        ("EIO", "as the kernel says it"),
    ],
)
def test_a_disk_that_a_first_start_fails_on_is_named(here: Path, error: str, detail: str) -> None:
    (here / "full.py").write_text(FULL.format(error=error))
    folder = here / "somewhere"
    result = run("run", "full:app", "--data", str(folder), PYTHONPATH=str(here))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == f"pybehave: {folder}: {detail}"


def test_a_lock_of_another_user_is_named_with_its_folder(here: Path) -> None:
    refused = FULL.replace("fill(self, name, count)", "lock(self)").replace(
        ".fill = fill", ".lock = lock"
    )
    refused = refused.replace('"as the kernel says it"', '"Permission denied", "somewhere/LOCK"')
    (here / "locked.py").write_text(refused.format(error="EACCES"))
    result = run("run", "locked:app", "--data", "somewhere", PYTHONPATH=str(here))
    assert (result.returncode, result.stdout) == (1, "")
    assert "pybehave: somewhere: user " in result.stderr.splitlines()[-1]


def test_a_current_folder_that_is_gone_is_said(here: Path) -> None:
    gone = here / "gone"
    gone.mkdir()
    words = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *COMMAND, "run", "good:app"]
    result = subprocess.run(
        words, cwd=gone, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stderr == "pybehave: the current folder has been removed; go to another\n"


@pytest.mark.parametrize("descriptors", [7, 12, 14, DESCRIPTORS_MIN - 1])
def test_too_few_descriptors_are_refused_and_no_host_is_blamed(
    here: Path, descriptors: int
) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *COMMAND, "run", "good:app"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert f"may have only {descriptors} files open and a node needs {DESCRIPTORS_MIN}" in line


def test_the_fewest_descriptors_serve_and_keep_a_journal(here: Path, source: str) -> None:
    limited = ["sh", "-c", f'ulimit -n {DESCRIPTORS_MIN}; exec "$@"', "sh", *COMMAND, "run"]
    with subprocess.Popen(
        [*limited, "good:app", "--backend", source],
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            assert node.stdout is not None
            assert any(line.startswith("ready") for line in node.stdout)
        finally:
            node.terminate()
    assert node.returncode == 0
