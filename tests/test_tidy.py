"""Every rule of tidy_rules.py can fail, and the repository keeps them all.

What must break a rule stands in EXCEPTIONS with its reason; one that is no longer needed fails.
"""

import subprocess
import sys

import pytest

from tests.tidy_rules import (
    DECISION_HEADINGS,
    MENDS,
    NATIVE_FUNCTION_LINES_MAX,
    PUBLIC_NAMES,
    PYTHON_FUNCTION_LINES_MAX,
    RULES,
    Tree,
    files,
    repository,
)

# (rule, path) -> why this path may break this rule.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("no_print", "src/_uring/sim_steps.c"): "names the broken contract and its seed, then aborts",
}

DECISION = "# T\n" + "".join(f"## {h}\n" for h in DECISION_HEADINGS)

DECLARATIONS = "static const int t[] = {1};\nstatic int f(int x);\n/* static int x; */\n"
TABLE = "int t[] = {\n" + "1,\n" * 99 + "};\n"
SIGNATURE = "cdef int f(int x,\n        int y) except -1:\n"
ONE_TITLE = "# A\n```\n# comment\n```\n## B\n"
NAMED_TEST = "def test_one() -> None: ...\n"
INCLUDES: Tree = {"src/_uring/a.c": '#include "a.h"\n', "src/_uring/a.h": ""}

# rule -> (a tree that breaks it, a tree that looks similar and does not)
SAMPLES: dict[str, tuple[Tree, Tree]] = {
    "line_length": ({"a.py": "x" * 101}, {"a.py": "x" * 100}),
    "function_length": (
        {"a.c": "static int f(int x)\n{\n" + "x;\n" * 68 + "}\n"},
        {
            "a.c": "static int f(int x) {\n" + "x;\n" * 68 + "}\n" + TABLE,
            "b.py": "def f():\n" + "    x\n" * 49,
            "c.pyx": "cdef class A(B):\n"
            + "    x = 1\n" * 99
            + SIGNATURE
            + "    x\n\n" * 34
            + "y = 1\n",
        },
    ),
    "module_length": ({"a.pyx": "x\n" * 801}, {"a.pyx": "x\n" * 500}),
    "module_header": ({"a.c": "int x;\n"}, {"a.c": "/* A. */\nint x;\n", "b.py": '"""B."""\n'}),
    "import_direction": (
        {"pybehave/behaviours/a.py": "from pybehave.runtime import node\n"},
        {"pybehave/runtime/a.py": "from ..behaviours import supervisor\nfrom . import node\n"},
    ),
    "core_imports": (
        {"src/_uring/a.pyx": "from pybehave.runtime.node import Node\n"},
        {"src/_uring/a.pyx": "from pybehave.errors import NoProc\nfrom .codec cimport Codec\n"},
    ),
    "behaviours_are_pure": (
        {"pybehave/behaviours/a.py": "def f():\n    from os import path\n"},
        {"pybehave/behaviours/a.py": "import operator\nfrom . import time\n"},
    ),
    "no_print": (
        {"pybehave/a.py": "print(1)\n"},
        {"pybehave/cli/a.py": "print(1)\n", "src/_uring/a.c": "snprintf(b, 1, x);\n"},
    ),
    "no_sleep_in_tests": (
        {"tests/a.py": "import time\ntime.sleep(1)\n"},
        {"tests/a.py": "# sleep(1)\nawait_(asyncio.sleep(0))\n"},
    ),
    "no_promises": ({"a.md": "# A\nTO" + "DO: b\n"}, {"a.md": "# A\nmktemp " + "X" * 6 + "\n"}),
    "no_bare_except": (
        {"a.pyx": "try:\n    x\nexcept :\n    y\n"},
        {"a.pyx": "try:\n    x\nexcept BaseException:\n    y\n"},
    ),
    "skips_have_reasons": (
        {"tests/a.py": "@pytest.mark.skipif(x)\ndef test(): ...\n"},
        {"tests/a.py": "@pytest.mark.skipif(x, reason='y')\ndef test(): ...\n"},
    ),
    "no_machine_paths": ({"a.sh": "cd /ho" + "me/me\n"}, {"a.sh": "cd /run/user; cd ~/home/x\n"}),
    "no_static_state_in_c": (
        {"src/_uring/a.c": "int f(void) {\n    static int calls;\n}\n"},
        {"src/_uring/a.c": DECLARATIONS},
    ),
    "no_ring_without_index_array": (
        {"src/_uring/a.c": "flags |= IORING_SETUP_" + "NO_SQARRAY;\n"},
        {"src/_uring/a.c": "/* never IORING_SETUP_" + "NO_SQARRAY */\n"},
    ),
    "public_docstrings": (
        {"pybehave/a.py": "class A:\n    'A.'\n    def f(self): return 1\n"},
        {
            "pybehave/a.py": "class A:\n    'A.'\n    def f(self): 'F.'\n    def _g(self): 1\n",
            "pybehave/b.py": "class B(A[int]):\n    'B.'\n    def f(self): return 1\n",
            "pybehave/testing/c.py": "class C:\n    'C.'\n    def test_f(self): return 1\n",
        },
    ),
    "public_types": (
        {"pybehave/a.py": "def f(x: int, *rest) -> int: ...\n"},
        {"pybehave/a.py": "def f(x: int, *rest: int) -> int: ...\ndef _g(x): ...\n"},
    ),
    "cython_classes_are_final": (
        {"src/_uring/a.pyx": "@final\ncdef class A:\n    pass\n\ncdef class B:\n    pass\n"},
        {"src/_uring/a.pyx": "# Not final: users derive.\ncdef class A:\n    pass\n"},
    ),
    "public_names": (
        {"pybehave/__init__.py": "__all__ = ['A', 'B']\n", PUBLIC_NAMES: "pybehave.A\n"},
        {"pybehave/__init__.py": "__all__ = ['A']\n", PUBLIC_NAMES: "pybehave.A\n"},
    ),
    "decisions_have_five_headings": (
        {"docs/decisions/0001-a.md": "# A\n## Context\n"},
        {"docs/decisions/0001-a.md": DECISION},
    ),
    "markdown_has_one_title": ({"a.md": "# A\n\n# B\n"}, {"a.md": ONE_TITLE}),
    "links_lead_somewhere": (
        {"a.md": "# A\n[b](b.md)\n"},
        {"a.md": "# A\n## B: `c`!\n[b](#b-c) [c](https://c.d)\n```\n[d](d.md)\n```\n"},
    ),
    "pages_can_be_found": (
        {"README.md": "# A\n", "docs/b.md": "# B\n[A](../README.md)\n"},
        {"README.md": "# A\n[b](docs/)\n", "docs/b.md": "# B\n[c](../c.md)\n", "c.md": ""},
    ),
    "native_files_are_built": (
        INCLUDES | {"CMakeLists.txt": "set(x b)"},
        INCLUDES | {"CMakeLists.txt": "set(x a b)"},
    ),
    "python_files_are_imported": (
        {"pybehave/a.py": "", "pybehave/__init__.py": "import pybehave\n"},
        {"pybehave/a.py": "", "pybehave/__init__.py": "import pybehave\nfrom .a import B\n"},
    ),
    "top_level_is_fixed": ({"NOTES.txt": ""}, {"README.md": "", "docs/notes.txt": ""}),
    "examples_are_tested": (
        {"examples/kv.py": "", "tests/a.py": "kv = 1\n"},
        {"examples/kv.py": "", "tests/a.py": "'examples.kv:app'\n"},
    ),
    "named_tests_exist": (
        {"tests/a/README.md": "# A\n`b.py`: `test_one`, `test_two`\n", "tests/b.py": NAMED_TEST},
        {"tests/a/README.md": "# A\n`b.py`: `test_one`\n", "tests/b.py": NAMED_TEST},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_fails_on_its_bad_sample(name):
    assert list(RULES[name](SAMPLES[name][0]))


@pytest.mark.parametrize("name", RULES)
def test_rule_passes_its_good_sample(name):
    assert list(RULES[name](SAMPLES[name][1])) == []


@pytest.mark.parametrize("name", RULES)
def test_repository_keeps(name):
    found = [f for f in RULES[name](repository()) if (name, f.path) not in EXCEPTIONS]
    assert not found, "\n" + "\n".join(
        f"{f.path}:{f.line}: {f.what}. Mend: {MENDS[name]}." for f in found
    )


def test_every_exception_is_still_needed():
    for name, path in EXCEPTIONS:
        assert any(f.path == path for f in RULES[name](repository())), f"delete {name}, {path}"


@pytest.mark.parametrize(
    ("suffix", "limit", "head", "line"),
    [
        (".py", PYTHON_FUNCTION_LINES_MAX, "def f():\n", "    x\n"),
        (".pyx", NATIVE_FUNCTION_LINES_MAX, "cdef int f() noexcept nogil:\n", "    x\n"),
    ],
)
def test_function_length_is_judged_at_the_limit(suffix, limit, head, line):
    assert not list(RULES["function_length"]({"a" + suffix: head + line * (limit - 1)}))
    assert list(RULES["function_length"]({"a" + suffix: head + line * limit}))


def test_a_link_to_a_heading_that_is_not_there_is_found():
    pages = {"a.md": "# A\n[b](b.md#see) [b](b.md#c-d)\n", "b.md": "# B\n## C, d\n"}
    assert [found.what for found in RULES["links_lead_somewhere"](pages)] == [
        "there is no #see in b.md"
    ]


def test_behaviours_import_without_the_compiled_modules():
    compiled = [path.split("/")[-1][:-4] for path, _ in files(repository(), "src/", ".pyx")]
    program = (
        "import sys\n"
        f"sys.modules.update({{'pybehave._uring.' + name: None for name in {compiled}}})\n"
        "import pybehave.behaviours\n"
    )
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled
    assert ran.returncode == 0, ran.stderr
