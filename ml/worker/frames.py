"""Frames between a node and its worker: four bytes of length, big-endian, then one codec struct."""

from __future__ import annotations

from typing import Any, BinaryIO

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.worker.messages import FRAME_BYTES_MAX, Reply, Request

LENGTH_BYTES = 4


def frame(message: Any) -> bytes:
    """A message as it goes over the pipe."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def frame_length(header: bytes) -> int:
    """Bytes of the message after this header. Raises Rejection when it is beyond the bound."""
    length = int.from_bytes(header, "big")
    if length > FRAME_BYTES_MAX:
        raise Rejection(reasons.BAD_REQUEST, f"a frame of {length} bytes, at most {FRAME_BYTES_MAX}")
    return length


def decode_reply(data: bytes) -> Reply:
    """A worker's message. Raises Rejection."""
    reply: Reply = decode(Reply, data, max_bytes=FRAME_BYTES_MAX)
    return reply


def decode_request(data: bytes) -> Request:
    """A node's message. Raises Rejection."""
    request: Request = decode(Request, data, max_bytes=FRAME_BYTES_MAX)
    return request


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next message's bytes; None at the end of the stream (even inside a frame). Raises Rejection."""
    header = stream.read(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        return None
    length = frame_length(header)
    data = stream.read(length)
    return data if len(data) == length else None
