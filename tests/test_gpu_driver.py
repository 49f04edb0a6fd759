"""LiteRT's GPU accelerator itself: not loaded where it is not wanted, and right where a driver is.

What needs a Vulkan driver takes the one that `tests/vulkan/get` fetches, a rasteriser on the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes_gpu import GPU, says, sees

from edge.config import ModelsConfig
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import look
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelShelf
from edge.vision.selftest import load_model

SHELF = ModelShelf.open()
DETECTOR = SHELF.entry("blazeface-short-1", "detector")
CACHE = Path(os.environ.get("DOORD_TEST_CACHE", Path(__file__).parent.parent / ".cache")) / "vulkan"


LOADED = """
import sys
from pathlib import Path
from edge.config import ModelsConfig, QualityConfig
from edge.vision.gpu_conditions import Conditions
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.pipeline import Pipeline
gpu = GpuVerdicts(ModelsConfig(), None, Conditions("no GPU: " + sys.argv[1]) if sys.argv[1] else None)
print(Pipeline.load(ModelsConfig(), QualityConfig(), gpu).backend_why)
maps = Path("/proc/self/maps").read_text()
assert "ai_edge_litert" in maps
assert "WebGpu" not in maps and "libvulkan" not in maps, maps
assert not [name for name in sys.modules if "compiled_model" in name]
"""


@pytest.mark.parametrize("refusal", ["", "a processor without lse"])
def test_a_door_without_a_gpu_maps_nothing_of_one(refusal):
    if not refusal and look().refusal == "":
        pytest.skip("this machine may have one")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, refusal], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("no GPU: ")


def test_a_verdict_that_no_longer_holds_leaves_the_door_on_the_processor(tmp_path):
    """The driver went, or there never was one: LiteRT finds no adapter."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment["VK_DRIVER_FILES"] = environment["VK_ICD_FILENAMES"] = "/nowhere.json"
    code = f"""
import sys
from pathlib import Path
from edge.config import ModelsConfig
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import Conditions
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelShelf
from edge.vision.selftest import load_model
children = Children({sees(GPU)!r}, {says()!r})
gpu, shelf = GpuVerdicts(ModelsConfig(), Path({str(tmp_path)!r}), Conditions(""), children), ModelShelf.open()
model = load_model(shelf, shelf.entry("blazeface-short-1", "detector"), ModelsConfig(), gpu)
print(model.backend, "|", model.why)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "litert cpu 2t | blazeface_short.tflite: the GPU can't run it: " in ran.stdout, ran.stderr


@pytest.fixture
def driver(monkeypatch) -> None:
    """SwiftShader, a Vulkan driver in software, for the children of this process."""
    if not (CACHE / "driver.json").exists():
        pytest.skip("no Vulkan driver in software here: tests/vulkan/get fetches one")
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, str(CACHE / "driver.json"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(CACHE))


def test_a_rasteriser_is_refused_for_what_it_is(driver, tmp_path):
    asked = GpuVerdicts(ModelsConfig(), tmp_path)
    model = load_model(SHELF, DETECTOR, ModelsConfig(), asked)
    assert model.backend == "litert cpu 2t"
    assert model.why.startswith("no GPU: SwiftShader Device")
    assert model.why.endswith(" is the CPU")


@pytest.mark.slow
@pytest.mark.parametrize("entry", SHELF.entries, ids=lambda e: e.id)
def test_a_rasteriser_taken_for_a_gpu_is_right_and_refused_because_it_is_slower(driver, tmp_path, entry):
    asked = GpuVerdicts(ModelsConfig(), tmp_path, children=Children(software=True), budget_s=60)
    model = load_model(SHELF, entry, ModelsConfig(), asked)
    assert model.backend == "litert cpu 2t"
    assert "the GPU is slower: " in model.why
    (answer,) = [v["answer"] for v in json.loads((tmp_path / "gpu.json").read_text())["verdicts"]]
    assert answer["drift"] <= entry.known_answer.max_drift
    assert answer["gpu_ms"] > answer["cpu_ms"]
    assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 0


ON_GPU = """
import sys
from pathlib import Path
import numpy as np
from edge.config import ModelsConfig
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import Conditions
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelShelf
from edge.vision.selftest import load_model, output_drift
folder, look, probe = Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3])
gpu, shelf = GpuVerdicts(ModelsConfig(), folder, Conditions(""), Children(look, probe)), ModelShelf.open()
for entry in shelf.entries:
    on_gpu, on_cpu = load_model(shelf, entry, ModelsConfig(), gpu), load_model(shelf, entry, ModelsConfig())
    assert (on_gpu.backend, on_gpu.why) == ("litert gpu", ""), on_gpu.why
    for seed in range(3):
        width, height = on_gpu.size
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for a, b in zip(on_cpu(noise), on_gpu(noise), strict=True):
            drift = output_drift(a, b)
            print(entry.id, drift)
            assert a.shape == b.shape and drift <= 2 * entry.known_answer.max_drift
assert "WebGpu" in Path("/proc/self/maps").read_text()
gpu.close()
"""


@pytest.mark.slow
def test_a_device_that_passes_runs_every_model_and_answers_like_the_processor(driver, tmp_path):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"):
        environment[name] = os.environ[name]
    ran = subprocess.run(
        [sys.executable, "-c", ON_GPU, str(tmp_path), repr(sees(GPU)), repr(says())],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 0
