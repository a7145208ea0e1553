"""The rules of the house: shape, direction of imports, names, what must not appear.

Theory. A rule is a function from a tree (path -> text) to what it found, and a mend. It never
touches the disk, so that test_tidy.py can show every rule to fail on a small tree before it runs
on the repository. C and Cython are read with regular expressions: good enough for lengths, names
and words, and nothing here judges more than that.

Does not know: git, the build, ruff and mypy (they judge what they can judge better).
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import NamedTuple

LINE_CHARS_MAX = 100
MODULE_LINES_WARN = 500  # more needs a header that says why
MODULE_LINES_MAX = 800
PYTHON_FUNCTION_LINES_MAX = 50
NATIVE_FUNCTION_LINES_MAX = 70

# A module imports its own package and packages of a lower or equal level.
LEVELS = {
    "error_base": 0, "input_errors": 0, "job_errors": 0, "journal_errors": 0, "release_errors": 0,
    "store_errors": 0, "supervision_errors": 0, "errors": 0,
    "actions": 0, "flow": 0, "jobs": 0, "once": 0, "tagged": 0, "together": 0, "statem": 0,
    "events": 0, "via": 0, "awaiting": 0, "types": 0, "_version": 0,
    "listener": 10, "behaviours": 10, "config": 10, "deployment": 10, "toml_files": 10,
    "_uring": 20,
    "journal": 30, "protocols": 30,
    "runtime": 40,
    "observer": 50, "cli": 50, "testing": 50, "__main__": 50,
}  # fmt: skip
CORE_IMPORTS = {"errors", "actions", "flow", "jobs", "once", "tagged", "together", "via", "_uring"}
BEHAVIOURS_FORBIDDEN = {"time", "random", "os", "socket", "threading"}
DECISION_HEADINGS = ("context", "options", "decision", "consequences", "what would change our mind")
PUBLIC_NAMES = "tests/public_names.txt"
TOP_LEVEL = {
    "CHANGELOG.md", "CMakeLists.txt", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
    "pyproject.toml",
}  # fmt: skip
NATIVE = (".c", ".h", ".pyx", ".pxd")
PYTHON = (".py", ".pyi")
CODE = (*NATIVE, *PYTHON, ".sh", ".cmake", "CMakeLists.txt", "Makefile", "run")

Tree = dict[str, str]


class Found(NamedTuple):
    path: str
    line: int
    what: str


class Function(NamedTuple):
    name: str
    line: int
    lines: int


Rule = Callable[[Tree], Iterator[Found]]
RULES: dict[str, Rule] = {}
MENDS: dict[str, str] = {}


def rule(mend: str) -> Callable[[Rule], Rule]:
    """Register a rule under its function's name, with the mend that a violation prints."""

    def register(check: Rule) -> Rule:
        RULES[check.__name__], MENDS[check.__name__] = check, mend
        return check

    return register


# --- reading -----------------------------------------------------------------


@cache
def repository() -> Tree:
    root = Path(__file__).parent.parent
    folders = ("src", "pybehave", "tests", "bench", "examples", "scripts", "cmake", "docs", ".ci")
    found = [p for p in root.iterdir() if p.is_file() and not p.name.startswith(".")]
    found += [p for folder in folders for p in (root / folder).rglob("*") if p.is_file()]
    return {
        p.relative_to(root).as_posix(): p.read_text(encoding="utf-8")
        for p in sorted(found)
        if p.name.endswith((*CODE, ".md", ".toml", ".txt")) and "__pycache__" not in p.parts
    }


def files(tree: Tree, prefix: str, *suffixes: str) -> Iterator[tuple[str, str]]:
    return ((p, t) for p, t in tree.items() if p.startswith(prefix) and p.endswith(suffixes))


@cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def strip_c(text: str) -> str:
    """Blank the comments and literals of C, leaving every line where it is."""
    pattern = r"/\*.*?\*/|//[^\n]*|" + r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])+'"
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)


def grep(pattern: str, path: str, text: str, what: str) -> Iterator[Found]:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(pattern, line):
            yield Found(path, number, f"{what}: {line.strip()[:60]}")


def python_functions(text: str) -> Iterator[Function]:
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, node.end_lineno - node.lineno + 1)


def c_functions(text: str) -> Iterator[Function]:
    """A function is a brace at depth 0 whose head has a parameter list and no `=`."""
    blank = lambda m: re.sub(r"[^\n]", " ", m[0])  # noqa: E731
    code = re.sub(r"^[ \t]*#(?:.*\\\n)*.*", blank, strip_c(text), flags=re.MULTILINE)
    depth, head_start, opened = 0, 0, None
    for match in re.finditer(r"[{};]", code):
        if match[0] == "{":
            head = code[head_start : match.start()]
            name = re.search(r"(\w+)\s*\(", head)
            if depth == 0 and name and "=" not in head:
                opened = Function(name[1], code[: head_start + name.start()].count("\n") + 1, 0)
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0 and opened:
                last = code[: match.start()].count("\n") + 1
                yield opened._replace(lines=last - opened.line + 1)
                opened = None
        if depth == 0:
            head_start = match.end()


def cython_functions(text: str) -> Iterator[Function]:
    """A block after `def`, `cdef` or `cpdef` with parameters, as far as its indentation goes."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        head = re.match(r"( *)(?:async )?(?:def|cdef|cpdef)\b(?! class)[^(=]*?(\w+)\(", line)
        if not head:
            continue
        end, balance = index, line.count("(") - line.count(")")
        while balance > 0 and end + 1 < len(lines):
            end += 1
            balance += lines[end].count("(") - lines[end].count(")")
        if not lines[end].split("#")[0].rstrip().endswith(":"):
            continue  # a declaration
        indented = lambda s: not s.strip() or s.startswith(head[1] + " ")  # noqa: B023, E731
        body = list(takewhile(indented, lines[end + 1 :]))
        while body and not body[-1].strip():
            body.pop()
        yield Function(head[2], index + 1, end - index + 1 + len(body))


def imports(path: str, text: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import that happens at run time, relative ones resolved."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    package = package if path.endswith("__init__.py") else package[:-1]
    tree = parse(text)
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


# --- rules: shape ------------------------------------------------------------


@rule(f"break the line: {LINE_CHARS_MAX} characters are the limit")
def line_length(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", *CODE):
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LINE_CHARS_MAX:
                yield Found(path, number, f"{len(line)} characters")


@rule("extract a helper named for what it does; a function has one level of detail")
def function_length(tree: Tree) -> Iterator[Found]:
    readers = [
        ((".py",), python_functions, PYTHON_FUNCTION_LINES_MAX),
        ((".c", ".h"), c_functions, NATIVE_FUNCTION_LINES_MAX),
        ((".pyx",), cython_functions, NATIVE_FUNCTION_LINES_MAX),
    ]
    for suffixes, functions, limit in readers:
        for path, text in files(tree, "", *suffixes):
            for f in functions(text):
                if f.lines > limit:
                    yield Found(path, f.line, f"{f.name} has {f.lines} lines, {limit} are allowed")


@rule("split the module: it is two things")
def module_length(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", *NATIVE, *PYTHON):
        count = len(text.splitlines())
        if count > MODULE_LINES_MAX:
            yield Found(path, 1, f"{count} lines, {MODULE_LINES_MAX} are allowed")
        elif count > MODULE_LINES_WARN:
            warnings.warn(f"{path} has {count} lines: does its header say why?", stacklevel=1)


@rule("begin with one sentence on what the file is for")
def module_header(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", ".py", *NATIVE):
        if text.strip() and not re.match(r'#!|/\*|#|r?"""', text.lstrip()):
            yield Found(path, 1, "no header")


# --- rules: imports ----------------------------------------------------------


@rule("move the thing to the lower package, or pass it in; the order is LEVELS in this file")
def import_direction(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "pybehave/", ".py"):
        own = path.removesuffix(".py").split("/")[1]
        if own == "__init__":
            continue
        for line, name in imports(path, text):
            target = (name + ".").split(".")[1] if name.startswith("pybehave.") else own
            if own not in LEVELS:
                yield Found(path, line, f"{own} has no level")
            elif LEVELS.get(target, 0) > LEVELS[own]:
                yield Found(path, line, f"{own} imports {target}")


@rule("the core knows only errors, actions, jobs and messages; let the runtime pass the thing in")
def core_imports(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "src/_uring/", ".pyx", ".pxd"):
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r"\s*(?:from|c?import)\s+pybehave\.(\w+)", line)
            if match and match[1] not in CORE_IMPORTS:
                yield Found(path, number, f"the core imports pybehave.{match[1]}")


@rule("behaviours are pure: take the value as an argument or return an action")
def behaviours_are_pure(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "pybehave/behaviours/", ".py"):
        for line, name in imports(path, text):
            if name.split(".")[0] in BEHAVIOURS_FORBIDDEN:
                yield Found(path, line, f"behaviours import {name}")


# --- rules: what must not appear ---------------------------------------------


@rule("log it, return it or raise it; only the command line prints")
def no_print(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "pybehave/", ".py"):
        for node in ast.walk(parse(text)):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if called and node.func.id == "print" and not path.startswith("pybehave/cli/"):
                yield Found(path, node.lineno, "print()")
    for path, text in files(tree, "src/_uring/", *NATIVE):
        if "/tests/" not in path:
            pattern = r"(?<!\w)(print|printf|puts|perror)\(|\bstd(out|err)\b"
            yield from grep(pattern, path, text, "print")


@rule("wait for a condition, or use virtual time")
def no_sleep_in_tests(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "tests/", ".py"):
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
                gives_way = [ast.unparse(a) for a in node.args] == ["0"]  # waits for nothing
                if not gives_way:
                    yield Found(path, node.lineno, ast.unparse(node))
    for path, text in files(tree, "src/_uring/tests/", ".c", ".h"):
        yield from grep(r"\b(u|nano)?sleep\s*\(", path, strip_c(text), "sleep")


@rule("do it now, or open an issue and say in the header what is not supported")
def no_promises(tree: Tree) -> Iterator[Found]:
    words = "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"])
    for path, text in files(tree, "", *CODE, ".md", ".toml"):
        yield from grep(rf"\b({words})\b", path, text, "a promise")


@rule("name the exception; a crash boundary says `except BaseException` and why")
def no_bare_except(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", ".py", ".pyx"):
        yield from grep(r"^\s*except\s*:", path, text, "bare except")


@rule("say why: reason='...'")
def skips_have_reasons(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "tests/", ".py"):
        for node in ast.walk(parse(text)):
            marks = [d for d in getattr(node, "decorator_list", []) if "mark." in ast.unparse(d)]
            for mark in marks:
                source = ast.unparse(mark)
                if re.search(r"mark\.(skip|skipif|xfail)\b", source) and "reason=" not in source:
                    yield Found(path, mark.lineno, source)


@rule("find it relative to the file, through the environment or a temporary folder")
def no_machine_paths(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", *CODE, ".md", ".toml"):
        yield from grep(r"(?<![\w.~}])/(home|root|Users)/\w", path, text, "a path of one machine")


@rule("keep it in the struct that the function is given: the library is linked into each module")
def no_static_state_in_c(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "src/_uring/", ".c", ".h"):
        if "/tests/" not in path:
            pattern = r"^\s*static\s+(?!.*\b(const|inline)\b)[^()]*[;=]"
            yield from grep(pattern, path, strip_c(text), "static state")


@rule("never set it: with liburing 2.3 the process spins in the kernel, unkillable")
def no_ring_without_index_array(tree: Tree) -> Iterator[Found]:
    flag = "IORING_SETUP_" + "NO_SQARRAY"
    for path, text in files(tree, "", ".c", ".h"):
        yield from grep(rf"\b{flag}\b", path, strip_c(text), "the flag")


# --- rules: the public face --------------------------------------------------


def is_public(node: ast.AST) -> bool:
    overrides = any("override" in ast.unparse(d) for d in getattr(node, "decorator_list", []))
    return not node.name.startswith("_") and not overrides


def documented_methods(tree: Tree) -> dict[str, set[str]]:
    """Names that a class documents itself or through its bases, by the name of the class."""
    classes = {
        node.name: node
        for _, text in files(tree, "pybehave/", *PYTHON)
        for node in parse(text).body
        if isinstance(node, ast.ClassDef)
    }

    def of(name: str) -> set[str]:
        if name not in classes:
            return set()
        own = {n.name for n in methods(classes[name]) if ast.get_docstring(n)}
        bases = (re.split(r"[.\[]", ast.unparse(b)) for b in classes[name].bases)
        return own.union(*(of(part) for base in bases for part in base if part != name))

    return {name: of(name) for name in classes}


def methods(scope: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in scope.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def is_overload(node: ast.AST) -> bool:
    """Whether it is a signature only: what is overloaded has the docstring."""
    return any(ast.unparse(each) == "overload" for each in getattr(node, "decorator_list", ()))


@rule("write one line in the imperative: what it does for the caller")
def public_docstrings(tree: Tree) -> Iterator[Found]:
    inherited = documented_methods(tree)
    for path, text in files(tree, "pybehave/", ".py"):
        module = parse(text)
        classes = [n for n in module.body if isinstance(n, ast.ClassDef) and is_public(n)]
        wanted = [*classes, *filter(is_public, methods(module))]
        for scope in classes:
            known = inherited[scope.name]
            wanted += [n for n in methods(scope) if is_public(n) and n.name not in known]
        for node in wanted:
            is_test = path.startswith("pybehave/testing/") and node.name.startswith("test_")
            is_told = is_test or is_overload(node)  # a test's name is its sentence
            if not is_told and not ast.get_docstring(node):
                yield Found(path, node.lineno, f"{node.name} has no docstring")


@rule("annotate every argument and the result; `object` is a type too")
def public_types(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "pybehave/", ".py"):
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node):
                a = node.args
                arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
                bare = [x.arg for x in arguments if x and not x.annotation]
                bare = [name for name in bare if name not in ("self", "cls")]
                if bare or not node.returns:
                    missing = ", ".join(bare) or "the result"
                    yield Found(path, node.lineno, f"{node.name} has no type for {missing}")


@rule("put @final above the class, or a comment `# Not final: reason`")
def cython_classes_are_final(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "src/_uring/", ".pyx"):
        lines = text.splitlines()
        for index, line in enumerate(lines):
            if match := re.match(r"(?:cdef )?class (\w+)", line):
                above = list(takewhile(lambda s: s.strip(), reversed(lines[:index])))
                if not any(re.match(r"@(cython\.)?final\b|# Not final: \w", s) for s in above):
                    yield Found(path, index + 1, f"{match[1]} is not final")


@rule(f"change {PUBLIC_NAMES} in the same commit: the public face is a decision")
def public_names(tree: Tree) -> Iterator[Found]:
    found = {}
    for path, text in files(tree, "pybehave/", "__init__.py"):
        for node in parse(text).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                package = path.removesuffix("/__init__.py").replace("/", ".")
                names = ast.literal_eval(node.value)
                found |= {f"{package}.{name}": (path, node.lineno) for name in names}
    listed = tree.get(PUBLIC_NAMES, "").split()
    for name in sorted(found.keys() - set(listed)):
        yield Found(*found[name], f"{name} is not listed")
    for name in sorted(set(listed) - found.keys()):
        yield Found(PUBLIC_NAMES, listed.index(name) + 1, f"{name} is in no __all__")


# --- rules: documents, examples, dead files ----------------------------------


@rule("give it the five headings: " + ", ".join(DECISION_HEADINGS))
def decisions_have_five_headings(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "docs/decisions/", ".md"):
        have = [h.lower() for h in re.findall(r"^##+ *(.+)$", text, flags=re.MULTILINE)]
        missing = [w for w in DECISION_HEADINGS if not any(h.startswith(w) for h in have)]
        if missing and not path.endswith("README.md"):
            yield Found(path, 1, f"no heading for {', '.join(missing)}")


@rule("put it where a newcomer looks for it, or leave it out of the repository; the top is fixed")
def top_level_is_fixed(tree: Tree) -> Iterator[Found]:
    for path in tree:
        if "/" not in path and path not in TOP_LEVEL:
            yield Found(path, 1, "a file at the top level")


@rule("one line `# Title` at the top, `##` below it")
def markdown_has_one_title(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", ".md"):
        prose = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
        count = len(re.findall(r"^# \S", prose, flags=re.MULTILINE))
        if count != 1 or not prose.lstrip().startswith("# "):
            yield Found(path, 1, f"{count} titles")


@rule("name it in CMakeLists.txt, include or cimport it, or delete it")
def native_files_are_built(tree: Tree) -> Iterator[Found]:
    cmake = tree.get("CMakeLists.txt", "")
    native = dict(files(tree, "src/", *NATIVE))
    for path in native:
        name = path.split("/")[-1]
        stem, suffix = name.rsplit(".", 1)
        others = "\n".join(text for p, text in native.items() if p != path)
        used = {
            "c": re.search(rf"\b{stem}\b", cmake) or re.match(r"(test|fuzz)_", name),
            "pyx": re.search(rf"\b{stem}\b", cmake),
            "h": f'"{name}"' in others,
            "pxd": path.replace(".pxd", ".pyx") in native or f"{stem} cimport" in others,
        }
        if not used[suffix]:
            yield Found(path, 1, "nothing builds or includes it")


@rule("import it where it is needed, or delete it")
def python_files_are_imported(tree: Tree) -> Iterator[Found]:
    used = set(re.findall(r"pybehave[.\w]*", tree.get("pyproject.toml", "")))
    for path, text in files(tree, "", ".py"):
        used |= {name for _, name in imports(path, text)}
        used |= set(re.findall(r"\bpybehave(?:\.\w+)+", text))
    used |= {name.rsplit(".", 1)[0] for name in used}  # importing a module imports its package
    for path, _ in files(tree, "pybehave/", *PYTHON):
        dotted = re.sub(r"(/__init__)?\.pyi?$", "", path).replace("/", ".")
        built = path.endswith(".pyi") and f"src/_uring/{dotted.split('.')[-1]}.pyx" in tree
        built = built or path in tree.get("pyproject.toml", "")
        if dotted not in used and not built and not dotted.endswith("__main__"):
            yield Found(path, 1, "nothing imports it")


@rule("add a test that runs it with a real client and names it")
def examples_are_tested(tree: Tree) -> Iterator[Found]:
    tests = "\n".join(text for _, text in files(tree, "tests/", ".py"))
    for path, _ in files(tree, "examples/", ".py"):
        stem = path.split("/")[-1].removesuffix(".py")
        if stem != "__init__" and not re.search(rf"\bexamples?[./]{stem}\b|\b{stem}\.py\b", tests):
            yield Found(path, 1, "no test names it")


@rule("name a test that there is, by its file below tests/ or src/ and its function")
def named_tests_exist(tree: Tree) -> Iterator[Found]:
    """Pages that promise a test: `file.py`: `test_one`, `test_two`."""
    names = r"`([\w/.]+\.(?:py|c))`: ((?:`test_\w+`(?:, )?)+)"
    for path, text in files(tree, "tests/", "README.md"):
        for found in re.finditer(names, text):
            file = found[1] if found[1].startswith("src/") else f"tests/{found[1]}"
            line = text[: found.start()].count("\n") + 1
            for name in re.findall(r"`(test_\w+)`", found[2]):
                if not re.search(rf"\b{name}\(", tree.get(file, "")):
                    yield Found(path, line, f"there is no {name} in {file}")


def links(path: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Links of a page to files of the repository: line, the file as a path, the heading or ""."""
    blank = re.sub(r"^(```|~~~).*?^\1", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    for found in re.finditer(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: *(\S+)", blank, flags=re.MULTILINE):
        target, _, heading = (found[1] or found[2]).partition("#")
        if not re.match(r"[a-z]+:", target):
            whole = normpath(join(dirname(path), target)) if target else path
            yield blank[: found.start()].count("\n") + 1, whole, heading


def anchors(text: str) -> set[str]:
    """What `#...` can lead to: headings in GitHub's spelling, or functions of a test."""
    titles = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    spelled = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return spelled | set(re.findall(r"^ *def (\w+)", text, flags=re.MULTILINE))


@rule("link a file that is there, and a heading as it is spelled")
def links_lead_somewhere(tree: Tree) -> Iterator[Found]:
    for path, text in files(tree, "", ".md"):
        for line, target, heading in links(path, text):
            if target.endswith((".md", ".py")) and target not in tree:
                yield Found(path, line, f"a link to {target}, which is not there")
            elif heading and heading not in anchors(tree.get(target, "")):
                yield Found(path, line, f"there is no #{heading} in {target}")


@rule("link it from a page that can be found, or its folder; a reader begins with README.md")
def pages_can_be_found(tree: Tree) -> Iterator[Found]:
    """A page is found by a link to it, to a folder above it, or from one that is found."""
    pages = dict(files(tree, "", ".md"))
    ahead, found = ["README.md"], set[str]()
    while ahead:
        path = ahead.pop()
        if path in pages and path not in found:
            found.add(path)
            for _, target, _ in links(path, pages[path]):
                ahead += [target] if target in pages else [p for p in pages if inside(p, target)]
    yield from (Found(path, 1, "no page leads here") for path in pages if path not in found)


def inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
