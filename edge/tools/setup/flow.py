"""The steps of `doord setup`, in order: look, ask, try, write, report.

Nothing is written before the configuration is whole and was agreed to; who ends it sooner finds his
answers in a file beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from edge.acting import as_owner
from edge.clock import believed_by_kernel
from edge.config import DEFAULT_SOCKET, CameraConfig, Config, parse_config, shown_source
from edge.control import RemoteDesk
from edge.door.chips import list_chips
from edge.door.lines import claim_door
from edge.errors import ConfigError, DoordError, LineError, ModelError
from edge.identity.match import expected_fpir
from edge.joined import broker_of, read_joined
from edge.keys import broker_credentials
from edge.link.topics import Topics
from edge.ports import CameraSource
from edge.tools import broker_trial
from edge.tools.doctor import machine
from edge.tools.doctor.door import entries
from edge.tools.doctor.finding import Said
from edge.tools.doctor.host import Host
from edge.tools.setup import devices
from edge.tools.setup.camera_trial import try_camera
from edge.tools.setup.commissioning import UNTOLD, Commissioning
from edge.tools.setup.config_text import Data, get, put, render
from edge.tools.setup.files import read_data, replace_config, replace_text, write_answers
from edge.tools.setup.latency import measure_latency
from edge.tools.setup.lines_trial import Claim, claimed, try_lines
from edge.tools.setup.outcome import Outcome, failed, passed, untested
from edge.tools.setup.questions import Found, ask_all, shown
from edge.tools.setup.talk import Terminal
from edge.vision.camera import open_camera
from edge.vision.pipeline import Pipeline

TEMPLATES_EACH = 3  # that people usually have
_PEOPLE = "50"
_MACHINE: tuple[tuple[str, Callable[[Host], Said]], ...] = (
    ("clock", machine.clock),
    ("rtc", machine.hardware_clock),
    ("temperature", machine.heat),
    ("power", machine.power),
    ("processor", machine.processor),
)
REFUSED = "no commissioning report: simulation: true, and nothing real was tested"


@dataclass(frozen=True, slots=True)
class Unit:
    """Where setup works, and what it works with; a test gives siblings."""

    path: Path  # of the configuration
    report: Path
    wait_s: float = 30.0  # for a gesture, a face, a visit
    host: Host = field(default_factory=Host)
    claim: Claim = claim_door
    open_source: Callable[[CameraConfig], CameraSource] = open_camera


def run_setup(unit: Unit, talk: Terminal, simulation: bool = False) -> int:
    """All of it. 0: written, and nothing that was tried failed.

    Raises:
        ConfigError: an answer that can't be used, or a file that can't be written.
        KeyboardInterrupt: ended by the installer; the lock is locked, the answers are kept.
    """
    answers = unit.path.with_name(f"{unit.path.name}.answers")
    try:
        code = _set_up(unit, talk, simulation)
    except KeyboardInterrupt:
        talk.say("", "Ended; nothing was changed.")
        with contextlib.suppress(OSError):  # a folder that is not there, or may not be written
            write_answers(answers, talk.given)
            talk.say(f"To go on: doord setup --answers {answers}")
        raise
    answers.unlink(missing_ok=True)
    return code


def _set_up(unit: Unit, talk: Terminal, simulation: bool) -> int:
    data = _before(unit, talk)
    if simulation:
        data = put(data, "simulation", True)
    _refuse_beside_a_daemon(data)
    found = _show(talk)
    data = ask_all(talk, data, found)
    config, outcomes = _try_doors_parts(unit, talk, data)
    if config.door.relay.active != get(data, "door.relay.active"):
        data = put(data, "door.relay.active", config.door.relay.active)
    talk.say("", "This would be the configuration:", *shown(data))
    if not talk.consent("write", f"Write {unit.path}?", True):
        talk.say("Nothing was written.")
        return 1
    written = replace_config(unit.path, render(data))
    talk.say(f"{unit.path} is written; one that was there before is {unit.path.name}.bak.")
    return _finish(unit, talk, written, outcomes, alone=False)


def run_report(unit: Unit, talk: Terminal) -> int:
    """The trials and the report alone, of the configuration as it stands. Raises ConfigError."""
    data = read_data(unit.path)
    if data is None:
        raise ConfigError(f"{unit.path}: is not there: doord setup writes one")
    config = parse_config(render(data), str(unit.path))
    if config.simulation:
        talk.say(REFUSED)
        return 1
    _refuse_beside_a_daemon(data)
    _, outcomes = _try_doors_parts(unit, talk, data, may_turn=False)
    return _finish(unit, talk, config, outcomes, alone=True)


def _before(unit: Unit, talk: Terminal) -> Data:
    """What to begin with: the configuration that is there, if it is wanted and can be used."""
    try:
        data = read_data(unit.path)
    except ConfigError as error:
        talk.say(f"{error}", f"It can't be used; a new one will replace it, and it stays as {unit.path}.bak.")
        return {}
    if data is None:
        return {}
    words = f"{unit.path} is there. Go on from it (its values are the defaults)?"
    return data if talk.consent("keep", words, True) else {}


def _refuse_beside_a_daemon(data: Data) -> None:
    socket = get(data, "socket") or DEFAULT_SOCKET
    if RemoteDesk.find(Path(str(socket))) is not None:
        raise ConfigError("setup: doord runs and holds lines and camera: systemctl stop doord, then again")


def _show(talk: Terminal) -> Found:
    found = Found(devices.cameras(), list_chips())
    talk.say("Cameras:")
    talk.say(*(f"  {i} {camera.source} ({camera.card})" for i, camera in enumerate(found.cameras, 1)))
    talk.say(
        *(
            []
            if found.cameras
            else ["  none here; a Pi's own is picamera2, one on the network https://... or rtsps://..."]
        )
    )
    talk.say("GPIO chips:")
    talk.say(*(f"  {devices.chip_words(chip)}" for chip in found.chips))
    talk.say(*([] if found.chips else ["  none that may be opened here"]), "")
    return found


def _try_doors_parts(
    unit: Unit, talk: Terminal, data: Data, may_turn: bool = True
) -> tuple[Config, list[Outcome]]:
    """Everything that can be tried; the configuration with the polarity that was found."""
    config = parse_config(render(data), "setup")
    pipeline, outcomes = _models(config)
    if pipeline is not None:
        outcomes += try_camera(config, talk, pipeline, unit.open_source)
    level, lines = try_lines(config, talk, unit.wait_s, may_turn, unit.claim)
    config = parse_config(render(put(data, "door.relay.active", level)), "setup")
    outcomes += lines
    outcomes.append(_latency(unit, talk, config, pipeline, lines))
    outcomes += _broker(config)
    outcomes += [_of_doctor(part, check(unit.host)) for part, check in _MACHINE]
    for outcome in outcomes:
        talk.say(f"  {outcome.result:11}{outcome.part:14}{outcome.words}")
    return config, outcomes


def _models(config: Config) -> tuple[Pipeline | None, list[Outcome]]:
    try:
        pipeline = Pipeline.load(config.models, config.quality)
    except ModelError as error:
        return None, [failed("models", str(error))]
    return pipeline, [passed("models", f"hash and known answer right, on {pipeline.backend}")]


def _latency(
    unit: Unit, talk: Terminal, config: Config, pipeline: Pipeline | None, lines: list[Outcome]
) -> Outcome:
    words = "Measure how fast it opens? You step before the camera a few times, and the lock moves"
    if pipeline is None or not any(o.part == "relay" and o.result == "passed" for o in lines):
        return untested("latency", "not measured: models and relay have to work first")
    if not talk.consent("latency", words, talk.interactive and not config.simulation):
        return untested("latency", "not measured")
    try:
        with claimed(config, unit.claim) as held:
            return measure_latency(config, talk, pipeline, held.relay, unit.wait_s, unit.open_source)
    except (LineError, ModelError) as error:
        return failed("latency", str(error))


def _broker(config: Config) -> list[Outcome]:
    """Reached, its certificates, its access rules."""
    try:
        with as_owner(config, broker_credentials(config)):
            login = broker_of(config, read_joined(config))
        if login is None:
            return [untested("broker", "none is configured")]
        reached = broker_trial.reach(login)
        outcomes = [passed("broker", f"{reached.where} answers, {reached.tls or 'without TLS'}")]
        if login.tls is not None:
            outcomes.append(_certificates(broker_trial.terms(login.tls)))
        broker_trial.echo(login, Topics(config.site, config.door_id))
        return [*outcomes, passed("access rules", "the door's own topic was written and read back")]
    except DoordError as error:
        return [failed("broker", str(error))]


def _certificates(terms: list[broker_trial.Term]) -> Outcome:
    if not terms:
        return untested("certificates", "none of its own: the system's authorities vouch for the broker")
    now = datetime.now(timezone.utc)
    if flaws := [flaw for term in terms if (flaw := term.flaw(now))]:
        return failed("certificates", "; ".join(flaws))
    return passed("certificates", f"all hold until {min(term.ends for term in terms):%Y-%m-%d}")


def _of_doctor(part: str, said: Said) -> Outcome:
    if said.verdict == "note":
        return untested(part, said.detail)
    return passed(part, said.detail) if said.verdict == "ok" else failed(part, f"{said.detail}: {said.cure}")


def _finish(unit: Unit, talk: Terminal, config: Config, outcomes: list[Outcome], alone: bool) -> int:
    """The report, shown and kept; refused in simulation."""
    if config.simulation:
        talk.say(REFUSED)
        return 0
    people = talk.ask("people", "How many people will it know?", _PEOPLE, _count)
    by = talk.ask("installer", "Your name, for the report (may be left out)", "", str.strip)
    told = Commissioning(
        config.site,
        config.door_id,
        _now(),
        by,
        [*outcomes, _fpir(config, people)],
        _wiring(config),
        [*_facts(unit, config), *_unseen(talk)],
        [_attacks(config), *UNTOLD],
    )
    talk.say("", told.text())
    try:
        replace_text(unit.report, told.text())
    except OSError as error:
        raise ConfigError(f"{unit.report}: can't be written: {error.strerror or error}") from None
    talk.say(f"This report is {unit.report}.")
    if not alone:
        talk.say("Next: doord enrol or doord join, then systemctl enable --now doord, then doord doctor.")
    return int(not told.flawless)


def _attacks(config: Config) -> str:
    """What a reader must not take this door for."""
    detected = f"pad.mode is {config.pad_mode}, and no attack was tried: doord evaluate --pad, doord pad"
    return f"Presentation attacks: {config.pad_warning or detected}."


def _unseen(talk: Terminal) -> list[tuple[str, str]]:
    keys = ", ".join(dict.fromkeys(talk.unseen))
    return [("unseen", f"answered in advance, so perhaps by nobody who looked: {keys}")] if keys else []


def _count(answer: str) -> int:
    if not (answer.isascii() and answer.isdecimal() and 0 < int(answer) <= 100_000):
        raise ValueError(f"expected 1 to 100000, got {answer!r:.40}")
    return int(answer)


def _now() -> str:
    believed = "" if believed_by_kernel() else " (by a clock that neither NTP nor an RTC has set)"
    return f"{datetime.fromtimestamp(time.time(), timezone.utc):%Y-%m-%d %H:%M} UTC{believed}"


def _fpir(config: Config, people: int) -> Outcome:
    """Judged by the limit that the door itself goes by."""
    fmr = entries(config)[2].fmr_at_ceiling
    templates = people * TEMPLATES_EACH
    if fmr is None:
        return untested("FPIR", "the embedder's FMR was not measured")
    fpir, limit = expected_fpir(fmr, templates), config.decision.max_fpir
    words = f"expected {fpir:.2%} of strangers' tries among {people} people x {TEMPLATES_EACH} templates"
    words += f" (FMR {fmr:.1e} of one comparison; the limit is {limit:.2%})"
    if fpir > limit and config.decision.fpir_accepted_by:
        words += f", accepted by {config.decision.fpir_accepted_by}"
    if fpir <= limit or config.decision.fpir_accepted_by or set(config.modes) == {"card_and_face"}:
        return passed("FPIR", words)
    return failed("FPIR", f"{words}: use card + face, or name in fpir_accepted_by who accepts it")


def _wiring(config: Config) -> list[tuple[str, str]]:
    lines = config.door.lines()
    rows = []
    for path, (chip, line) in config.wiring.items():
        role = path.removeprefix("door.").removesuffix(".line")
        active = getattr(lines.get(role), "active", None)
        rows.append((role, f"{chip} line {line}" + (f", active {active}" if active else "")))
    return [*rows, ("camera", shown_source(config.camera.source))]


def _facts(unit: Unit, config: Config) -> list[tuple[str, str]]:
    _, detector, embedder = entries(config)
    digest = hashlib.sha256(unit.path.read_bytes()).hexdigest()
    return [
        ("versions", machine.versions(unit.host).detail),
        (unit.path.name, f"sha256 {digest}"),
        *((entry.id, f"sha256 {entry.sha256}") for entry in (detector, embedder)),
    ]
