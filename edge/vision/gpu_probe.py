"""Does a GPU run this model rightly, and faster than the CPU? Asked in a process that may die of it.

    echo '{"models": {}, "model": "facenet-512-int8-1", "role": "embedder"}' | python -m edge.vision.gpu_probe

One JSON object comes back. It has no key, no line and no socket of the door.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable

import msgspec

from edge.config import ModelsConfig
from edge.errors import ModelError
from edge.vision.gpu import OnGpu
from edge.vision.gpu_children import Answer
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import Model
from edge.vision.selftest import check_answer, known_answer, load_model, output_drift

_RUNS, _WARM_UP = 15, 3  # by turns, the median counts
_ENOUGH_S = 3.0  # a GPU that needs longer for so few runs needs no more of them to be refused
_DEADLINE_S = 120


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model, of which shelf, against how many threads of the CPU."""

    model: str
    role: str
    models: ModelsConfig = ModelsConfig()


def ask(question: Question) -> Answer:
    """Try the GPU of this machine. Raises ModelError: the CPU can't run the model either."""
    shelf = ModelShelf.open(question.models.dir)
    entry = shelf.entry(question.model, question.role)
    cpu = load_model(shelf, entry, msgspec.structs.replace(question.models, delegate="cpu"))
    try:
        gpu = Model(entry, OnGpu(entry, shelf.model_bytes(entry)))
        check_answer(gpu, shelf)
    except ModelError as error:
        return Answer(str(error))
    picture, _ = known_answer(shelf, entry)
    drift = max(output_drift(a, b) for a, b in zip(cpu(picture), gpu(picture), strict=True))
    gpu_ms, cpu_ms = by_turns(lambda: gpu(picture), lambda: cpu(picture))
    return Answer(judged(entry, gpu_ms, cpu_ms), round(gpu_ms, 2), round(cpu_ms, 2), round(drift, 6))


def judged(entry: ModelEntry, gpu_ms: float, cpu_ms: float) -> str:
    """Why not the GPU; empty: it is faster."""
    if gpu_ms < cpu_ms:
        return ""
    return f"{entry.file}: the GPU is slower: {gpu_ms:.2f} ms against {cpu_ms:.2f} of the CPU"


def by_turns(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Median times, ms, so that what else the machine does hits both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + _ENOUGH_S
    for _ in range(_WARM_UP + _RUNS):
        for call, kept in zip((one, other), times, strict=True):
            began = time.perf_counter()
            call()
            kept.append((time.perf_counter() - began) * 1000)
        if time.perf_counter() > until:
            break
    warm = min(_WARM_UP, len(times[0]) - 1)
    return statistics.median(times[0][warm:]), statistics.median(times[1][warm:])


def main() -> int:
    """The child."""
    signal.alarm(_DEADLINE_S)  # whoever asked may be gone
    out = os.dup(1)
    os.dup2(2, 1)  # the accelerator talks on stdout
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        answer = ask(question)
    except ModelError as error:
        answer = Answer(str(error))
    os.write(out, msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
