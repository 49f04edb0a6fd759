"""What one claimed identity may fail at (NIST SP 800-63B): time is a number here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.identity.throttle import FAILURES, FAILURES_WITH_PAD, Failed, Lockout, delay_s


def failed(times: int, at: float = 0.0, allowed: int = FAILURES, lockout: Lockout = Lockout()) -> Lockout:  # noqa: B008  # frozen
    for _ in range(times):
        lockout = lockout.after_failure("kian", at, allowed)
    return lockout


def test_four_failures_cost_nothing_and_the_fifth_thirty_seconds():
    assert not failed(4).blocked("kian", 0.0)
    assert failed(5).blocked("kian", 29.99)
    assert not failed(5).blocked("kian", 30.0)


def test_with_liveness_checks_ten_are_allowed():
    assert not failed(9, allowed=FAILURES_WITH_PAD).blocked("kian", 0.0)
    assert failed(10, allowed=FAILURES_WITH_PAD).blocked("kian", 0.0)


def test_the_delay_doubles_with_each_further_failure_up_to_an_hour():
    assert [delay_s(count, 5) for count in (5, 6, 7, 11, 12, 13, 1000)] == [
        30,
        60,
        120,
        1920,
        3600,
        3600,
        3600,
    ]


def test_who_is_blocked_is_not_blocked_for_longer_by_what_is_refused_meanwhile():
    held_up = failed(10, allowed=FAILURES_WITH_PAD)
    for tenths in range(1, 300):
        held_up = failed(1, tenths / 10, FAILURES_WITH_PAD, held_up)
    assert held_up.failed == {"kian": Failed(10, 30.0)}
    assert failed(1, 30.0, FAILURES_WITH_PAD, held_up).failed == {"kian": Failed(11, 90.0)}


def test_a_success_ends_the_row():
    lockout = failed(4).after_success("kian")
    assert not failed(4, lockout=lockout).blocked("kian", 0.0)
    assert lockout.failed == {}


def test_nobody_else_is_locked_out():
    lockout = failed(20)
    assert not lockout.blocked("ada", 0.0)
    assert lockout.after_failure("ada", 0.0, 5).after_success("ada") == lockout


def test_a_restart_waits_out_what_was_left():
    kept = failed(5, at=100.0).remaining(110.0)
    assert kept == {"kian": (5, 20.0)}
    resumed = Lockout.resumed(kept, 7.0)
    assert resumed.blocked("kian", 26.9)
    assert not resumed.blocked("kian", 27.0)
    assert resumed.after_failure("kian", 27.0, 5).blocked("kian", 86.9)


def test_a_time_that_is_no_number_blocks():
    assert Lockout({"kian": Failed(5, float("nan"))}).blocked("kian", 0.0)
    assert failed(5).blocked("kian", float("nan"))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 10))
def test_never_more_than_the_allowed_failures_in_a_row_without_a_wait(outcomes, allowed):
    lockout, now, row = Lockout(), 0.0, 0
    for success in outcomes:
        while lockout.blocked("kian", now):
            now += 10.0
            row = min(row, allowed - 1)  # a wait allows one more
        if success:
            lockout, row = lockout.after_success("kian"), 0
        else:
            lockout, row = lockout.after_failure("kian", now, allowed), row + 1
        assert row <= allowed
        assert lockout.blocked("kian", now) is (row >= allowed)
