"""How a model can be run here: what the configuration wants first, the plain CPU last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import PurePath

from edge.config import ModelsConfig
from edge.errors import DelegateError, ModelError
from edge.vision.delegates import external
from edge.vision.gpu import GpuJudge, OnGpu
from edge.vision.manifest import ModelEntry
from edge.vision.runtime import Engine, Interpreted, Runtime, find_runtime
from edge.vision.xnnpack import Xnnpack

Way = Callable[[], Engine]


def ways(
    entry: ModelEntry, content: bytes, models: ModelsConfig, gpu: GpuJudge | None
) -> tuple[list[Way], str]:
    """What to try, the most wanted first, each raising ModelError; and why a GPU is not among them.

    Raises:
        ModelError: no runtime is there.
    """
    runtime = find_runtime(models.runtime)
    plain = partial(Interpreted, entry, content, models.threads, runtime)
    found: list[Way] = [plain]
    if runtime.name == "tflite-runtime" and entry.quantisation == "static-int8":
        found.insert(0, partial(_with_xnnpack, plain, runtime, models.threads))
    if models.delegate.startswith("/"):
        risk = gpu.risk() if gpu is not None else ""
        if risk:
            return found, risk
        found.insert(0, partial(_with_external, plain, runtime, models, entry))
    elif gpu is not None and models.delegate != "cpu":
        refusal = gpu.refusal(entry)
        return found if refusal else [partial(OnGpu, entry, content), *found], refusal
    return found, ""


def _with_external(
    plain: Callable[..., Interpreted], runtime: Runtime, models: ModelsConfig, entry: ModelEntry
) -> Engine:
    path = models.delegate
    delegate = external(runtime.api, path, models.delegate_options)
    try:
        return plain(delegates=[delegate], words=PurePath(path).name)
    except ModelError:
        raise DelegateError(f"{path}: could not prepare {entry.file}") from None


def _with_xnnpack(plain: Callable[..., Interpreted], runtime: Runtime, threads: int) -> Engine:
    try:
        return plain(delegates=[Xnnpack(runtime.api, threads)], words="cpu with XNNPACK")
    except ModelError as error:
        raise DelegateError(f"int8 runs without XNNPACK, some three times slower: {error}") from None
