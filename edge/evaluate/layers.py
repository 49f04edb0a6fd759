"""The PAD layers by name, loaded once and handed out as before anybody has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.config import ModelsConfig
from edge.errors import DoordError
from edge.evaluate.pad_score import Layers
from edge.ports import PadLayer
from edge.vision.manifest import ModelShelf
from edge.vision.selftest import load_model
from edge.vision.stillness import Stillness
from edge.vision.texture import Texture

_Make = Callable[[], PadLayer]


def _texture(models: ModelsConfig) -> tuple[_Make, str]:
    shelf = ModelShelf.open(models.dir)
    entry = shelf.entry(shelf.default("pad"), "pad")
    layer = Texture([load_model(shelf, entry, models)])
    return (lambda: layer), entry.id


def _stillness(_models: ModelsConfig) -> tuple[_Make, str]:
    return Stillness, "stillness"


LAYERS: dict[str, Callable[[ModelsConfig], tuple[_Make, str]]] = {
    "texture": _texture,
    "stillness": _stillness,
}
"""A further layer is one more line: how to make it afresh, and what to call it in a report."""


def pad_layers(models: ModelsConfig, names: Sequence[str]) -> tuple[Layers, str]:
    """A maker of the named layers, and their models in words.

    Raises:
        DoordError: no such layer, or one named twice.
        ModelError: a model can't be used.
    """
    if unknown := [name for name in names if name not in LAYERS]:
        raise DoordError(f"layers: expected some of {', '.join(LAYERS)}, got {', '.join(unknown)}")
    if len(set(names)) < len(names):
        raise DoordError(f"layers: expected each once, got {', '.join(names)}")
    made = [LAYERS[name](models) for name in names]
    return (lambda: [make() for make, _ in made]), ", ".join(words for _, words in made)
