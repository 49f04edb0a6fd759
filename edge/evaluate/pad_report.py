"""A PAD evaluation's result: typed, as lines for people, as JSON with stable keys for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from edge.evaluate.pad import Row, Share, Table
from edge.shares import at_least, at_most


@dataclass(frozen=True, slots=True)
class Setting:
    """One layer, or all together, at its threshold."""

    name: str
    thresholds: Mapping[str, str]  # layer -> in words
    table: Table
    auc: Mapping[str, float]  # species -> of the layer's scores; empty for several together


@dataclass(frozen=True, slots=True)
class PadReport:
    """The whole result."""

    dataset: str
    models: str
    presentations: Mapping[str, int]  # "genuine" and species -> how many
    people: int
    frames_scored: int
    frames_an_attempt: int
    every_ms: int
    layer_ms: Mapping[str, float]
    threshold_from: str
    settings: tuple[Setting, ...]
    plots: tuple[str, ...]
    notes: tuple[str, ...]

    def json(self) -> str:
        """One JSON object with the field names above; rates as {count, of, rate, low, high}."""
        return msgspec.json.format(msgspec.json.encode(_plain(self)), indent=2).decode()

    def lines(self) -> list[str]:
        """Readable text. Errors are rounded up."""
        counts = ", ".join(f"{name} {n}" for name, n in self.presentations.items())
        cost = ", ".join(f"{name} {ms:.1f} ms" for name, ms in self.layer_ms.items())
        return [
            f"data       {self.dataset}, {self.people} people: {counts}",
            f"models     {self.models}",
            f"attempt    {self.frames_an_attempt} frames, {self.every_ms} ms apart; one of a single picture",
            f"cost       {cost} a frame (median of {self.frames_scored})",
            f"threshold  {self.threshold_from}",
            *(line for setting in self.settings for line in _setting(setting)),
            "",
            *(f"plot       {path}" for path in self.plots),
            *(f"note       {note}" for note in self.notes),
        ]


def _setting(setting: Setting) -> list[str]:
    table, words = setting.table, ", ".join(f"{k} >= {v}" for k, v in setting.thresholds.items())
    bad = [row for row in table.people if row.errors.count or row.unanswered]
    return [
        "",
        f"{setting.name}: {words}",
        f"  {'APCER, worst first':32} {'95 % bounds':>18} {'':>11}  {'any attempt':>12}  no answer    AUC",
        *(f"  {_row(row)}   {_area(setting.auc.get(row.name, math.nan))}" for row in table.species),
        f"  {'BPCER, then of each person refused':32} {'':>16} {'':>11}  {'all attempts':>12}  no answer",
        f"  {_row(table.bpcer)}",
        *(f"  {_row(row)}" for row in bad),
    ]


def _row(row: Row) -> str:
    e = row.errors
    bounds = f"{at_least(e.low)} .. {at_most(e.high)}"
    counts = f"{e.count} of {e.of}"
    cells = f"{row.name:24} {at_most(e.rate):>7} {bounds:>18} {counts:>11}"
    return f"{cells}  {at_most(row.any_attempt.rate):>12}  {row.unanswered:9}"


def _area(auc: float) -> str:
    return "" if math.isnan(auc) else f"{math.floor(auc * 1000) / 1000:.3f}"


def _plain(value: object) -> object:
    """What JSON has: a rate with its bounds, NaN as null."""
    if isinstance(value, Share):
        rate = None if math.isnan(value.rate) else value.rate
        return {"count": value.count, "of": value.of, "rate": rate, "low": value.low, "high": value.high}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
