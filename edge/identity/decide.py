"""From observations to attempts: who is let in, who is refused, what is worth an event. Pure.

An attempt lasts from the first face that passes the quality gate until a grant, or `attempt_s`,
or `no_face_s` without a face. A grant needs `confirm` of the last `confirm_of` compared frames
within `confirm_window_s`, the newest among them, all for one subject. A granted subject is not
granted again before it was out of view for `cooldown_s`, so a person who stays at an open door
opens it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.config import DecisionConfig
from edge.identity.attempt import (
    Running,
    Vote,
    confirmed,
    finished,
    is_over,
    refused_frame,
    ruling,
    scored_frames,
    telling,
    verdict_of,
    voted,
)
from edge.identity.match import expected_fpir
from edge.identity.pad import Judged, PadRule, mean
from edge.identity.throttle import Rule, Throttle, rule
from edge.values import DISTANCE_CEILING, Attempt, Deny, Grant, Liveness, Observation, Reason

_STILL_THERE = 1.0
"""L2 distance below which a poor frame of a subject just granted starts no new attempt: somebody
walking through the door turns away, which is not a stranger. It never grants anything."""
_NOBODYS_FAULT = frozenset(
    {Reason.CAMERA_FAULT, Reason.STALE_FRAME, Reason.WRONG_MODEL, Reason.UNAUTHORIZED, Reason.OTHER}
)
"""Refusals that say nothing about the person, and so do not raise the throttle."""
_REMEMBERED = 16  # unknown people whose repeats are folded into one event


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A refused person whose event was sent."""

    vector: NDArray[np.float32]  # (D,)
    reported_at: float
    attack: bool  # what that event said
    repeats: int = 0

    def covers(self, attack: bool, now: float, repeat_s: float) -> bool:
        """Whether that event tells of a repeat too: an attack is in no event that says less."""
        return now - self.reported_at < repeat_s and (self.attack or not attack)


@dataclass(frozen=True, slots=True)
class Deciding:
    """Everything the decision remembers between frames."""

    running: Running | None = None
    throttle: Throttle = field(default_factory=Throttle)
    cooling: dict[str, float] = field(default_factory=dict)  # subject -> last seen, s monotonic
    # subject without a right, or asked for its card -> when told
    barred: dict[str, float] = field(default_factory=dict)
    unknown: tuple[_Unknown, ...] = ()
    suspected: tuple[float, ...] = ()  # when attacks were suspected since the last alarm, s monotonic
    newest: float = float("-inf")  # taken_at of the newest frame decided on


@dataclass(frozen=True, slots=True)
class Step:
    """What one observation led to. `alarm`: the throttle has just risen.

    `suspect`: whose face was shown and was not clearly alive, also when the event is folded into another;
    `attack_alarm`: `pad.alarm_after` of them came within `throttle_window_s`; `asks_card`: it may be
    alive, and a card would help.
    """

    state: Deciding
    attempt: Attempt | None = None
    alarm: bool = False
    suspect: str | None = None
    attack_alarm: bool = False
    asks_card: bool = False


class Decider:
    """The rules; the state is passed in and comes back."""

    def __init__(self, config: DecisionConfig, max_frame_age_s: float, alarm_after: int = 3) -> None:
        self._config = config
        self._max_age_s = max_frame_age_s
        self._alarm_after = alarm_after

    def observe(self, state: Deciding, seen: Observation, now: float, pad: PadRule | None = None) -> Step:
        """One frame's observation at `now` (s, monotonic). A frame is counted once.

        `pad`: what presentation-attack detection asks of a grant; None: nothing.
        """
        if not seen.taken_at > state.newest:
            return self.tick(state, now)
        state = replace(self._forget(state, now), newest=seen.taken_at)
        running = state.running
        if seen.probe is None:
            if running is not None and seen.refused is not None:
                state = replace(state, running=refused_frame(running, seen, now))
            return self.tick(state, now)
        verdict = self._verdict(state, seen, now)
        if self._is_cooling(state, seen, verdict):  # neither begins, feeds nor ends an attempt
            return self.tick(_seen_again(state, verdict, now), now)
        need = self.rule(state, now)
        vote = Vote(seen.taken_at, verdict, seen.probe.pad)
        running = voted(running or Running(now, now, seen), vote, seen, need, now)
        state = replace(state, running=running)
        if isinstance(verdict, Grant) and confirmed(running, need, self._config.confirm_window_s, now):
            return self._confirmed(state, running, verdict, now, pad)
        return self.tick(state, now)

    def _confirmed(
        self, state: Deciding, running: Running, grant: Grant, now: float, pad: PadRule | None
    ) -> Step:
        """The votes agree: now it must be alive."""
        ruled = ruling(running, grant, pad)
        if ruled is None:
            return self.tick(replace(state, running=replace(running, unjudged=True)), now)
        decision, judged = ruled
        if isinstance(decision, Grant):
            return self._granted(state, running, decision, now, judged)
        if pad is not None and pad.asks_card and judged.liveness is Liveness.UNSURE:
            step = self._refused(state, running, decision.reason, now, judged, attack=False)
            waiting = self.barred(step.state, grant.subject, now)
            return replace(step, state=waiting, suspect=grant.subject, asks_card=True)
        step = self._refused(state, running, decision.reason, now, judged)
        return replace(step, suspect=None if judged.liveness is None else grant.subject)

    def tick(self, state: Deciding, now: float) -> Step:
        """Time passes; an attempt that is over ends as a refusal."""
        running = state.running
        if running is None:
            return Step(state)
        over = is_over(running, self._config, now)
        return self._refused(state, running, telling(running), now) if over else Step(state)

    def interrupt(self, state: Deciding, reason: Reason, now: float) -> Step:
        """End a running attempt for a reason outside it, a camera fault for one."""
        if state.running is None:
            return Step(state)
        return self._refused(state, state.running, reason, now)

    def not_opened(self, state: Deciding, subject: str) -> Deciding:
        """The door did not follow a grant: the subject may try again at once."""
        return replace(state, cooling={s: t for s, t in state.cooling.items() if s != subject})

    def rule(self, state: Deciding, now: float) -> Rule:
        """What a grant needs now."""
        return rule(state.throttle, now, self._config)

    def set_aside(self, state: Deciding) -> Deciding:
        """Drop a running attempt without an event: a card makes another one of it."""
        return replace(state, running=None)

    def admitted(self, state: Deciding, subject: str, now: float) -> Deciding:
        """Somebody was let in by other means and is in view: no attempt of its own begins."""
        barred = {s: t for s, t in state.barred.items() if s != subject}
        return replace(state, cooling={**state.cooling, subject: now}, barred=barred, running=None)

    def barred(self, state: Deciding, subject: str, now: float) -> Deciding:
        """A face that was recognised has no right to enter, or is asked for its card: its face alone is
        decided on again after `repeat_s`, not each second. Who waits for the hour to strike is let in then;
        who may be a picture does not get the luckiest of many tries."""
        cooling = {s: t for s, t in state.cooling.items() if s != subject}
        return replace(state, cooling=cooling, barred={**state.barred, subject: now})

    def count_refusal(self, state: Deciding, reason: Reason, now: float, attack: bool = True) -> Step:
        """A refusal, here or of a claim, raises the throttle unless it says nothing of the person.

        `attack`: whether an AttackSuspected counts for the alarm.
        """
        if reason in _NOBODYS_FAULT:
            return Step(state)
        was_raised = state.throttle.raised(now, self._config)
        throttle = state.throttle.refused(now, self._config)
        alarm = throttle.raised(now, self._config) and not was_raised
        state = replace(state, throttle=throttle)
        if reason is not Reason.ATTACK_SUSPECTED or not attack:
            return Step(state, alarm=alarm)
        recent = [t for t in state.suspected if now - t < self._config.throttle_window_s]
        enough = len(recent) + 1 >= self._alarm_after
        state = replace(state, suspected=() if enough else (*recent, now))
        return Step(state, alarm=alarm, attack_alarm=enough)

    def _verdict(self, state: Deciding, seen: Observation, now: float) -> Grant | Deny:
        margin = self.rule(state, now).margin
        return verdict_of(seen, self._config.threshold, margin, self._max_age_s, now)

    def _is_cooling(self, state: Deciding, seen: Observation, verdict: Grant | Deny) -> bool:
        if isinstance(verdict, Grant):
            return verdict.subject in state.cooling or verdict.subject in state.barred
        best = seen.match.best if seen.match else None
        known = best is not None and (best.subject in state.cooling or best.subject in state.barred)
        return known and best is not None and best.distance < _STILL_THERE

    def _granted(self, state: Deciding, running: Running, grant: Grant, now: float, judged: Judged) -> Step:
        attempt = self._attempt(state, running, grant, now, judged)
        return Step(replace(_seen_again(state, grant, now), running=None), attempt)

    def _refused(
        self,
        state: Deciding,
        running: Running,
        reason: Reason,
        now: float,
        judged: Judged | None = None,
        attack: bool = True,
    ) -> Step:
        attempt = self._attempt(state, running, Deny(reason), now, judged or _not_judged(running))
        step = self.count_refusal(state, reason, now, attack)
        state = replace(step.state, running=None)
        known, others = _known(state.unknown, running.last)
        attack = attack and reason is Reason.ATTACK_SUSPECTED
        if known is not None and known.covers(attack, now, self._config.repeat_s):
            again = replace(known, repeats=known.repeats + 1)
            return replace(step, state=replace(state, unknown=(*others, again)))
        vector = running.last.probe.vector if running.last.probe else None
        fresh = () if vector is None else (_Unknown(vector, now, attack),)
        state = replace(state, unknown=(*others, *fresh)[-_REMEMBERED:])
        return replace(step, state=state, attempt=replace(attempt, repeats=known.repeats if known else 0))

    def _attempt(
        self, state: Deciding, running: Running, decision: Grant | Deny, now: float, judged: Judged
    ) -> Attempt:
        return finished(running, running.began_at, decision, now, self.rule(state, now).margin, judged)

    def _forget(self, state: Deciding, now: float) -> Deciding:
        cooling = {s: t for s, t in state.cooling.items() if now - t < self._config.cooldown_s}
        barred = {s: t for s, t in state.barred.items() if now - t < self._config.repeat_s}
        return replace(state, cooling=cooling, barred=barred)


def _seen_again(state: Deciding, verdict: Grant | Deny, now: float) -> Deciding:
    """A granted subject is in view at `now`, which prolongs its cool-down."""
    if not isinstance(verdict, Grant) or verdict.subject in state.barred:
        return state
    return replace(state, cooling={**state.cooling, verdict.subject: now})


def _not_judged(running: Running) -> Judged:
    """The scores of an attempt that ended before it was judged: those of the face it saw last."""
    last = running.last.match.best if running.last.match else None
    return Judged(None, mean(scored_frames(running, last.subject) if last else ()))


def _known(unknown: tuple[_Unknown, ...], last: Observation) -> tuple[_Unknown | None, tuple[_Unknown, ...]]:
    """The refused person this probe resembles, and all the others."""
    if last.probe is None:
        return None, unknown
    for i, person in enumerate(unknown):
        if float(np.linalg.norm(person.vector - last.probe.vector)) < DISTANCE_CEILING:
            return person, unknown[:i] + unknown[i + 1 :]
    return None, unknown


def fpir_refusal(fmr: float, templates: int, config: DecisionConfig) -> str | None:
    """Why a gallery of this size may not be opened by face alone; None when it may."""
    fpir = expected_fpir(fmr, templates)
    if fpir <= config.max_fpir or config.fpir_accepted_by.strip():
        return None
    return (
        f"expected FPIR {fpir:.2%} for {templates} templates is above decision.max_fpir "
        f"{config.max_fpir:.2%}: use card + face, or name who accepts it in decision.fpir_accepted_by"
    )
