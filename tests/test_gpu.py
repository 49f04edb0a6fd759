"""A GPU is used where it proves itself, in a child that may die of it, and nowhere else.

The accelerator itself is in `test_gpu_driver.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from broker import wait_until
from fakes_gpu import GPU, says, script, sees

from edge import daemon
from edge.config import Config, DoorConfig, ModelsConfig, QualityConfig, RelayConfig
from edge.errors import LineError, ModelError
from edge.vision import gpu_verdicts
from edge.vision.delegates import exposed
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import Conditions, look
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pipeline import Pipeline
from edge.vision.selftest import known_answer, load_model

SHELF = ModelShelf.open()
DETECTOR = SHELF.entry("blazeface-short-1", "detector")
OTHER = SHELF.entry("blazeface-full-1", "detector")
ANY = Conditions("", "drivers")
PI4 = "fp asimd evtstrm crc32 cpuid"
PI5 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


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
        (script("os.kill(os.getpid(), 40)"), "no GPU: looking for one: it died of signal 40"),
        (script("print('{\"x\":' + '[' * 20000 + ']' * 20000 + '}')"), "no GPU: looking for one: "),
        (script("while True: os.write(1, b'x' * 10**6)"), "no GPU: looking for one: it ended with 1"),
    ],
)
def test_a_device_that_is_none_is_said(tmp_path, devices, refusal):
    log = tmp_path / "log"
    assert verdicts(tmp_path, says(log=log), devices).refusal(DETECTOR).startswith(refusal)
    assert trials(log) == 0


def test_a_child_that_leaves_another_with_its_answer_in_hand_holds_nothing_up(tmp_path):
    answer = json.dumps({"devices": [GPU], "fault": ""})
    leaves = script(f"import subprocess; subprocess.Popen(['/bin/sleep', '20']); print({answer!r})")
    assert verdicts(tmp_path, devices=leaves).refusal(DETECTOR) == ""


def test_a_child_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    told = tmp_path / "pids"
    hangs = script(
        "import subprocess; other = subprocess.Popen(['/bin/sleep', '60'])\n"
        f"open({str(told)!r}, 'w').write(f'{{other.pid}}'); time.sleep(60)"
    )
    assert "no answer within 8 s" in verdicts(tmp_path, hangs, budget_s=8).refusal(DETECTOR)
    wait_until(lambda: _gone(int(told.read_text())), "what it started ends")


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_what_a_driver_is_called_can_not_write_on_a_terminal(tmp_path):
    devices = sees(GPU | {"kind": "cpu", "name": "\x1b[2Jpipe\nline"})
    model = load_model(SHELF, DETECTOR, ModelsConfig(delegate="gpu"), verdicts(tmp_path, devices=devices))
    assert model.why == "no GPU:  [2Jpipe line is the CPU"


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


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"verdicts": 3}', b"\xff" * 100, b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}"]
)
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


def test_a_start_that_ends_for_another_reason_is_no_death(tmp_path, monkeypatch):
    """A reader's line that is not there yet is tried again every second, each time with the models loaded."""

    def put_off(config, lines, source, gpu, *_, **__):
        assert gpu.refusal(DETECTOR) == ""
        raise LineError("busy")

    monkeypatch.setattr(daemon, "Daemon", put_off)
    monkeypatch.setattr(daemon, "GpuVerdicts", lambda models, folder: verdicts(folder, models=models))
    paths = {"state_dir": str(tmp_path), "socket": str(tmp_path / "socket")}
    config = Config("hq", "front", DoorConfig(RelayConfig(17)), simulation=True, **paths)
    for _ in range(4):
        with pytest.raises(LineError):
            daemon.build(config)
    assert json.loads((tmp_path / "gpu.json").read_text())["starts"] == 0


def test_an_order_to_end_during_the_start_is_an_end_in_order(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"""
site: hq
door_id: front
simulation: true
state_dir: {tmp_path}
door: {{relay: {{line: 17}}}}
camera: {{source: "folder:/nowhere"}}
""")
    code = f"""
import os, pathlib, time
from edge import process
def build(config, reread):
    try:
        os.kill(os.getpid(), 15)
        time.sleep(60)
    finally:
        print("undone", flush=True)
process.build = build
process.run(pathlib.Path({str(config)!r}))"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("undone\n", 0), done.stderr


def test_a_library_that_others_can_write_is_told(tmp_path: Path):
    folder, link = tmp_path / "open", tmp_path / "link"
    folder.mkdir()
    library = folder / "libgpu.so"
    library.touch()
    link.symlink_to(library)
    for path in (library, link):
        assert exposed(str(path)) is None
        library.chmod(0o646)
        assert f"any user can write {library}, " in exposed(str(path))
        library.chmod(0o644)
        folder.chmod(0o777)
        assert f"any user can write {folder}, " in exposed(str(path))
        folder.chmod(0o1777)
        assert exposed(str(path)) is None
        folder.chmod(0o755)
    assert exposed("gpu") is None


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


# --- a GPU that fails while the door is in use


class Failing:
    """Gives the known answer, and then fails."""

    name = "litert gpu"

    def __init__(self, entry, content):
        self._turns = [[np.asarray(output) for output in known_answer(SHELF, entry)[1]]]

    def run(self, tensor):
        if not self._turns:
            raise ModelError("the GPU failed: device lost")
        return self._turns.pop()


def test_what_goes_on_in_its_place_has_to_give_the_known_answer_first(tmp_path, monkeypatch):
    """A runtime that runs a file without an error and returns garbage could make all faces alike."""
    monkeypatch.setattr("edge.vision.ways.OnGpu", Failing)
    picture, stored = known_answer(SHELF, DETECTOR)
    model = load_model(SHELF, DETECTOR, ModelsConfig(delegate="gpu"), verdicts(tmp_path))
    assert model.backend == "litert gpu"
    assert len(model(picture)) == len(stored)
    assert (model.backend, "device lost" in model.why) == ("litert cpu 2t", True)

    model = load_model(SHELF, DETECTOR, ModelsConfig(delegate="gpu"), verdicts(tmp_path))
    monkeypatch.setattr(
        "edge.vision.ways.Interpreted.run", lambda _, tensor: [np.ones_like(o) for o in stored]
    )
    with pytest.raises(ModelError, match="known-answer test failed on litert cpu 2t"):
        model(picture)


class OnlyTheEmbedder:
    """A judge whose GPU is too slow for the detector."""

    def refusal(self, entry):
        return "the GPU is slower" if entry == SHELF.entry(SHELF.default("detector"), "detector") else ""


def test_two_models_on_two_backends_are_both_told(monkeypatch):
    monkeypatch.setattr("edge.vision.ways.OnGpu", Failing)
    wanted = ModelsConfig(delegate="gpu")
    pipeline = Pipeline.load(wanted, QualityConfig(), OnlyTheEmbedder())
    assert pipeline.backend == "litert gpu, detector litert cpu 2t"
    assert pipeline.backend_why == "the GPU is slower"
    alone = Pipeline.load(ModelsConfig(delegate="cpu"), QualityConfig())
    assert (alone.backend, alone.backend_why) == ("litert cpu 2t", "")
