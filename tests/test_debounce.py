"""Bounce made into one change."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge.door.debounce import Contact, edge, seen, settle, settles_at

HOLD_S = 0.05
OPEN = Contact(True)
SHUT = Contact(False)


def play(edges: list[tuple[float, bool]], until: float, contact: Contact = SHUT) -> list[tuple[float, bool]]:
    """The changes that count, as the controller finds them: it settles before each edge."""
    found = []
    for at, level in [*edges, (until, None)]:
        due = settles_at(contact, HOLD_S)
        settled = settle(contact, at, HOLD_S)
        if settled.level != contact.level:
            found.append((due, settled.level))
        contact = settled if level is None else edge(settled, level, at)
    return found


def test_a_level_counts_when_it_has_held():
    pressed = edge(SHUT, True, 1.0)
    assert settles_at(pressed, HOLD_S) == 1.05
    assert settle(pressed, 1.049, HOLD_S) == pressed
    assert settle(pressed, 1.0501, HOLD_S) == OPEN
    assert settles_at(SHUT, HOLD_S) is None


def test_a_noise_pulse_is_nothing():
    assert play([(1.0, True), (1.049, False)], 2.0) == []


def test_a_noise_pulse_is_nothing_also_when_its_edges_come_late_together():
    """The edges carry their time: a thread that was away does not take a pulse for a press."""
    late = edge(settle(edge(SHUT, True, 1.0), 1.02, HOLD_S), False, 1.02)
    assert settle(late, 9.0, HOLD_S) == SHUT


def test_a_bouncing_press_is_one_press():
    bounce = [(1.0, True), (1.001, False), (1.002, True), (1.003, False), (1.004, True)]
    assert play(bounce, 2.0) == [(1.004 + HOLD_S, True)]


def test_a_time_that_is_no_number_settles_nothing():
    assert settle(edge(SHUT, True, math.nan), 9.0, HOLD_S).level is False
    assert settle(edge(SHUT, True, 1.0), math.nan, HOLD_S).level is False


def test_reading_what_is_known_does_not_begin_the_wait_again():
    pressed = edge(SHUT, True, 1.0)
    assert seen(pressed, True, 1.04) == pressed
    assert seen(SHUT, False, 1.0) == SHUT


def test_an_edge_that_was_missed_is_found_by_reading():
    assert seen(SHUT, True, 1.0) == edge(SHUT, True, 1.0)
    assert seen(edge(SHUT, True, 1.0), False, 1.01) == SHUT


@given(st.lists(st.tuples(st.floats(0.0001, 0.2), st.booleans()), max_size=60))
def test_changes_alternate_and_each_followed_a_quiet_time(steps):
    edges, now = [], 0.0
    for pause, level in steps:
        now += pause
        edges.append((now, level))
    found = play(edges, now + 1)
    levels = [level for _, level in found]
    assert levels == [bool((i + 1) % 2) for i in range(len(levels))]
    for at, level in found:
        begun = at - HOLD_S
        assert any(abs(t - begun) < 1e-9 and to is level for t, to in edges)
        quiet = [t for t, _ in edges if begun + 1e-9 < t < at - 1e-9]
        assert not quiet
    assert (levels[-1] if levels else False) == (edges[-1][1] if edges else False)
