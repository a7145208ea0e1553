"""The modules of a release: imported beside those that run, and put back if need be.

The modules that belong to the old release leave `sys.modules`, then the new ones are imported; the
old module objects stay alive with the servers that use them. To a release belong all modules that
lie in the folder from which its application was imported, except installed packages and pybehave.

Invariants
  (I1) An import that fails leaves `sys.modules` and `sys.path` as they were.
  (I2) `exchange` twice is nothing: that is how a release is taken back.

Does not know: nodes, servers. It may block: not for the loop's thread.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, final

import pybehave
from pybehave.behaviours.application import Application
from pybehave.behaviours.release import Release
from pybehave.errors import UpgradeRefused, show

NEVER: Final = frozenset({"__main__", "__mp_main__", "pybehave"})
"""Top-level names that belong to no release."""


@final
class ReleaseCode:
    """What stands in `sys.modules` and `sys.path` for one release, and for the other.

    Args:
        modules: The other release's modules.
        path: The other release's `sys.path`.
        names: Modules that belong to either.
    """

    def __init__(self, modules: dict[str, ModuleType], path: list[str], names: set[str]) -> None:
        self._modules = modules
        self._path = path
        self._names = names

    def exchange(self) -> None:
        """Let the other release's modules be found, and keep those that were (I2)."""
        now = {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
        sys.modules.update(self._modules)
        self._modules = now
        path = list(sys.path)
        sys.path[:] = self._path
        self._path = path


def import_release(
    target: str, folder: str | None = None, from_version: str | None = None
) -> tuple[Release, ReleaseCode]:
    """Import a release's code anew.

    Args:
        target: "MODULE:APP", an Application or a Release.
        folder: Where the new code lies; None = where the old one was found.
        from_version: The version that is to run now; a Release says that itself.

    Returns:
        The release, and what takes its modules away again.

    Raises:
        UpgradeRefused: It cannot be imported, or is none; nothing has changed (I1).
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise UpgradeRefused(target, f"{target!r} is not MODULE:APP; write for example kv:app")
    top = module_name.partition(".")[0]
    if top in NEVER:
        raise UpgradeRefused(target, f"{top!r} belongs to no release")
    if folder is not None and not os.path.isdir(folder):
        raise UpgradeRefused(target, f"there is no folder {folder!r}")
    root = _root_of(top)
    belonging = {
        name for name, module in list(sys.modules.items()) if _belongs(name, module, top, root)
    }
    before = {name: sys.modules.pop(name) for name in belonging}
    path_before = list(sys.path)
    if folder is not None:
        old = {"", root} if root == os.getcwd() else {root}
        sys.path[:] = [os.path.abspath(folder), *(each for each in sys.path if each not in old)]
    invalidate_caches()
    code = ReleaseCode(before, path_before, belonging)
    known = set(sys.modules)
    try:
        if other := elsewhere(find_spec(module_name), folder):
            raise UpgradeRefused(target, other)
        module = import_module(module_name)
        release = _release_in(module, target, attribute, from_version)
    except BaseException as error:
        code._names |= _new(known, top, os.path.abspath(folder) if folder else root)
        code.exchange()
        if isinstance(error, UpgradeRefused | KeyboardInterrupt):
            raise
        raise UpgradeRefused(target, _sentence(module_name, error)) from error
    code._names |= _new(known, top, os.path.abspath(folder) if folder else root)
    return release, code


def elsewhere(found: ModuleSpec | None, folder: str | None) -> str:
    """Say that a module does not lie in a folder; empty = it does, or there is nothing to say.

    Other code of the same name is not what was asked for: a start by that folder refuses it, too.
    """
    if found is None or folder is None:
        return ""
    places = [found.origin] if found.origin else list(found.submodule_search_locations or ())
    root = os.path.join(os.path.realpath(folder), "")
    if any(os.path.realpath(place).startswith(root) for place in places):
        return ""
    other = found.origin or "another folder"
    return f"there is no module {found.name!r} in {os.path.abspath(folder)}; {other} is not meant"


def _release_in(
    module: ModuleType, target: str, attribute: str, from_version: str | None
) -> Release:
    found: Any = getattr(module, attribute, None)
    if isinstance(found, Release):
        return found
    if not isinstance(found, Application):
        raise UpgradeRefused(
            target, f"{attribute!r} in it is {show(found)}, not an Application or a Release"
        )
    if from_version is None:
        raise UpgradeRefused(
            target,
            f"it does not say which version it follows; name it with --from, or let "
            f"{attribute!r} be a Release(app, upgrades=...)",
        )
    if found.version == from_version:
        raise UpgradeRefused(
            target, f"its version is {from_version!r}, too: give the new Application another one"
        )
    return Release(found, upgrades=from_version)


def _root_of(top: str) -> str | None:
    """The folder in which a top-level module was found; None when it was not imported."""
    module = sys.modules.get(top)
    if module is None:
        return None
    file: str | None = getattr(module, "__file__", None)
    if file is not None:
        folder = os.path.dirname(os.path.abspath(file))
        return os.path.dirname(folder) if hasattr(module, "__path__") else folder
    places = list(getattr(module, "__path__", ()))  # a namespace package has no file
    return os.path.dirname(os.path.abspath(places[0])) if places else None


def _belongs(name: str, module: ModuleType, top: str, root: str | None) -> bool:
    first = name.partition(".")[0]
    if first in NEVER:
        return False
    if first == top:
        return True
    file = getattr(module, "__file__", None)
    if root is None or file is None or _is_installed(root):
        return False
    file = os.path.abspath(file)
    return file.startswith(root + os.sep) and not _is_installed(file)


def _is_installed(path: str) -> bool:
    """Whether something lies where packages are installed, or in pybehave itself."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.add(os.path.dirname(os.path.abspath(pybehave.__file__)))
    return any(path == place or path.startswith(place + os.sep) for place in places)


def _new(known: set[str], top: str, root: str | None) -> set[str]:
    """The release's modules among those that were imported since."""
    added = [(name, sys.modules[name]) for name in set(sys.modules) - known]
    return {name for name, module in added if _belongs(name, module, top, root)}


def _sentence(module_name: str, error: BaseException) -> str:
    """What went wrong at an import, and in which line of the user's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith("<")
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    text = str(error)
    if isinstance(error, SyntaxError):  # its text has the file's name, too, without the folder
        place, text = f" ({error.filename}, line {error.lineno})", error.msg
    return f"importing {module_name!r} failed: {type(error).__name__}: {text}{place}"
