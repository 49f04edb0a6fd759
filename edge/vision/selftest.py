"""The known-answer test: is this model, on this runtime and processor, the model we measured?

tflite-runtime 2.14 runs some files without an error and returns garbage, so a file that loads
proves nothing. Each model has a stored picture and stored outputs; the drift of an output is
the L2 distance between stored and computed, both scaled to unit L2 norm (0: equal, 1.41:
unrelated). A NaN is refused by the form of the comparison.
"""

from __future__ import annotations

import io
import zipfile
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsConfig
from edge.errors import ModelError
from edge.vision.gpu import GpuJudge
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import Engine, Model, Tensor
from edge.vision.ways import Way, ways


def load_model(
    shelf: ModelShelf, entry: ModelEntry, models: ModelsConfig, gpu: GpuJudge | None = None
) -> Model:
    """The model on what the configuration wants, or on the CPU when that does not prove itself.

    Its file is checked by sha256 and its outputs by the known answer. `why` of what comes says what
    did not prove itself. Without `gpu` LiteRT's GPU accelerator is not thought of.

    Raises:
        ModelError: missing, altered, not loadable, or a drift above the manifest's on the CPU too.
    """
    content = shelf.model_bytes(entry)
    found, no_gpu = ways(entry, content, models, gpu)
    refused = [no_gpu] if no_gpu else []
    for way, spare in pairwise(found):
        try:
            return _proven(Model(entry, way(), _tested(entry, spare, shelf)), shelf, refused)
        except ModelError as error:
            refused.append(str(error))
    return _proven(Model(entry, found[-1]()), shelf, refused)


def _proven(model: Model, shelf: ModelShelf, refused: list[str]) -> Model:
    check_answer(model, shelf)
    words = "; ".join(refused) or model.why
    model.why = "".join(c if c.isprintable() else " " for c in words)  # a driver's or a library's, in part
    return model


def _tested(entry: ModelEntry, way: Way, shelf: ModelShelf) -> Way:
    """A way that has to give the known answer first: a spare's first use is a face at the door."""

    def make() -> Engine:
        engine = way()
        check_answer(Model(entry, engine), shelf)
        return engine

    return make


def check_answer(model: Model, shelf: ModelShelf) -> None:
    """Raises ModelError: a drift above the manifest's."""
    entry = model.entry
    picture, stored = known_answer(shelf, entry)
    limit = entry.known_answer.max_drift
    for output, want, got in zip(entry.outputs, stored, model(picture), strict=True):
        drift = output_drift(want, got)
        if not drift <= limit:
            raise ModelError(
                f"{entry.file}: known-answer test failed on {model.backend}: "
                f"{output.name}: expected drift <= {limit}, got {drift:.3f}"
            )


def output_drift(want: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """L2 distance of two tensors scaled to unit norm, 0..2; NaN when either has no norm."""
    a, b = want.ravel().astype(np.float64), got.ravel().astype(np.float64)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if a.shape != b.shape or 0.0 in norms:
        return float("nan")
    return float(np.linalg.norm(a / norms[0] - b / norms[1]))


def known_answer(shelf: ModelShelf, entry: ModelEntry) -> tuple[NDArray[np.uint8], list[Tensor]]:
    """The stored picture and outputs. Raises ModelError."""
    name = entry.known_answer.file
    try:
        with np.load(io.BytesIO(shelf.read(name)), allow_pickle=False) as stored:
            outputs = [stored[f"output_{i}"] for i in range(len(entry.outputs))]
            picture = stored["image"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name}: can't be read: {error}") from None
    if picture.shape != entry.input.shape[1:] or picture.dtype != np.uint8:
        raise ModelError(
            f"{name}: image: expected uint8 {entry.input.shape[1:]}, got {picture.dtype} {picture.shape}"
        )
    return picture, outputs
