"""`doord evaluate`: from a pairs file or folder to a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError, DoordError
from edge.evaluate.datasets import Dataset, check_comparable, open_dataset
from edge.evaluate.embed import Embedded, Looker, Progress, embed_pictures
from edge.evaluate.metrics import (
    MAX_DISTANCE,
    Tally,
    best_threshold,
    bin_edges,
    rate,
    tally_all,
    tally_pairs,
)
from edge.evaluate.plots import require_matplotlib, write_plots
from edge.evaluate.report import EqualError, Folds, Fpir, Operating, Report
from edge.identity.match import expected_fpir
from edge.progress import silent
from edge.values import DISTANCE_CEILING, Quality

_TABLE = tuple(k / 100 for k in range(40, 121, 5))
_PERCENTILES = (0.1, 0.5, 5, 50, 95, 99.5, 99.9)
_GALLERY_SIZES = (50, 150, 1000, 5000, 20000)


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to measure, on what."""

    source: Path  # a pairs file, or a folder with a sub-folder per subject
    images: Path | None = None  # where the pairs' pictures lie; None: beside the pairs file
    threshold: float = DISTANCE_CEILING
    threshold_from: Path | None = None  # another split, whose best threshold is used instead
    all_pairs: bool = False  # every pair of the pictures that the pairs file names
    plots: Path | None = None  # folder for the PNGs
    annotate: Path | None = None  # folder for pictures of refused faces


def run_evaluate(options: EvaluateOptions, look: Looker, models: str, progress: Progress = silent) -> Report:
    """Embed every picture once, compare, report. `look` is a Pipeline, `models` says which.

    Raises:
        DatasetError: nothing to measure, or the threshold's split is the measured one.
        ImageError: a missing or unreadable picture.
        ModelError: the models gave nothing usable.
        DoordError: plots were asked for and matplotlib is missing; a folder can't be made.
    """
    _prepare(options)
    test, train = _datasets(options)
    pictures = dict.fromkeys(test.pictures + (train.pictures if train else ()))
    everything = embed_pictures(list(pictures), look, progress, options.annotate)
    row = {path: i for i, path in enumerate(pictures)}
    embedded = everything.rows([row[p] for p in test.pictures])
    threshold = options.threshold
    if train is not None and train.pairs is not None:
        learned = everything.rows([row[p] for p in train.pictures])
        threshold = best_threshold(learned.distances(train.pairs), train.genuine)
    return _report(options, test, embedded, threshold, models)


def _prepare(options: EvaluateOptions) -> None:
    """All that can be refused before the long work."""
    if not 0 < options.threshold <= MAX_DISTANCE:
        raise DoordError(f"threshold: expected 0 < threshold <= 2, got {options.threshold}")
    if options.plots:
        require_matplotlib()
    for folder in (options.plots, options.annotate):
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DoordError(f"{folder}: expected a folder to write to, got: {error.strerror}") from None


def _datasets(options: EvaluateOptions) -> tuple[Dataset, Dataset | None]:
    test = open_dataset(options.source, options.images)
    if options.all_pairs:
        test = test.all_pairs()
        check_comparable(test, str(options.source))
    if options.threshold_from is None:
        return test, None
    train = open_dataset(options.threshold_from, options.images)
    if train.pairs is None:
        raise DatasetError(f"{options.threshold_from}: expected a pairs file to take the threshold from")
    if options.threshold_from.samefile(options.source):
        raise DatasetError(
            f"{options.threshold_from}: expected another split than the measured one: "
            "a threshold fitted to what it is judged on flatters"
        )
    return test, train


def _report(
    options: EvaluateOptions, data: Dataset, embedded: Embedded, threshold: float, models: str
) -> Report:
    tally = _tally(data, embedded, bin_edges(threshold, DISTANCE_CEILING, *_TABLE))
    eer, fmr = tally.eer(), tally.fmr(threshold)
    refusals = Counter(r.split(":")[0] for r in embedded.refusals if r is not None)
    plots = write_plots(tally, threshold, options.plots) if options.plots else []
    return Report(
        dataset=data.name,
        mode="all pairs" if data.pairs is None else "listed pairs",
        models=models,
        pictures=len(data.pictures),
        subjects=len(np.unique(data.subjects)),
        genuine_pairs=tally.genuine_pairs,
        impostor_pairs=tally.impostor_pairs,
        refused=rate(refusals.total(), len(data.pictures)),
        refusals=dict(refusals.most_common()),
        quality=_quality([q for q in embedded.qualities if q is not None]),
        threshold=threshold,
        threshold_from=options.threshold_from.name if options.threshold_from else None,
        accuracy=tally.accuracy(threshold),
        fmr=fmr,
        fnmr=tally.fnmr(threshold),
        eer=EqualError(*eer) if eer else None,
        thresholds=tuple(Operating(t, tally.fmr(t), tally.fnmr(t)) for t in sorted({*_TABLE, threshold})),
        folds=_folds(data, embedded),
        fpir=tuple(Fpir(n, expected_fpir(fmr.rate, n), expected_fpir(fmr.high, n)) for n in _GALLERY_SIZES),
        plots=tuple(str(p) for p in plots),
        notes=_notes(data),
    )


def _tally(data: Dataset, embedded: Embedded, edges: NDArray[np.float64]) -> Tally:
    if data.pairs is None:
        return tally_all(embedded.vectors, embedded.usable, data.subjects, edges)
    return tally_pairs(embedded.distances(data.pairs), data.genuine, edges)


def _folds(data: Dataset, embedded: Embedded) -> Folds | None:
    if data.pairs is None or data.folds < 2:
        return None
    distances, genuine = embedded.distances(data.pairs), data.genuine
    fold = np.arange(len(genuine)) * data.folds // len(genuine)
    accuracies, thresholds = [], []
    for k in range(data.folds):
        threshold = best_threshold(distances[fold != k], genuine[fold != k])
        right = (distances[fold == k] < threshold) == genuine[fold == k]
        thresholds.append(threshold)
        accuracies.append(float(right.mean()))
    error = float(np.std(accuracies, ddof=1) / np.sqrt(data.folds))
    return Folds(float(np.mean(accuracies)), error, tuple(accuracies), tuple(thresholds))


def _quality(qualities: list[Quality]) -> dict[str, dict[str, float]]:
    """Percentiles of each figure of the gate over the faces found, passed or not."""
    found: dict[str, dict[str, float]] = {}
    for figure in fields(Quality) if qualities else ():
        values = [getattr(q, figure.name) for q in qualities]
        cuts = np.percentile(values, _PERCENTILES)
        found[figure.name] = {f"p{p:g}": round(float(v), 4) for p, v in zip(_PERCENTILES, cuts, strict=True)}
    return found


def _notes(data: Dataset) -> tuple[str, ...]:
    notes = [
        "label errors in the data are not removed: they count as the models' errors",
        "a refused picture is a non-match in each of its pairs",
        "95 % intervals are Wilson's and take pairs as independent",
    ]
    if data.pairs is None:
        notes[2] += "; here a picture is in many pairs, so the true intervals are wider"
    return tuple(notes)
