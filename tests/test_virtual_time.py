"""The soak's clock. What is said here is tried in a process of its own: it changes Python's clocks."""

from __future__ import annotations

import pytest
from door_site import python

BEGIN = """
import queue, threading, time
from virtual_time import VirtualTime
real, real_sleep = time.monotonic, time.sleep
began = real()
clock = VirtualTime()
clock.install()
at = time.monotonic()
passed = lambda: round(time.monotonic() - at, 3)
"""


def said(code: str) -> list[str]:
    done = python(BEGIN + code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_day_passes_in_no_time_while_nobody_works():
    assert said("threading.Event().wait(86400); print(passed(), real() - began < 60)") == ["86400.0 True"]


def test_the_calendar_goes_with_it():
    assert said("utc = time.time(); time.sleep(3600); print(round(time.time() - utc))") == ["3600"]


def test_time_stands_still_while_a_thread_works():
    code = """
def work():
    real_sleep(0.3)
    print("worked", passed())
threading.Thread(target=work).start()
time.sleep(5)
print("slept", passed())
"""
    assert said(code) == ["worked 0.0", "slept 5.0"]


def test_waits_end_in_the_order_of_their_deadlines():
    code = """
def wait(seconds):
    threading.Event().wait(seconds)
    print(passed())
threads = [threading.Thread(target=wait, args=[s]) for s in (3, 1, 2)]
[t.start() for t in threads]
time.sleep(4)
"""
    assert said(code) == ["1.0", "2.0", "3.0"]


@pytest.mark.parametrize("make", ["SimpleQueue", "Queue"])
def test_what_is_put_into_a_queue_is_there_at_that_moment(make: str):
    code = f"""
box = queue.{make}()
def put():
    for i in range(3):
        time.sleep(1.5)
        box.put(i)
threading.Thread(target=put).start()
for _ in range(3):
    print(box.get(timeout=10), passed())
try:
    box.get(timeout=10)
except queue.Empty:
    print("empty", passed())
"""
    assert said(code) == ["0 1.5", "1 3.0", "2 4.5", "empty 14.5"]


def test_who_is_notified_is_told_so_and_who_is_not_is_not():
    code = """
bell = threading.Event()
threading.Thread(target=lambda: (time.sleep(1), bell.set())).start()
print(bell.wait(2), passed(), threading.Event().wait(2), passed())
"""
    assert said(code) == ["True 1.0 False 3.0"]


def test_the_end_of_a_thread_holds_nobody_up():
    code = """
for _ in range(20):
    threading.Timer(0.5, lambda: None).start()
time.sleep(1)
print(passed())
"""
    assert said(code) == ["1.0"]


def test_time_can_be_held_for_the_world_and_is_not_held_for_ever():
    code = """
bell = threading.Event()
threading.Thread(target=lambda: (real_sleep(0.2), bell.set()), name="paho").start()
clock.stand_still_until(bell.is_set)
print(passed())
try:
    clock.stand_still_until(lambda: False, patience_s=0.1)
except TimeoutError as error:
    print(error)
"""
    assert said(code) == ["0.0", "held time for 0.1 s in vain"]


def test_when_it_gives_up_time_is_real_and_all_waits_end():
    code = """
ended = []
thread = threading.Thread(target=lambda: ended.append(threading.Event().wait(1000)))
thread.start()
real_sleep(0.1)
clock.give_up()
thread.join(10)
print(ended, threading.Event().wait(0.01), abs(real() - time.monotonic()) < 1)
"""
    assert said(code) == ["[False] False True"]
