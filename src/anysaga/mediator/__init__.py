"""A mediator: finds the saga for a context, and drives it whatever becomes of the caller."""

from anysaga.mediator._map import SagaMap as SagaMap
from anysaga.mediator._mediator import OnDisconnect as OnDisconnect
from anysaga.mediator._mediator import SagaMediator as SagaMediator
from anysaga.mediator._startup import Hook as Hook
from anysaga.mediator._stream import SagaStream as SagaStream
