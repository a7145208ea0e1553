"""Run a command under a seccomp filter, as container runtimes do.

    python -m tests.seccomp ERRNO COMMAND...          io_uring_setup fails with that errno
    python -m tests.seccomp PROFILE.json COMMAND...   a profile in Docker's format

Of a profile, what depends on arguments counts as allowed, what depends on capabilities as not.

Source: seccomp(2); linux/bpf_common.h and linux/seccomp.h for the numbers.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

IO_URING_SETUP = 425  # on every architecture
NUMBER_OFFSET = 0  # of the system call, in struct seccomp_data
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

Answers = dict[int, int]


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def command(filtered: str | int, *words: str) -> list[str]:
    """What to start in place of `words`."""
    return [sys.executable, "-m", "tests.seccomp", str(filtered), *words]


def install(answers: Answers, default: int) -> None:
    """Filter this process from now on: system call number -> what is returned."""
    lines = [(LOAD, 0, 0, NUMBER_OFFSET)]
    for number, answer in answers.items():
        lines += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    lines.append((RETURN, 0, 0, default))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = Program(len(lines), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def numbers() -> dict[str, int]:
    """The system calls of this machine by name, from the headers of its compiler."""
    macros = subprocess.run(
        [os.environ.get("CC") or "cc", "-E", "-dM", "-include", "sys/syscall.h", "-"],
        input="", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    values = dict(re.findall(r"^#define (__NR\w*?_\w+) (\w+)$", macros, flags=re.MULTILINE))
    found = {}
    for macro, value in values.items():
        value = values.get(value, value)  # asm-generic has a second name for some  # noqa: PLW2901
        if macro.startswith("__NR_") and value.isdigit():
            found[macro.removeprefix("__NR_")] = int(value)
    return found


def answers_of(profile: dict[str, Any]) -> Answers:
    """What a profile answers to each system call of this machine."""
    known = numbers()
    answers: Answers = {}
    for rule in profile["syscalls"]:
        if "includes" in rule:
            continue
        refuses = rule["action"] == "SCMP_ACT_ERRNO"
        answer = ERRNO | rule["errnoRet"] if refuses else ALLOW
        answers |= {known[name]: answer for name in rule["names"] if name in known}
    return answers


def main(filtered: str, *words: str) -> None:
    """Install the filter, become the command."""
    if filtered.isdigit():
        install({IO_URING_SETUP: ERRNO | int(filtered)}, ALLOW)
    else:
        profile = json.loads(Path(filtered).read_text(encoding="utf-8"))
        install(answers_of(profile), ERRNO | profile["defaultErrnoRet"])
    os.execv(words[0], words)


if __name__ == "__main__":
    main(*sys.argv[1:])
