"""`models/manifest.yaml`: which model files there are and how each is fed and read.

Another embedder or detector is an entry here, not a code change.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError, ModelError
from edge.strict import convert, parse_yaml
from edge.values import ID

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
ModelId = Annotated[str, msgspec.Meta(pattern=ID)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2048)]
Point = tuple[float, float]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: frozen, and an unknown key is an error."""


class Source(_Entry, frozen=True):
    """The registry package a model was built from."""

    package: str
    version: str
    file: str
    package_sha256: Sha256
    file_sha256: Sha256
    registry: Literal["pypi", "npm"] = "pypi"


class Input(_Entry, frozen=True):
    """A picture goes in as `(x - mean) / scale`."""

    shape: tuple[Literal[1], Side, Side, Literal[3]]  # 1, H, W, 3
    dtype: Literal["float32"]
    colour: Literal["RGB", "BGR"]
    mean: float
    scale: Annotated[float, msgspec.Meta(gt=0)]


class Output(_Entry, frozen=True):
    """One output tensor, found by its name."""

    name: str
    shape: list[int]
    dtype: Literal["float32"]


class Anchors(_Entry, frozen=True):
    """A detector's grid: one stride a layer, `per_cell` anchors in each cell of each layer."""

    strides: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=256)]], msgspec.Meta(min_length=1)]
    per_cell: Annotated[int, msgspec.Meta(ge=1, le=64)]


class Crop(_Entry, frozen=True):
    """Where an embedder expects eyes and mouth: fractions (x, y) of its input picture."""

    left_eye: Point
    right_eye: Point
    mouth: Point
    aspect: float = 122 / 153  # width / height of the face region before it becomes square


_Limit = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]  # bounds keep out what is no number


class Texture(_Entry, frozen=True):
    """How a PAD model looks at a face: squares around the detector's box, and what it says of each.

    With the defaults an entry needs `scales` and `live_index` only.
    """

    scales: Annotated[
        list[Annotated[float, msgspec.Meta(ge=0.5, le=10)]], msgspec.Meta(min_length=1, max_length=8)
    ]
    live_index: Annotated[int, msgspec.Meta(ge=0, le=99)]  # the output's place of "alive"
    live: _Limit = 2.0  # mean score from which a face counts as alive
    unsure: _Limit = 0.0  # mean score below which it counts as an attack
    gives: Literal["logits", "probabilities"] = "logits"  # what the output is: before or after softmax
    min_face_px: Annotated[float, msgspec.Meta(ge=8, le=1000)] = 48  # side of the box; below: no verdict


class KnownAnswer(_Entry, frozen=True):
    """A stored input and output; see `selftest`."""

    file: str
    max_drift: Annotated[float, msgspec.Meta(gt=0, lt=1)]


Rate = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class MeasuredRate(_Entry, frozen=True):
    """A rate and its 95 % confidence interval, 0..1."""

    rate: Rate
    low: Rate
    high: Rate


class ModelEntry(_Entry, frozen=True):
    """One model of the manifest."""

    id: ModelId
    role: Literal["detector", "embedder", "pad"]
    file: str
    sha256: Sha256
    source: Source
    licence: str
    quantisation: str
    input: Input
    outputs: Annotated[list[Output], msgspec.Meta(min_length=1)]
    known_answer: KnownAnswer
    card: str
    measured: list[str] = []
    anchors: Anchors | None = None
    range_m: float | None = None
    dimension: int | None = None
    crop: Crop | None = None
    texture: Texture | None = None
    fmr_at_ceiling: Rate | None = None  # of one comparison at 0.7: what FPIR is judged by
    fmr_measured: MeasuredRate | None = None  # the same with its interval


class _Manifest(_Entry, frozen=True):
    format: Literal[1]
    models: list[ModelEntry]


class ModelShelf:
    """The manifest and the files beside it."""

    def __init__(self, folder: Path, entries: tuple[ModelEntry, ...]) -> None:
        self._folder = folder
        self.entries = entries

    @classmethod
    def open(cls, models_dir: str | Path | None = None) -> ModelShelf:
        """The shelf in `models_dir`, or the one that ships with the package.

        Raises:
            ModelError: no manifest there, or one that can't be used.
        """
        folder = Path(models_dir or str(resources.files("edge.models")))
        where = f"{folder}/manifest.yaml"
        try:
            text = (folder / "manifest.yaml").read_text(encoding="utf-8")
            manifest = convert(parse_yaml(text, where), _Manifest, where)
        except OSError as error:
            raise ModelError(f"{where}: {error.strerror}") from error
        except (ConfigError, UnicodeDecodeError) as error:
            raise ModelError(str(error)) from error
        return cls(folder, tuple(manifest.models))

    def entry(self, model_id: str, role: str) -> ModelEntry:
        """The entry of that id and role. Raises ModelError, naming those there are."""
        for entry in self.entries:
            if entry.id == model_id and entry.role == role:
                return entry
        there = ", ".join(e.id for e in self.entries if e.role == role)
        raise ModelError(f"manifest.yaml: no {role} {model_id!r}; there are: {there or 'none'}")

    def default(self, role: str) -> str:
        """The id of the first entry of that role."""
        for entry in self.entries:
            if entry.role == role:
                return entry.id
        raise ModelError(f"manifest.yaml: expected at least one {role}, got none")

    def read(self, name: str) -> bytes:
        """A file of the shelf. Raises ModelError."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{name}: {error.strerror or error}") from error

    def model_bytes(self, entry: ModelEntry) -> bytes:
        """The model file, checked against its sha256. Raises ModelError."""
        content = self.read(entry.file)
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry.sha256:
            raise ModelError(
                f"{entry.file}: expected sha256 {entry.sha256[:12]}..., got {digest[:12]}... "
                f"({len(content)} bytes): the file was altered or cut short"
            )
        return content
