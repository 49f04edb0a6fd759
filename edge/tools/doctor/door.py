"""Checks of the door: what it recognises with, whom, and by which lines it moves."""

from __future__ import annotations

from pathlib import Path

from edge.access import checked_rights
from edge.acting import as_owner
from edge.config import Config, is_simulated, shown_source
from edge.door.chips import chip_label, find, line_holder
from edge.errors import GalleryError, ModelError
from edge.identity.cards import CardFile
from edge.identity.decide import fpir_refusal
from edge.identity.match import most_templates
from edge.joined import is_joined
from edge.keys import key_of
from edge.liveness import PadSubsystem
from edge.tools.doctor import boot
from edge.tools.doctor.finding import Said, fail, note, ok, warn
from edge.tools.doctor.patient import Check, Patient
from edge.tools.local import read_gallery
from edge.tools.viewfinder import View, summary, watch
from edge.vision.delegates import check_library, exposed
from edge.vision.gpu_conditions import look
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pipeline import chosen
from edge.vision.selftest import load_model

_CONFIG_TXT = ("boot/firmware/config.txt", "boot/config.txt")  # Debian 12's place, and the one before
_LOOK_S = 2.0
_DELEGATE = "models.delegate and delegate_options; README, What runs the models"
_ENROL = "doord enrol --subject ID PHOTO..., or doord join for a door of a site"


def mode(patient: Patient) -> Said:
    """Is it a real door?"""
    config = patient.config
    if config.simulation:
        return warn("simulation: no real line is driven", f"simulation: false in {patient.path}")
    return ok(f"door {config.door_id} of site {config.site}")


def daemon(patient: Patient) -> Said:
    """Does it run, and may a face open?"""
    status = patient.status
    if patient.unasked:
        return fail(patient.unasked, "run doctor as root or in the group doord")
    if status is None:
        return note("doord is not running here: camera and lines are tried by doctor itself")
    if not status["armed"]:
        return fail(f"not armed: {'; '.join(status['why_not'])}", "see the parts below; it arms by itself")
    return ok("runs, armed")


def entries(config: Config) -> tuple[ModelShelf, ModelEntry, ModelEntry]:
    """The shelf, the detector and the embedder that the configuration chooses. Raises ModelError."""
    shelf = ModelShelf.open(config.models.dir)
    return shelf, *chosen(shelf, config.models)


def models(patient: Patient) -> Said:
    """Hashes and known answers."""
    config = patient.config
    shelf, detector, embedder = entries(config)
    check_library(config.models.delegate)
    loaded = [load_model(shelf, e, config.models) for e in (detector, embedder)]
    runs = ", ".join(f"{model.entry.id} on {model.backend}" for model in loaded)
    words = f"{runs}, for faces to about {detector.range_m or 0:g} m; hash and known answer right"
    why = "; ".join(dict.fromkeys(model.why for model in loaded if model.why))
    words += f"; {why}" if why else ""
    words += f"; {_in_force(patient)}"
    if open_to_others := exposed(config.models.delegate):
        return warn(f"{words}; {open_to_others}", _DELEGATE)
    return warn(words, _DELEGATE) if why and config.models.delegate != "auto" else ok(words)


def _in_force(patient: Patient) -> str:
    """What the daemon runs them on, which doctor does not try: a GPU belongs to who uses it."""
    if patient.status is not None:
        why = patient.status.get("backend_why")
        return f"the daemon: {patient.status.get('backend') or 'none'}{f' ({why})' if why else ''}"
    if patient.config.models.delegate not in ("auto", "gpu"):
        return "no GPU is asked for"
    return look().refusal or "whether a GPU runs them is found out when the daemon starts"


def camera(patient: Patient) -> Said:
    """Rate, light and sharpness; of a running daemon only the rate is known."""
    config, status = patient.config, patient.status
    if status is not None:
        fps = status["vitals"]["camera_fps"]
        faults = [why for why in status["why_not"] if why.startswith("camera")]
        if faults:
            return fail("; ".join(faults), "cable, lens, light; then stop doord and run doctor again")
        return ok(f"the running daemon has it: {'no rate yet' if fps is None else f'{fps:g} frames/s'}")
    view = summary(list(watch(config.camera, None, _LOOK_S)))
    where = shown_source(config.camera.source)
    if view is None:
        return fail(f"{where}: no frame", "is another program using it? fuser -v /dev/video0")
    return _judged(view, where, config)


def _judged(view: View, where: str, config: Config) -> Said:
    words = f"{where}: {view.words()}"
    if view.blind:
        return warn(words, "light in front of the door, lens cap, or the cable of the sensor")
    if view.blurred:
        return warn(words, "clean the lens and turn its focus: doord setup shows the sharpness live")
    if not is_simulated(config.camera.source) and view.fps < config.camera.fps / 2:
        return warn(words, f"expected about {config.camera.fps:g}/s: more light, or a smaller picture")
    return ok(words)


def gallery(patient: Patient) -> Said:
    """Who is enrolled, and whether a face alone may open to so many."""
    config = patient.config
    if not is_joined(config) and not config.gallery_path.exists():
        return warn(f"{config.gallery_path}: nobody is enrolled yet", _ENROL)
    _, _, embedder = entries(config)
    found = read_gallery(config, embedder.id, embedder.dimension or 0)
    there = f"{len(found.subjects)} subjects, {len(found)} templates, version {found.version}"
    there += f" of site {config.site}" if is_joined(config) else ""
    refusal = fpir_refusal(embedder.fmr_at_ceiling or float("nan"), len(found), config.decision)
    if refusal:
        return fail(f"{there}; {refusal}", "access.mode: card_and_face, or decision.fpir_accepted_by")
    return ok(there) if len(found) else warn(there, _ENROL)


def rights(patient: Patient) -> Said:
    """Is the rights file one?"""
    config = patient.config
    if is_joined(config):
        return ok(f"rights and cards come from site {config.site}")
    found = checked_rights(config)
    if not config.rights_file:
        return ok("no rights_file: everybody enrolled may enter always")
    times = f", judged in {found.calendar.zone}" if found.schedules else ""
    return ok(f"{config.rights_file}: rights of {len(found.subjects)} subjects{times}")


def readers(patient: Patient) -> Said:
    """Can the cards be read, and by what?"""
    config = patient.config
    wedge, wiegand = config.readers.wedge, config.readers.wiegand
    if wedge and not Path(wedge.device).exists():
        return fail(f"{wedge.device}: is not there", "plug the reader in, or name it by /dev/input/by-id/")
    found = [wedge.device] if wedge else []
    found += ["Wiegand, on lines as below"] if wiegand else []
    by = ", ".join(found) or "no card reader is configured"
    if is_joined(config):
        return ok(by)
    try:
        with as_owner(config):
            count = len(CardFile(config.cards_path, key_of(config)).load().by_digest)
    except GalleryError as error:
        return fail(f"{by}; {error}", "restore key and cards together from one backup")
    return ok(f"{by}; {count} cards" if count or found else by)


def lines(patient: Patient) -> Said:
    """Are the lines there, and does nobody else hold one?"""
    config = patient.config
    where = [f"{key.removesuffix('.line')} {chip} {line}" for key, (chip, line) in config.wiring.items()]
    words = f"{', '.join(where)}; the relay unlocks {config.door.relay.active}"
    if config.simulation:
        return ok(f"{words} (mock)")
    found = find(config.wiring)
    for path, _ in found.values():
        if not Path(path).exists():
            return fail(f"{path}: no such chip", "gpiodetect lists them; name it by label: see doord setup")
    held = {key: line_holder(path, offset) for key, (path, offset) in found.items()}
    if patient.status is None and any(held.values()):
        return _held(patient, words, held)
    if patient.status is not None and not held["door.relay.line"]:
        return fail(f"{words}; the relay's line is held by nobody", "systemctl restart doord")
    if config.door.dps is None:
        return warn(f"{words}; without a dps nobody sees a forced or an open door", "wire a door contact")
    return ok(f"{words} (not driven by doctor)")


def _held(patient: Patient, words: str, held: dict[str, str]) -> Said:
    busy = ", ".join(f'{key} by "{who}"' for key, who in held.items() if who)
    paths = {path for path, _ in find(patient.config.wiring).values()}
    open_in = sorted({name for path in paths for name in patient.host.holders(path)})
    by = f"; the chip is open in {', '.join(open_in)}" if open_in else ""
    return fail(f"{words}; held: {busy}{by}", "stop what holds it: an overlay in config.txt, or a program")


def before_linux(patient: Patient) -> Said:
    """Does a Pi's firmware keep the relay locked?"""
    config, host = patient.config, patient.host
    if config.simulation or not boot.is_pi(host.text("proc/device-tree/model")):
        return note("not judged here: before Linux runs, the board and its wiring must keep the lock locked")
    path, line = find(config.wiring)["door.relay.line"]
    if chip_label(path) not in boot.HEADER_CHIPS:
        words = f"the relay is on {path}, which the firmware can't drive: only its wiring keeps it locked"
        return warn(words, "a resistor to the locked level at the relay's input: deploy/boot/README.md")
    files = [host.path(name) for name in _CONFIG_TXT if host.path(name).exists()]
    if not files:
        expected = f"expected config.txt in {' or '.join(_CONFIG_TXT)}, got none"
        return warn(expected, "is the boot partition mounted?")
    locked = int(config.door.relay.active == "low")
    found = boot.shortcoming(files[0].read_text(errors="replace"), line, locked)
    if found:
        line_to_add = boot.wanted(line, locked)
        words = f"{files[0]}: expected `{line_to_add}` under [all], got: {found}"
        return warn(words, f"add the line {line_to_add} to {files[0]}, and start the unit anew")
    return ok(f"{files[0]}: drives GPIO{line} to locked before Linux runs")


def pad(patient: Patient) -> Said:
    """Would a picture of a face be told from a face?"""
    config = patient.config
    with as_owner(config):
        found = PadSubsystem(config, lambda: config.pad_mode)
    if found.problem:
        raise ModelError(found.problem)
    if config.pad_warning:
        return warn(config.pad_warning, "pad: {mode: auto}, once the door was seen to know its people")
    by = ", ".join(found.texture.models if found.texture else ())
    words = f"{config.pad_mode}, by {by}; good screens and masks pass: see the README"
    if found.note:
        return warn(f"{words}; the tuned model is not used: {found.note}", "doord pad fit, or doord pad tune")
    at = found.tuned_at_utc
    return ok(f"{words}; tuned at {at}" if at else f"{words}; not tuned to this door: doord pad tune")


def face_alone(config: Config) -> str:
    """For how many templates face alone may open, in words. Raises ModelError."""
    _, _, embedder = entries(config)
    fmr, limit = embedder.fmr_at_ceiling, config.decision.max_fpir
    if fmr is None:
        return f"the FMR of {embedder.id} was not measured: face alone opens only with fpir_accepted_by"
    most = most_templates(fmr, limit)
    accepted = config.decision.fpir_accepted_by
    beyond = f"beyond accepted by {accepted}" if accepted else "beyond that card + face, or fpir_accepted_by"
    return f"face alone opens up to {most} templates (FMR {fmr:.1e}, max_fpir {limit:.1e}); {beyond}"


CHECKS = (
    Check("mode", mode, ""),
    Check("daemon", daemon, "journalctl -u doord -n 50"),
    Check("models", models, "install the package again: a model file or the runtime is not what was tested"),
    Check("camera", camera, "v4l2-ctl --list-devices; group video; is another program using it?"),
    Check("gallery", gallery, "restore state and key from one backup, or enrol again"),
    Check("rights", rights, "mend the rights file; the rights before stay in force until a restart"),
    Check("readers", readers, "restore the cards from a backup, or add them again"),
    Check("lines", lines, "gpiodetect and gpioinfo list chips and lines; group gpio"),
    Check("boot", before_linux, "gpiodetect; see deploy/boot/README.md"),
    Check("pad", pad, "install doord again, or name models that are there in pad.models"),
)
