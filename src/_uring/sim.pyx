# cython: language_level=3, binding=True
"""The other side of the simulated network: peers, faults, virtual time, the trace.

A `Network` belongs to a Loop on the source "sim". Tests play clients and remote servers through it;
the loop cannot tell them from real ones. Time passes only while the loop waits. A wait that brings
news for a peer returns at once, at that virtual moment, so that a test can act (`events`).

Everything is a function of the loop's seed and of the calls made here: `trace_hash` proves it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import errno
import os
import socket
import struct
import traceback
import weakref

from pybehave.errors import LoopClosed

on_broken = None # called with the sentence before a breach of the contract ends the process

cdef extern from "source_sim.h" nogil:
    enum:
        SIM_CONNECTED, SIM_REFUSED, SIM_ACCEPTED, SIM_DATA, SIM_ROOM, SIM_ENDED, SIM_RESET
        SIM_ALARM, SIM_QUIET
        SIM_PEER_CONNECTING, SIM_PEER_OPEN, SIM_PEER_REFUSED, SIM_PEER_ENDED, SIM_PEER_RESET
        SIM_DID_COMPLETION, SIM_DID_LISTEN, SIM_DID_ACCEPT, SIM_DID_CONNECT, SIM_DID_RECV
        SIM_DID_SEND, SIM_DID_POLL, SIM_DID_CANCEL, SIM_DID_SHUTDOWN, SIM_DID_CLOSE, SIM_DID_WRITE

EVENTS = {
    SIM_CONNECTED: "connected", SIM_REFUSED: "refused", SIM_ACCEPTED: "accepted",
    SIM_DATA: "data", SIM_ROOM: "room", SIM_ENDED: "ended", SIM_RESET: "reset",
    SIM_ALARM: "alarm", SIM_QUIET: "quiet",
}
STATES = {
    SIM_PEER_CONNECTING: "connecting", SIM_PEER_OPEN: "open", SIM_PEER_REFUSED: "refused",
    SIM_PEER_ENDED: "ended", SIM_PEER_RESET: "reset",
}
ANSWERS = {
    "accept": SIM_ANSWER_ACCEPT, "refuse": SIM_ANSWER_REFUSE, "silence": SIM_ANSWER_SILENCE,
}
ACTS = {
    SIM_DID_COMPLETION: "completion", SIM_DID_LISTEN: "listen", SIM_DID_ACCEPT: "accept",
    SIM_DID_CONNECT: "connect", SIM_DID_RECV: "recv", SIM_DID_SEND: "send",
    SIM_DID_POLL: "poll", SIM_DID_CANCEL: "cancel", SIM_DID_SHUTDOWN: "shutdown",
    SIM_DID_CLOSE: "close", SIM_DID_WRITE: "write",
}


cdef int _return_to_test(void *context) noexcept nogil:
    return 1


cdef void _broken(void *context, const char *sentence) noexcept with gil:
    text = sentence.decode("utf-8", "replace")
    try:
        (print_broken if on_broken is None else on_broken)(text)
    except Exception: # the process ends in any case
        print_broken(text)


def print_broken(sentence) -> None:
    """What happens to the sentence unless `on_broken` is set."""
    os.write(2, sentence.encode() + b"\n")


cdef void _source_closed(void *context) noexcept nogil:
    (<source **>context)[0] = NULL # Network._source


cdef uint64_t _write_begins(void *disk, const write_request *request) noexcept with gil:
    try:
        return (<object>disk).begin(
            request.fd, request.offset, (<const char *>request.data)[:request.bytes])
    except BaseException: # nothing may cross the source; 0 is no write, and fails at its end
        _print_traceback()
        return 0


cdef int32_t _write_ends(void *disk, uint64_t name) noexcept with gil:
    try:
        return -errno.EIO if name == 0 else (<object>disk).end(name)
    except BaseException:
        _print_traceback()
        return -errno.EIO


cdef void _print_traceback() noexcept:
    os.write(2, traceback.format_exc().encode())


@cython.final
cdef class Network:
    """What lies outside a simulated loop.

    Args:
        loop: A Loop on the source "sim". When it is closed, so is this.

    Raises:
        ValueError: The loop runs on another source, or has a Network already.
    """

    def __cinit__(self, loop):
        if loop.source != "sim":
            raise ValueError(
                f"a Network needs a simulated loop, this one runs on {loop.source!r}; "
                "make it with Loop('sim', seed=...)"
            )
        self.loop = loop
        self._peers = weakref.WeakValueDictionary()
        cdef source *found = <source *>PyCapsule_GetPointer(
            loop._source_capsule(), "pybehave.source")
        if sim_set_closed_hook(found, _source_closed, &self._source) < 0:
            raise ValueError("this loop has a Network already")
        sim_set_hook(found, _return_to_test, NULL)
        sim_set_broken_hook(found, _broken, NULL)
        self._source = found

    def __dealloc__(self):
        self._let_go()

    cdef void _let_go(self) noexcept:
        if self._source != NULL:
            sim_set_hook(self._source, NULL, NULL)
            sim_set_closed_hook(self._source, NULL, NULL)
            sim_set_broken_hook(self._source, NULL, NULL)
            sim_set_disk(self._source, NULL)
            self._source = NULL

    cdef source *_alive(self) except NULL:
        if self._source == NULL:
            raise LoopClosed()
        return self._source

    # ---- peers -------------------------------------------------------------------------------

    def connect(self, address):
        """Connect a new peer to a listener of the loop; returns the Peer at once.

        Args:
            address: "tcp://HOST:PORT", "unix://PATH", (host, port), or a packed `sockaddr`.
        """
        cdef bytes packed = pack(address)
        cdef sim_peer name = sim_peer_connect(
            self._alive(), <const sockaddr *>PyBytes_AS_STRING(packed), <socklen_t>len(packed))
        return self._peer(name)

    cdef Peer _peer(self, sim_peer name):
        cdef Peer made = self._peers.get(name)
        if made is None:
            made = Peer.__new__(Peer)
            made.network = self
            made.name = name
            self._peers[name] = made
        return made

    def listen(self, address, str answer="accept") -> None:
        """Be there when the loop connects to this address.

        Args:
            address: As for `connect`.
            answer: "accept" (an "accepted" event brings the peer), "refuse" or "silence".
        """
        cdef bytes packed = pack(address)
        cdef int how = ANSWERS[answer]
        sim_listen(self._alive(), <const sockaddr *>PyBytes_AS_STRING(packed),
                   <socklen_t>len(packed), <sim_answer>how)

    def unlisten(self, address) -> None:
        """Be there no more; connections that stand stay."""
        cdef bytes packed = pack(address)
        sim_unlisten(self._alive(), <const sockaddr *>PyBytes_AS_STRING(packed),
                     <socklen_t>len(packed))

    def inherit(self, address, int backlog=128) -> int:
        """A listening descriptor as if inherited from systemd, for a listener on `fd://`."""
        cdef bytes packed = pack(address)
        cdef int fd = sim_inherit(self._alive(), <const sockaddr *>PyBytes_AS_STRING(packed),
                                  <socklen_t>len(packed), backlog)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd

    def set_disk(self, disk) -> None:
        """Let the loop write to this: an object with `begin(fd, offset, data)`, which names a
        write, and `end(name)`, which says what became of it when its time is over."""
        cdef sim_disk verbs
        verbs.begin = _write_begins
        verbs.end = _write_ends
        verbs.context = <void *>disk
        sim_set_disk(self._alive(), &verbs)
        self._disk = disk

    # ---- time --------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds, from an arbitrary point."""
        return self._alive().verbs.now(self._source) / 1e9

    def alarm(self, double seconds, int64_t value=0) -> None:
        """An "alarm" event with this value, so many virtual seconds from now."""
        cdef uint64_t now_ns = self._alive().verbs.now(self._source)
        sim_alarm(self._source, now_ns + <uint64_t>(max(seconds, 0.0) * 1e9), value)

    def events(self) -> list:
        """Take what has happened since: tuples of kind, Peer (None for alarms), value."""
        cdef sim_event event
        taken = []
        self._alive()
        while sim_next_event(self._source, &event):
            peer = None if event.peer == 0 else self._peer(event.peer)
            taken.append((EVENTS[event.kind], peer, event.value))
        return taken

    def interrupt(self, bint is_on) -> None:
        """Whether news for a peer end the loop's wait (they do) or only stand in `events`."""
        cdef sim_hook hook = NULL
        if is_on:
            hook = _return_to_test
        sim_set_hook(self._alive(), hook, NULL)

    # ---- weather -----------------------------------------------------------------------------

    def shake(self) -> None:
        """Draw every knob from the seed: some faults off, some on."""
        sim_knobs_shake(self._alive())

    @property
    def knobs(self) -> dict:
        """How the network behaves: times in nanoseconds, faults per mille."""
        self._alive()
        return sim_knobs_of(self._source)[0]

    def set(self, **knobs) -> None:
        """Change knobs by name.

        Raises:
            TypeError: There is no knob of that name; lists them.
        """
        self._alive()
        values = self.knobs
        unknown = knobs.keys() - values.keys()
        if unknown:
            raise TypeError(f"no knob {sorted(unknown)[0]!r}; there are {', '.join(values)}")
        values.update(knobs)
        sim_knobs_of(self._source)[0] = values

    # ---- evidence ----------------------------------------------------------------------------

    @property
    def trace_hash(self) -> int:
        """Of everything the loop asked and got, bytes included. Same seed, same hash."""
        return sim_trace_hash(self._alive())

    def keep_trace(self, bint is_kept=True) -> None:
        """Keep the records too, for `trace`."""
        sim_trace_keep(self._alive(), is_kept)

    def trace(self) -> list:
        """Records kept: (nanoseconds, act, token or descriptor, result, flags, content hash)."""
        cdef size_t count = 0
        cdef size_t index
        cdef const sim_record *records = sim_trace(self._alive(), &count)
        return [
            (records[index].at_ns, ACTS[records[index].what], records[index].token,
             records[index].result, records[index].flags, records[index].content)
            for index in range(count)
        ]

    def census(self) -> dict:
        """What the loop still holds: all zero after an orderly end."""
        cdef sim_census held
        sim_census_take(self._alive(), &held)
        return held

    def __repr__(self) -> str:
        return f"<Network of {self.loop!r}>"


@cython.final
@cython.no_gc_clear # __dealloc__ needs the network
cdef class Peer:
    """One end of one simulated connection, made by `Network.connect` or an "accepted" event.

    Dropping the last reference releases it. A run that must repeat releases its peers itself, for
    nobody knows when the garbage collector comes.
    """

    def __init__(self):
        raise TypeError("a Peer comes from Network.connect or from an event")

    def __dealloc__(self):
        if self.network is not None and self.network._source != NULL:
            sim_peer_release(self.network._source, self.name)

    @property
    def state(self) -> str:
        """"connecting", "open", "refused", "ended" (the loop closed), "reset" or "released"."""
        return STATES.get(sim_peer_state(self.network._alive(), self.name), "released")

    @property
    def readable(self) -> int:
        """Bytes that `recv` would return."""
        return sim_peer_readable(self.network._alive(), self.name)

    def send(self, const uint8_t[::1] data not None) -> int:
        """Send what fits the window; how much that was. A "room" event follows a short one.

        Raises:
            OSError: The connection is reset, refused, or this end has ended it.
        """
        cdef const void *first = &data[0] if data.shape[0] > 0 else NULL
        cdef ssize_t sent = 0
        if first != NULL:
            sent = sim_peer_send(self.network._alive(), self.name, first, data.shape[0])
        if sent < 0:
            raise OSError(-sent, os.strerror(-sent))
        return sent

    def recv(self, Py_ssize_t size=-1) -> bytes:
        """At most `size` bytes (-1 = all) of what has arrived; empty when nothing has."""
        cdef size_t count = sim_peer_readable(self.network._alive(), self.name)
        if 0 <= size < <Py_ssize_t>count:
            count = size
        cdef bytes taken = PyBytes_FromStringAndSize(NULL, count)
        sim_peer_recv(self.network._source, self.name, PyBytes_AS_STRING(taken), count)
        return taken

    def shutdown(self) -> None:
        """End this side's stream; still receives."""
        sim_peer_shutdown(self.network._alive(), self.name)

    def pause(self) -> None:
        """Read no more: the window fills, then the loop's sends wait."""
        sim_peer_pause(self.network._alive(), self.name)

    def resume(self) -> None:
        """Read again."""
        sim_peer_resume(self.network._alive(), self.name)

    def close(self) -> None:
        """As close(2): a reset when bytes were left unread (a paused peer), else an end."""
        sim_peer_close(self.network._alive(), self.name)

    def reset(self) -> None:
        """Close with a reset."""
        sim_peer_reset(self.network._alive(), self.name)

    def release(self) -> None:
        """Close it if it is open, and give up what was not received."""
        sim_peer_release(self.network._alive(), self.name)

    def __repr__(self) -> str:
        return f"<Peer {self.name:#x}>"


def pack(address) -> bytes:
    """The `sockaddr` of "tcp://HOST:PORT", "unix://PATH" or (host, port); bytes stay as they are.

    A wildcard host means the loopback address, as it does to connect(2).
    """
    if isinstance(address, bytes):
        return address
    if isinstance(address, str):
        scheme, _, rest = address.partition("://")
        if scheme == "unix":
            name = rest.encode()
            name = b"\0" + name[1:] if rest.startswith("@") else name + b"\0"
            return struct.pack("=H", socket.AF_UNIX) + name
        if scheme != "tcp":
            raise ValueError(f"{address!r} is not an address; use tcp://127.0.0.1:6379")
        host, _, port = rest.rpartition(":")
        address = (host.strip("[]"), int(port))
    host, port = address
    if ":" in host:
        head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0)
        return head + socket.inet_pton(socket.AF_INET6, host) + bytes(4)
    host = "127.0.0.1" if host in ("", "*", "0.0.0.0", "localhost") else host
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
