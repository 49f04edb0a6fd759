"""The shipped models: whole, fed as the manifest says, and refused when they are not what was measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import listen_in

from edge.config import ModelsConfig, QualityConfig
from edge.errors import ModelError
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pipeline import Pipeline
from edge.vision.runtime import on_cpu
from edge.vision.selftest import load_model, output_drift

SHELF = ModelShelf.open()
ENTRIES = {entry.id: entry for entry in SHELF.entries}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A models folder that a test may spoil."""
    for name in ["manifest.yaml", *(e.file for e in SHELF.entries)]:
        (tmp_path / name).write_bytes(SHELF.read(name))
    (tmp_path / "known_answers").mkdir()
    for entry in SHELF.entries:
        (tmp_path / entry.known_answer.file).write_bytes(SHELF.read(entry.known_answer.file))
    return tmp_path


def refusal(folder: Path, **models: str) -> str:
    with pytest.raises(ModelError) as caught:
        Pipeline.load(ModelsConfig(dir=str(folder), **models), QualityConfig())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("entry", SHELF.entries, ids=lambda e: e.id)
@pytest.mark.parametrize("threads", [1, 2])
def test_each_shipped_model_gives_its_known_answer(entry: ModelEntry, threads: int):
    assert load_model(SHELF, entry, ModelsConfig(threads=threads)).entry is entry


@pytest.mark.parametrize("entry", SHELF.entries, ids=lambda e: e.id)
def test_each_model_has_a_card_a_licence_and_quantised_weights_or_says_why_not(entry: ModelEntry):
    card = SHELF.read(entry.card).decode()
    assert len(card) > 500
    assert entry.licence in ("Apache-2.0", "MIT")
    assert "int8" in entry.quantisation or "## Why it is not quantised" in card
    assert entry.measured


@pytest.mark.parametrize("cut", [0, 1000, 50_000])
def test_a_truncated_model_is_refused_by_name(copy: Path, cut: int):
    path = copy / "facenet.tflite"
    path.write_bytes(path.read_bytes()[:cut])
    assert refusal(copy).startswith("facenet.tflite: expected sha256")


def test_one_flipped_bit_is_refused(copy: Path):
    path = copy / "blazeface_short.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refusal(copy).startswith("blazeface_short.tflite: expected sha256")


def test_a_missing_model_is_refused_by_name(copy: Path):
    (copy / "facenet.tflite").unlink()
    assert refusal(copy) == "facenet.tflite: No such file or directory"


def test_a_model_that_runs_but_answers_wrongly_is_refused(copy: Path):
    entry = ENTRIES[SHELF.default("embedder")]
    path = copy / entry.known_answer.file
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["output_0"] = np.roll(arrays["output_0"], 1)
    np.savez(path, **arrays)
    assert "known-answer test failed" in refusal(copy)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.pop("image"),
        lambda a: a.update(image=a["image"][:5]),
        lambda a: a.update(output_0=a["output_0"] * np.nan),
    ],
)
def test_a_spoiled_known_answer_is_refused(copy: Path, spoil):
    entry = ENTRIES[SHELF.default("detector")]
    path = copy / entry.known_answer.file
    with np.load(path) as stored:
        arrays = dict(stored)
    spoil(arrays)
    np.savez(path, **arrays)
    assert refusal(copy)


def test_a_known_answer_that_is_no_archive_is_refused(copy: Path):
    (copy / ENTRIES[SHELF.default("detector")].known_answer.file).write_bytes(b"PK\x03\x04 not really")
    assert "can't be read" in refusal(copy)


def test_a_model_the_manifest_does_not_know_is_refused_with_the_known_ones(copy: Path):
    assert "there are: blazeface-short" in refusal(copy, detector="yunet")


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path):
    assert "manifest.yaml: No such file" in refusal(tmp_path)


def test_an_unknown_key_in_the_manifest_is_refused(copy: Path):
    path = copy / "manifest.yaml"
    path.write_text(path.read_text().replace("    licence:", "    license: x\n    licence:", 1))
    assert "license: unknown key" in refusal(copy)


def test_a_manifest_whose_shapes_are_not_the_files_is_refused(copy: Path):
    path = copy / "manifest.yaml"
    path.write_text(path.read_text().replace("[1, 160, 160, 3]", "[1, 128, 128, 3]"))
    assert "expected float32 (1, 128, 128, 3), got float32 (1, 160, 160, 3)" in refusal(copy)


def test_another_embedder_is_a_manifest_entry(copy: Path):
    """The same file under another id and crop: a template of one is never compared with the other."""
    path = copy / "manifest.yaml"
    text = path.read_text()
    start = text.index("  - id: facenet")
    second = (
        text[start : text.index("\n  - id:", start)]
        .replace("id: facenet", "id: other", 1)
        .replace("left_eye: [0.345", "left_eye: [0.35")
    )
    path.write_text(text + "\n" + second)
    other = ModelShelf.open(copy).entries[-1].id
    pipeline = Pipeline.load(ModelsConfig(dir=str(copy), embedder=other), QualityConfig())
    assert pipeline.embedder.model == other


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
    entry = ENTRIES[SHELF.default("detector")]
    monkeypatch.setattr("edge.vision.runtime._PACKAGES", {"tflite-runtime": "no_such_package"})
    with pytest.raises(ModelError, match="no TFLite runtime: tflite-runtime is not installed"):
        on_cpu(entry, SHELF.model_bytes(entry), 1)


def test_drift_is_the_distance_of_unit_vectors_and_nan_for_what_has_no_norm():
    a = np.array([1, 0], np.float32)
    assert output_drift(a, 5 * a) == 0
    assert output_drift(a, -a) == pytest.approx(2)
    assert output_drift(a, np.array([0, 1], np.float32)) == pytest.approx(np.sqrt(2))
    assert not output_drift(a, 0 * a) <= 2
    assert not output_drift(a, a * np.float32("nan")) <= 2


def test_the_picture_goes_in_as_rgb_scaled_by_the_manifest():
    entry = ENTRIES[SHELF.default("embedder")]
    model = on_cpu(entry, SHELF.model_bytes(entry), 1)
    fed = listen_in(model, 512)
    picture = np.zeros((160, 160, 3), np.uint8)
    picture[..., 0] = 255  # red
    model(picture)
    np.testing.assert_allclose(fed[0][0, 0, 0], [(255 - 127.5) / 128, -127.5 / 128, -127.5 / 128], rtol=1e-6)
    assert fed[0].shape == (1, 160, 160, 3)
    assert fed[0].dtype == np.float32


def test_swapped_colours_would_be_noticed(pipeline, picture):
    """A guard on the whole path: RGB is nearer to RGB of the same person than BGR is."""
    known, probe = picture("obama.jpg"), picture("obama2.jpg")
    right, wrong = pipeline(probe).probe.vector, pipeline(np.ascontiguousarray(probe[..., ::-1])).probe.vector
    template = pipeline(known).probe.vector
    assert np.linalg.norm(template - right) < np.linalg.norm(template - wrong)


# distances of the shipped models on the pictures here, as a door compares them
NEAR = [("obama.jpg", "obama2.jpg"), ("obama.jpg", "obama3.jpg"), ("obama2.jpg", "obama3.jpg")]
FAR = [("obama.jpg", "biden.jpg"), ("obama.jpg", "astronaut.jpg"), ("biden.jpg", "astronaut.jpg")]


@pytest.mark.parametrize(("a", "b"), NEAR)
def test_pictures_of_one_person_are_below_the_threshold(pipeline, picture, a, b):
    assert np.linalg.norm(pipeline(picture(a)).probe.vector - pipeline(picture(b)).probe.vector) < 0.65


@pytest.mark.parametrize(("a", "b"), FAR)
def test_pictures_of_two_people_are_far_above_it(pipeline, picture, a, b):
    assert np.linalg.norm(pipeline(picture(a)).probe.vector - pipeline(picture(b)).probe.vector) > 1.1


@pytest.mark.parametrize("detector", [e.id for e in SHELF.entries if e.role == "detector"])
@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize("name", ["obama.jpg", "biden.jpg", "astronaut.jpg"])
def test_every_detector_finds_the_one_face_at_the_same_place(pipeline, picture, detector, scale, name):
    pixels = picture(name)
    reference = pipeline(pixels).face
    models = ModelsConfig(detector=detector)
    small = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    face = Pipeline.load(models, QualityConfig())(small).face
    assert face is not None
    away = np.abs(face.landmarks[:2] / scale - reference.landmarks[:2]).max()
    assert away < 0.2 * reference.eye_distance_px  # two networks, trained apart


def test_an_empty_picture_has_no_face(pipeline):
    for value in (0, 127, 255):
        assert pipeline(np.full((480, 640, 3), value, np.uint8)).faces == []


def test_the_pipeline_survives_any_size_of_picture(pipeline):
    for shape in ((1, 1), (3, 700), (700, 3), (2, 2)):
        assert pipeline(np.zeros((*shape, 3), np.uint8)).probe is None


def test_models_can_be_copied_elsewhere_and_used_from_there(copy: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("m") / "models"
    shutil.copytree(copy, elsewhere)
    assert Pipeline.load(ModelsConfig(dir=str(elsewhere)), QualityConfig()).embedder.dimension == 512
