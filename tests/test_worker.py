"""A worker's thread is started again after it died, and replaced when it hangs."""

from __future__ import annotations

import logging
import threading
import time

from fakes import until

from edge.worker import Replaced, Worker, stop_all


def test_a_thread_that_hangs_is_replaced_and_ends_when_it_returns():
    turns: list[str] = []
    hang, gone = threading.Event(), threading.Event()

    def step() -> None:
        turns.append(threading.current_thread().name)
        if len(turns) == 1:
            hang.wait(10)
            gone.set()
        time.sleep(0.01)

    worker = Worker("sync", step, stuck_s=5.0)
    began = time.monotonic()
    worker.tend(began)
    assert until(lambda: turns)
    worker.tend(began + 4)
    assert len(turns) == 1
    worker.tend(began + 6)
    assert until(lambda: len(turns) > 3)
    hang.set()
    assert until(gone.is_set)
    worker.stop()
    assert not worker.alive
    assert until(lambda: sum(thread.name == "sync" for thread in threading.enumerate()) == 0)


def test_no_more_than_three_are_left_behind():
    hang, turns = threading.Event(), []
    worker = Worker("sync", lambda: (turns.append(1), hang.wait(20)), stuck_s=5.0)
    for i in range(10):
        worker.tend(time.monotonic() + 1000 * i)
        time.sleep(0.05)
    assert len(turns) == 4
    hang.set()
    worker.stop()


def test_a_step_that_takes_long_says_that_it_lives_and_learns_that_it_was_replaced():
    told: list[bool] = []
    hang = threading.Event()

    def step() -> None:
        worker.beat()
        told.append(True)
        if len(told) == 1:
            hang.wait(10)
            try:
                worker.beat()
            except Replaced:
                told.append(False)
                raise
        time.sleep(0.01)

    worker = Worker("mqtt", step, stuck_s=5.0)
    worker.tend(time.monotonic())
    assert until(lambda: told == [True])
    worker.tend(time.monotonic() + 6)
    hang.set()
    assert until(lambda: False in told)
    worker.stop()


def test_all_are_asked_at_once_and_who_hangs_is_named(caplog):
    hang = threading.Event()
    quick, stuck = Worker("quick", lambda: time.sleep(0.01)), Worker("stuck", lambda: hang.wait(10))
    for worker in (stuck, quick):
        worker.tend(time.monotonic())
    with caplog.at_level(logging.WARNING):
        stop_all([stuck, quick], time.monotonic() + 0.3)
    assert not quick.alive
    assert "left behind, for they hang: stuck" in caplog.text
    hang.set()
