"""A GPU is used where it proves itself, in a child that may die of it, and nowhere else.

What needs a Vulkan driver takes the one that `tests/vulkan/get` fetches, a rasteriser on the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge.config import ModelsConfig
from edge.vision import gpu_verdicts
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import Conditions, look
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.selftest import known_answer, load_model

SHELF = ModelShelf.open()
DETECTOR = SHELF.entry("blazeface-short-1", "detector")
OTHER = SHELF.entry("blazeface-full-1", "detector")
ANY = Conditions("", "drivers")
GPU = {"name": "Orin (nvgpu)", "kind": "integrated", "driver_version": "0x1", "lacking": []}
CACHE = Path(os.environ.get("DOORD_TEST_CACHE", Path(__file__).parent.parent / ".cache")) / "vulkan"
PI4 = "fp asimd evtstrm crc32 cpuid"
PI5 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def script(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"import json, os, signal, sys, time\n{code}"


def sees(*devices: dict, fault: str = "") -> tuple[str, ...]:
    return script(f"print(json.dumps({{'devices': {devices!r}, 'fault': {fault!r}}}))")


def says(why: str = "", log: Path = Path(os.devnull)) -> tuple[str, ...]:
    """A trial that notes the question."""
    return script(f"""
with open({str(log)!r}, "a") as file: file.write(sys.stdin.read() + "\\n")
print(json.dumps({{"why": {why!r}, "gpu_ms": 1.0, "cpu_ms": 2.0}}))""")


def verdicts(folder: Path | None, probe=(), devices=None, models=None, **more) -> GpuVerdicts:
    children = Children(devices or sees(GPU), probe or says())
    return GpuVerdicts(models or ModelsConfig(), folder, more.pop("conditions", ANY), children, **more)


def trials(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


# --- before anything is started


@pytest.fixture
def machine(tmp_path: Path):
    """machine(features per core, [driver]) -> a root folder."""

    def make(*cores: str, driver: str = "/usr/lib/libvulkan_test.so") -> Path:
        (tmp_path / "proc").mkdir(exist_ok=True)
        lines = [f"processor\t: {i}\nFeatures\t: {words}\n" for i, words in enumerate(cores)]
        (tmp_path / "proc/cpuinfo").write_text("\n".join(lines))
        folder = tmp_path / "usr/share/vulkan/icd.d"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/lib/aarch64-linux-gnu").mkdir(parents=True, exist_ok=True)
        if driver:
            (folder / "test.json").write_text(json.dumps({"ICD": {"library_path": driver}}))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("cores", "arch", "driver", "refusal"),
    [
        ([PI5] * 4, "aarch64", "libtest.so", ""),
        ([PI4] * 4, "aarch64", "libtest.so", "no GPU: its library needs a processor with aes, asimddp, "),
        ([PI5, PI5, PI4], "aarch64", "libtest.so", "no GPU: its library needs a processor with aes"),
        ([], "aarch64", "libtest.so", "no GPU: its library needs a processor with aes"),
        ([PI5.replace(" lrcpc", "")], "aarch64", "a.so", "no GPU: its library needs a processor with lrcpc"),
        ([PI5], "armv7l", "libtest.so", "no GPU: LiteRT has no accelerator for armv7l"),
        ([PI5], "aarch64", "", "no GPU: no Vulkan driver is installed"),
        ([], "x86_64", "libtest.so", ""),
    ],
)
def test_a_processor_or_a_system_that_can_not_have_one_is_not_asked(machine, cores, arch, driver, refusal):
    said = look(machine(*cores, driver=driver), arch, {}).refusal
    assert said.startswith(refusal)
    assert bool(said) == bool(refusal)


def test_drivers_are_known_by_their_files(machine):
    root = machine(PI5, driver="libtest.so")
    seen = [look(root, "aarch64", {}).drivers]
    library = root / "usr/lib/aarch64-linux-gnu/libtest.so"
    library.write_text("1")
    seen.append(look(root, "aarch64", {}).drivers)
    library.write_text("22")
    seen.append(look(root, "aarch64", {}).drivers)
    assert len({*seen, ""}) == 4
    assert look(root, "aarch64", {}).drivers == seen[-1]


def test_a_unit_that_may_compile_now_is_another_case(machine, monkeypatch):
    root = machine(PI5)
    before = look(root, "aarch64", {}).drivers

    def denied(*arguments, **more):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("edge.vision.gpu_conditions.mmap.mmap", denied)
    assert look(root, "aarch64", {}).drivers != before


def test_drivers_that_the_environment_names_stand_in_for_the_systems(machine, tmp_path):
    root = machine(PI5)
    other = tmp_path / "other.json"
    assert "no Vulkan driver" in look(root, "aarch64", {"VK_DRIVER_FILES": str(other)}).refusal
    other.write_text("{}")
    assert look(root, "aarch64", {"VK_ICD_FILENAMES": str(other)}).refusal == ""


def test_where_the_conditions_do_not_hold_no_process_is_started(tmp_path):
    asked = GpuVerdicts(ModelsConfig(), tmp_path, Conditions("no GPU: said so"), Children(("/bin/false",)))
    assert asked.refusal(DETECTOR) == "no GPU: said so"
    assert list(tmp_path.iterdir()) == []


# --- looking for a device


@pytest.mark.parametrize(
    ("devices", "refusal"),
    [
        (sees(), "no GPU: Vulkan finds no device"),
        (sees(GPU | {"kind": "cpu", "name": "llvmpipe"}), "no GPU: llvmpipe is the CPU"),
        (
            sees(GPU | {"name": "V3D 4.2", "lacking": ["shaderStorageImageArrayDynamicIndexing"]}),
            "no GPU: V3D 4.2 has no shaderStorageImageArrayDynamicIndexing",
        ),
        (sees(fault="libvulkan.so.1: no such file"), "no GPU: Vulkan: libvulkan.so.1: no such file"),
        (script("os.kill(os.getpid(), signal.SIGSEGV)"), "no GPU: looking for one: it died of SIGSEGV"),
        (script("sys.exit(3)"), "no GPU: looking for one: it ended with 3"),
        (script("print('{')"), "no GPU: looking for one: "),
        (("/nowhere/python",), "no GPU: looking for one: [Errno 2] No such file"),
    ],
)
def test_a_device_that_is_none_is_said(tmp_path, devices, refusal):
    log = tmp_path / "log"
    assert verdicts(tmp_path, says(log=log), devices).refusal(DETECTOR).startswith(refusal)
    assert trials(log) == 0


def test_a_gpu_beside_a_rasteriser_is_found(tmp_path):
    assert verdicts(tmp_path, devices=sees(GPU | {"kind": "cpu"}, GPU)).refusal(DETECTOR) == ""


# --- the trial, and a process that dies in it


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        (script("os.kill(os.getpid(), signal.SIGILL)"), "it died of SIGILL"),
        (script("os.kill(os.getpid(), signal.SIGSEGV)"), "it died of SIGSEGV"),
        (script("time.sleep(60)"), "no answer within 9 s"),
        (script("print('INFO: ready')"), "JSON is malformed"),
        (script("sys.exit(1)"), "it ended with 1"),
        (says("the GPU is slower"), "the GPU is slower"),
    ],
    ids=["SIGILL", "SIGSEGV", "hangs", "talks", "fails", "slower"],
)
def test_a_trial_that_fails_leaves_the_door_on_the_processor(tmp_path, probe, why):
    asked = verdicts(tmp_path, probe, budget_s=9)
    model = load_model(SHELF, DETECTOR, ModelsConfig(delegate="gpu"), asked)
    assert model.backend == "litert cpu 2t"
    assert why in model.why
    assert "\n" not in model.why
    picture, stored = known_answer(SHELF, DETECTOR)
    assert len(model(picture)) == len(stored)


def test_a_trial_is_given_nothing_of_the_doors(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/doord.service")
    monkeypatch.setenv("DOORD_SECRET", "x")
    monkeypatch.setenv("VK_DRIVER_FILES", "/driver.json")
    probe = script("print(json.dumps({'why': ' '.join(sorted(os.environ)) + ' ' + os.getcwd()}))")
    names, folder = verdicts(tmp_path, probe).refusal(DETECTOR).rsplit(" ", 1)
    assert set(names.split()) - {"LC_CTYPE"} == {"PYTHONPATH", "VK_DRIVER_FILES"} | (
        {"LD_LIBRARY_PATH", "XDG_RUNTIME_DIR"} & os.environ.keys()
    )
    assert folder == "/"


def test_a_verdict_is_remembered_and_holds_for_what_it_was_made_of(tmp_path, monkeypatch):
    log = tmp_path / "log"
    folder = tmp_path / "state"
    folder.mkdir()

    def ask(entry: ModelEntry = DETECTOR, device=GPU, conditions=ANY, threads=2) -> None:
        models = ModelsConfig(threads=threads)
        said = verdicts(folder, says("slower", log), sees(device), models, conditions=conditions)
        assert said.refusal(entry) == "slower"

    ask()
    ask()
    assert trials(log) == 1
    ask(OTHER)
    ask()
    assert trials(log) == 2  # of another model; this one's verdict stays
    for changed in (
        {"device": GPU | {"driver_version": "0x2"}},
        {"device": GPU | {"name": "another"}},
        {"conditions": Conditions("", "others")},
        {"threads": 1},
        {"entry": msgspec.structs.replace(DETECTOR, sha256="0" * 64)},
    ):
        before = trials(log)
        ask(**changed)
        ask(**changed)
        assert trials(log) == before + 1, changed
    before = trials(log)
    monkeypatch.setattr(gpu_verdicts, "__version__", "9.9.9")
    ask()
    assert trials(log) == before + 1
    monkeypatch.setattr(gpu_verdicts.metadata, "version", lambda name: "99.0")
    ask()
    assert trials(log) == before + 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"verdicts": 3}', b"\xff" * 100])
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    (tmp_path / "gpu.json").write_bytes(content)
    assert verdicts(tmp_path).refusal(DETECTOR) == ""
    assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 1


def test_trials_of_a_start_share_their_time_and_what_had_none_is_tried_at_the_next(tmp_path):
    log = tmp_path / "log"
    slow = (*says("slower", log)[:2], says("slower", log)[2] + "\ntime.sleep(1.2)")
    asked = verdicts(tmp_path, slow, budget_s=9)
    assert asked.refusal(DETECTOR) == "slower"
    assert "before the next start" in asked.refusal(OTHER)
    assert trials(log) == 1
    assert verdicts(tmp_path, slow, budget_s=9).refusal(OTHER) == "slower"
    assert trials(log) == 2


# --- a door that dies of it


def test_a_door_that_died_twice_on_the_gpu_starts_on_the_processor_and_says_why(tmp_path):
    assert [verdicts(tmp_path).refusal(DETECTOR) for _ in range(2)] == ["", ""]  # neither ended in order
    third = verdicts(tmp_path)
    model = load_model(SHELF, DETECTOR, ModelsConfig(delegate="gpu"), third)
    assert model.backend == "litert cpu 2t"
    assert model.why.startswith("auto: the door died 2 times within minutes of using it; remove ")
    third.close()
    assert "died 2 times" in verdicts(tmp_path).refusal(DETECTOR)
    (tmp_path / "gpu.json").unlink()
    assert verdicts(tmp_path).refusal(DETECTOR) == ""


def test_deaths_count_for_what_is_configured_a_library_too(tmp_path):
    named = ModelsConfig(delegate="/usr/lib/libgpu.so")
    assert [verdicts(tmp_path, models=named).risk() for _ in range(2)] == ["", ""]
    refused = verdicts(tmp_path, models=named).risk()
    assert refused.startswith("/usr/lib/libgpu.so: the door died 2 times within minutes of using it; remove ")
    assert verdicts(tmp_path).refusal(DETECTOR) == ""  # another delegate begins anew
    assert verdicts(tmp_path, models=named).risk() == ""


@pytest.mark.parametrize("ends", ["in order", "after a while"])
def test_a_door_that_lived_on_the_gpu_is_not_counted(tmp_path, ends, monkeypatch):
    for _ in range(5):
        door = verdicts(tmp_path)
        assert door.refusal(DETECTOR) == ""
        assert door.refusal(OTHER) == ""  # one start, whatever it runs
        if ends == "in order":
            door.close()
        else:
            door.tend(door._since + 599)
            assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 1
            door.tend(door._since + 601)
        assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 0


def test_without_a_place_to_count_deaths_there_is_no_gpu(tmp_path):
    (tmp_path / "file").touch()
    assert "can't be written" in verdicts(tmp_path / "file").refusal(DETECTOR)


def test_tflite_runtime_has_no_gpu_of_its_own(tmp_path, monkeypatch):
    found = gpu_verdicts.find_runtime("auto")
    monkeypatch.setattr(gpu_verdicts, "find_runtime", lambda name: type(found)("tflite-runtime", found.api))
    assert "models.delegate" in verdicts(tmp_path).refusal(DETECTOR)


@pytest.mark.parametrize("delegate", ["cpu", "/nowhere/libgpu.so"])
def test_where_another_is_asked_for_no_gpu_is_thought_of(tmp_path, delegate):
    log = tmp_path / "log"
    models = ModelsConfig(delegate=delegate)
    model = load_model(SHELF, DETECTOR, models, verdicts(tmp_path, says(log=log), models=models))
    assert (model.backend, trials(log), "GPU" in model.why) == ("litert cpu 2t", 0, False)


# --- the accelerator itself

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
