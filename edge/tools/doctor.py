"""`doord doctor`: every part the door needs, tried one by one, with what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge import __version__
from edge.access import checked_rights
from edge.acting import as_owner
from edge.clock import believed_by_kernel
from edge.config import Config, shown_source
from edge.control import RemoteDesk
from edge.door.chips import chip_label, find
from edge.errors import DoordError
from edge.identity.decide import fpir_refusal
from edge.identity.match import most_templates
from edge.identity.tuning_file import TuningFile, unlike
from edge.joined import is_joined, read_joined, with_broker
from edge.keys import key_of
from edge.link.broker import tls_context
from edge.liveness import load_texture
from edge.tools import boot
from edge.tools.local import read_gallery
from edge.tuning import origin_of
from edge.vision.camera import open_camera
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pipeline import chosen
from edge.vision.selftest import load_model

_BROKER_S = 3.0
_CONFIG_TXT = ("boot/firmware/config.txt", "boot/config.txt")  # Debian 12's place, and the one before
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
        ("lines", _lines),
        ("boot", _boot),
        ("broker", _broker),
    ):
        yield _tried(part, examine_part, config)
    yield _tried("pad", _pad, config)


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
    runs = f"{detector.id} and {embedder.id} on {loaded[0].backend}"
    return Finding("models", "ok", f"{runs}, for faces to about {detector.range_m or 0:g} m")


def _pad(config: Config) -> Finding:
    if config.pad_warning:
        return Finding("pad", "warn", config.pad_warning)
    shelf = ModelShelf.open(config.models.dir)
    models = config.pad.models or (shelf.default("pad"),)
    for model in models:
        load_model(shelf, shelf.entry(model, "pad"), config.models.threads, config.models.runtime)
    return Finding("pad", *_tuned(config, f"{config.pad_mode}, by {', '.join(models)}"))


def _tuned(config: Config, words: str) -> tuple[Verdict, str]:
    """The same with what is to be said of a tuned model. Raises GalleryError: damaged."""
    with as_owner(config):
        model = TuningFile(config.tuning_path, key_of(config)).load().model
    if model is None:
        return "ok", f"{words}, not tuned to this door: doord pad tune"
    lack = unlike(model, origin_of(config, load_texture(config)), __version__)
    if lack:
        return "warn", f"{words}; the tuned model is not used: {lack}: doord pad tune"
    return "ok", f"{words}, tuned at {model.at_utc}"


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
    return Finding("camera", "ok", f"{shown_source(config.camera.source)}: {width}x{height}")


def _gallery(config: Config) -> Finding:
    if not is_joined(config) and not config.gallery_path.exists():
        return Finding("gallery", "warn", f"{config.gallery_path}: nobody is enrolled yet: doord enrol")
    _, _, embedder = _entries(config)
    gallery = read_gallery(config, embedder.id, embedder.dimension or 0)
    there = f"{len(gallery.subjects)} subjects, {len(gallery)} templates, version {gallery.version}"
    there += f" of site {config.site}" if is_joined(config) else ""
    refusal = fpir_refusal(embedder.fmr_at_ceiling or float("nan"), len(gallery), config.decision)
    if refusal:
        return Finding("gallery", "fail", f"{there}; {refusal}")
    return Finding("gallery", "ok" if len(gallery) else "warn", there)


def _rights(config: Config) -> Finding:
    if is_joined(config):
        return Finding("rights", "ok", f"rights and cards come from site {config.site}")
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
    if wedge and not Path(wedge.device).exists():
        return Finding("readers", "fail", f"{wedge.device}: is not there")
    found = [wedge.device] if wedge else []
    found += ["Wiegand, on lines as below"] if wiegand else []
    return Finding("readers", "ok", ", ".join(found) or "no card reader is configured")


def _lines(config: Config) -> Finding:
    where = [f"{key.removesuffix('.line')} {chip} {line}" for key, (chip, line) in config.wiring.items()]
    words = f"{', '.join(where)}; the relay unlocks {config.door.relay.active}"
    if config.simulation:
        return Finding("lines", "ok", f"{words} (mock)")
    for path, _ in find(config.wiring).values():
        if not Path(path).exists():
            return Finding("lines", "fail", f"{path}: no such chip; gpiodetect lists them")
    if config.door.dps is None:
        return Finding("lines", "warn", f"{words}; without a dps nobody sees a forced or an open door")
    return Finding("lines", "ok", f"{words} (not driven by doctor)")


def _boot(config: Config, root: Path = Path("/")) -> Finding:
    model = root / "proc/device-tree/model"
    if config.simulation or not model.exists() or not boot.is_pi(model.read_text(errors="replace")):
        words = "not judged here: before Linux runs, the board and its wiring must keep the lock locked"
        return Finding("boot", "ok", words)
    path, line = find(config.wiring)["door.relay.line"]
    if chip_label(path) not in boot.HEADER_CHIPS:
        words = f"the relay is on {path}, which the firmware can't drive: only its wiring keeps it locked"
        return Finding("boot", "warn", words)
    files = [file for name in _CONFIG_TXT if (file := root / name).exists()]
    if not files:
        return Finding("boot", "warn", f"expected config.txt in {' or '.join(_CONFIG_TXT)}, got none")
    locked = int(config.door.relay.active == "low")
    found = boot.shortcoming(files[0].read_text(errors="replace"), line, locked)
    if found:
        line_to_add = boot.wanted(line, locked)
        return Finding("boot", "warn", f"{files[0]}: expected `{line_to_add}` under [all], got: {found}")
    return Finding("boot", "ok", f"{files[0]}: drives GPIO{line} to locked before Linux runs")


def _broker(config: Config) -> Finding:
    config = with_broker(config, read_joined(config))
    mqtt = config.mqtt
    if mqtt is None:
        return Finding("broker", "warn", "none configured: events stay in the log of this door")
    with socket.create_connection((mqtt.host, mqtt.port), _BROKER_S) as plain:
        if mqtt.tls is None:
            return Finding("broker", "warn", f"{mqtt.host}:{mqtt.port} answers, without TLS")
        with tls_context(mqtt.tls).wrap_socket(plain, server_hostname=mqtt.host) as secure:
            return Finding("broker", "ok", f"{mqtt.host}:{mqtt.port} answers with {secure.version()}")


def face_alone(config: Config) -> str:
    """For how many templates face alone may open, in words. Raises ModelError."""
    _, _, embedder = _entries(config)
    fmr, limit = embedder.fmr_at_ceiling, config.decision.max_fpir
    if fmr is None:
        return f"the FMR of {embedder.id} was not measured: face alone opens only with fpir_accepted_by"
    most = most_templates(fmr, limit)
    accepted = config.decision.fpir_accepted_by
    beyond = f"beyond accepted by {accepted}" if accepted else "beyond that card + face, or fpir_accepted_by"
    return f"face alone opens up to {most} templates (FMR {fmr:.1e}, max_fpir {limit:.1e}); {beyond}"
