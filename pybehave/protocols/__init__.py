"""Protocols: bytes at the edge, Python objects within. One file each; their codecs are in C."""

from __future__ import annotations

from pybehave._uring.exchange import Exchange
from pybehave.protocols.fixed import Fixed
from pybehave.protocols.framing import Framing
from pybehave.protocols.length_prefixed import LengthPrefixed
from pybehave.protocols.lines import Lines
from pybehave.protocols.protocol import Protocol, Reader
from pybehave.protocols.raw import Raw
from pybehave.protocols.resp import Resp, RespClient
from pybehave.protocols.resp_values import NIL, OK, Error, Push, Status

__all__ = [
    "NIL",
    "OK",
    "Error",
    "Exchange",
    "Fixed",
    "Framing",
    "LengthPrefixed",
    "Lines",
    "Protocol",
    "Push",
    "Raw",
    "Reader",
    "Resp",
    "RespClient",
    "Status",
]
