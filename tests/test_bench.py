"""`doord bench`: what it measures, and what it says when it can't."""

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.config import ModelsConfig, QualityConfig
from edge.errors import DoordError, ImageError, ModelError
from edge.tools.bench import (
    STAGES,
    BenchOptions,
    load_float,
    load_frames,
    memory_mb,
    run_bench,
    summarise,
    synthetic_gallery,
    take_turns,
)
from edge.values import Probe
from edge.vision.pipeline import Look


class FakePipeline:
    """A full sibling of Pipeline: any picture has a face unless told otherwise; keeps its history."""

    def __init__(self, shortcoming=None, history=None, name="shipped"):
        self.embedder = SimpleNamespace(model="fake", dimension=8)
        self.backend, self.backend_why = "none", ""
        self._shortcoming, self._name = shortcoming, name
        self.history = history if history is not None else []

    def __call__(self, pixels, taken_at=0.0):
        self.history.append((self._name, pixels.shape))
        if self._shortcoming:
            return Look([], shortcoming=self._shortcoming, stages_ms={"detect": 1.0})
        vector = np.eye(8, dtype=np.float32)[0]
        return Look(
            [], probe=Probe(vector, "fake", 0.0), stages_ms={"detect": 1.0, "align": 2.0, "embed": 3.0}
        )


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), np.full((100, 50, 3), 255, np.uint8))
    return path


def bench(options, pipeline):
    return run_bench(options, ModelsConfig(), QualityConfig(), load=lambda _models, _gate: pipeline)


def test_every_stage_is_measured_and_positive(photo):
    pipeline = FakePipeline()
    report = bench(BenchOptions(photo, frames=5, warm_up=2, subjects=10), pipeline)
    assert tuple(t.stage for t in report.stages) == STAGES
    assert all(0 < t.p50_ms <= t.p95_ms <= t.p99_ms for t in (*report.stages, report.search_large))
    assert [t.p50_ms for t in report.stages[:3]] == [1.0, 2.0, 3.0]
    assert (report.frames, report.skipped, report.templates) == (5, 0, 50)
    assert pipeline.history == [("shipped", (480, 640, 3))] * 7


def test_the_report_reads_as_text_and_as_json(photo):
    report = bench(BenchOptions(photo, frames=2, warm_up=0, subjects=2), FakePipeline())
    data = json.loads(report.json())
    assert {t["stage"] for t in data["stages"]} == set(STAGES)
    assert data["float_path"] is None
    text = "\n".join(report.lines())
    assert "50x100 scaled by 4.8 onto black 640x480" in text
    assert all(stage in text for stage in STAGES)


def test_percentiles_are_over_the_laps_of_each_stage():
    laps = [dict.fromkeys(STAGES, float(i)) for i in range(1, 102)]
    total = summarise(laps)[-1]
    assert (total.stage, total.p50_ms, total.p95_ms, total.p99_ms) == ("total", 51, 96, 100)


def test_the_float_path_takes_turns_with_the_shipped_one(photo):
    history = []
    looks = [FakePipeline(None, history, "shipped"), FakePipeline(None, history, "float")]
    frames, _ = load_frames(photo)
    options = BenchOptions(photo, frames=3, warm_up=1)
    laps = take_turns(looks, synthetic_gallery(2, 1, "fake", 8), frames, options, lambda *_: None)
    assert [name for name, _ in history] == [
        "float", "shipped", "shipped", "float", "float", "shipped", "shipped", "float",
    ]  # fmt: skip
    assert [len(path) for path in laps] == [3, 3]


def test_a_picture_of_nobody_is_refused_with_the_reason(photo):
    with pytest.raises(ImageError, match=r"expected a face that passes the gate, got: blurred"):
        bench(BenchOptions(photo, frames=2, warm_up=0, subjects=2), FakePipeline("blurred: sharpness 3"))


def test_a_picture_is_fitted_into_the_doors_frame_with_its_aspect_kept(photo):
    (frame,), _ = load_frames(photo)
    assert frame.shape == (480, 640, 3)
    assert frame[:, 200:440].min() == 255  # 50x100 became 240x480
    assert frame[:, :200].max() == 0
    assert frame[:, 440:].max() == 0


def test_a_frame_of_the_doors_size_is_left_as_it_is(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (frame,), how = load_frames(tmp_path / "a.png")
    assert np.array_equal(frame, pixels[:, :, ::-1])
    assert how == "640x480 as it is"


def test_a_clip_gives_its_frames_in_order_as_rgb(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (640, 480))
    for red in (50, 100, 150):
        writer.write(np.full((480, 640, 3), (0, 0, red), np.uint8))
    writer.release()
    frames, _ = load_frames(path)
    assert [round(float(f[:, :, 0].mean()), -1) for f in frames] == [50, 100, 150]
    assert max(f[:, :, 2].mean() for f in frames) < 10


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_a_clip_that_is_none_is_one_clear_line(content, tmp_path):
    path = tmp_path / "clip.mkv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"clip\.mkv: expected a video"):
        load_frames(path)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"warm_up": -1}, {"subjects": 0}, {"templates_each": 0}])
def test_an_option_out_of_range_is_refused_before_anything_is_loaded(wrong, photo):
    with pytest.raises(DoordError, match=f"{next(iter(wrong))}: expected >= "):
        run_bench(
            BenchOptions(photo, **wrong),
            ModelsConfig(),
            QualityConfig(),
            load=lambda *_: pytest.fail("loaded models"),
        )


def test_synthetic_templates_are_unit_vectors_and_the_same_each_time():
    one, two = (synthetic_gallery(3, 4, "fake", 16) for _ in range(2))
    assert np.allclose(np.linalg.norm(one.templates, axis=1), 1, atol=1e-6)
    assert np.array_equal(one.templates, two.templates)
    assert one.owners.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_memory_now_is_not_above_the_peak():
    now, peak = memory_mb()
    assert 1 < now <= peak


def test_a_missing_float_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"blazeface_(short|full)\.tflite: expected a float model"):
        load_float(tmp_path, ModelsConfig(), QualityConfig())


def test_the_real_models_run_both_paths_over_a_photograph():
    photo = Path(__file__).parent / "pictures" / "obama.jpg"
    same = Path(str(resources.files("edge.models")))  # any models of the same tensors will do here
    options = BenchOptions(photo, frames=2, warm_up=1, subjects=2, float_models=same)
    told = []
    report = run_bench(options, ModelsConfig(), QualityConfig(), lambda *step: told.append(step))
    assert all(t.p50_ms > 0 for t in (*report.stages, *report.float_path.stages))
    assert report.float_path.times_slower > 0
    assert report.models.startswith("facenet")
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert "times faster" in report.lines()[-1]
