"""The vision loop's rules: which frames are evidence, and what a sitting takes away."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fakes import until

from edge.config import CameraConfig
from edge.identity.gallery import build_gallery
from edge.identity.match import search
from edge.values import Face, Frame, Probe, Reason, Template
from edge.vision.health import CameraHealth
from edge.vision.loop import VisionLoop
from edge.vision.loop import picture as picture_of
from edge.vision.pipeline import Look

VECTOR = np.eye(1, 8, dtype=np.float32)[0]
FACE = Face((10, 10, 50, 50), np.zeros((6, 2), np.float32), 0.9)
GALLERY = build_gallery([Template("ada", VECTOR, "m", "2026-01-01T00:00:00Z")], "m", 8, 1)


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (96, 128, 3), dtype=np.uint8)


class Frames:
    """Sibling of the grabber: gives what it was told, then nothing."""

    def __init__(self, *frames: Frame) -> None:
        self.left = list(frames)
        self.ended = False

    def newest(self, timeout_s: float) -> Frame | None:
        return self.left.pop(0) if self.left else None


def loop(*seeds: int, live: bool = True, look=None, gallery=GALLERY, people=None) -> VisionLoop:
    frames = Frames(*(Frame(pixels(seed), i * 0.1) for i, seed in enumerate(seeds)))
    now = iter(np.arange(1000) * 0.1)

    def see(picture, taken_at, known):
        return Look([FACE], FACE, None, None, Probe(VECTOR, "m", taken_at))

    health = CameraHealth(CameraConfig(), live=live)
    who = None if people is None else lambda: people
    return VisionLoop(frames, health, look or see, lambda: gallery, lambda: float(next(now)), people=who)


def test_a_frame_that_is_byte_for_byte_the_one_before_is_no_evidence():
    turns = loop(1, 1, 1, 2)
    assert [turns.step().observation is not None for _ in range(4)] == [True, False, False, True]


def test_in_a_simulation_pictures_may_repeat():
    turns = loop(1, 1, 1, live=False)
    assert [turns.step().observation is not None for _ in range(3)] == [True, True, True]


def test_a_compared_face_carries_its_match_and_the_search_time():
    observation = loop(1).step().observation
    assert observation is not None
    assert observation.match.best.subject == "ada"
    assert "search" in observation.stages_ms


@pytest.mark.parametrize(
    ("gallery", "people", "knows"),
    [
        (GALLERY, None, [True, False, False]),
        (None, GALLERY, [True, False, False]),  # a card names who it is, nobody is searched for
        (None, None, [False] * 3),
    ],
)
def test_whom_the_gallery_has_nearby_is_known(gallery, people, knows):
    asked: list[bool] = []

    def see(picture, taken_at, known):
        away = np.eye(2, 8, dtype=np.float32)[1]
        broken = np.full(8, np.nan, np.float32)
        asked.extend(known(Probe(vector, "m", taken_at)) for vector in (VECTOR, away, broken))
        return Look([])

    loop(1, look=see, gallery=gallery, people=people).step()
    assert asked == knows


def test_of_several_faces_each_is_searched_for_once(monkeypatch):
    away = np.eye(2, 8, dtype=np.float32)[1]
    searched: list[np.ndarray] = []

    def counted(probe, gallery):
        searched.append(probe.vector)
        return search(probe, gallery)

    def see(picture, taken_at, known):
        probes = [Probe(vector, "m", taken_at) for vector in (away, VECTOR)]
        asked = next(probe for probe in probes if known(probe))
        return Look([FACE, FACE], FACE, None, None, asked, {"detect": 3.0, "search": 2.0})

    monkeypatch.setattr("edge.vision.loop.search", counted)
    turns = loop(1, 2, look=see)
    for _ in range(2):
        searched.clear()
        observation = turns.step().observation
        assert observation.match.best.subject == "ada"
        assert [list(vector) for vector in searched] == [list(away), list(VECTOR)]
        assert observation.stages_ms["search"] >= 2.0
        assert observation.stages_ms["detect"] == 3.0


def test_without_a_gallery_a_face_is_unauthorized_and_not_searched():
    observation = loop(1, gallery=None).step().observation
    assert (observation.refused, observation.match) == (Reason.UNAUTHORIZED, None)


@pytest.mark.parametrize(
    ("look", "refused"),
    [(Look([]), None), (Look([FACE], FACE, None, "too dark"), Reason.LOW_QUALITY)],
)
def test_no_face_and_a_poor_face_are_observations_too(look, refused):
    observation = loop(1, look=lambda picture, at, known: look).step().observation
    assert (observation.probe, observation.refused) == (None, refused)


def test_no_frame_is_no_observation_and_a_fault_stops_looking():
    turns = loop(*[1] * 30, live=False)
    seen = [turns.step() for _ in range(30)]
    assert seen[0].observation is not None
    assert seen[-1].observation is None
    assert "frozen" in seen[-1].fault
    assert loop().step().observation is None


def test_a_sitting_takes_its_pictures_and_decides_on_none_of_them():
    turns = loop(*range(1, 40))
    taken: list[np.ndarray] = []
    sitting = threading.Thread(target=lambda: taken.extend(turns.sit(picture_of, 3, 0.15, 10)))
    sitting.start()
    assert until(lambda: turns._sitting is not None)
    observed = [turns.step().observation for _ in range(5)]
    sitting.join(10)
    assert len(taken) == 3
    assert observed == [None] * 5
    assert turns.step().observation is not None


def test_a_sitting_that_sees_nobody_gives_up_in_time():
    assert loop().sit(picture_of, 3, 0.1, 0.05) == []


class Scorer:
    """Sibling of PadCheck: `asked` has each frame's time."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, picture, face, taken_at):
        self.asked.append(taken_at)
        return {"texture": 1.5}


def scoring_loop(vector: np.ndarray, gallery) -> tuple[VisionLoop, Scorer]:
    scorer = Scorer()
    seeing = Look([FACE], FACE, None, None, Probe(vector, "m", 0.0))
    health = CameraHealth(CameraConfig(), live=True)
    frames = Frames(Frame(pixels(1), 0.0))
    return VisionLoop(frames, health, lambda *_: seeing, lambda: gallery, lambda: 0.0, scorer), scorer


@pytest.mark.parametrize("gallery", [GALLERY, None])
def test_a_face_that_may_be_granted_is_scored_with_and_without_a_search(gallery):
    turns, scorer = scoring_loop(VECTOR, gallery)
    observation = turns.step().observation
    assert (observation.probe.pad, scorer.asked) == ({"texture": 1.5}, [0.0])
    assert "pad" in observation.stages_ms


@pytest.mark.parametrize("vector", [np.eye(1, 8, 1, dtype=np.float32)[0], np.full(8, np.nan, np.float32)])
def test_a_stranger_is_not_worth_scoring(vector):
    turns, scorer = scoring_loop(vector, GALLERY)
    observation = turns.step().observation
    assert (observation.probe.pad, scorer.asked) == (None, [])
