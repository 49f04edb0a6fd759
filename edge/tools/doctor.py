"""`doord doctor`: every part the door needs, tried one by one, with what to do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge.access import checked_rights
from edge.clock import believed_by_kernel
from edge.config import Config
from edge.control import RemoteDesk
from edge.disk import FileKey
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
        ("rights", _rights),
        ("clock", _clock),
        ("readers", _readers),
        ("relay", _relay),
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


def _rights(config: Config) -> Finding:
    rights = checked_rights(config)
    if not config.rights_file:
        return Finding("rights", "ok", "no rights_file: everybody enrolled may enter always")
    return Finding("rights", "ok", f"{config.rights_file}: rights of {len(rights.subjects)} subjects")


def _clock(_config: Config) -> Finding:
    if believed_by_kernel():
        return Finding("clock", "ok", "the kernel believes it")
    words = "neither NTP nor a hardware clock has set it: rights that depend on the time are denied"
    return Finding("clock", "warn", words)


def _readers(config: Config) -> Finding:
    wedge, wiegand = config.readers.wedge, config.readers.wiegand
    paths = [wedge.device] if wedge else []
    paths += [wiegand.chip] if wiegand and not config.simulation else []
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        return Finding("readers", "fail", f"{missing[0]}: is not there")
    return Finding("readers", "ok", ", ".join(paths) or "no card reader is configured")


def _relay(config: Config) -> Finding:
    relay = config.door.relay
    where = f"{relay.chip} line {relay.line}, active {relay.active}"
    if config.simulation:
        return Finding("relay", "ok", f"{where} (mock)")
    if not Path(relay.chip).exists():
        return Finding("relay", "fail", f"{relay.chip}: no such chip; gpiodetect lists them")
    return Finding("relay", "ok", f"{where} (not driven by doctor)")


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
