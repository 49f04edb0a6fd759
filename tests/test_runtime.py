"""What every runtime promises: the same answers, the same faults, delegates that are really taken.

Over each runtime that this interpreter can use; `test_tflite_runtime.py` runs it again in an environment
of that one. It stands alone (no conftest), so that such an environment needs little.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.config import ModelsConfig
from edge.errors import ConfigError, DelegateError, ModelError
from edge.vision import xnnpack
from edge.vision.delegates import check_library, external
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import find_runtime, on_cpu
from edge.vision.selftest import known_answer, load_model, output_drift

SOURCES = Path(__file__).parent / "delegate"
SHELF = ModelShelf.open()
PAD = SHELF.entry("minifasnet-se-1", "pad")  # float, with 33 PRELUs
FACENET = SHELF.entry(SHELF.default("embedder"), "embedder")
PRELUS = 33


def _usable() -> list[str]:
    found = []
    for name in ("litert", "tflite-runtime"):
        try:
            found.append(find_runtime(name).name)
        except ModelError:
            continue
    return found


pytestmark = pytest.mark.parametrize("runtime", _usable())


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A library out of tests/delegate, each call another file: its globals start anew."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: no delegate can be built")
    made = iter(range(1000))

    def make(name: str) -> Path:
        path = tmp_path_factory.mktemp("delegate") / f"lib{name}{next(made)}.so"
        source = SOURCES / f"{name}.c"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-nostdlib", "-o", str(path), str(source)]
        subprocess.run(command, check=True, timeout=60)
        return path

    return make


def picture(entry: ModelEntry) -> np.ndarray:
    _, height, width, _ = entry.input.shape
    return np.random.default_rng(8).integers(0, 256, (height, width, 3), dtype=np.uint8)


def counter(library: Path, name: str) -> ctypes.c_int:
    return ctypes.c_int.in_dll(ctypes.CDLL(str(library)), name)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("entry", SHELF.entries, ids=lambda e: e.id)
def test_each_model_gives_its_known_answer(runtime: str, entry: ModelEntry, threads: int):
    model = load_model(SHELF, entry, ModelsConfig(runtime=runtime, threads=threads, delegate="cpu"))
    shown, stored = known_answer(SHELF, entry)
    answers = model(shown)
    assert [list(a.shape) for a in answers] == [o.shape[1:] for o in entry.outputs]
    assert all(a.dtype == np.float32 for a in answers)
    assert (
        max(output_drift(w, g) for w, g in zip(stored, answers, strict=True)) <= entry.known_answer.max_drift
    )
    assert model.backend.startswith(runtime)
    assert model.why == ""


@pytest.mark.parametrize("entry", SHELF.entries, ids=lambda e: e.id)
def test_an_answer_does_not_depend_on_the_one_before(runtime: str, entry: ModelEntry):
    model = load_model(SHELF, entry, ModelsConfig(runtime=runtime))
    first = [a.copy() for a in model(picture(entry))]
    model(np.zeros_like(picture(entry)))
    assert all(np.array_equal(a, b) for a, b in zip(first, model(picture(entry)), strict=True))


@pytest.mark.parametrize("content", [b"", b"TFL3", bytes(4096)], ids=["empty", "four bytes", "zeros"])
def test_what_is_no_model_is_refused_in_one_line(runtime: str, content: bytes):
    with pytest.raises(ModelError, match=r"facenet\.tflite: .* can't load it") as caught:
        on_cpu(FACENET, content, 1, runtime)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_not_as_told_are_refused(runtime: str):
    content = SHELF.model_bytes(PAD)
    told = msgspec.structs.replace(PAD, input=msgspec.structs.replace(PAD.input, shape=(1, 80, 80, 3)))
    with pytest.raises(ModelError, match=r"expected float32 \(1, 80, 80, 3\), got .* \(1, 128, 128, 3\)"):
        on_cpu(told, content, 1, runtime)
    other = [msgspec.structs.replace(PAD.outputs[0], name="depth")]
    with pytest.raises(ModelError, match=r"expected output 'depth', got \['logits'\]"):
        on_cpu(msgspec.structs.replace(PAD, outputs=other), content, 1, runtime)


def test_a_picture_of_another_size_is_refused_in_one_line(runtime: str):
    model = on_cpu(PAD, SHELF.model_bytes(PAD), 1, runtime)
    with pytest.raises(ModelError, match=r"^minifasnet_se\.tflite: ") as caught:
        model(np.zeros((80, 80, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_delegate_is_really_taken_and_its_answers_are_the_processors(runtime: str, build):
    library = build("prelu")
    plain = load_model(SHELF, PAD, ModelsConfig(runtime=runtime, delegate="cpu"))
    model = load_model(SHELF, PAD, ModelsConfig(runtime=runtime, delegate=str(library)))
    assert counter(library, "claimed").value == PRELUS
    before = counter(library, "invoked").value
    answers = [model(picture(PAD)), model(picture(PAD)[::-1])]
    assert counter(library, "invoked").value - before == 2 * PRELUS
    for shown, got in zip((picture(PAD), picture(PAD)[::-1]), answers, strict=True):
        assert output_drift(plain(shown)[0], got[0]) < 1e-5
    assert (model.backend, model.why) == (f"{runtime} {library.name} 2t", "")


def test_options_reach_the_delegate(runtime: str, build):
    library = build("prelu")
    models = ModelsConfig(runtime=runtime, delegate=str(library), delegate_options={"a": "b c"})
    load_model(SHELF, PAD, models)
    assert (ctypes.c_char * 256).in_dll(ctypes.CDLL(str(library)), "option_seen").value == b"b c"


def missing(tmp_path: Path, build) -> Path:
    return tmp_path / "libnone.so"


def no_library(tmp_path: Path, build) -> Path:
    path = tmp_path / "libtext.so"
    path.write_text("this is text\n" * 100)
    return path


def no_delegate(tmp_path: Path, build) -> Path:
    return build("nothing")


UNFIT = [
    (missing, "expected a delegate's library, got: No such file or directory"),
    (no_library, "expected a library of this machine, got: invalid ELF header"),
    (no_delegate, "expected a TFLite delegate, got a library without tflite_plugin_create_delegate"),
]


@pytest.mark.parametrize(("make", "says"), UNFIT, ids=lambda v: getattr(v, "__name__", ""))
def test_a_file_that_is_no_delegate_is_a_mistake_in_the_configuration(
    runtime: str, tmp_path: Path, build, make, says: str, capfd
):
    path = make(tmp_path, build)
    with pytest.raises(ConfigError) as caught:
        check_library(str(path))
    assert str(caught.value) == f"models.delegate: {path}: {says}"
    with pytest.raises(DelegateError) as refused:
        external(find_runtime(runtime).api, str(path), {})
    assert str(refused.value) == f"{path}: {says}"
    model = load_model(SHELF, PAD, ModelsConfig(runtime=runtime, delegate=str(path)))  # it went since
    assert model.backend == f"{runtime} cpu 2t"
    assert model.why == f"{path}: {says}"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"refuse": "no stick is plugged in"}, "{}: refused to start: no stick is plugged in"),
        ({"prepare": "fail"}, "{}: could not prepare minifasnet_se.tflite"),
        ({"answer": "wrong"}, "known-answer test failed on"),
    ],
)
def test_a_delegate_that_does_not_prove_itself_leaves_the_model_on_the_processor(
    runtime: str, build, options: dict[str, str], says: str
):
    library = build("prelu")
    check_library(str(library))
    models = ModelsConfig(runtime=runtime, delegate=str(library), delegate_options=options)
    model = load_model(SHELF, PAD, models)
    assert model.backend == f"{runtime} cpu 2t"
    assert says.format(library) in model.why
    assert "\n" not in model.why
    plain = load_model(SHELF, PAD, ModelsConfig(runtime=runtime, delegate="cpu"))
    assert np.array_equal(model(picture(PAD))[0], plain(picture(PAD))[0])


def test_a_delegate_that_fails_later_leaves_the_model_on_the_processor(runtime: str, build):
    library = build("prelu")
    model = load_model(SHELF, PAD, ModelsConfig(runtime=runtime, delegate=str(library)))
    right = model(picture(PAD))[0]
    counter(library, "failing").value = 1
    assert output_drift(right, model(picture(PAD))[0]) < 1e-5
    assert model.backend == f"{runtime} cpu 2t"
    assert model.why.startswith("failed while it ran: minifasnet_se.tflite: ")


def test_a_delegate_that_takes_nothing_does_no_harm(runtime: str, build):
    """FaceNet is int8 and has no PRELU."""
    library = build("prelu")
    model = load_model(SHELF, FACENET, ModelsConfig(runtime=runtime, delegate=str(library)))
    assert counter(library, "claimed").value == 0
    assert model(picture(FACENET))[0].shape == (512,)


def test_int8_runs_on_xnnpack(runtime: str):
    model = load_model(SHELF, FACENET, ModelsConfig(runtime=runtime))
    operations = [o["op_name"] for o in model._engine._interpreter._get_ops_details()]
    assert "DELEGATE" in operations
    assert model.backend == ("litert cpu 2t" if runtime == "litert" else "tflite-runtime cpu with XNNPACK 2t")


@pytest.mark.parametrize("spoil", ["_VERSION", "_LIBRARY"])
def test_int8_without_xnnpack_still_runs_and_says_so(runtime: str, monkeypatch, spoil: str):
    if runtime == "litert":
        pytest.skip("ai-edge-litert switches XNNPACK on itself")
    monkeypatch.setattr(xnnpack, spoil, "none.so")
    model = load_model(SHELF, FACENET, ModelsConfig(runtime=runtime))
    assert model.backend == "tflite-runtime cpu 2t"
    assert model.why.startswith("int8 runs without XNNPACK, some three times slower: ")


def test_this_file_is_run_by_an_interpreter_that_has_it(runtime: str):
    assert runtime.replace("-", "_").replace("litert", "ai_edge_litert") in sys.modules
