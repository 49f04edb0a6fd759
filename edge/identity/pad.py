"""Whether a face that was recognised is alive: what the layers' scores mean for a grant. Pure.

Words follow ISO/IEC 30107-3: an attack presentation accepted counts into APCER, a genuine one refused
into BPCER. An attempt is judged once, by the first `frames` of its scored frames that voted for the
subject: who could be judged again and again would have the luckiest of many windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from edge.config import PadMode
from edge.values import Liveness

Scores = Mapping[str, float]
"""Layer -> score of one frame; larger is more alive, NaN is no score."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a layer's score of an attempt means: alive from `live` on, unsure from `unsure` on, else attack.

    That score is the mean over the frames that are counted, or of a layer that looks back over the
    frames before, `newest`, the one it gives with the last of them.
    """

    live: float
    unsure: float
    newest: bool = False

    def judge(self, score: float) -> Liveness:
        """The verdict of a mean score. What is no finite number is an attack, what is below `unsure` too."""
        if not (_is_score(score) and score >= self.unsure):
            return Liveness.ATTACK
        return Liveness.LIVE if score >= self.live else Liveness.UNSURE


@dataclass(frozen=True, slots=True)
class PadRule:
    """What a grant needs. No `limits`: no layer can judge, and `unjudged` says whether it needs one."""

    frames: int
    limits: Mapping[str, Limit]  # of the layers that judge; others' scores are told only
    accepted: frozenset[Liveness]
    unjudged: bool = False
    asks_card: bool = False  # of a face that is unsure: it is no attack as long as no card was shown


def rule_of(mode: PadMode, limits: Mapping[str, Limit], frames: int, with_card: bool) -> PadRule | None:
    """What a mode asks; None: nothing. `with_card`: a card claimed the subject, and the face verifies it.

    Without a layer that can judge a face alone opens nothing; with a card the door works on.
    """
    if mode in ("off", "monitor"):
        return None
    stepped_up = mode == "step-up" and with_card
    accepted = {Liveness.LIVE, Liveness.UNSURE} if stepped_up else {Liveness.LIVE}
    return PadRule(frames, limits, frozenset(accepted), with_card, mode == "step-up" and not with_card)


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and each layer's mean score it rests on. `liveness` None: no layer could judge."""

    liveness: Liveness | None
    scores: Scores


def judge(scored: Sequence[Scores], rule: PadRule) -> Judged | None:
    """The verdict on an attempt's scored frames, oldest first; None: not enough of them yet.

    A frame that a judging layer gave no score is not counted: it can't help and can't hurt.
    The layer that thinks worst of the face decides.
    """
    if not rule.limits:
        return Judged(None, mean(scored[: rule.frames]))
    found = gather(scored, rule.frames, {layer: limit.newest for layer, limit in rule.limits.items()})
    if found is None:
        return None
    verdicts = [limit.judge(found.scores[layer]) for layer, limit in rule.limits.items()]
    return Judged(max(verdicts, key=_BADNESS.index), found.scores)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What an attempt's frames say of each layer, and how many of them it took."""

    scores: Scores
    took: int


def gather(scored: Sequence[Scores], frames: int, layers: Mapping[str, bool]) -> Gathered | None:
    """One score a layer of the first `frames` (at least 1) that count, oldest first; None: not enough yet.

    A frame counts that has a score of each layer that sees it alone. `layers`: those that judge, and
    whether one looks back: its score is the one it gives with the last of these frames, or next.
    """
    alone = [layer for layer, looks_back in layers.items() if not looks_back]
    counted = (i for i, frame in enumerate(scored) if all(_is_score(frame.get(layer)) for layer in alone))
    whole = list(islice(counted, frames))  # no further: a clip of an hour has thousands of attempts
    if len(whole) < frames:
        return None
    scores = mean([scored[i] for i in whole])
    last = end = whole[-1]
    for layer in layers.keys() - set(alone):
        given = next((i for i in range(last, len(scored)) if _is_score(scored[i].get(layer))), None)
        if given is None:
            return None
        scores[layer], end = scored[given][layer], max(end, given)
    return Gathered(scores, end + 1)


def passes(judged: Judged, rule: PadRule) -> bool:
    """Whether a grant may follow."""
    return rule.unjudged if judged.liveness is None else judged.liveness in rule.accepted


def mean(scored: Sequence[Scores]) -> dict[str, float]:
    """Each layer's mean over the frames it gave a score; a layer that never did is left out."""
    layers = sorted({layer for frame in scored for layer in frame})
    given = {layer: [frame[layer] for frame in scored if _is_score(frame.get(layer))] for layer in layers}
    return {layer: sum(scores) / len(scores) for layer, scores in given.items() if scores}


_BADNESS = (Liveness.LIVE, Liveness.UNSURE, Liveness.ATTACK)


def _is_score(score: float | None) -> bool:
    return score is not None and float("-inf") < score < float("inf")
