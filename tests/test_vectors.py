"""The path from picture to vector against stored arrays: colour order, letterbox, anchors, crop.

`vectors.npz` was written once from tests/pictures/astronaut.jpg by this file
(`python tests/test_vectors.py`) after the distances had been checked by evaluation. The tolerances
leave room for another OpenCV's rounding, and none for a swapped channel, half a pixel of shift or
another anchor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.config import ModelsConfig, QualityConfig
from edge.vision.detect import letterbox
from edge.vision.pictures import load_picture
from edge.vision.pipeline import Pipeline

HERE = Path(__file__).parent
STORED = HERE / "vectors.npz"
PICTURE = HERE / "pictures" / "astronaut.jpg"


def compute(pipeline: Pipeline) -> dict[str, np.ndarray]:
    pixels = load_picture(PICTURE)[:, 40:]  # not square, so that the letterbox has something to do
    look = pipeline(pixels)
    assert look.face is not None
    assert look.probe is not None
    return {
        "canvas": letterbox(pixels, (128, 128))[0],
        "box": np.array(look.face.box, np.float32),
        "landmarks": np.asarray(look.face.landmarks),
        "crop": pipeline.embedder.align(pixels, look.face),
        "vector": np.asarray(look.probe.vector),
    }


@pytest.fixture(scope="module")
def pair(pipeline):
    with np.load(STORED) as stored:
        return dict(stored), compute(pipeline)


def test_the_letterbox_is_the_stored_one(pair):
    stored, now = pair
    assert np.abs(stored["canvas"].astype(int) - now["canvas"]).max() <= 6
    assert np.abs(stored["canvas"].astype(int) - now["canvas"]).mean() < 0.5


def test_box_and_landmarks_are_the_stored_ones_to_half_a_pixel(pair):
    stored, now = pair
    np.testing.assert_allclose(now["landmarks"], stored["landmarks"], atol=0.5)
    np.testing.assert_allclose(now["box"], stored["box"], atol=1.0)


def test_the_crop_is_the_stored_one(pair):
    stored, now = pair
    assert np.abs(stored["crop"].astype(int) - now["crop"]).mean() < 1.5


def test_the_vector_is_the_stored_one(pair):
    stored, now = pair
    assert np.linalg.norm(stored["vector"] - now["vector"]) < 0.06


@pytest.mark.parametrize(
    "spoil", [lambda c: c[..., ::-1], lambda c: np.roll(c, 3, axis=1), lambda c: c[::-1]]
)
def test_swapped_colours_or_a_shifted_crop_would_be_noticed(pair, pipeline, spoil):
    stored, now = pair
    wrong = np.ascontiguousarray(spoil(now["crop"]))
    assert np.abs(stored["crop"].astype(int) - wrong).mean() >= 1.5
    assert np.linalg.norm(stored["vector"] - pipeline.embedder.embed(wrong)) >= 0.06


if __name__ == "__main__":
    np.savez_compressed(STORED, **compute(Pipeline.load(ModelsConfig(), QualityConfig())))
