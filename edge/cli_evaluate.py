"""`doord evaluate`: accuracy on labelled pictures, and PAD on genuine and attack presentations."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from edge.acting import as_owner
from edge.cli_common import models_or_default, say
from edge.config import Config, ModelsConfig, QualityConfig, load_config
from edge.errors import DoordError
from edge.values import DISTANCE_CEILING


def evaluate_parser(sub: argparse.ArgumentParser) -> None:
    """Its options."""
    sub.add_argument("source", type=Path, metavar="PAIRS|FOLDER")
    sub.add_argument("--images", type=Path, help="where the pairs' pictures lie (default: beside the file)")
    sub.add_argument("--threshold", type=float, default=DISTANCE_CEILING)
    sub.add_argument("--threshold-from", type=Path, metavar="PAIRS", help="best threshold of another split")
    sub.add_argument("--all-pairs", action="store_true", help="every pair of the named pictures")
    sub.add_argument(
        "--min-eye-distance", type=float, metavar="PX", help="overrides quality.min_eye_distance_px"
    )
    sub.add_argument("--plots", type=Path, metavar="DIR", help="ROC, DET and distance histograms as PNG")
    sub.add_argument("--annotate", type=Path, metavar="DIR", help="pictures of the refused faces")
    pad = sub.add_argument_group("presentation-attack detection")
    pad.add_argument("--pad", action="store_true", help="FOLDER has genuine/ and attack/<species>/")
    pad.add_argument(
        "--layers", default="texture", help="of texture, stillness, tuned; several have to agree"
    )
    pad.add_argument("--pad-threshold", action="append", default=[], metavar="LAYER=VALUE")
    pad.add_argument(
        "--split",
        metavar="PEOPLE|halves",
        help="thresholds fitted to these people (ids, by commas), others judged; or each half by the other",
    )
    pad.add_argument("--fps", type=float, default=30.0, help="of clips that are folders of pictures")


def evaluate(options: argparse.Namespace) -> int:
    """Measure and report."""
    return _presentations(options) if options.pad else _pictures(options)


def _presentations(options: argparse.Namespace) -> int:
    from edge.evaluate.layers import pad_layers
    from edge.evaluate.pad_run import PadOptions, run_pad
    from edge.evaluate.pad_score import Pace
    from edge.progress import bar
    from edge.vision.pipeline import Pipeline

    if not 0 < options.fps <= 240:
        raise DoordError(f"fps: expected 0 < fps <= 240, got {options.fps}")
    models, gate = _models(options)
    names = options.layers.split(",")
    thresholds = dict(_threshold(words, names) for words in options.pad_threshold)
    with _door(options) as config:
        layers = pad_layers(names, models, config)
    pace = Pace(folder_fps=options.fps)
    if config is not None:
        pace = replace(pace, every_s=config.pad.every_ms / 1000, frames=config.pad.frames)
    told = PadOptions(options.source, {**layers.live, **thresholds}, options.split, pace, options.plots)
    report = run_pad(told, Pipeline.load(models, gate), layers.make, layers.words, bar("presentations"))
    say(report.json()) if options.json else say(*report.lines())
    return 0


@contextlib.contextmanager
def _door(options: argparse.Namespace) -> Iterator[Config | None]:
    """The door whose configuration was named, with its owner's rights; None: no door."""
    if options.config is None:
        yield None
        return
    config = load_config(options.config)
    with as_owner(config):
        yield config


def _models(options: argparse.Namespace) -> tuple[ModelsConfig, QualityConfig]:
    models, gate = models_or_default(options)
    if options.min_eye_distance is not None:
        gate = msgspec.structs.replace(gate, min_eye_distance_px=options.min_eye_distance)
    return models, gate


def _threshold(words: str, layers: list[str]) -> tuple[str, float]:
    layer, _, value = words.partition("=")
    try:
        return layers[layers.index(layer)], float(value)
    except ValueError:
        raise DoordError(
            f"pad-threshold: expected LAYER=NUMBER with a layer of {', '.join(layers)}, got {words!r}"
        ) from None


def _pictures(options: argparse.Namespace) -> int:
    from edge.evaluate.run import EvaluateOptions, run_evaluate
    from edge.progress import bar
    from edge.vision.pipeline import Pipeline

    models, gate = _models(options)
    pipeline = Pipeline.load(models, gate)
    report = run_evaluate(
        EvaluateOptions(
            options.source,
            options.images,
            options.threshold,
            options.threshold_from,
            options.all_pairs,
            options.plots,
            options.annotate,
        ),
        pipeline,
        f"{pipeline.embedder.model} on {pipeline.backend}",
        bar("pictures"),
    )
    say(report.json()) if options.json else say(*report.lines())
    return 0
