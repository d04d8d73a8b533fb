"""The ids of sagas: new ones, and those that a user gives."""

from __future__ import annotations

import os
import time
import uuid
from collections import deque

from anysaga._errors import InvalidArgument
from anysaga._limits import MAX_SAGA_ID

_UUID_BITS = (1 << 128) - 1
_UUID_FIXED_BITS = 0xF << 76 | 0b11 << 62
_UUID_7 = 0x7 << 76 | 0b10 << 62
_IDS_AT_ONCE = 256
_RANDOM: deque[bytes] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.clear)  # else parent and child would make the same ids


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): ordered by time, so that new sagas lie side by side in a store's indexes."""
    while True:
        try:
            chunk = _RANDOM.pop()
            break
        except IndexError:
            # Each call of urandom lets other threads run, and waits for its turn again: so many ids at a time.
            data = os.urandom(10 * _IDS_AT_ONCE)
            _RANDOM.extend(data[start : start + 10] for start in range(0, len(data), 10))
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(chunk, "big") & ~_UUID_FIXED_BITS | _UUID_7
    text = f"{number & _UUID_BITS:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def identity_of(saga_id: str | uuid.UUID | None) -> str:
    """The id that was given, as `checked_id`, or a new one."""
    return new_id() if saga_id is None else checked_id(saga_id)


def checked_id(saga_id: str | uuid.UUID) -> str:
    """A saga id as the text that is stored. Raises `InvalidArgument`."""
    if isinstance(saga_id, uuid.UUID):
        return str(saga_id)
    expected = f"give a text of 1 to {MAX_SAGA_ID} printable characters, or a UUID"
    if not isinstance(saga_id, str) or not 0 < len(saga_id) <= MAX_SAGA_ID or not saga_id.isprintable():
        raise InvalidArgument("saga_id", saga_id, expected)
    return saga_id
