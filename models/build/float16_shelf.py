"""A folder for `models.dir` with float16 models in it: files, known answers, manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import on_cpu
from edge.vision.selftest import known_answer, output_drift
from models.build import shelf
from models.build.known_answers import rounded


class Float16Shelf:
    """A folder for `models.dir`: the float16 models under new ids, the rest as shipped."""

    def __init__(self, out: Path) -> None:
        """Makes the folder; what is there is replaced."""
        self._out = out
        self._shipped = ModelShelf.open(shelf.MODELS)
        for name in ("known_answers", "cards", "LICENSES"):
            shutil.copytree(shelf.MODELS / name, out / name, dirs_exist_ok=True)
        manifest = yaml.safe_load((shelf.MODELS / "manifest.yaml").read_text(encoding="utf-8"))
        self._entries = {entry["file"]: entry for entry in manifest["models"]}

    def keep(self, file: str) -> str:
        """A model as it is shipped. A line about it."""
        shutil.copy(shelf.MODELS / file, self._out / file)
        return f"{file}: as shipped"

    def put(self, file: str, content: bytes, whole: bytes) -> str:
        """A float16 model, made of the float32 one `whole`. A line about it."""
        told = self._entries[file]
        shipped = next(entry for entry in self._shipped.entries if entry.file == file)
        made = msgspec.structs.replace(shipped, sha256=shelf.digest(content))
        picture, _ = known_answer(self._shipped, shipped)
        answers, exact = on_cpu(made, content, 1)(picture), on_cpu(made, whole, 1)(picture)
        drift = max(output_drift(a, b) for a, b in zip(exact, answers, strict=True))
        name = _renamed(shipped)
        told |= {
            "id": name,
            "sha256": made.sha256,
            "quantisation": "float16",
            "known_answer": {"file": f"known_answers/{name}.npz", "max_drift": 0.05},
            "measured": [f"drift from the float model on the known answer's picture: {drift:.1e}"],
        }
        if told.pop("fmr_measured", None):
            told["measured"].append(
                "FMR at 0.7: the shipped model's; the float one's is lower, its own unknown"
            )
        (self._out / file).write_bytes(content)
        outputs: dict[str, Any] = {f"output_{i}": rounded(answer) for i, answer in enumerate(answers)}
        np.savez_compressed(self._out / "known_answers" / f"{name}.npz", image=picture, **outputs)
        return f"{file}: {name}, {len(content) / 1e6:.1f} MB, drift from float {drift:.1e}"

    def close(self) -> None:
        """Write the manifest."""
        manifest = {"format": 1, "models": list(self._entries.values())}
        text = json.dumps(manifest, indent=1)  # which is YAML, and keeps every digit
        (self._out / "manifest.yaml").write_text(text + "\n", encoding="utf-8")


def _renamed(entry: ModelEntry) -> str:
    """`facenet-512-int8-1` -> `facenet-512-f16-1`: templates of one are not compared with the other's."""
    parts = [part for part in entry.id.split("-") if part != "int8"]
    return "-".join([*parts[:-1], "f16", parts[-1]])
