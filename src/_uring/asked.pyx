# cython: language_level=3, binding=True
"""What a journaled server has asked for and not heard of yet: calls, connects, monitors, links.

Its state survives the process, what it waits for does not: the table says of what the next
incarnation is to be told, or what is to be done again. It follows from the inputs alone, so that a
replay finds the same one: an action that asks adds an entry, the info that answers takes the oldest
entry with the same tag away.

Functions (`Run`) are not here: their answers are told apart by the input that asked (jobs.py).

Does not know: what is done about it (pybehave/runtime/durable/asked.py).
"""

cimport cython

from pybehave import actions as _actions

# Action or info -> what it is about.
cdef dict _FAMILIES = {
    _actions.Call: "call", _actions.CallReply: "call", _actions.CallFailed: "call",
    _actions.Connect: "connect", _actions.Connected: "connect", _actions.ConnectFailed: "connect",
    _actions.Monitor: "monitor", _actions.Demonitor: "monitor", _actions.Down: "monitor",
    _actions.Link: "link", _actions.Unlink: "link", _actions.Exit: "link",
}
cdef object Demonitor = _actions.Demonitor
cdef object Down = _actions.Down
cdef object Exit = _actions.Exit
cdef object Unlink = _actions.Unlink


cdef object key_of(str family, object thing):
    """Equal for an action and for what answers it."""
    who = thing.name if type(thing) is Down or type(thing) is Exit else None
    if family == "link":
        return (family, who or thing.server)
    tag = thing.tag
    try:
        hash(tag)
    except TypeError:
        tag = repr(tag)
    if family == "monitor":
        return (family, who or thing.server, tag)
    return (family, tag)


@cython.final
cdef class Asked:
    """The table of one server."""

    def __cinit__(self):
        self.waiting = {}

    cdef int note(self, object action) except -1:
        """An action is about to be carried out; one that asks for nothing is no matter."""
        kind = type(action)
        family = _FAMILIES.get(kind)
        if family is None:
            return 0
        key = key_of(family, action)
        if kind is Demonitor or kind is Unlink:
            self.waiting.pop(key, None)
            return 0
        if key[0] == "link" and key in self.waiting:
            return 0 # two servers have one link, however often it is made
        self.count += 1
        self.waiting.setdefault(key, []).append((self.count, action))
        return 0

    cdef int heard(self, object message) except -1:
        """An info reaches the server; one that answers nothing is no matter."""
        family = _FAMILIES.get(type(message))
        if family is None:
            return 0
        key = key_of(family, message)
        entries = self.waiting.get(key)
        if entries is not None:
            del entries[0]
            if not entries:
                del self.waiting[key]
        return 0

    def add(self, action) -> None:
        """Take an action from a snapshot."""
        self.note(action)

    def actions(self) -> list:
        """What is open, in the order in which it was asked."""
        entries = [entry for entries in self.waiting.values() for entry in entries]
        entries.sort(key=_count_of)
        return [action for _, action in entries]


def _count_of(entry):
    return entry[0]
