"""Protocols: bytes at the edge, Python objects within. One file each; their codecs are in C."""

from __future__ import annotations

from pybehave._uring.exchange import Exchange
from pybehave.protocols.fixed import Fixed
from pybehave.protocols.framing import Framing
from pybehave.protocols.http import Http
from pybehave.protocols.http_bodies import BytesBody, HttpBody, JsonBody, TextBody
from pybehave.protocols.http_messages import HttpReply, HttpRequest
from pybehave.protocols.length_prefixed import LengthPrefixed
from pybehave.protocols.lines import Lines
from pybehave.protocols.protocol import Protocol, Reader
from pybehave.protocols.raw import Raw
from pybehave.protocols.resp import Resp, RespClient
from pybehave.protocols.resp_values import NIL, OK, Error, Push, Status

__all__ = [
    "NIL",
    "OK",
    "BytesBody",
    "Error",
    "Exchange",
    "Fixed",
    "Framing",
    "Http",
    "HttpBody",
    "HttpReply",
    "HttpRequest",
    "JsonBody",
    "LengthPrefixed",
    "Lines",
    "Protocol",
    "Push",
    "Raw",
    "Reader",
    "Resp",
    "RespClient",
    "Status",
    "TextBody",
]
