"""Where anysaga meets other libraries. Each part needs its package, and is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysaga.integrations._aiobreaker import AioBreakerAdapter as AioBreakerAdapter
    from anysaga.integrations._fastapi import MediatorDep as MediatorDep
    from anysaga.integrations._fastapi import mediator_lifespan as mediator_lifespan
    from anysaga.integrations._fastapi import saga_events as saga_events
    from anysaga.integrations._otel import OpenTelemetryMiddleware as OpenTelemetryMiddleware
    from anysaga.integrations._saga_events import SagaEvents as SagaEvents

_MODULES = {
    "AioBreakerAdapter": "_aiobreaker",
    "MediatorDep": "_fastapi",
    "OpenTelemetryMiddleware": "_otel",
    "SagaEvents": "_fastapi",
    "mediator_lifespan": "_fastapi",
    "saga_events": "_fastapi",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if getattr(found, "__module__", "").startswith(f"{__name__}."):
        found.__module__ = __name__
    return found
