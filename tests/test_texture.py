"""The texture layer: where it looks, what it makes of the answers, and that no accident scores high."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from fakes import listen_in

from edge.config import ModelsConfig
from edge.errors import ModelError
from edge.values import Face
from edge.vision.manifest import ModelShelf
from edge.vision.manifest import Texture as Looks
from edge.vision.runtime import on_cpu
from edge.vision.selftest import load_model
from edge.vision.texture import Texture, crop, log_odds, usable, window

FRAME = (640, 480)
SHELF = ModelShelf.open()
ENTRY = SHELF.entry(SHELF.default("pad"), "pad")
LOGITS = Looks(scales=[1.0], live_index=0)


def face(x: float, y: float, w: float, h: float) -> Face:
    return Face((x, y, w, h), np.zeros((6, 2), np.float32), 0.9)


def with_texture(folder: Path, texture: str) -> ModelShelf:
    """The shelf with the PAD entry's `texture` replaced."""
    path = folder / "manifest.yaml"
    path.write_text(path.read_text().replace(_texture_line(), f"    texture: {texture}"))
    return ModelShelf.open(folder)


class ScriptedModel:
    """Sibling of runtime.Model: gives the next answer, remembers the crops."""

    size = (128, 128)

    def __init__(self, *answers: list[float], entry=ENTRY) -> None:
        self.entry = entry
        self.seen: list[np.ndarray] = []
        self._answers = list(answers)

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        self.seen.append(picture)
        return [np.array(self._answers.pop(0), np.float32)]


@pytest.fixture(scope="module")
def texture() -> Texture:
    """The shipped model."""
    return Texture([load_model(SHELF, ENTRY, ModelsConfig())])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The manifest and the PAD model, for a test to spoil."""
    for name in ("manifest.yaml", ENTRY.file):
        (tmp_path / name).write_bytes(SHELF.read(name))
    return tmp_path


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (480, 640, 3), np.uint8)


@pytest.mark.parametrize(
    ("box", "scale", "expected"),
    [
        ((200, 150, 100, 100), 1.0, (200, 150, 300, 250)),
        # 150 wide about (250, 200)
        ((200, 150, 100, 100), 1.5, (175, 125, 325, 275)),
        # 270 wide about (40, 240): 95 px to the left of the frame, so shifted by them
        ((-10, 190, 100, 100), 2.7, (0, 105, 270, 375)),
        # 20 px beyond the right edge
        ((560, 200, 100, 100), 1.0, (540, 200, 640, 300)),
        # 10 px above the upper, 20 below the lower edge
        ((300, -10, 100, 100), 1.0, (300, 0, 400, 100)),
        ((300, 400, 100, 100), 1.0, (300, 380, 400, 480)),
        # 2.7 x 300 = 810 does not fit into 480: 1.6 does, and the middle (250, 200) lies 40 too high
        ((100, 50, 300, 300), 2.7, (10, 0, 490, 480)),
        # both sides shrink alike, by what the higher one needs: 2 x (160, 240), not 2.7 x
        ((240, 120, 160, 240), 2.7, (160, 0, 480, 480)),
        # larger than the frame: all of its height, and as much of the width
        ((0, -100, 600, 600), 1.0, (60, 0, 540, 480)),
    ],
)
def test_a_crop_is_shrunk_to_fit_and_shifted_inside_the_frame(box, scale, expected):
    assert window(box, scale, FRAME) == expected


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.7, 4.0])
def test_a_crop_never_leaves_the_frame_nor_turns_empty(scale):
    rng = np.random.default_rng(3)
    for _ in range(500):
        w, h = rng.uniform(1, 700, 2)
        x, y = rng.uniform(-w, FRAME[0]), rng.uniform(-h, FRAME[1])
        x0, y0, x1, y1 = window((x, y, w, h), scale, FRAME)
        assert 0 <= x0 < x1 <= FRAME[0]
        assert 0 <= y0 < y1 <= FRAME[1]


def test_a_crop_of_the_networks_own_size_is_the_frames_pixels(noise):
    part = crop(noise, (560, 400, 128, 128), 1.0, (128, 128))  # 48 px over both edges
    np.testing.assert_array_equal(part, noise[352:480, 512:640])


def test_a_crop_is_resized_bilinearly(noise):
    """Half the size: each pixel is the mean of the four it lies between."""
    part = crop(noise, (100, 60, 64, 64), 1.0, (32, 32))
    four = noise[60:124, 100:164].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(part - four).max() <= 1


def test_log_odds_are_those_of_alive_against_all_others():
    softmax = np.array([0.7, 0.2, 0.1])
    expected = math.log(0.7 / 0.3)
    assert log_odds(np.log(softmax).astype(np.float32) + 5, LOGITS) == pytest.approx(expected, rel=1e-5)
    probabilities = Looks(scales=[1.0], live_index=0, gives="probabilities")
    assert log_odds(softmax.astype(np.float32), probabilities) == pytest.approx(expected, rel=1e-5)
    second = Looks(scales=[1.0], live_index=1)
    assert log_odds(np.array([0, 3, 0], np.float32), second) == pytest.approx(3 - math.log(2))


def test_a_saturated_softmax_still_has_finite_odds():
    probabilities = Looks(scales=[1.0], live_index=0, gives="probabilities")
    assert 13 < log_odds(np.array([1, 0], np.float32), probabilities) < 14
    assert -14 < log_odds(np.array([0, 1], np.float32), probabilities) < -13


def test_the_score_is_the_mean_over_crops_and_then_over_models(noise):
    two = ScriptedModel([4, 0, -100], [2, 0, -100], [0, 0, -100])
    one = ScriptedModel([-8, 0, -100], [-8, 0, -100], [-8, 0, -100])
    assert Texture([two]).score(noise, face(200, 150, 100, 100), 0.0) == pytest.approx(2)
    two = ScriptedModel([4, 0, -100], [2, 0, -100], [0, 0, -100])
    assert Texture([two, one]).score(noise, face(200, 150, 100, 100), 0.0) == pytest.approx(-3)
    assert len(two.seen) == len(ENTRY.texture.scales)
    np.testing.assert_array_equal(two.seen[0], crop(noise, (200, 150, 100, 100), 1.0, (128, 128)))
    np.testing.assert_array_equal(two.seen[2], crop(noise, (200, 150, 100, 100), 2.7, (128, 128)))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_answer_that_is_not_finite_is_the_models_fault_and_not_the_frames(noise, broken, place):
    answer = [9.0, -9.0, -9.0]
    answer[place] = broken
    model = ScriptedModel([9, -9, -9], answer, [9, -9, -9])
    with pytest.raises(ModelError, match="expected logits that are finite"):
        Texture([model]).score(noise, face(200, 150, 100, 100), 0.0)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf])
def test_a_probability_that_is_none_is_no_verdict(value):
    probabilities = Looks(scales=[1.0], live_index=0, gives="probabilities")
    assert math.isnan(log_odds(np.array([value, 0.1], np.float32), probabilities))
    assert math.isnan(log_odds(np.array([0.9, value], np.float32), probabilities))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((480, 640, 3), np.uint8),
        np.full((480, 640, 3), 255, np.uint8),
        np.full((480, 640, 3), (200, 40, 90), np.uint8),
        np.random.default_rng(1).integers(0, 12, (480, 640, 3), np.uint8),
    ],
    ids=["black", "white", "one colour", "almost black"],
)
def test_a_black_or_flat_crop_is_no_verdict_and_is_shown_to_no_network(pixels):
    model = ScriptedModel()
    assert math.isnan(Texture([model]).score(pixels, face(200, 150, 100, 100), 0.0))
    assert model.seen == []


def test_a_picture_that_is_black_beside_the_face_alone_is_scored(noise):
    """A dark room is no fault: only the crop that is flat from edge to edge is refused."""
    pixels = np.zeros_like(noise)
    pixels[150:250, 200:300] = noise[150:250, 200:300]
    model = ScriptedModel([1, 0, -100], [1, 0, -100], [1, 0, -100])
    assert Texture([model]).score(pixels, face(200, 150, 100, 100), 0.0) == pytest.approx(1)


@pytest.mark.parametrize(
    "box",
    [
        (200, 150, 47.9, 100),
        (200, 150, 100, 47.9),
        (200, 150, 0, 0),
        (200, 150, -100, 100),
        (-10.1, 150, 100, 100),
        (550.1, 150, 100, 100),
        (200, -10.1, 100, 100),
        (200, 390.1, 100, 100),
        (2000, 150, 100, 100),
        (math.nan, 150, 100, 100),
        (200, 150, math.nan, 100),
        (200, 150, math.inf, 100),
        (-math.inf, 150, 100, 100),
    ],
)
def test_a_face_too_small_or_reaching_out_of_the_frame_is_no_verdict(noise, box):
    model = ScriptedModel()
    assert math.isnan(Texture([model]).score(noise, face(*box), 0.0))
    assert model.seen == []


@pytest.mark.parametrize("box", [(-10, 150, 100, 100), (550, 390, 100, 100), (200, -10, 100, 100)])
def test_a_face_that_touches_the_edge_is_still_scored(box):
    assert usable(box, FRAME, 48)


def test_portraits_score_alive_and_higher_than_with_colours_swapped(texture, pipeline, picture):
    """A guard on the whole path. (Portraits of the public domain; what it does on attacks: the card.)"""
    for name in ("astronaut.jpg", "biden.jpg", "obama.jpg", "obama2.jpg", "obama3.jpg"):
        pixels = picture(name)
        found = pipeline(pixels).face
        score = texture.score(pixels, found, 0.0)
        assert score > 4
        assert texture.score(np.ascontiguousarray(pixels[..., ::-1]), found, 0.0) < score


def test_the_conversion_answers_as_onnx_does():
    """Logits of the source file by onnxruntime 1.31, for the picture of the known answer."""
    with np.load(io.BytesIO(SHELF.read(ENTRY.known_answer.file))) as stored:
        picture = stored["image"]
    logits = load_model(SHELF, ENTRY, ModelsConfig(threads=1))(picture)[0]
    np.testing.assert_allclose(logits, [4.479774, -2.105084, -2.374646], atol=1e-4)


def test_the_picture_goes_in_as_bgr_from_0_to_255():
    model = on_cpu(ENTRY, SHELF.model_bytes(ENTRY), 1)
    fed = listen_in(model, 3)
    model(np.full((128, 128, 3), (255, 7, 0), np.uint8))
    assert fed[0].shape == (1, 128, 128, 3)
    np.testing.assert_array_equal(fed[0][0, 5, 5], [0, 7, 255])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{scales: [], live_index: 0}", "texture.scales"),
        ("{scales: [0.0], live_index: 0}", "texture.scales[0]"),
        ("{scales: [11.0], live_index: 0}", "texture.scales[0]"),
        ("{scales: [.nan], live_index: 0}", "texture.scales[0]"),
        ("{scales: [.inf], live_index: 0}", "texture.scales[0]"),
        ("{scales: [big], live_index: 0}", "texture.scales[0]"),
        ("{scales: 2.7, live_index: 0}", "texture.scales"),
        ("{scales: [2.7], live_index: -1}", "texture.live_index"),
        ("{scales: [2.7], live_index: 0.5}", "texture.live_index"),
        ("{scales: [2.7]}", "live_index"),
        ("{live_index: 0}", "scales"),
        ("{scales: [2.7], live_index: 0, gives: scores}", "texture.gives"),
        ("{scales: [2.7], live_index: 0, min_face_px: 0}", "texture.min_face_px"),
        ("{scales: [2.7], live_index: 0, min_face_px: .nan}", "texture.min_face_px"),
        ("{scales: [2.7], live_index: 0, live: -.inf}", "texture.live"),
        ("{scales: [2.7], live_index: 0, unsure: .nan}", "texture.unsure"),
        ("{scales: [2.7], live_index: 0, colour: BGR}", "texture.colour: unknown key"),
    ],
)
def test_a_manifest_that_says_wrongly_how_to_look_is_refused_in_one_line(folder, wrong, words):
    with pytest.raises(ModelError) as caught:
        with_texture(folder, wrong)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{scales: [2.7], live_index: 3}", "live_index 3 within, got 1, the first [1, 3]"),
        ("null", "expected texture in the manifest, got none"),
    ],
)
def test_a_model_that_can_not_be_asked_is_refused_in_one_line(folder, wrong, words):
    shelf = with_texture(folder, wrong)
    entry = shelf.entry(ENTRY.id, "pad")
    with pytest.raises(ModelError) as caught:
        Texture([on_cpu(entry, shelf.model_bytes(entry), 1)])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_model_at_all_is_refused():
    with pytest.raises(ModelError, match="expected at least one PAD model, got none"):
        Texture([])


def test_another_network_is_two_manifest_entries(folder, noise):
    """Silent-Face's pair: another size, one scale each, alive at 1. (Its files are not here: fakes.)"""
    path = folder / "manifest.yaml"
    text = path.read_text()
    entry = text[text.index(f"  - id: {ENTRY.id}") :]
    for name, scale in (("pair-2-7", 2.7), ("pair-4-0", 4.0)):
        other = entry.replace(f"id: {ENTRY.id}", f"id: {name}").replace("[1, 128, 128, 3]", "[1, 80, 80, 3]")
        text += "\n" + other.replace(_texture_line(), f"    texture: {{scales: [{scale}], live_index: 1}}")
    path.write_text(text)
    entries = [ModelShelf.open(folder).entry(name, "pad") for name in ("pair-2-7", "pair-4-0")]
    pair = [ScriptedModel([0, 5, -100], entry=entries[0]), ScriptedModel([0, 2, -100], entry=entries[1])]
    for model in pair:
        model.size = (80, 80)
    assert Texture(pair).score(noise, face(200, 150, 100, 100), 0.0) == pytest.approx(3.5)
    np.testing.assert_array_equal(pair[1].seen[0], crop(noise, (200, 150, 100, 100), 4.0, (80, 80)))


def _texture_line() -> str:
    text = SHELF.read("manifest.yaml").decode()
    return next(line for line in text.splitlines() if line.startswith("    texture: "))
