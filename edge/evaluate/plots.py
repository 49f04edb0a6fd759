"""ROC, DET and histograms of distances, and PAD's DET, as PNG. Matplotlib is an extra, imported late."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DoordError
from edge.evaluate.metrics import Tally
from edge.evaluate.pad import det
from edge.values import DISTANCE_CEILING

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#555555"  # told apart by the colour-blind too


def require_matplotlib() -> Any:
    """matplotlib's Figure class, which draws to files without a display.

    Raises:
        DoordError: not installed, or not loadable.
    """
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise DoordError("plots need matplotlib: pip install 'doord[plots]'") from None


def write_plots(tally: Tally, threshold: float, folder: Path) -> list[Path]:
    """`distances.png`, `roc.png` and `det.png` in an existing folder, the 0.7 ceiling marked.

    Raises:
        DoordError: matplotlib is missing, or a file can't be written.
    """
    figure_class = require_matplotlib()
    drawings: dict[str, Callable[[Any, Tally, float], None]] = {
        "distances.png": _distances,
        "roc.png": _roc,
        "det.png": _det,
    }
    written = []
    for name, draw in drawings.items():
        figure = figure_class(figsize=(7, 4.5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        draw(axes, tally, threshold)
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(frameon=False)
        written.append(_saved(figure, folder / name))
    return written


def _saved(figure: Any, path: Path) -> Path:
    try:
        figure.savefig(path)
    except OSError as error:
        raise DoordError(f"{path}: expected to write it, got: {error.strerror}") from None
    return path


_Scores = NDArray[np.float64]


def write_pad_plots(curves: Mapping[str, tuple[_Scores, _Scores]], folder: Path) -> list[Path]:
    """`pad-det-LAYER.png` in an existing folder: a curve of each `layer: species`.

    `curves` has the scores of genuine presentations and of attacks.

    Raises:
        DoordError: matplotlib is missing, or a file can't be written.
    """
    figure_class = require_matplotlib()
    written = []
    for layer in dict.fromkeys(name.partition(": ")[0] for name in curves):
        figure = figure_class(figsize=(7, 5.5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for i, (name, (genuine, attack)) in enumerate(curves.items()):
            if name.startswith(f"{layer}: "):
                apcer, bpcer = det(genuine, attack)
                style = ("-", "--", ":")[i // 10 % 3]  # ten colours, then another stroke
                axes.plot(apcer, bpcer, style, label=f"{name.partition(': ')[2]} ({len(attack)})")
        axes.set(title=layer, xlabel="APCER", ylabel="BPCER", xlim=(0, 1), ylim=(0, 1))
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
        written.append(_saved(figure, folder / f"pad-det-{layer}.png"))
    return written


def _distances(axes: Any, tally: Tally, threshold: float) -> None:
    width = 0.02
    grid = np.arange(round(2 / width) + 1) * width
    middles = (tally.edges[:-1] + tally.edges[1:]) / 2
    for counts, total, words, colour in (
        (tally.genuine, tally.genuine_pairs, "genuine", _BLUE),
        (tally.impostor, tally.impostor_pairs, "impostor", _ORANGE),
    ):
        heights, _ = np.histogram(middles, grid, weights=counts / total / width)
        label = f"{words} ({total:,} pairs)"
        axes.stairs(heights, grid, fill=True, alpha=0.4, color=colour, label=label)
    axes.axvline(DISTANCE_CEILING, color=_GREY, linestyle="--", label=f"ceiling {DISTANCE_CEILING}")
    if threshold != DISTANCE_CEILING:
        axes.axvline(threshold, color=_GREY, linestyle=":", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="L2 distance", ylabel="pairs, density", xlim=(0, 2))


def _roc(axes: Any, tally: Tally, threshold: float) -> None:
    fmr, fnmr = tally.curves()
    axes.plot(fmr, 1 - fnmr, color=_BLUE, label="TMR = 1 - FNMR")
    for t, marker in _marked(threshold):
        label = f"{t:.3f}"
        axes.plot(tally.fmr(t).rate, 1 - tally.fnmr(t).rate, marker, color=_ORANGE, label=label)
    axes.set_xscale("symlog", linthresh=_decade(tally.impostor_pairs))
    axes.set(xlabel="FMR", ylabel="true match rate", xlim=(0, 1), ylim=(0, 1.01))


def _det(axes: Any, tally: Tally, threshold: float) -> None:
    fmr, fnmr = tally.curves()
    axes.plot(fmr, fnmr, color=_BLUE, label="DET")
    for t, marker in _marked(threshold):
        axes.plot(tally.fmr(t).rate, tally.fnmr(t).rate, marker, color=_ORANGE, label=f"{t:.3f}")
    # symmetric logarithm, not logarithm: an FMR of 0 is a result and belongs on the plot
    axes.set_xscale("symlog", linthresh=_decade(tally.impostor_pairs))
    axes.set_yscale("symlog", linthresh=_decade(tally.genuine_pairs))
    axes.set(xlabel="FMR", ylabel="FNMR", xlim=(0, 1), ylim=(0, 1))


def _marked(threshold: float) -> list[tuple[float, str]]:
    """The ceiling as a disc, another threshold as a cross."""
    return [(DISTANCE_CEILING, "o")] + ([(threshold, "x")] if threshold != DISTANCE_CEILING else [])


def _decade(pairs: int) -> float:
    """The power of ten below one error: from there to 0 the axis is linear."""
    return float(10.0 ** np.floor(np.log10(1 / pairs)))
