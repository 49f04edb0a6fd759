"""The door's table."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.door.machine import (
    IGNORE,
    MODES,
    STIMULI,
    TABLE,
    Door,
    Effect,
    Granted,
    LineFailed,
    ReleaseElapsed,
    Stop,
    react,
    release_elapsed,
)
from edge.values import DoorMode

EVERYTHING = {
    Granted: Granted("ada"),
    ReleaseElapsed: ReleaseElapsed(),
    LineFailed: LineFailed(),
    Stop: Stop(),
}


def test_every_mode_has_an_answer_to_every_stimulus_exactly_once():
    assert set(TABLE) | IGNORE == set(itertools.product(MODES, STIMULI))
    assert not set(TABLE) & IGNORE


def test_what_is_ignored_changes_nothing():
    for mode, stimulus in IGNORE:
        door = Door(mode, 5.0)
        assert react(door, EVERYTHING[stimulus], 1.0, 3.0) == (door, ())


def test_only_a_grant_at_a_locked_door_unlocks():
    unlocking = [pair for pair, (_, effects) in TABLE.items() if Effect.UNLOCK in effects]
    assert unlocking == [(DoorMode.LOCKED, Granted)]


def test_whatever_leaves_accessed_locks():
    for (mode, _), (after, effects) in TABLE.items():
        if mode is DoorMode.ACCESSED and after is not DoorMode.ACCESSED:
            assert effects[0] is Effect.LOCK


def test_a_release_lasts_the_configured_time():
    door, effects = react(Door(), Granted("ada"), 10.0, 3.0)
    assert (door, effects) == (Door(DoorMode.ACCESSED, 13.0), (Effect.UNLOCK, Effect.REPORT))
    assert not release_elapsed(door, 12.999)
    assert release_elapsed(door, 13.0)


def test_a_second_grant_does_not_lengthen_the_release():
    door, _ = react(Door(), Granted("ada"), 10.0, 3.0)
    assert react(door, Granted("bob"), 12.0, 3.0) == (door, ())


@pytest.mark.parametrize("stimulus", [Stop(), LineFailed()])
def test_after_stop_or_a_fault_no_grant_opens(stimulus):
    door, effects = react(Door(DoorMode.ACCESSED, 13.0), stimulus, 11.0, 3.0)
    assert effects == (Effect.LOCK, Effect.REPORT)
    assert react(door, Granted("ada"), 12.0, 3.0) == (Door(DoorMode.BLOCKED), ())


def test_a_release_that_ends_at_no_time_has_ended():
    assert release_elapsed(Door(DoorMode.ACCESSED, math.nan), 0.0)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(list(EVERYTHING.values()))), max_size=1000),
    st.floats(0.1, 60),
)
def test_no_sequence_of_stimuli_leaves_the_door_unlocked_for_longer_than_allowed(steps, unlock_s):
    """A caller that looks at the clock before each stimulus, as the controller does."""
    door, now, unlocked_at = Door(), 0.0, None
    for pause, stimulus in steps:
        if door.release_ends_at is not None and door.release_ends_at <= now + pause:
            turn = door.release_ends_at  # the controller wakes then
            assert release_elapsed(door, turn)
            door, effects = react(door, ReleaseElapsed(), turn, unlock_s)
            assert effects[0] is Effect.LOCK
            unlocked_at = None
        now += pause
        door, effects = react(door, stimulus, now, unlock_s)
        if Effect.UNLOCK in effects:
            assert unlocked_at is None
            unlocked_at = now
        if Effect.LOCK in effects:
            unlocked_at = None
        assert (unlocked_at is not None) == (door.mode is DoorMode.ACCESSED)
        assert unlocked_at is None or now - unlocked_at <= unlock_s
