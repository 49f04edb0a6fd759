"""`doord doctor`: every part the door needs, tried one by one, with what to do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge.config import Config
from edge.control import RemoteDesk
from edge.disk import FileKey
from edge.door.chips import chip_path, line_offset
from edge.errors import DoordError
from edge.identity.decide import fpir_refusal
from edge.identity.store import SqliteGallery
from edge.vision.camera import open_camera
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pipeline import chosen
from edge.vision.selftest import load_model

_BROKER_S = 3.0
Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One part's state."""

    part: str
    verdict: Verdict
    detail: str


def examine(config: Config) -> Iterator[Finding]:
    """Findings, one after the other as they are made. Opens the camera, touches no line."""
    yield _simulation(config)
    for part, examine_part in (
        ("models", _models),
        ("camera", _camera),
        ("gallery", _gallery),
        ("lines", _lines),
        ("broker", _broker),
    ):
        yield _tried(part, examine_part, config)
    yield Finding("pad", "warn", "no presentation-attack detection: a photograph can open this door")


def _tried(part: str, examine_part: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return examine_part(config)
    except (DoordError, OSError) as error:
        return Finding(part, "fail", str(error))


def _simulation(config: Config) -> Finding:
    if config.simulation:
        return Finding("mode", "warn", "simulation: no real line is driven")
    return Finding("mode", "ok", f"door {config.door_id} of site {config.site}")


def _entries(config: Config) -> tuple[ModelShelf, ModelEntry, ModelEntry]:
    shelf = ModelShelf.open(config.models.dir)
    return shelf, *chosen(shelf, config.models)


def _models(config: Config) -> Finding:
    shelf, detector, embedder = _entries(config)
    loaded = [
        load_model(shelf, e, config.models.threads, config.models.runtime) for e in (detector, embedder)
    ]
    return Finding(
        "models", "ok", f"{detector.id} and {embedder.id} on {loaded[0].backend}: known answers right"
    )


def _camera(config: Config) -> Finding:
    daemon = RemoteDesk.find(Path(config.socket))
    if daemon is not None:
        status = msgspec.json.decode(daemon.status())
        words = "the running daemon has it; " + ("armed" if status["armed"] else "; ".join(status["why_not"]))
        return Finding("camera", "ok" if status["armed"] else "fail", words)
    source = open_camera(config.camera)
    try:
        height, width = source.read().pixels.shape[:2]
    finally:
        source.close()
    return Finding("camera", "ok", f"{config.camera.source}: {width}x{height}")


def _gallery(config: Config) -> Finding:
    if not config.gallery_path.exists():
        return Finding("gallery", "warn", f"{config.gallery_path}: nobody is enrolled yet: doord enrol")
    _, _, embedder = _entries(config)
    store = SqliteGallery(config.gallery_path, FileKey(config.key_path))
    try:
        gallery = store.load(embedder.id, embedder.dimension or 0)
    finally:
        store.close()
    there = f"{len(gallery.subjects)} subjects, {len(gallery)} templates, version {gallery.version}"
    refusal = fpir_refusal(embedder.fmr_at_ceiling or float("nan"), len(gallery), config.decision)
    if refusal:
        return Finding("gallery", "fail", f"{there}; {refusal}")
    return Finding("gallery", "ok" if len(gallery) else "warn", there)


def _lines(config: Config) -> Finding:
    door = config.door
    where = [f"{role} {line.chip or door.relay.chip} {line.line}" for role, line in door.lines().items()]
    words = f"{', '.join(where)}; the relay unlocks {door.relay.active}"
    if config.simulation:
        return Finding("lines", "ok", f"{words} (mock)")
    for line in door.lines().values():
        path = chip_path(line.chip or door.relay.chip)
        if not Path(path).exists():
            return Finding("lines", "fail", f"{path}: no such chip; gpiodetect lists them")
        if isinstance(line.line, str):
            line_offset(path, line.line[len("name:") :])
    if door.dps is None:
        return Finding("lines", "warn", f"{words}; without a dps nobody sees a forced or an open door")
    return Finding("lines", "ok", f"{words} (not driven by doctor)")


def _broker(config: Config) -> Finding:
    mqtt = config.mqtt
    if mqtt is None:
        return Finding("broker", "warn", "none configured: events stay in the log of this door")
    with socket.create_connection((mqtt.host, mqtt.port), _BROKER_S) as plain:
        if mqtt.tls is None:
            return Finding("broker", "warn", f"{mqtt.host}:{mqtt.port} answers, without TLS")
        context = ssl.create_default_context(cafile=mqtt.tls.ca)
        if mqtt.tls.cert:
            context.load_cert_chain(mqtt.tls.cert, mqtt.tls.key)
        with context.wrap_socket(plain, server_hostname=mqtt.host) as secure:
            return Finding("broker", "ok", f"{mqtt.host}:{mqtt.port} answers with {secure.version()}")
