"""Words shared by the protocol tests: requests as clients write them, streams cut at will."""

import pytest


def _request_bytes(*args):
    """An array of bulk strings, as every client library sends it."""
    head = b"*%d\r\n" % len(args)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args)


def _feed_in_pieces(codec, stream, sizes):
    """Feed the stream in pieces of these sizes, the last one again and again, until an error."""
    messages = []
    sizes = list(sizes) or [1]
    while stream:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        messages += codec.feed(stream[:size])
        stream = stream[size:]
        if codec.is_broken:
            break
    return messages


@pytest.fixture(scope="session")
def request_bytes():
    return _request_bytes


@pytest.fixture(scope="session")
def feed_in_pieces():
    return _feed_in_pieces
