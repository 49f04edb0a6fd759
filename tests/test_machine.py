"""The door's table."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.door import stimuli as s
from edge.door.machine import (
    EXTENDS,
    GRACE_S,
    IGNORE,
    MAX_FREE_S,
    STIMULI,
    TABLE,
    Door,
    begin,
    due,
    next_deadline,
    obeyed,
    react,
    unlocked_until,
)
from edge.door.stimuli import LOCK, UNLOCK, Phase
from edge.door_config import ContactConfig, DoorConfig, RelayConfig
from edge.values import Alarm, DoorMode

RULES = DoorConfig(RelayConfig(17), dps=ContactConfig(27), extended_unlock_s=10)  # 3 s, open 30 s, 60 s
EXTENDING = msgspec.structs.replace(RULES, regrant_extends=True)
ON_OPEN = msgspec.structs.replace(RULES, relock="on_open")

EVERYTHING: dict[type, s.Stimulus] = {
    kind: {
        s.Granted: s.Granted("ada"),
        s.HoldOpenCommand: s.HoldOpenCommand(100.0),
        s.ScheduleBegan: s.ScheduleBegan(200.0),
        s.DoorOpened: s.DoorOpened(9.0),
    }.get(kind)
    or kind()
    for kind in STIMULI
}
MAY_UNLOCK = {
    s.Granted,
    s.RexPressed,
    s.UnlockCommand,
    s.HoldOpenCommand,
    s.ScheduleBegan,
}
UNLOCKED_PHASES = s.RELEASED | s.FREE


def after(
    *stimuli: s.Stimulus, rules: DoorConfig = RULES, door: Door | None = None, now: float = 10.0
) -> Door:
    door = door or Door(position="closed")
    for stimulus in stimuli:
        door, _ = react(door, stimulus, now, rules)
    return door


# The table itself


def test_every_phase_has_an_answer_to_every_stimulus_exactly_once():
    assert set(TABLE) | IGNORE == set(itertools.product(Phase, STIMULI))
    assert not set(TABLE) & IGNORE


def test_what_is_ignored_changes_nothing():
    for phase, kind in IGNORE:
        door = Door(phase, "closed", release_ends_at=20.0, scheduled_until=50.0)
        assert react(door, EVERYTHING[kind], 10.0, RULES) == (door, None)


def test_what_extends_is_ignored_where_it_is_not_configured():
    assert set(EXTENDS) < IGNORE
    for phase, kind in EXTENDS:
        door = Door(phase, "closed", release_ends_at=11.0)
        assert react(door, EVERYTHING[kind], 10.0, RULES) == (door, None)
        longer, effect = react(door, EVERYTHING[kind], 10.0, EXTENDING)
        assert (longer.phase, longer.release_ends_at, effect) == (phase, 13.0, UNLOCK)


def test_only_a_grant_rex_a_command_or_a_schedule_unlocks():
    assert {kind for (_, kind), (_, effect) in (TABLE | EXTENDS).items() if effect is UNLOCK} == MAY_UNLOCK
    for (phase, kind), (to, effect) in TABLE.items():
        if phase not in UNLOCKED_PHASES and to in UNLOCKED_PHASES:
            assert (kind in MAY_UNLOCK, effect) == (True, UNLOCK), (phase, kind)


def test_whatever_leaves_an_unlocked_phase_for_a_locked_one_locks():
    for (phase, kind), (to, effect) in TABLE.items():
        if phase in UNLOCKED_PHASES and to not in UNLOCKED_PHASES:
            assert effect is LOCK, (phase, kind)


def test_in_lockdown_and_when_blocked_only_rex_unlocks():
    for phase in (Phase.LOCKED_DOWN, Phase.BLOCKED):
        unlocking = {kind for (of, kind), (_, effect) in TABLE.items() if of is phase and effect is UNLOCK}
        assert unlocking == {s.RexPressed}


def test_after_the_end_of_the_service_nothing_unlocks():
    assert [(kind, move) for (phase, kind), move in TABLE.items() if phase is Phase.STOPPED] == [
        (s.Stop, (Phase.STOPPED, LOCK))
    ]


def test_every_mode_the_world_is_told_is_onvifs():
    assert {phase.mode for phase in Phase} == set(DoorMode)


# Releases


def test_a_release_lasts_the_configured_time():
    door, effect = react(Door(), s.Granted("ada"), 10.0, RULES)
    assert (door.phase, door.release_ends_at, effect) == (Phase.ACCESSED, 13.0, UNLOCK)
    assert due(door, 12.999, RULES) is None
    assert due(door, 13.0, RULES) == s.ReleaseElapsed()
    assert react(door, s.ReleaseElapsed(), 13.0, RULES) == (Door(locked_at=13.0), LOCK)


def test_who_needs_longer_gets_longer():
    assert after(s.Granted("ada", extended=True)).release_ends_at == 20.0
    assert after(s.UnlockCommand(extended=True)).release_ends_at == 20.0


@pytest.mark.parametrize(
    "again", [s.Granted("bob"), s.Granted("bob", True), s.RexPressed(), s.UnlockCommand()]
)
def test_a_second_release_lengthens_the_first_only_where_configured(again):
    first = after(s.Granted("ada"))
    assert react(first, again, 12.0, RULES) == (first, None)
    door, effect = react(first, again, 12.0, EXTENDING)
    assert (door.release_ends_at, effect) == (22.0 if getattr(again, "extended", False) else 15.0, UNLOCK)
    long = after(s.Granted("ada", extended=True))
    assert react(long, s.RexPressed(), 12.0, EXTENDING)[0].release_ends_at == 20.0, "never shortened"


def test_the_lock_falls_when_the_door_has_opened_and_closed():
    door = after(s.Granted("ada"), s.DoorOpened(10.0))
    assert (door.phase, door.position) == (Phase.ACCESSED, "open")
    door, effect = react(door, s.DoorClosed(), 11.0, RULES)
    assert (door.phase, effect, door.release_ends_at) == (Phase.LOCKED, LOCK, None)


def test_the_lock_falls_on_opening_where_configured():
    door, effect = react(after(s.Granted("ada")), s.DoorOpened(10.5), 10.5, ON_OPEN)
    assert (door.phase, door.alarms, effect) == (Phase.LOCKED, frozenset(), LOCK)
    assert react(door, s.DoorClosed(), 11.0, ON_OPEN)[1] is None


def test_a_leaf_that_is_seen_again_after_a_fault_has_not_passed():
    for rules in (RULES, ON_OPEN):
        blind = after(s.Granted("ada"), s.InputsFailed(), s.InputsRestored(), rules=rules)
        for seen in (s.DoorClosed(), s.DoorOpened(10.0)):
            assert react(blind, seen, 10.0, rules)[1] is None


def test_a_release_that_ends_at_no_time_has_ended():
    door = Door(Phase.ACCESSED, release_ends_at=math.nan)
    assert due(door, 0.0, RULES) == s.ReleaseElapsed()


@pytest.mark.parametrize("stimulus", [s.Stop(), s.LineFailed()])
def test_after_stop_or_a_fault_no_grant_opens(stimulus):
    door, effect = react(after(s.Granted("ada")), stimulus, 11.0, RULES)
    assert (door.phase.mode, effect) == (DoorMode.BLOCKED, LOCK)
    assert react(door, s.Granted("ada"), 12.0, RULES) == (door, None)


@pytest.mark.parametrize(
    ("into", "phase"), [(s.LockdownCommand(), Phase.LOCKED_DOWN), (s.LineFailed(), Phase.BLOCKED)]
)
def test_rex_releases_in_lockdown_and_after_a_fault_and_goes_back_there(into, phase):
    door = after(into)
    door, effect = react(door, s.RexPressed(), 10.0, RULES)
    assert (door.phase.mode, effect, unlocked_until(door)) == (DoorMode.ACCESSED, UNLOCK, 13.0)
    assert react(door, s.Granted("ada"), 10.0, RULES) == (door, None)
    door, effect = react(door, s.ReleaseElapsed(), 13.0, RULES)
    assert (door.phase, effect) == (phase, LOCK)


def test_normal_during_an_exit_in_lockdown_lets_the_exit_end():
    door = after(s.LockdownCommand(), s.RexPressed(), s.NormalCommand())
    assert (door.phase, door.release_ends_at) == (Phase.ACCESSED, 13.0)


# Free access


def test_free_access_by_command_ends_by_itself():
    door, effect = react(Door(), s.HoldOpenCommand(100.0), 10.0, RULES)
    assert (door.phase, effect, unlocked_until(door)) == (Phase.LOCKED_OPEN, UNLOCK, 100.0)
    assert due(door, 100.0, RULES) == s.HoldElapsed()
    assert react(door, s.HoldElapsed(), 100.0, RULES) == (Door(locked_at=100.0), LOCK)


def test_a_schedule_unlocks_until_it_ends_even_if_nobody_says_so():
    door, effect = react(Door(), s.ScheduleBegan(100.0), 10.0, RULES)
    assert (door.phase, effect, unlocked_until(door)) == (Phase.UNLOCKED, UNLOCK, 100.0)
    assert due(door, 100.0, RULES) == s.ScheduleEnded()
    assert react(door, s.ScheduleEnded(), 60.0, RULES)[1] is LOCK


@pytest.mark.parametrize("until", [10.0, 9.0, math.nan, math.inf, 10.0 + MAX_FREE_S + 1])
def test_free_access_without_an_end_in_sight_is_refused(until):
    for stimulus in (s.HoldOpenCommand(until), s.ScheduleBegan(until)):
        assert react(Door(), stimulus, 10.0, RULES) == (Door(), None)


def test_lockdown_overrides_a_schedule_which_goes_on_when_it_is_lifted():
    door, effect = react(after(s.ScheduleBegan(100.0)), s.LockdownCommand(), 10.0, RULES)
    assert (door.phase, effect) == (Phase.LOCKED_DOWN, LOCK)
    assert react(door, s.ScheduleBegan(150.0), 20.0, RULES)[1] is None
    assert react(door, s.NormalCommand(), 20.0, RULES)[1] is UNLOCK
    assert after(s.NormalCommand(), door=door, now=100.0).phase is Phase.LOCKED, "its time has passed"
    assert after(s.ScheduleEnded(), s.NormalCommand(), door=door).phase is Phase.LOCKED


def test_a_lock_command_ends_free_access_until_the_next_schedule():
    door = after(s.ScheduleBegan(100.0), s.HoldOpenCommand(50.0), s.LockCommand())
    assert (door.phase, door.scheduled_until, door.held_until) == (Phase.LOCKED, None, None)


def test_a_schedule_that_began_meanwhile_takes_over_where_a_hold_ends():
    door = after(s.HoldOpenCommand(50.0), s.ScheduleBegan(100.0))
    door, effect = react(door, s.HoldElapsed(), 50.0, RULES)
    assert (door.phase, effect) == (Phase.UNLOCKED, UNLOCK)


def test_a_schedule_whose_time_has_passed_unremarked_opens_nothing_and_is_forgotten():
    door = replace(after(s.HoldOpenCommand(50.0)), scheduled_until=49.0)
    door, effect = react(door, s.HoldElapsed(), 50.0, RULES)
    assert (door.phase, effect) == (Phase.LOCKED, LOCK)
    assert due(door, 50.0, RULES) == s.ScheduleEnded()
    assert after(s.ScheduleEnded(), door=door).scheduled_until is None


def test_a_passage_during_a_schedule_that_was_overridden_returns_to_the_schedule():
    door = after(s.ScheduleBegan(100.0), s.LockdownCommand(), s.RexPressed(), s.NormalCommand())
    door, effect = react(after(s.DoorOpened(10.0), door=door), s.DoorClosed(), 11.0, RULES)
    assert (door.phase, effect) == (Phase.UNLOCKED, UNLOCK)


def test_an_order_is_obeyed_when_the_door_is_as_ordered():
    held = after(s.HoldOpenCommand(50.0))
    assert obeyed(held, s.HoldOpenCommand(50.0))
    assert not obeyed(held, s.HoldOpenCommand(60.0))
    assert not obeyed(held, s.ScheduleBegan(50.0))
    assert obeyed(after(s.ScheduleBegan(50.0), s.LockdownCommand()), s.ScheduleBegan(50.0))
    assert obeyed(held, s.UnlockCommand())
    assert not obeyed(after(s.LockdownCommand()), s.UnlockCommand())


# Alarms

FORCED, TOO_LONG, PRE = Alarm.DOOR_FORCED_OPEN, Alarm.DOOR_OPEN_TOO_LONG, Alarm.DOOR_OPEN_PRE_ALARM
FAULT, TAMPER = Alarm.DOOR_FAULT, Alarm.DOOR_TAMPER


def test_a_locked_door_that_opens_was_forced_until_it_closes():
    door = after(s.DoorOpened(10.0))
    assert (door.alarms, door.open_ends_at) == ({FORCED}, None)
    assert after(s.Granted("ada"), door=door).alarms == {FORCED}
    assert after(s.DoorClosed(), door=door).alarms == frozenset()


def test_a_leaf_that_moved_as_the_lock_fell_was_not_forced():
    door = after(s.Granted("ada"), s.ReleaseElapsed())
    assert after(s.DoorOpened(10.0 + GRACE_S), door=door).alarms == frozenset()
    assert after(s.DoorOpened(10.01 + GRACE_S), door=door).alarms == {FORCED}
    assert after(s.DoorOpened(math.nan), door=door).alarms == {FORCED}


@pytest.mark.parametrize(("extended", "limit"), [(False, 30.0), (True, 60.0)])
def test_a_door_that_stands_open_warns_then_alarms(extended, limit):
    door = after(s.Granted("ada", extended), s.DoorOpened(10.0), s.ReleaseElapsed())
    assert due(door, 10 + limit - 5.01, RULES) is None
    assert due(door, 10 + limit - 5, RULES) == s.PreAlarmElapsed()
    door = after(s.PreAlarmElapsed(), door=door)
    assert (door.alarms, next_deadline(door, RULES)) == ({PRE}, 10 + limit)
    door = after(s.OpenElapsed(), door=door)
    assert (door.alarms, next_deadline(door, RULES)) == ({TOO_LONG}, None)
    assert after(s.DoorClosed(), door=door).alarms == frozenset()


def test_without_a_pre_alarm_there_is_none():
    quiet = msgspec.structs.replace(RULES, pre_alarm_s=0)
    door = after(s.Granted("ada"), s.DoorOpened(10.0), s.ReleaseElapsed(), rules=quiet)
    assert next_deadline(door, quiet) == 40.0


def test_in_free_access_the_door_may_stand_open_and_not_longer():
    door = after(s.Granted("ada"), s.DoorOpened(10.0), s.PreAlarmElapsed(), s.ScheduleBegan(100.0))
    assert (door.alarms, door.open_ends_at) == (frozenset(), None)
    assert after(s.ScheduleEnded(), door=door, now=100.0).open_ends_at == 130.0


def test_a_door_found_open_was_not_forced_and_may_not_stay_open():
    door = begin("open", tampered=False, now=10.0, rules=RULES)
    assert (door.alarms, door.open_ends_at, door.phase) == (frozenset(), 40.0, Phase.LOCKED)
    assert begin("closed", tampered=True, now=10.0, rules=RULES).alarms == {TAMPER}
    assert begin("unknown", False, 10.0, RULES, locked_down=True) == Door(Phase.LOCKED_DOWN)


def test_inputs_that_fail_are_a_fault_until_they_work_again():
    door = after(s.InputsFailed())
    assert (door.alarms, door.position, door.phase) == ({FAULT}, "unknown", Phase.LOCKED)
    door = after(s.InputsRestored(), s.DoorOpened(10.0), door=door)
    assert (door.alarms, door.position) == (frozenset(), "open")
    assert after(s.LineFailed(), s.InputsFailed(), s.InputsRestored()).alarms == {FAULT}, "the lock's own"


def test_an_opened_case_is_an_alarm_until_it_is_closed():
    assert after(s.TamperOpened()).alarms == {TAMPER}
    assert after(s.TamperOpened(), s.TamperClosed()).alarms == frozenset()


# Anything in any order


@dataclass
class Model:
    """Says, without the table, why a door may be unlocked; reads only what was fed."""

    reason_until: float = -math.inf
    scheduled_until: float = -math.inf

    def hear(self, stimulus: s.Stimulus, now: float, rules: DoorConfig) -> None:
        if isinstance(stimulus, (s.Granted, s.RexPressed, s.UnlockCommand)):
            release_s = rules.release_s(getattr(stimulus, "extended", False))
            self.reason_until = max(self.reason_until, now + release_s)
        elif getattr(stimulus, "until", None) and now < stimulus.until <= now + MAX_FREE_S:
            self.reason_until = max(self.reason_until, stimulus.until)


def stimuli():
    times = st.floats(-1, 120) | st.sampled_from([math.nan, math.inf])
    with_arguments = {s.HoldOpenCommand, s.ScheduleBegan, s.DoorOpened, s.Granted}
    only_when_due = {s.PreAlarmElapsed, s.OpenElapsed}
    plain = [kind() for kind in STIMULI if kind not in {*with_arguments, *only_when_due, s.Stop}]
    return st.one_of(
        st.sampled_from(plain),
        st.builds(s.Granted, st.just("ada"), st.booleans()),
        st.builds(lambda t: ("hold", t), times),
        st.builds(lambda t: ("schedule", t), times),
        st.builds(lambda t: ("bounce", t), st.floats(0, 0.2)),
    )


def walk(steps, rules):
    """(now, stimulus, before, after, effect) of each, deadlines as the controller feeds them."""
    door, now = Door(position="closed"), 0.0
    for pause, what in steps:
        target = now + pause
        while (at := next_deadline(door, rules)) is not None and at <= target:
            now = max(now, at)
            stimulus = due(door, now, rules)
            assert stimulus is not None
            before, (door, effect) = door, react(door, stimulus, now, rules)
            assert due(door, now, rules) != stimulus, "a deadline that does not go away hangs the door"
            yield now, stimulus, before, door, effect
        now = target
        if isinstance(what, tuple):
            kind, t = what
            bounced = [s.DoorOpened(now - t), s.DoorClosed(), s.DoorOpened(now - t)]
            fed = {"hold": [s.HoldOpenCommand(now + t)], "schedule": [s.ScheduleBegan(now + t)]}.get(
                kind, bounced
            )
        else:
            fed = [what]
        for stimulus in fed:
            before, (door, effect) = door, react(door, stimulus, now, rules)
            yield now, stimulus, before, door, effect


STEPS = st.lists(st.tuples(st.floats(0, 20), stimuli()), min_size=50, max_size=100)


@settings(max_examples=200, deadline=None)  # of at least 50 steps each: 10,000 at least
@given(STEPS, st.sampled_from([RULES, EXTENDING, ON_OPEN]))
def test_unlocked_only_after_a_reason_and_never_longer_than_it_allows(steps, rules):
    model, line = Model(), LOCK
    for now, stimulus, before, door, effect in walk(steps, rules):
        model.hear(stimulus, now, rules)
        line = effect or line
        assert (line is UNLOCK) == (door.phase in UNLOCKED_PHASES), "the line does what the phase says"
        if line is UNLOCK:
            until = unlocked_until(door)
            assert until is not None
            assert now <= until <= model.reason_until
        else:
            assert unlocked_until(door) is None
        if before.phase not in UNLOCKED_PHASES and door.phase in UNLOCKED_PHASES:
            in_force = before.scheduled_until is not None and now < before.scheduled_until
            assert type(stimulus) in MAY_UNLOCK or in_force
        if stimulus == s.Granted("ada") and before.phase in (Phase.LOCKED_DOWN, Phase.BLOCKED):
            assert door == before


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_without_regrant_a_release_is_never_lengthened(steps):
    for _, _, before, door, _ in walk(steps, RULES):
        if before.phase in s.RELEASED and door.phase in s.RELEASED:
            assert door.release_ends_at == before.release_ends_at


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_alarms_tell_what_is(steps):
    for _, _, _, door, _ in walk(steps, RULES):
        if door.position == "closed":
            assert not door.alarms & {FORCED, TOO_LONG, PRE}
        if door.phase in s.FREE:
            assert not door.alarms & {TOO_LONG, PRE}
        assert not {TOO_LONG, PRE} <= door.alarms
