"""The PAD subsystem of a door (ISO/IEC 30107-1): its layers, what their scores mean, what a grant needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from edge import __version__
from edge.config import Config, ModelsConfig, PadMode
from edge.errors import GalleryError, ModelError
from edge.identity.pad import Limit, PadRule, rule_of
from edge.identity.tuning_file import TuningFile, unlike
from edge.keys import key_of
from edge.ports import PadLayer
from edge.tuning import origin_of
from edge.vision.gpu import GpuJudge
from edge.vision.gpu_verdicts import BUDGET_S
from edge.vision.manifest import ModelShelf
from edge.vision.pad import PadCheck
from edge.vision.selftest import load_model
from edge.vision.stillness import Stillness
from edge.vision.texture import Texture
from edge.vision.tuned import Tuned
from edge.worker import within

log = logging.getLogger(__name__)

_LOAD_S = 20.0 + BUDGET_S  # as long as the other models have


@dataclass(frozen=True, slots=True)
class TunedHere:
    """The layer tuned at this door."""

    layer: Tuned
    limit: Limit  # what its score means
    at_utc: str


class PadSubsystem:
    """Loaded once. `check` belongs to the vision thread, the rest may be asked by any."""

    def __init__(self, config: Config, mode: Callable[[], PadMode], gpu: GpuJudge | None = None) -> None:
        """`mode`: what holds now."""
        self._config = config
        self._mode = mode
        self._limits: dict[str, Limit] = {}
        self.problem: str | None = None  # why no layer can judge
        self.note: str | None = None  # why a tuned model that is there does not judge
        self.tuned_at_utc: str | None = None  # when the model that judges was fitted
        self.texture: Texture | None = None
        layers: list[PadLayer] = []
        if set(config.pad_modes) != {"off"}:
            try:
                load = partial(load_texture, config.models, config.pad.models, gpu)
                self.texture = texture = within(load, _LOAD_S, "PAD models")
                layers = [*self._layers(config, texture), Stillness()]
            except (ModelError, GalleryError) as error:
                self._limits = {}
                self.problem = str(error)
                log.error("no grants by face alone: pad: %s", error)
        self.check = PadCheck(layers, config.pad.every_ms / 1000, lambda: mode() != "off")

    def _layers(self, config: Config, texture: Texture) -> list[PadLayer]:
        """Those that score, and the limits of the one that judges.

        Raises:
            GalleryError: a damaged tune.
            ModelError: limits that contradict each other, or a tune that is none for this texture layer.
        """
        pad = config.pad
        live = texture.live if pad.live is None else pad.live
        unsure = texture.unsure if pad.unsure is None else pad.unsure
        if not unsure <= live:  # one of them is configured, the other the model's own
            raise ModelError(f"pad.unsure: expected at most live ({live:g}), got {unsure:g}")
        tuned = load_tuned(config, texture)
        if isinstance(tuned, TunedHere):  # the texture's score is in it, and is told
            self._limits["tuned"], self.tuned_at_utc = tuned.limit, tuned.at_utc
            return [texture, tuned.layer]
        if tuned is not None:
            self.note = tuned
            log.warning("pad: the tuned model is not used: %s: doord pad tune", tuned)
        self._limits["texture"] = Limit(live, unsure)
        return [texture]

    @property
    def limits(self) -> dict[str, Limit]:
        """Layer -> what its score means. Empty: no layer can judge."""
        limits, stillness = dict(self._limits), self._config.pad.stillness
        if limits and stillness is not None:
            limits["stillness"] = Limit(stillness, stillness, newest=True)
        return limits

    def rule(self, with_card: bool) -> PadRule | None:
        """What a grant needs now; None: nothing. `with_card`: a card has claimed who it is."""
        return rule_of(self._mode(), self.limits, self._config.pad.frames, with_card)

    def why_not(self) -> list[str]:
        """Why no grant follows on a face alone, a layer that failed on the newest one for one; else empty."""
        needed = self.rule(with_card=False) is not None
        problem = self.problem or self.check.problem
        return [f"pad: {problem}"] if needed and problem else []

    def told(self) -> dict[str, object]:
        """What holds now, which layers judge, and why a tuned model that is there does not."""
        rule = self.rule(with_card=False)
        return {"mode": self._mode(), "judged_by": sorted(rule.limits) if rule else [], "note": self.note}


def load_texture(models: ModelsConfig, wanted: Sequence[str] = (), gpu: GpuJudge | None = None) -> Texture:
    """The texture layer over the `wanted` models (ids); none named: the shipped one. Raises ModelError."""
    shelf = ModelShelf.open(models.dir)
    entries = [shelf.entry(model, "pad") for model in wanted or (shelf.default("pad"),)]
    return Texture([load_model(shelf, entry, models, gpu) for entry in entries])


def load_tuned(config: Config, texture: Texture) -> TunedHere | str | None:
    """The layer tuned at this door; None: there is none; text: why it is not to be used.

    Raises:
        GalleryError: its file is damaged, or the key is missing.
        ModelError: its weights are no numbers.
    """
    model = TuningFile(config.tuning_path, key_of(config)).load().model
    if model is None:
        return None
    why_not = unlike(model, origin_of(config, texture), __version__)
    if why_not is not None:
        return why_not
    linear = model.model()
    layer = Tuned(texture, linear.weights, linear.bias)
    return TunedHere(layer, Limit(model.live, model.unsure), model.at_utc)
