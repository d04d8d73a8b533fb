"""Events on their way out of sagas: the relay that takes them from the outbox to handlers and brokers."""

from __future__ import annotations

from anysaga._event_map import EventHandler as EventHandler
from anysaga._event_map import EventMap as EventMap
from anysaga._outbox import Delivery as Delivery
from anysaga._outbox import Message as Message
from anysaga._outbox import OutboxLag as OutboxLag
from anysaga._outbox import Publisher as Publisher

from ._handling import current_message as current_message
from ._relay import EventRelay as EventRelay
