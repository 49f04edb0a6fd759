"""`doord verify` and `doord identify`: one picture against the gallery, at the desk, not the door."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.config import DecisionConfig
from edge.identity.match import expected_fpir, identify, search, verify
from edge.values import Candidate, Deny, Gallery, Grant, Reason
from edge.vision.pictures import draw_face, load_picture, save_picture
from edge.vision.pipeline import Look, Pipeline

_GREEN, _RED = (40, 170, 80), (210, 50, 50)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a picture came to. `distance` is L2, 0..2; None when nothing was compared."""

    picture: str
    granted: bool
    reason: str | None
    claimed: str | None
    nearest: str | None
    distance: float | None
    runner_up: str | None
    runner_up_distance: float | None
    threshold: float
    shortcoming: str | None
    templates: int
    expected_fpir: float | None

    def json(self) -> str:
        """One JSON object with the field names above."""
        return msgspec.json.encode(self).decode()

    def lines(self) -> list[str]:
        """Readable text."""
        return [f"{self.picture}: {_verdict(self)}", *_compared(self)]


def _verdict(r: ProbeReport) -> str:
    if r.granted:
        return f"is {r.nearest} (distance {r.distance:.3f} < {r.threshold:g})"
    if r.shortcoming:
        return f"not compared: {r.shortcoming}"
    if r.claimed and r.distance is not None:
        return f"is not {r.claimed} (distance {r.distance:.3f}, expected < {r.threshold:g})"
    if r.claimed:
        return f"{r.claimed} is not enrolled here"
    if r.reason == Reason.AMBIGUOUS.value:
        return "ambiguous: the two nearest subjects are too close to each other"
    return "nobody in the gallery"


def _compared(r: ProbeReport) -> list[str]:
    lines = []
    if r.claimed is None and r.nearest is not None and r.distance is not None:
        next_one = f", then {r.runner_up} {r.runner_up_distance:.3f}" if r.runner_up else ""
        lines.append(f"  nearest: {r.nearest} {r.distance:.3f}{next_one}")
    if r.expected_fpir is not None:
        lines.append(f"  expected FPIR of one search among {r.templates} templates: {r.expected_fpir:.2e}")
    return lines


def verify_picture(
    path: Path,
    subject: str,
    pipeline: Pipeline,
    gallery: Gallery,
    decision: DecisionConfig,
    annotate: Path | None,
) -> ProbeReport:
    """1:1. Raises ImageError, ModelError."""
    pixels = load_picture(path)
    look = pipeline(pixels)
    if look.probe is None:
        report = _not_compared(path, look, gallery, decision, subject)
    else:
        verdict, distance = verify(look.probe, gallery, subject, decision.threshold)
        best = None if distance is None else Candidate(subject, distance)
        report = _report(path, verdict, best, None, gallery, decision, subject)
    _annotate(annotate, pixels, look, report)
    return report


def identify_picture(
    path: Path,
    pipeline: Pipeline,
    gallery: Gallery,
    decision: DecisionConfig,
    fmr: float | None,
    annotate: Path | None,
) -> ProbeReport:
    """1:N, one picture (a door asks several frames). Raises ImageError, ModelError."""
    pixels = load_picture(path)
    look = pipeline(pixels)
    fpir = None if fmr is None else expected_fpir(fmr, len(gallery))
    if look.probe is None:
        report = _not_compared(path, look, gallery, decision, None)
    else:
        match = search(look.probe, gallery)
        verdict = identify(match, decision.threshold, decision.margin)
        best, runner_up = (match.best, match.runner_up) if match else (None, None)
        report = _report(path, verdict, best, runner_up, gallery, decision, None, fpir)
    _annotate(annotate, pixels, look, report)
    return report


def _report(
    path: Path,
    verdict: Grant | Deny,
    best: Candidate | None,
    runner_up: Candidate | None,
    gallery: Gallery,
    decision: DecisionConfig,
    claimed: str | None,
    fpir: float | None = None,
) -> ProbeReport:
    return ProbeReport(
        picture=str(path),
        granted=isinstance(verdict, Grant),
        reason=verdict.reason.value if isinstance(verdict, Deny) else None,
        claimed=claimed,
        nearest=best.subject if best else None,
        distance=best.distance if best else None,
        runner_up=runner_up.subject if runner_up else None,
        runner_up_distance=runner_up.distance if runner_up else None,
        threshold=decision.threshold,
        shortcoming=None,
        templates=len(gallery),
        expected_fpir=fpir,
    )


def _not_compared(
    path: Path, look: Look, gallery: Gallery, decision: DecisionConfig, claimed: str | None
) -> ProbeReport:
    words = look.shortcoming or "no face found"
    report = _report(path, Deny(Reason.LOW_QUALITY), None, None, gallery, decision, claimed)
    return replace(report, shortcoming=words)


def _annotate(out: Path | None, pixels: NDArray[np.uint8], look: Look, report: ProbeReport) -> None:
    if out is None:
        return
    picture = pixels
    if look.face is not None:
        words = report.nearest if report.granted else report.reason
        text = f"{words} {report.distance:.2f}" if report.distance is not None else f"{words}"
        picture = draw_face(picture, look.face, text, _GREEN if report.granted else _RED)
    save_picture(out, picture)
