"""Protocols: bytes at the edge, Python objects within. One file each; their codecs are in C."""

from __future__ import annotations

from pybehave.protocols.fixed import Fixed
from pybehave.protocols.framing import Framing
from pybehave.protocols.length_prefixed import LengthPrefixed
from pybehave.protocols.lines import Lines
from pybehave.protocols.protocol import Protocol
from pybehave.protocols.raw import Raw
from pybehave.protocols.resp import Resp, RespClient
from pybehave.protocols.resp_values import NIL, OK, Error, Push, Status

__all__ = [
    "NIL",
    "OK",
    "Error",
    "Fixed",
    "Framing",
    "LengthPrefixed",
    "Lines",
    "Protocol",
    "Push",
    "Raw",
    "Resp",
    "RespClient",
    "Status",
]
