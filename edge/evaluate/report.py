"""An evaluation's result: typed, as lines for people, as JSON with stable keys for machines."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.evaluate.metrics import Rate


@dataclass(frozen=True, slots=True)
class Operating:
    """FMR and FNMR at one threshold."""

    threshold: float
    fmr: Rate
    fnmr: Rate


@dataclass(frozen=True, slots=True)
class EqualError:
    """Where FMR and FNMR are the same."""

    rate: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Folds:
    """Each fold judged at the best threshold of all the others (LFW's protocol for view 2)."""

    mean_accuracy: float
    standard_error: float  # standard deviation over the folds / sqrt(folds)
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fpir:
    """Expected false positive identification rate of one search, and with the FMR's upper bound."""

    templates: int
    expected: float
    upper: float


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result. Rates are 0..1, distances L2 0..2."""

    dataset: str
    mode: str  # "listed pairs" or "all pairs"
    models: str
    pictures: int
    subjects: int
    genuine_pairs: int
    impostor_pairs: int
    refused: Rate  # pictures
    refusals: dict[str, int]  # why -> pictures
    quality: dict[str, dict[str, float]]  # figure of the gate -> percentile -> value, over faces
    threshold: float
    threshold_from: str | None  # the other split; None: fixed
    accuracy: Rate
    fmr: Rate
    fnmr: Rate
    eer: EqualError | None  # None: too many refusals for the curves to cross
    thresholds: tuple[Operating, ...]
    folds: Folds | None
    fpir: tuple[Fpir, ...]
    plots: tuple[str, ...]
    notes: tuple[str, ...]

    def json(self) -> str:
        """One JSON object with the field names above."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def lines(self) -> list[str]:
        """Readable text."""
        why = ", ".join(f"{words} {count}" for words, count in self.refusals.items())
        source = f"best on {self.threshold_from}" if self.threshold_from else "fixed"
        return [
            f"data       {self.dataset}, {self.mode}: {self.genuine_pairs:,} genuine, "
            f"{self.impostor_pairs:,} impostor; {self.pictures:,} pictures of {self.subjects:,} subjects",
            f"models     {self.models}",
            f"refused    {_rate(self.refused)}" + (f": {why}" if why else ""),
            f"threshold  {self.threshold:.4f} ({source})",
            f"accuracy   {_rate(self.accuracy)}",
            f"FMR        {_rate(self.fmr)}",
            f"FNMR       {_rate(self.fnmr)}",
            f"EER        {self._eer()}",
            *self._folds(),
            *(f"FPIR       {_fpir(f)}" for f in self.fpir),
            "",
            f"{'threshold':>9}  {'FMR':>9} {'95 % interval':>23}  {'FNMR':>9} {'95 % interval':>23}",
            *(_row(o) for o in self.thresholds),
            "",
            *(f"quality    {name:17}" + _percentiles(q) for name, q in self.quality.items()),
            *(f"plot       {path}" for path in self.plots),
            *(f"note       {note}" for note in self.notes),
        ]

    def _eer(self) -> str:
        if self.eer is None:
            return "none: too many pictures were refused"
        return f"{100 * self.eer.rate:.3f} % at {self.eer.threshold:.4f}"

    def _folds(self) -> list[str]:
        if self.folds is None:
            return []
        f = self.folds
        return [
            f"folds      {100 * f.mean_accuracy:.2f} % +- {100 * f.standard_error:.2f} (standard error), "
            f"{len(f.accuracies)} folds, each at the best threshold of the others "
            f"({min(f.thresholds):.3f} .. {max(f.thresholds):.3f})"
        ]


def _rate(r: Rate) -> str:
    return f"{_percent(r.rate)} [{_percent(r.low)} .. {_percent(r.high)}] ({r.count:,} of {r.of:,})"


def _percent(value: float) -> str:
    """Per cent; below one in a thousand the plain fraction, 5.70e-06."""
    return f"{100 * value:.2f} %" if value == 0 or value >= 1e-3 else f"{value:.2e}"


def _fpir(f: Fpir) -> str:
    return f"{_percent(f.expected)} expected among {f.templates:,} templates (at most {_percent(f.upper)})"


def _row(o: Operating) -> str:
    cells = [f"{_short(r.rate):>9} {_short(r.low):>10} .. {_short(r.high):>9}" for r in (o.fmr, o.fnmr)]
    return f"{o.threshold:9.4f}  " + "  ".join(cells)


def _short(value: float) -> str:
    return f"{value:.4f}" if value == 0 or value >= 1e-3 else f"{value:.2e}"


def _percentiles(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in values.items())
