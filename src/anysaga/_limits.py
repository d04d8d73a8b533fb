"""Limits that hold whatever the store is. Ground floor: imports nothing of ours."""

from __future__ import annotations

MAX_NAME = 200
"""Characters that the name of a saga, a step or an event may have."""

MAX_SAGA_ID = 200
"""Characters a saga id may have."""

MAX_VERSION = 2**63 - 1
"""The largest version of a saga: stores keep it in 64 bits."""

MAX_SECONDS = 10**9
"""Seconds that a time limit or a wait may have, some thirty years: stores keep the moment when it is over."""

MAX_CONTEXT_BYTES = 256 * 1024
"""Bytes of UTF-8 a stored context or response may have."""

MAX_ERROR_BYTES = 8 * 1024
"""Bytes of UTF-8 that are kept of an error's text; what is longer is cut."""

MAX_NESTING = 64
"""Levels of lists and objects a stored context or response may have."""

MAX_CLAIMS = 10
"""Claims without a recorded outcome after which a saga is parked as poison."""

MAX_DESTINATION = 250
"""Characters the name of a destination of events may have."""

MAX_EVENTS = 1000
"""Events that one act or undo may record."""
