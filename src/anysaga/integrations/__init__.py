"""Where anysaga meets other libraries. Each part needs its package, and is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysaga._lazy import attach

if TYPE_CHECKING:
    from anysaga.integrations._aiobreaker import AioBreakerAdapter as AioBreakerAdapter
    from anysaga.integrations._fastapi import MediatorDep as MediatorDep
    from anysaga.integrations._fastapi import mediator_lifespan as mediator_lifespan
    from anysaga.integrations._fastapi import mediator_of as mediator_of
    from anysaga.integrations._fastapi import saga_events as saga_events
    from anysaga.integrations._otel import OpenTelemetryMiddleware as OpenTelemetryMiddleware
    from anysaga.integrations._saga_events import SagaEvents as SagaEvents
else:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "AioBreakerAdapter": "anysaga.integrations._aiobreaker",
            "MediatorDep": "anysaga.integrations._fastapi",
            "OpenTelemetryMiddleware": "anysaga.integrations._otel",
            "SagaEvents": "anysaga.integrations._fastapi",  # which tells what is missing without the package
            "mediator_lifespan": "anysaga.integrations._fastapi",
            "mediator_of": "anysaga.integrations._fastapi",
            "saga_events": "anysaga.integrations._fastapi",
        },
        needs={
            "AioBreakerAdapter": "aiobreaker",
            "MediatorDep": "fastapi",
            "OpenTelemetryMiddleware": "opentelemetry",
            "SagaEvents": "fastapi",
            "mediator_lifespan": "fastapi",
            "mediator_of": "fastapi",
            "saga_events": "fastapi",
        },
    )
