"""Several faces in one picture: whom the door asks about, with real models and real photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.values import Face, Frame, Gallery, Probe
from edge.vision.loop import VisionLoop

OBAMA_WIDE, BIDEN_WIDE = 0.5, 0.55  # both photographs' scale: his face is 109 px wide, the other's 72


def side_by_side(one: np.ndarray, two: np.ndarray, background: int = 128) -> np.ndarray:
    """Two pictures in one, their tops level."""
    height = max(one.shape[0], two.shape[0])
    padded = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=[background] * 3)
        for p in (one, two)
    ]
    return np.hstack(padded)


def scaled(picture: np.ndarray, by: float) -> np.ndarray:
    return cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def both(picture) -> np.ndarray:
    return side_by_side(scaled(picture("obama.jpg"), OBAMA_WIDE), scaled(picture("biden.jpg"), BIDEN_WIDE))


@pytest.fixture(scope="module")
def vectors(pipeline, picture) -> dict[str, np.ndarray]:
    return {name: pipeline(picture(f"{name}.jpg")).probe.vector for name in ("obama2", "biden")}


def near(vector: np.ndarray):
    return lambda probe: bool(np.linalg.norm(probe.vector - vector) < 0.7)


def nobody(_: Probe) -> bool:
    return False


def test_the_larger_face_is_asked_about_when_both_are_known(pipeline, both, vectors):
    look = pipeline(both, known=lambda probe: any(near(v)(probe) for v in vectors.values()))
    assert len(look.faces) == 2
    assert near(vectors["obama2"])(look.probe)
    assert list(look.stages_ms) == ["detect", "align", "embed", "search"]


def test_a_known_face_is_asked_about_beside_a_larger_strangers(pipeline, both, vectors):
    look = pipeline(both, known=near(vectors["biden"]))
    assert near(vectors["biden"])(look.probe)
    assert look.face.box[2] < max(face.box[2] for face in look.faces)
    assert len(look.faces) == 2


def test_of_two_strangers_the_larger_is_asked_about(pipeline, both, vectors):
    asked: list[Probe] = []
    look = pipeline(both, known=lambda probe: bool(asked.append(probe)))
    assert len(asked) == 2
    assert near(vectors["obama2"])(look.probe)


def test_where_nobody_can_be_known_the_larger_is_asked_about_alone(pipeline, both, vectors):
    assert near(vectors["obama2"])(pipeline(both).probe)


def test_a_known_face_twice_as_far_away_opens_nothing_for_the_stranger_in_front(pipeline, picture, vectors):
    head = picture("obama.jpg")[:450, 150:600]
    behind = side_by_side(head, scaled(picture("biden.jpg"), 0.75))
    look = pipeline(behind, known=near(vectors["biden"]))
    widths = sorted(face.box[2] for face in look.faces)
    assert len(widths) == 2
    assert widths[0] < widths[1] / 2
    assert look.face.box[2] == widths[1]


def test_the_face_that_is_scored_is_the_one_that_votes(pipeline, both, vectors):
    gallery = Gallery(1, pipeline.embedder.model, ("biden",), vectors["biden"][None], np.zeros(1, np.intp))
    scored: list[float] = []

    class Shown:
        """Sibling of the grabber and of the camera's judge."""

        ended = False

        def newest(self, timeout_s: float) -> Frame:
            return Frame(both, 1.0)

        def saw(self, frame: Frame, now: float) -> bool:
            return True

        def fault(self, now: float) -> None:
            return None

    def pad(pixels: np.ndarray, face: Face, taken_at: float) -> dict[str, float]:
        scored.append(face.box[0])
        return {"texture": 1.0}

    observation = VisionLoop(Shown(), Shown(), pipeline, lambda: gallery, lambda: 1.0, pad).step().observation
    assert observation is not None
    assert near(vectors["biden"])(observation.probe)
    assert scored == [observation.face.box[0]]
    assert scored[0] > max(face.box[0] for face in pipeline(both).faces) - 1  # he stands on the right


def test_a_larger_face_that_does_not_pass_the_gate_hides_nobody_who_is_known(pipeline, both, vectors):
    dark = both.copy()
    dark[:, : both.shape[1] // 2] //= 12  # the larger one stands in the dark
    look = pipeline(dark, known=near(vectors["biden"]))
    assert near(vectors["biden"])(look.probe)
    assert pipeline(dark, known=nobody).shortcoming is not None
