"""The PAD layers by name, loaded once and handed out as before anybody has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge.config import Config, ModelsConfig
from edge.errors import DoordError
from edge.evaluate.pad_score import Layers
from edge.liveness import TunedHere, load_texture, load_tuned
from edge.ports import PadLayer
from edge.vision.stillness import Stillness


@dataclass(frozen=True, slots=True)
class Loaded:
    """One layer: how to have it afresh, what to call it in a report, from which score on it means alive."""

    make: Callable[[], PadLayer]
    words: str
    live: float


@dataclass(frozen=True, slots=True)
class PadLayers:
    """Several."""

    make: Layers
    words: str
    live: Mapping[str, float]  # by name


def _texture(models: ModelsConfig, config: Config | None) -> Loaded:
    layer = load_texture(models, config.pad.models if config else ())
    told = config.pad.live if config else None
    return Loaded(lambda: layer, ", ".join(layer.models), layer.live if told is None else told)


def _tuned(models: ModelsConfig, config: Config | None) -> Loaded:
    if config is None:
        raise DoordError("layers: tuned: expected -c and the tuned door's configuration, got none")
    tuned = load_tuned(config, load_texture(models, config.pad.models))
    if not isinstance(tuned, TunedHere):
        why = "got none" if tuned is None else f"got another's: {tuned}"
        raise DoordError(f"{config.tuning_path}: expected a model tuned at this door, {why}: doord pad tune")
    return Loaded(lambda: tuned.layer, "tuned", tuned.limit.live)


def _stillness(_models: ModelsConfig, config: Config | None) -> Loaded:
    told = config.pad.stillness if config else None
    return Loaded(Stillness, "stillness", _STILL if told is None else told)


_STILL = 0.003  # eye distances; README, presentation attacks
LAYERS: Mapping[str, Callable[[ModelsConfig, Config | None], Loaded]] = {
    "texture": _texture,
    "stillness": _stillness,
    "tuned": _tuned,
}
"""A further layer is one more line."""


def pad_layers(names: Sequence[str], models: ModelsConfig, config: Config | None = None) -> PadLayers:
    """The named layers of a door, or without a `config` of one as it ships.

    Raises:
        DoordError: no such layer, or one named twice; none tuned at this door.
        ModelError: a model can't be used.
    """
    if unknown := [name for name in names if name not in LAYERS]:
        raise DoordError(f"layers: expected some of {', '.join(LAYERS)}, got {', '.join(unknown)}")
    if len(set(names)) < len(names):
        raise DoordError(f"layers: expected each once, got {', '.join(names)}")
    loaded = [LAYERS[name](models, config) for name in names]
    return PadLayers(
        lambda: [one.make() for one in loaded],
        ", ".join(one.words for one in loaded),
        dict(zip(names, (one.live for one in loaded), strict=True)),
    )
