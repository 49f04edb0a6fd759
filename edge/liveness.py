"""The PAD subsystem of a door (ISO/IEC 30107-1): its layers, what their scores mean, what a grant needs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.config import Config, PadMode
from edge.errors import ModelError
from edge.identity.pad import Limit, PadRule, rule_of
from edge.ports import PadLayer
from edge.vision.manifest import ModelShelf
from edge.vision.pad import PadCheck
from edge.vision.selftest import load_model
from edge.vision.stillness import Stillness
from edge.vision.texture import Texture
from edge.worker import within

log = logging.getLogger(__name__)

_LOAD_S = 20.0  # as long as the other models have


class PadSubsystem:
    """Loaded once. `check` belongs to the vision thread, the rest may be asked by any."""

    def __init__(self, config: Config, mode: Callable[[], PadMode]) -> None:
        """`mode`: what holds now."""
        self._config = config
        self._mode = mode
        self._limits: dict[str, Limit] = {}
        self.problem: str | None = None  # why no layer can judge
        layers: list[PadLayer] = []
        if set(config.pad_modes) != {"off"}:
            try:
                layers = [within(lambda: self._texture(config), _LOAD_S, "PAD models"), Stillness()]
            except ModelError as error:
                self.problem = str(error)
                log.error("no grants by face alone: pad: %s", error)
        self.check = PadCheck(layers, config.pad.every_ms / 1000, lambda: mode() != "off")

    def _texture(self, config: Config) -> Texture:
        shelf = ModelShelf.open(config.models.dir)
        entries = [shelf.entry(model, "pad") for model in config.pad.models or (shelf.default("pad"),)]
        models = [load_model(shelf, e, config.models.threads, config.models.runtime) for e in entries]
        layer = Texture(models)
        looks = [entry.texture for entry in entries if entry.texture is not None]
        # of several models, whose mean is judged, the strictest
        self._limits["texture"] = Limit(max(look.live for look in looks), max(look.unsure for look in looks))
        return layer

    @property
    def limits(self) -> dict[str, Limit]:
        """Layer -> what its score means. Empty: no layer can judge."""
        pad = self._config.pad
        limits = {
            layer: Limit(
                limit.live if pad.live is None else pad.live,
                limit.unsure if pad.unsure is None else pad.unsure,
            )
            for layer, limit in self._limits.items()
        }
        if limits and pad.stillness is not None:
            limits["stillness"] = Limit(pad.stillness, pad.stillness, newest=True)
        return limits

    def rule(self, with_card: bool) -> PadRule | None:
        """What a grant needs now; None: nothing. `with_card`: a card has claimed who it is."""
        return rule_of(self._mode(), self.limits, self._config.pad.frames, with_card)

    def why_not(self) -> list[str]:
        """Why no grant follows on a face alone; empty when one can."""
        needed = self.rule(with_card=False) is not None
        return [f"pad: {self.problem}"] if needed and self.problem else []
