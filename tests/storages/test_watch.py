"""Transactions that take too long are broken in time, whatever else is under way."""

from __future__ import annotations

import math
import threading
import time

from anysaga.storages.sql._watch import Watch


def test_a_short_limit_holds_though_the_watch_waits_for_a_longer_one() -> None:
    cut = threading.Event()
    watch = Watch()
    with watch.over(3600.0, lambda: None) as longer:
        while math.isinf(watch._wakes_at):
            time.sleep(0)
        with watch.over(0.01, cut.set) as shorter:
            assert cut.wait(10)
            assert (shorter.is_over, longer.is_over) == (True, False)


def test_what_goes_on_though_it_was_cut_is_cut_again() -> None:
    cuts = threading.Semaphore(0)
    with Watch().over(0.01, cuts.release):
        assert all(cuts.acquire(timeout=10) for _ in range(2))
