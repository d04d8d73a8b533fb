"""A process with a shared breaker of its own, told line by line what to do. Arguments: address, event loop."""

from __future__ import annotations

import sys

import anyio

from anysaga import CircuitBreaker, CircuitOpen, SQLAlchemyStorage

CALLS = 25


async def call(breaker: CircuitBreaker, storage: SQLAlchemyStorage, *, fails: bool) -> str:
    """Make one call, and say what became of it."""
    try:
        async with breaker.attempt("bank", storage):
            if fails:
                raise OSError  # noqa: TRY301 - the service does
    except CircuitOpen:
        return "refused"
    except OSError:
        return "failed"
    return "went well"


async def main() -> None:
    """Do what each line says, and answer with a line."""
    breaker = CircuitBreaker(fail_max=2, reset_timeout=1e-6, shared=True)
    patient = CircuitBreaker(fail_max=2, reset_timeout=3600.0, shared=True)
    many = CircuitBreaker(fail_max=10_000, shared=True)
    async with SQLAlchemyStorage(sys.argv[1]) as storage:
        await storage.find()  # the tables are there before the first answer
        say("ready")
        while order := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            match order:
                case "fail" | "succeed":
                    say(await call(patient, storage, fails=order == "fail"))
                case "fail often":
                    async with anyio.create_task_group() as group:
                        for _ in range(CALLS):
                            group.start_soon(lambda: call(many, storage, fails=True))
                    say("done")
                case "try and hang":
                    async with breaker.attempt("bank", storage):
                        say("let through")
                        await anyio.sleep_forever()


def say(text: str) -> None:
    """Answer."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[2])
