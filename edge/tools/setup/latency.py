"""From a face before the camera to the relay's line, measured with the installer as the visitor.

His templates are made on the spot and live in this process alone. What is measured is the door's own
path (grabber, vision loop, decision, adapter) without the record of the event, which a running door
commits before it unlocks (README, "Measured").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge.config import CameraConfig, Config
from edge.door.gpio import RelayLine
from edge.errors import CameraError
from edge.identity.decide import Decider, Deciding
from edge.ports import CameraSource
from edge.tools.setup.outcome import Outcome, failed, passed, untested
from edge.tools.setup.talk import Talk
from edge.values import Gallery, Grant, Observation, Probe, read_only
from edge.vision.grabber import Grabber
from edge.vision.health import CameraHealth
from edge.vision.loop import VisionLoop
from edge.vision.pipeline import Pipeline
from edge.vitals import percentile

VISITS = 5
_PROBES, _APART_S = 3, 0.3
_PULSE_S = 0.5
_AWAY_S = 1.5  # without a face: the visitor has stepped aside
_PART = "latency"
Open = Callable[[CameraConfig], CameraSource]


@dataclass
class _Stage:
    """The door's eyes and its decision, with one person in its gallery."""

    loop: VisionLoop
    decider: Decider
    talk: Talk
    wait_s: float
    gallery: Gallery | None = None
    state: Deciding = field(default_factory=Deciding)

    def seen(self) -> Observation | None:
        """Of the next frame. Raises CameraError, ModelError."""
        turn = self.loop.step()
        if turn.fault is not None:
            raise CameraError(f"camera: {turn.fault}")
        return turn.observation


def measure_latency(
    config: Config,
    talk: Talk,
    pipeline: Pipeline,
    relay: RelayLine,
    wait_s: float,
    open_source: Open,
) -> Outcome:
    """p95 over some visits, in words. Raises LineError, ModelError."""
    grabber = Grabber(lambda: open_source(config.camera), config.camera)
    health = CameraHealth(config.camera, live=not config.simulation)
    quick = msgspec.structs.replace(config.decision, cooldown_s=1, throttle_attempts=1000)
    decider = Decider(quick, config.camera.max_frame_age_ms / 1000)
    loop = VisionLoop(grabber, health, pipeline, lambda: stage.gallery)
    stage = _Stage(loop, decider, talk, wait_s)
    grabber.start()
    try:
        probes = _sit(stage)
        if probes is None:
            return untested(_PART, "no face good enough to compare came before the camera")
        stage.gallery = _gallery_of(probes)
        return _figures([_visit(stage, relay, number) for number in range(1, VISITS + 1)])
    except CameraError as error:
        return failed(_PART, str(error))
    finally:
        grabber.stop()


def _figures(visits: list[float | None]) -> Outcome:
    done = sorted(ms for ms in visits if ms is not None)
    if not done:
        return failed(_PART, f"not granted in {len(visits)} visits")
    p50, p95 = percentile(done, 50), percentile(done, 95)
    words = f"first good face to the relay's line: p50 {p50:.0f} ms, p95 {p95:.0f} ms"
    words += f" ({len(done)} of {len(visits)} visits granted; without the record of the event)"
    return passed(_PART, words) if len(done) == len(visits) else failed(_PART, words)


def _sit(stage: _Stage) -> list[Probe] | None:
    """Some probes of who stands there, a little apart."""
    stage.talk.say("Look into the camera.")
    probes: list[Probe] = []
    until = time.monotonic() + stage.wait_s
    while len(probes) < _PROBES and time.monotonic() < until:
        seen = stage.seen()
        if seen and seen.probe and (not probes or seen.taken_at - probes[-1].taken_at >= _APART_S):
            probes.append(seen.probe)
    return probes if len(probes) == _PROBES else None


def _gallery_of(probes: list[Probe]) -> Gallery:
    templates = read_only(np.stack([probe.vector for probe in probes]))
    return Gallery(1, probes[0].model, ("installer",), templates, np.zeros(len(probes), np.intp))


def _visit(stage: _Stage, relay: RelayLine, number: int) -> float | None:
    """Out of view, in again; from the first good face to the line, ms. None: not granted in time."""
    stage.talk.say(f"Visit {number} of {VISITS}: step out of view ...")
    if not _goes_away(stage):
        return None
    stage.talk.say("  ... and before the camera.")
    first_at: float | None = None
    until = time.monotonic() + stage.wait_s
    while time.monotonic() < until:
        seen, now = stage.seen(), time.monotonic()
        if seen is None:
            continue
        if seen.probe is not None and first_at is None:
            first_at = seen.taken_at
        step = stage.decider.observe(stage.state, seen, now)
        stage.state = step.state
        if step.attempt and isinstance(step.attempt.decision, Grant) and first_at is not None:
            relay.unlock(_PULSE_S)
            return (relay.history[-1][0] - first_at) * 1000
    return None


def _goes_away(stage: _Stage) -> bool:
    """Whether there is no face for a while, in time."""
    until, gone_since = time.monotonic() + stage.wait_s, time.monotonic()
    while time.monotonic() - gone_since < _AWAY_S:
        seen = stage.seen()
        if seen and seen.face is not None:
            gone_since = time.monotonic()
        if time.monotonic() > until:
            return False
    return True
