"""What goes wrong in a step, or around it."""

from __future__ import annotations

from attrs import define

from ._root import AnysagaError


class NotDone(AnysagaError):
    """Raise it from `act` to say: this attempt had no effect, and can have none later.

    The step then counts as not done: nothing of it is undone. Any arguments are yours.
    """


class StepLost(AnysagaError):
    """Stands for an attempt that ended with its process: there is an intent in the log and no outcome.

    Never raised. Such an attempt is acted again whatever `Retry.on` says: that a process died says nothing of a step.
    """


@define(slots=False, eq=False, repr=False)
class CallSkipped(NotDone):
    """A middleware returned without calling on, so nothing was done. `step` is empty where that was a whole saga."""

    saga: str
    saga_id: str
    step: str

    def __str__(self) -> str:
        step = f"step {self.step!r} of " if self.step else ""
        return (
            f"{step}saga {self.saga!r} ({self.saga_id}) was not called: a middleware returned without calling on. "
            "Have it await `call_next()`, or raise what keeps it from that"
        )


@define(slots=False, eq=False, repr=False)
class MiddlewareMisused(AnysagaError, RuntimeError):
    """A middleware did with `call_next` what cannot be done. `step` is empty where that was around a whole saga."""

    saga: str
    saga_id: str
    step: str
    problem: str

    def __str__(self) -> str:
        step = f"step {self.step!r} of " if self.step else ""
        return (
            f"a middleware around {step}saga {self.saga!r} ({self.saga_id}) {self.problem}: "
            "await `call_next()` once, in the task it was called in; for further attempts give the step a `retry`"
        )


@define(slots=False, eq=False, repr=False)
class CircuitOpen(AnysagaError, ConnectionError):
    """A circuit breaker did not let a call through. `seconds` is how long it will let none, as far as it knows."""

    circuit: str
    seconds: float

    def __str__(self) -> str:
        return f"the circuit {self.circuit!r} is open, and lets nobody through for {self.seconds:.3g} seconds more"


@define(slots=False, eq=False, repr=False)
class ContextConflict(AnysagaError, ValueError):
    """Two branches of a Parallel changed the same `fields` of the context. The saga goes back."""

    saga: str
    saga_id: str
    step: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} ({self.saga_id}): step {self.step!r} changed {', '.join(self.fields)} of the context, "
            "and so did another step of its Parallel: let each of them change fields of its own"
        )


@define(slots=False, eq=False, repr=False)
class NotProvided(AnysagaError, LookupError):
    """The container has nothing for a type that a step asks for."""

    wanted: str
    needed_by: str

    def __str__(self) -> str:
        return (
            f"the container has no {self.wanted}, which {self.needed_by} asks for: "
            f"add `{self.wanted}: factory` to the mapping, or register it in your container"
        )


@define(slots=False, eq=False, repr=False)
class ContainerFailed(AnysagaError):
    """A container could not do its part for a saga: `doing` says which. Its own error is the `__cause__`.

    `step` is empty where it was about the scope. Raised before anything is done; where a scope does not close, it is
    logged instead, since the saga is what it is.
    """

    saga: str
    saga_id: str
    step: str
    doing: str
    reason: str

    def __str__(self) -> str:
        step = f" {self.step!r}" if self.step else ""
        return (
            f"saga {self.saga!r} ({self.saga_id}): its container could not {self.doing}{step}: {self.reason}. "
            "The saga is unchanged by that; mend the container, or what it needs"
        )


@define(slots=False, eq=False, repr=False)
class StepTimeout(AnysagaError, TimeoutError):
    """A step's time limit ran out, so nobody can say whether it took effect."""

    saga: str
    saga_id: str
    step: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"step {self.step!r} of saga {self.saga!r} ({self.saga_id}) did not end within its {self.seconds:g} "
            "seconds: raise its timeout, or give it a retry or a probe"
        )


@define(slots=False, eq=False, repr=False)
class StrayCancellation(AnysagaError):
    """A cancellation came out of something that was not cancelled itself. Its own exception is the `__cause__`."""

    where: str

    def __str__(self) -> str:
        return (
            f"{self.where} ended with a cancellation, though nobody cancelled it: a task or a future that it awaited "
            "was cancelled, or the very task that it runs in. Catch that where it is awaited, or do not cancel it"
        )


@define(slots=False, eq=False, repr=False)
class StrayStop(AnysagaError, RuntimeError):
    """A `StopAsyncIteration` came out of a step, and would end the loop over its saga. It is the `__cause__`."""

    where: str

    def __str__(self) -> str:
        return (
            f"{self.where} ended with StopAsyncIteration, which would look like the end of the saga to who iterates "
            "over it. Catch it in the step, or give `anext` a default"
        )


@define(slots=False, eq=False, repr=False)
class NoCurrentStep(AnysagaError, LookupError):
    """`current_step()` or `checkpoint()` was called where no step of a saga runs."""

    function: str

    def __str__(self) -> str:
        return f"{self.function} works only inside act, compensate or probe of a step that a saga runs"


@define(slots=False, eq=False, repr=False)
class CheckpointRefused(AnysagaError, RuntimeError):
    """`checkpoint()` was called where nothing can be saved in the middle."""

    step: str
    reason: str

    def __str__(self) -> str:
        return f"checkpoint() in step {self.step!r} was refused: {self.reason}"
