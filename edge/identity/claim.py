"""Card and face: the card claims who it is, the face verifies it 1:1. Pure.

The rules for frames, confirmation and the length of an attempt are those of `decide`; there is no
margin, since only the claimed subject is compared, and so the size of the gallery does not matter.
Every presentation of a card ends in one attempt, however often it is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from edge.identity.pad import Judged, PadRule, mean
from edge.identity.throttle import Rule
from edge.values import Attempt, Deny, Grant, Observation, Reason


@dataclass(frozen=True, slots=True)
class Claim:
    """A card was shown at `began_at` (s, monotonic) and its face is awaited."""

    subject: str
    began_at: float
    running: Running | None = None
    newest: float = float("-inf")  # taken_at of the newest frame counted


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """The claim that goes on, or the attempt it has ended in."""

    claim: Claim | None
    attempt: Attempt | None = None


class Verifier:
    """The rules; the claim is passed in and comes back."""

    def __init__(self, config: DecisionConfig, max_frame_age_s: float, claim_timeout_s: float) -> None:
        self._config = config
        self._max_age_s = max_frame_age_s
        self._timeout_s = claim_timeout_s

    def observe(
        self, claim: Claim, seen: Observation, need: Rule, now: float, pad: PadRule | None = None
    ) -> ClaimStep:
        """One frame, whose match has the claimed subject for its only candidate.

        Frames from before the card are not counted, and no frame twice. `pad`: what
        presentation-attack detection asks of a grant; None: nothing.
        """
        if not seen.taken_at > max(claim.newest, claim.began_at):
            return self.tick(claim, now)
        claim = replace(claim, newest=seen.taken_at)
        running = claim.running
        if seen.probe is None:
            if running is not None and seen.refused is not None:
                claim = replace(claim, running=refused_frame(running, seen, now))
            return self.tick(claim, now)
        verdict = self._verdict(claim, seen, now)
        vote = Vote(seen.taken_at, verdict, seen.probe.pad)
        running = voted(running or Running(now, now, seen), vote, seen, need, now)
        if isinstance(verdict, Grant) and confirmed(running, need, self._config.confirm_window_s, now):
            ruled = ruling(running, verdict, pad)
            if ruled is not None:
                return ClaimStep(None, finished(running, claim.began_at, ruled[0], now, 0.0, ruled[1]))
            running = replace(running, unjudged=True)
        return self.tick(replace(claim, running=running), now)

    def tick(self, claim: Claim, now: float) -> ClaimStep:
        """Time passes; a claim that is over ends as a refusal."""
        if claim.running is None:
            over = not now - claim.began_at < self._timeout_s
        else:
            over = is_over(claim.running, self._config, now)
        return self.interrupt(claim, _telling(claim), now) if over else ClaimStep(claim)

    def abandon(self, claim: Claim, now: float) -> ClaimStep:
        """Another card was shown."""
        return self.interrupt(claim, _telling(claim), now)

    def interrupt(self, claim: Claim, reason: Reason, now: float) -> ClaimStep:
        """End it for a reason outside it, a camera fault for one."""
        running = claim.running or Running(now, now, Observation(now))
        judged = Judged(None, mean(scored_frames(running, claim.subject)))
        return ClaimStep(None, finished(running, claim.began_at, Deny(reason), now, 0.0, judged))

    def _verdict(self, claim: Claim, seen: Observation, now: float) -> Grant | Deny:
        verdict = verdict_of(seen, self._config.threshold, 0, self._max_age_s, now)
        if isinstance(verdict, Grant) and verdict.subject != claim.subject:
            return Deny(Reason.FACE_NOT_CARDS)  # compared for an earlier claim
        return Deny(Reason.FACE_NOT_CARDS) if verdict == Deny(Reason.NO_MATCH) else verdict


def _telling(claim: Claim) -> Reason:
    return telling(claim.running) if claim.running else Reason.NO_FACE_IN_TIME
