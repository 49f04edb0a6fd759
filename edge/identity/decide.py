"""From observations to attempts: who is let in, who is refused, what is worth an event. Pure.

An attempt lasts from the first face that passes the quality gate until a grant, or `attempt_s`,
or `no_face_s` without a face. A grant needs `confirm` of the last `confirm_of` compared frames
within `confirm_window_s`, the newest among them, all for one subject. A granted subject is not
granted again before it was out of view for `cooldown_s`, so a person who stays at an open door
opens it once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.config import DecisionConfig
from edge.identity.match import expected_fpir, identify
from edge.identity.throttle import Throttle, rule
from edge.values import DISTANCE_CEILING, Attempt, Deny, Grant, Observation, Reason

_STILL_THERE = 1.0
"""L2 distance below which a poor frame of a subject just granted starts no new attempt: somebody
walking through the door turns away, which is not a stranger. It never grants anything."""
_NOBODYS_FAULT = frozenset(
    {Reason.CAMERA_FAULT, Reason.STALE_FRAME, Reason.WRONG_MODEL, Reason.UNAUTHORIZED, Reason.OTHER}
)
"""Refusals that say nothing about the person, and so do not raise the throttle."""
_REMEMBERED = 16  # unknown people whose repeats are folded into one event


@dataclass(frozen=True, slots=True)
class _Vote:
    at: float  # s monotonic, when the frame was taken
    verdict: Grant | Deny


@dataclass(frozen=True, slots=True)
class _Running:
    """An attempt that goes on."""

    began_at: float
    face_at: float
    last: Observation
    votes: tuple[_Vote, ...] = ()
    refusals: tuple[Reason, ...] = ()
    frames: int = 0


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A refused person whose event was sent."""

    vector: NDArray[np.float32]  # (D,)
    reported_at: float
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Deciding:
    """Everything the decision remembers between frames."""

    running: _Running | None = None
    throttle: Throttle = field(default_factory=Throttle)
    cooling: dict[str, float] = field(default_factory=dict)  # subject -> last seen, s monotonic
    unknown: tuple[_Unknown, ...] = ()
    newest: float = float("-inf")  # taken_at of the newest frame decided on


@dataclass(frozen=True, slots=True)
class Step:
    """What one observation led to. `alarm`: the throttle has just risen."""

    state: Deciding
    attempt: Attempt | None = None
    alarm: bool = False


class Decider:
    """The rules; the state is passed in and comes back."""

    def __init__(self, config: DecisionConfig, max_frame_age_s: float) -> None:
        self._config = config
        self._max_age_s = max_frame_age_s

    def observe(self, state: Deciding, seen: Observation, now: float) -> Step:
        """One frame's observation at `now` (s, monotonic). A frame is counted once."""
        if not seen.taken_at > state.newest:
            return self.tick(state, now)
        state = replace(self._forget(state, now), newest=seen.taken_at)
        running = state.running
        if seen.probe is None:
            if running is not None and seen.refused is not None:
                state = replace(state, running=_refused_frame(running, seen, now))
            return self.tick(state, now)
        verdict = self._verdict(state, seen, now)
        if self._is_cooling(state, seen, verdict):  # neither begins, feeds nor ends an attempt
            return self.tick(_seen_again(state, verdict, now), now)
        running = _voted(running or _Running(now, now, seen), _Vote(seen.taken_at, verdict), seen, now)
        state = replace(state, running=running)
        if self._confirmed(state, running, now):
            return self._granted(state, running, verdict, now)
        return self.tick(state, now)

    def tick(self, state: Deciding, now: float) -> Step:
        """Time passes; an attempt that is over ends as a refusal."""
        running = state.running
        if running is None:
            return Step(state)
        over = now - running.began_at >= self._config.attempt_s
        gone = now - running.face_at >= self._config.no_face_s
        return self._refused(state, running, _reason(running), now) if over or gone else Step(state)

    def interrupt(self, state: Deciding, reason: Reason, now: float) -> Step:
        """End a running attempt for a reason outside it, a camera fault for one."""
        if state.running is None:
            return Step(state)
        return self._refused(state, state.running, reason, now)

    def not_opened(self, state: Deciding, subject: str) -> Deciding:
        """The door did not follow a grant: the subject may try again at once."""
        return replace(state, cooling={s: t for s, t in state.cooling.items() if s != subject})

    def _verdict(self, state: Deciding, seen: Observation, now: float) -> Grant | Deny:
        if not 0 <= now - seen.taken_at <= self._max_age_s:
            return Deny(Reason.STALE_FRAME)
        if seen.refused is not None:
            return Deny(seen.refused)
        margin = rule(state.throttle, now, self._config).margin
        return identify(seen.match, self._config.threshold, margin)

    def _is_cooling(self, state: Deciding, seen: Observation, verdict: Grant | Deny) -> bool:
        if isinstance(verdict, Grant):
            return verdict.subject in state.cooling
        best = seen.match.best if seen.match else None
        return best is not None and best.subject in state.cooling and best.distance < _STILL_THERE

    def _confirmed(self, state: Deciding, running: _Running, now: float) -> bool:
        need = rule(state.throttle, now, self._config)
        votes = running.votes[-need.confirm_of :]
        recent = [v.verdict for v in votes if now - v.at <= self._config.confirm_window_s]
        subjects = [v.subject for v in recent if isinstance(v, Grant)]
        newest_agrees = bool(recent) and isinstance(recent[-1], Grant)
        return newest_agrees and len(set(subjects)) == 1 and len(subjects) >= need.confirm

    def _granted(self, state: Deciding, running: _Running, verdict: Grant | Deny, now: float) -> Step:
        margin = rule(state.throttle, now, self._config).margin
        attempt = Attempt(verdict, running.began_at, now, running.frames, running.last, margin)
        return Step(replace(_seen_again(state, verdict, now), running=None), attempt)

    def _refused(self, state: Deciding, running: _Running, reason: Reason, now: float) -> Step:
        was_raised = state.throttle.raised(now, self._config)
        margin = rule(state.throttle, now, self._config).margin
        throttle = state.throttle
        if reason not in _NOBODYS_FAULT:
            throttle = throttle.refused(now, self._config)
        alarm = throttle.raised(now, self._config) and not was_raised
        state = replace(state, running=None, throttle=throttle)
        known, others = _known(state.unknown, running.last)
        if known is not None and now - known.reported_at < self._config.repeat_s:
            again = replace(known, repeats=known.repeats + 1)
            return Step(replace(state, unknown=(*others, again)), alarm=alarm)
        repeats = known.repeats if known else 0
        attempt = Attempt(Deny(reason), running.began_at, now, running.frames, running.last, margin, repeats)
        vector = running.last.probe.vector if running.last.probe else None
        fresh = () if vector is None else (_Unknown(vector, now),)
        return Step(replace(state, unknown=(*others, *fresh)[-_REMEMBERED:]), attempt, alarm)

    def _forget(self, state: Deciding, now: float) -> Deciding:
        cooling = {s: t for s, t in state.cooling.items() if now - t < self._config.cooldown_s}
        return replace(state, cooling=cooling)


def _refused_frame(running: _Running, seen: Observation, now: float) -> _Running:
    """A face was there but was not compared: the attempt lives on, the frame has no vote."""
    reasons = (*running.refusals, seen.refused or Reason.OTHER)
    return replace(running, face_at=now, refusals=reasons, frames=running.frames + 1)


def _voted(running: _Running, vote: _Vote, seen: Observation, now: float) -> _Running:
    refusals = running.refusals
    if isinstance(vote.verdict, Deny):
        refusals = (*refusals, vote.verdict.reason)
    votes = (*running.votes, vote)
    return replace(running, face_at=now, last=seen, votes=votes, refusals=refusals, frames=running.frames + 1)


def _seen_again(state: Deciding, verdict: Grant | Deny, now: float) -> Deciding:
    """A granted subject is in view at `now`, which prolongs its cool-down."""
    if not isinstance(verdict, Grant):
        return state
    return replace(state, cooling={**state.cooling, verdict.subject: now})


def _reason(running: _Running) -> Reason:
    """The refusal that says most: two subjects in one attempt, else the commonest, else Other."""
    subjects = {v.verdict.subject for v in running.votes if isinstance(v.verdict, Grant)}
    if len(subjects) > 1:
        return Reason.AMBIGUOUS
    commonest = Counter(running.refusals).most_common(1)
    return commonest[0][0] if commonest else Reason.OTHER


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
