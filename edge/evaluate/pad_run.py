"""`doord evaluate --pad`: from a folder of presentations to a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.errors import DatasetError, DoordError
from edge.evaluate.embed import Looker, Progress
from edge.evaluate.pad import (
    Accept,
    Judged,
    Scores,
    auc,
    by_thresholds,
    first_scores,
    fitted_threshold,
    halves,
    tabulate,
)
from edge.evaluate.pad_report import PadReport, Setting
from edge.evaluate.pad_score import Layers, Pace, Scored, score_all
from edge.evaluate.plots import require_matplotlib, write_pad_plots
from edge.evaluate.presentations import Presentation, open_presentations
from edge.progress import silent

HALVES = "halves"


@dataclass(frozen=True, slots=True)
class PadOptions:
    """What to measure, and where thresholds come from."""

    source: Path  # genuine/ and attack/<species>/
    thresholds: Mapping[str, float] = field(default_factory=dict)  # layer -> alive from there on
    # people (ids) whose presentations give the thresholds; all others are judged. HALVES: each half by id
    # is judged at what the other gives. None: fixed thresholds
    split: str | None = None
    pace: Pace = field(default_factory=Pace)
    plots: Path | None = None


def run_pad(
    options: PadOptions, look: Looker, layers: Layers, models: str, progress: Progress = silent
) -> PadReport:
    """Score every presentation, judge, report. `look` is a Pipeline, `models` says which.

    Raises:
        DatasetError: nothing to measure, or a split that leaves nobody to fit to or to judge.
        ImageError: an unreadable picture.
        DoordError: plots were asked for and matplotlib is missing; a folder can't be made.
    """
    presentations = open_presentations(options.source)
    _prepare(options, presentations)
    return judge(options, score_all(presentations, look, layers, options.pace, progress), models)


def judge(options: PadOptions, scored: Scored, models: str) -> PadReport:
    """The report of what has been scored. Raises DatasetError: the split leaves nobody."""
    names = tuple(next(j.attempts[0] for j in scored.presented if j.attempts))
    fixed = {name: options.thresholds[name] for name in names}
    splits = _splits(options.split, [j.person for j in scored.presented])
    fitted = {fit: _fit(scored.presented, fit, fixed) for fit, _ in splits}
    judged = [j for j in scored.presented if not splits or any(j.person in test for _, test in splits)]
    together = [names] if len(names) > 1 else []
    plots = write_pad_plots(_curves(judged, names), options.plots) if options.plots else []
    settings = [_setting(part, judged, splits, fitted, fixed) for part in [(n,) for n in names] + together]
    counts = Counter(j.species or "genuine" for j in judged)
    return PadReport(
        options.source.name,
        models,
        dict(sorted(counts.items(), key=lambda c: (c[0] != "genuine", c[0]))),
        len({j.person for j in judged}),
        scored.frames,
        options.pace.frames,
        round(options.pace.every_s * 1000),
        scored.ms,
        _source(options.split, splits),
        tuple(settings),
        tuple(str(p) for p in plots),
        _NOTES,
    )


_NOTES = (
    "APCER: attacks taken for alive at the first attempt; any attempt: at one of those in the clip",
    "no answer: no face passed the gate and got a score often enough; such a presentation is in no rate",
    "a frame that a layer gives no score is waited out, as at the door",
    "95 % bounds are Clopper and Pearson's, two-sided, and take presentations as independent: they are too "
    "narrow where one person is in many",
    "worst species counts; this is no test of conformity to any standard",
)
_Splits = Sequence[tuple[frozenset[str], frozenset[str]]]  # fitted to these people, judged on those


def _prepare(options: PadOptions, presentations: Sequence[Presentation]) -> None:
    """All that can be refused before the long work."""
    for sides in _splits(options.split, [p.person for p in presentations]):
        for side in sides:
            kinds = Counter(
                "genuine" if p.species is None else "attack" for p in presentations if p.person in side
            )
            _want_both(side, kinds["genuine"], kinds["attack"])
    if any(not math.isfinite(v) for v in options.thresholds.values()):
        raise DoordError(f"threshold: expected finite numbers, got {dict(options.thresholds)}")
    if options.plots:
        require_matplotlib()
        try:
            options.plots.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DoordError(
                f"{options.plots}: expected a folder to write to, got: {error.strerror}"
            ) from None


def _splits(split: str | None, people: Sequence[str]) -> _Splits:
    if split is None:
        return ()
    everybody = frozenset(people)
    if split == HALVES:
        one, two = halves(people)
        pairs = [(one, two), (two, one)]
    else:
        named = frozenset(filter(None, (name.strip() for name in split.split(","))))
        if unknown := sorted(named - everybody):
            raise DatasetError(f"split: expected people of the set, got {', '.join(unknown[:5])}")
        pairs = [(named, everybody - named)]
    if not all(fit and test for fit, test in pairs):
        raise DatasetError(
            f"split {split}: expected people to fit to and others to judge, got {len(everybody)}"
        )
    return pairs


def _fit(presented: Sequence[Judged], people: frozenset[str], fixed: Mapping[str, float]) -> dict[str, float]:
    """Each layer's threshold by these people alone."""
    own = [j for j in presented if j.person in people]
    found = {}
    for name in fixed:
        genuine, attacks = first_scores(own, name)
        _want_both(people, len(genuine), sum(map(len, attacks.values())))
        found[name] = fitted_threshold(genuine, attacks)
    return found


def _want_both(people: frozenset[str], genuine: int, attacks: int) -> None:
    if not genuine or not attacks:
        raise DatasetError(
            f"split: expected genuine and attack presentations of {', '.join(sorted(people)[:5])}, "
            f"got {genuine} and {attacks}"
        )


def _setting(
    names: Sequence[str],
    judged: Sequence[Judged],
    splits: _Splits,
    fitted: Mapping[frozenset[str], Mapping[str, float]],
    fixed: Mapping[str, float],
) -> Setting:
    at = {name: [fitted[fit][name] for fit, _ in splits] or [fixed[name]] for name in names}
    words = {name: ", ".join(f"{v:.4g}" for v in values) for name, values in at.items()}
    curves = _curves(judged, names) if len(names) == 1 else {}
    areas = {name: auc(genuine, attack) for name, (genuine, attack) in curves.items()}
    accept = _accept(names, splits, fitted, fixed)
    return Setting(
        " + ".join(names),
        words,
        tabulate(judged, accept),
        {n.partition(": ")[2]: a for n, a in areas.items()},
    )


def _accept(
    names: Sequence[str],
    splits: _Splits,
    fitted: Mapping[frozenset[str], Mapping[str, float]],
    fixed: Mapping[str, float],
) -> Accept:
    """Each person's presentations are judged at thresholds of people that do not include him."""
    if not splits:
        return by_thresholds({name: fixed[name] for name in names})
    rules = [(test, by_thresholds({name: fitted[fit][name] for name in names})) for fit, test in splits]
    return lambda scores, person: any(rule(scores, person) for test, rule in rules if person in test)


def _curves(judged: Sequence[Judged], names: Sequence[str]) -> dict[str, tuple[Scores, Scores]]:
    """`layer: species` -> genuine and attack scores of first attempts."""
    found: dict[str, tuple[Scores, Scores]] = {}
    for name in names:
        genuine, attacks = first_scores(judged, name)
        found |= {f"{name}: {species}": (genuine, scores) for species, scores in attacks.items()}
    return found


def _source(split: str | None, splits: _Splits) -> str:
    if split is None:
        return "fixed"
    if split == HALVES:
        return "each half of the people (by id) judged at what the other half gives"
    return f"fitted to {len(splits[0][0])} people, who are not judged: {split}"
