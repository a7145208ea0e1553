"""Servers that keep the numbers that they get, in several versions: for lives of folders."""

from __future__ import annotations

from typing import Any

from pybehave import GenServer, actions


class Keeper(GenServer[Any, Any, Any]):
    """Keeps the numbers that it gets."""

    is_broken = True

    def init(self, args: Any) -> Any:
        return []

    def log(self, state: Any) -> list[int]:
        return state

    def step(self, command: Any, state: Any) -> Any:
        log = self.log(state)
        match command:
            case "?":
                return state, list(log)
            case ("crash", number):
                log.append(number)
                if self.is_broken:
                    raise ValueError("on purpose")
                return state, len(log)
            case ("timer", seconds, number):
                return state, None, actions.StartTimer(number, seconds, number)
            case ("send", name, number):
                return state, None, actions.Cast(name, number)
            case ("sleep", number):
                log.append(number)
                return state, len(log), actions.Hibernate()
            case ("large", number, _):
                log.append(number)
                return state, len(log)
        log.append(command)
        return state, len(log)

    def handle_info(self, message: Any, state: Any) -> Any:
        self.log(state).append(message)
        return state, None


class Second(Keeper):
    """Keeps them in another shape."""

    version = 2

    def init(self, args: Any) -> Any:
        return {"log": []}

    def log(self, state: Any) -> list[int]:
        return state["log"]

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return {"log": state} if old_version == 1 else state["log"]

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return {"log": dumped} if version == 1 else dumped


class Third(Second):
    version = 3

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        if old_version in (1, ("down", 1)):
            return super().code_change(old_version, state, extra)
        return state


class Broken(Third):
    """Its migration fails, and leaves a mess behind."""

    version = 4

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        state.clear()
        raise ValueError("on purpose")


class Mended(Keeper):
    is_broken = False


class MendedSecond(Second):
    is_broken = False


class MendedThird(Third):
    is_broken = False


CLASSES = {False: (Keeper, Second, Third), True: (Mended, MendedSecond, MendedThird)}
