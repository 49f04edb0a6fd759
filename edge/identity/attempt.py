"""An attempt while it goes on: frames in, votes counted. What 1:N and 1:1 share. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from edge.config import DecisionConfig
from edge.identity.match import identify
from edge.identity.pad import Judged, PadRule, Scores, judge, mean, passes
from edge.identity.throttle import Rule
from edge.values import Attempt, Deny, Grant, Observation, Reason, Votes


@dataclass(frozen=True, slots=True)
class Vote:
    """What one compared frame says. `at`: s monotonic, when it was taken."""

    at: float
    verdict: Grant | Deny
    pad: Scores | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that goes on. Times are s of the monotonic clock."""

    began_at: float
    face_at: float  # of the newest face
    last: Observation
    votes: tuple[Vote, ...] = ()
    refusals: tuple[Reason, ...] = ()
    frames: int = 0
    need: Rule | None = None  # what the newest compared frame had to fulfil
    unjudged: bool = False  # confirmed, but too few frames were scored to say whether it is alive


def verdict_of(
    seen: Observation, threshold: float, margin: float, max_age_s: float, now: float
) -> Grant | Deny:
    """The vote of a frame with a probe. A frame too old, or from the future, has no other."""
    if not 0 <= now - seen.taken_at <= max_age_s:
        return Deny(Reason.STALE_FRAME)
    if seen.refused is not None:
        return Deny(seen.refused)
    return identify(seen.match, threshold, margin)


def refused_frame(running: Running, seen: Observation, now: float) -> Running:
    """A face was there but was not compared: the attempt lives on, the frame has no vote."""
    reasons = (*running.refusals, seen.refused or Reason.OTHER)
    return replace(running, face_at=now, refusals=reasons, frames=running.frames + 1)


def voted(running: Running, vote: Vote, seen: Observation, need: Rule, now: float) -> Running:
    """One more compared frame."""
    refusals = running.refusals
    if isinstance(vote.verdict, Deny):
        refusals = (*refusals, vote.verdict.reason)
    votes = (*running.votes, vote)
    frames = running.frames + 1
    return replace(running, face_at=now, last=seen, votes=votes, refusals=refusals, frames=frames, need=need)


def confirmed(running: Running, need: Rule, window_s: float, now: float) -> bool:
    """Whether enough of the last frames agree on one subject, the newest among them."""
    votes = running.votes[-need.confirm_of :]
    recent = [v.verdict for v in votes if now - v.at <= window_s]
    subjects = [v.subject for v in recent if isinstance(v, Grant)]
    newest_agrees = bool(recent) and isinstance(recent[-1], Grant)
    return newest_agrees and len(set(subjects)) == 1 and len(subjects) >= need.confirm


def ruling(running: Running, grant: Grant, pad: PadRule | None) -> tuple[Grant | Deny, Judged] | None:
    """What becomes of a confirmed subject; None: too few frames were scored, the attempt goes on.

    `pad`: what presentation-attack detection asks; None: nothing.
    """
    scored = scored_frames(running, grant.subject)
    if pad is None:
        return grant, Judged(None, mean(scored))
    judged = judge(scored, pad)
    if judged is None:
        return None
    if passes(judged, pad):
        return grant, judged
    return Deny(Reason.OTHER if judged.liveness is None else Reason.ATTACK_SUSPECTED), judged


def scored_frames(running: Running, subject: str) -> list[Scores]:
    """The scores of the frames that voted for this subject, oldest first."""
    return [vote.pad for vote in running.votes if vote.pad is not None and _voted_for(vote, subject)]


def _voted_for(vote: Vote, subject: str) -> bool:
    return isinstance(vote.verdict, Grant) and vote.verdict.subject == subject


def finished(
    running: Running, began_at: float, decision: Grant | Deny, now: float, margin: float, judged: Judged
) -> Attempt:
    """The attempt that ends `now`."""
    return Attempt(
        decision,
        began_at,
        now,
        running.frames,
        running.last,
        margin,
        votes=_votes(running),
        liveness=judged.liveness,
        pad=judged.scores,
    )


def _votes(running: Running) -> Votes:
    """How near to a confirmation the attempt came."""
    need = running.need
    if need is None:
        return Votes()
    said = [v.verdict.subject for v in running.votes[-need.confirm_of :] if isinstance(v.verdict, Grant)]
    agreeing = Counter(said).most_common(1)
    return Votes(agreeing[0][1] if agreeing else 0, need.confirm, need.confirm_of)


def is_over(running: Running, config: DecisionConfig, now: float) -> bool:
    """Whether an attempt has lasted long enough, or the face is gone."""
    too_long = now - running.began_at >= config.attempt_s
    return too_long or now - running.face_at >= config.no_face_s


def telling(running: Running) -> Reason:
    """The refusal that says most: two subjects in one attempt, else the commonest, else Other."""
    subjects = {v.verdict.subject for v in running.votes if isinstance(v.verdict, Grant)}
    if len(subjects) > 1:
        return Reason.AMBIGUOUS
    if running.unjudged:
        return Reason.LOW_QUALITY
    commonest = Counter(running.refusals).most_common(1)
    return commonest[0][0] if commonest else Reason.OTHER
