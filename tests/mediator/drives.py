"""What tests want of the sagas that a mediator drives."""

from __future__ import annotations

from anysaga import SagaMediator


async def eventually_ended(mediator: SagaMediator) -> None:
    """Wait until the mediator drives nothing."""
    for drive in list(mediator._drives):
        await drive.ended.wait()
