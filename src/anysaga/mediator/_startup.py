"""What is to be done once before the first saga."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable

import anyio

from anysaga._cancellations import refusing_strays
from anysaga._errors import InvalidArgument

Hook = Callable[[], Awaitable[object] | object]
"""A function without arguments, plain or ``async``."""


class Startup:
    """Calls each hook once, in order.

    Who comes while that goes on waits for it. A hook that fails raises to the one who called it; the next one to come
    goes on with that hook, so those before it are not called again. A hook that comes itself would wait for ever.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        if not isinstance(hooks, Iterable):
            raise InvalidArgument("on_startup", hooks, "give a list of functions, even if it is only one")
        self._left = list(hooks)
        self._running: anyio.Event | None = None
        self._task = 0
        for hook in self._left:
            if not callable(hook):
                raise InvalidArgument("on_startup", hook, "give functions without arguments, plain or async")

    @property
    def is_left(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._left)

    async def __call__(self) -> None:
        """Return once all hooks were called. Raises what a hook raises."""
        while self._left:
            task = anyio.get_current_task().id
            if self._running is not None:
                if task == self._task:
                    raise InvalidArgument(
                        "on_startup", self._left[0], "use the mediator when it has returned, not in it"
                    )
                await self._running.wait()
                continue
            self._running = ended = anyio.Event()
            self._task = task
            try:
                while self._left:
                    done = self._left[0]()
                    if inspect.isawaitable(done):
                        with refusing_strays("a function of on_startup"):
                            await done
                    del self._left[0]
            finally:
                self._running = None
                ended.set()
