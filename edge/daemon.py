"""The running door: `build` wires it, `run` keeps it alive. The only file that knows all its parts.

Threads: main (signals, watching the others), camera, vision, door, control, and the link's own.
A fault in main or door locks the door and ends the process, systemd starts it again; any other
thread is started again with back-off while the door goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from edge import __version__
from edge.access import Access
from edge.attendant import Attendant
from edge.clock import SystemClock
from edge.config import NO_PAD, Config, MqttConfig
from edge.control import ControlServer
from edge.desk import LocalDesk
from edge.door.controller import SWITCH_S, DoorController, DoorStatus
from edge.door.lines import claim_door
from edge.door.notices import DoorNotice
from edge.door.readers import open_readers
from edge.doorman import Doorman, tell_doord_lock
from edge.errors import ConfigError, LineError
from edge.faces import Faces
from edge.identity.claim import Verifier
from edge.identity.credentials import Evidence
from edge.identity.decide import Decider
from edge.journal import notify
from edge.link import wire
from edge.link.mqtt import MqttLink
from edge.link.outbox import MemoryOutbox
from edge.link.port import Health, Link, NullLink
from edge.ports import CameraSource, Clock, DoorInputs, DoorSignals, LockLines
from edge.values import DoorMode, Gallery, Reason
from edge.vision.camera import open_camera
from edge.vision.grabber import Grabber
from edge.vision.health import CameraHealth
from edge.vision.loop import VisionLoop
from edge.worker import Worker

log = logging.getLogger(__name__)

EX_SOFTWARE = 70
_WATCH_S = 0.2  # main looks after the threads and the status this often
_DOOR_BEAT_S = 5.0  # a door thread that has not turned for so long is dead
_VISION_BEAT_S = 3.0  # longer than a picture takes on the slowest board
_GALLERY_RETRY_S = 5.0


class Daemon:
    """All parts of a running door."""

    def __init__(
        self,
        config: Config,
        lines: LockLines,
        open_source: Callable[[], CameraSource],
        link: Link,
        inputs: DoorInputs | None = None,
        signals: DoorSignals | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self.link = link
        self.doorman = Doorman(Path(config.state_dir))
        self.door = DoorController(
            lines, config.door, self._on_state, self._on_notice, inputs, signals, self.doorman.locked_down
        )
        self.faces = Faces(config)
        self.grabber = Grabber(open_source, config.camera)
        self.access = Access(config, clock or SystemClock(Path(config.state_dir) / "clock.floor"))
        max_age_s = config.camera.max_frame_age_ms / 1000
        self.attendant = Attendant(
            Decider(config.decision, max_age_s),
            Verifier(config.decision, max_age_s, config.access.claim_timeout_s),
            self.access,
            self.faces.gallery,
            self.door,
            self._post,
            self._setting,
            max_age_s,
        )
        self.readers = open_readers(config, self.attendant.present)
        self._last_refusal: Reason | None = None
        self._door_status = DoorStatus(DoorMode.LOCKED, "unknown")
        self._stopping = threading.Event()
        self._workers: list[Worker] = []
        self._control: ControlServer | None = None
        self._loop: VisionLoop | None = None
        self._reload = threading.Event()
        self._stopped = False
        self._state_turn = threading.Lock()  # the door's and the vision thread both publish the state
        self._told: Health | None = None
        self._next_gallery_try = 0.0

    def start(self) -> None:
        """Lock the door, then start everything. Raises LineError."""
        self.door.start()
        self.link.start()
        loop = self._loop = self._vision()
        self._control = ControlServer(
            Path(self._config.socket),
            self._desk,
            self._status_json,
            lambda action, minutes: self.doorman.carry_out(self.door, action, minutes),
        )
        self._workers.append(Worker("control", self._control.step))
        self._workers += [Worker(f"reader-{i}", reader.step) for i, reader in enumerate(self.readers)]
        if loop is not None:
            self.grabber.start()
            self._workers.append(Worker("vision", lambda: self.attendant.attend(loop.step())))
        self.attendant.tell("Started", f"doord {__version__}")
        self.watch()
        notify("READY=1")

    def _vision(self) -> VisionLoop | None:
        pipeline = self.faces.pipeline
        if pipeline is None:
            return None
        health = CameraHealth(self._config.camera, live=not self._config.simulation)
        return VisionLoop(self.grabber, health, pipeline, self._searchable)

    def _searchable(self) -> Gallery | None:
        """Nobody is searched for where a face alone opens nothing."""
        return self.faces.searchable() if Evidence.FACE in self.access.enough() else None

    def _desk(self) -> LocalDesk | None:
        if self.faces.store is None:
            return None
        take_pictures = self._loop.take_pictures if self._loop else None
        cards = self.access.card_file
        return LocalDesk(self.faces.store, self.faces.enroller(), take_pictures, self._desk_changed, cards)

    def _desk_changed(self) -> None:
        """Put what the desk did in force. Raises GalleryError: nobody is let in by face until it is."""
        try:
            self.access.load()
            self.faces.gallery_changed()
        finally:
            self._publish_state()

    def watch(self) -> None:
        """One look after everything. Raises LineError when the door's thread is dead."""
        now = time.monotonic()
        if not self.door.alive or now - self.door.beat > _DOOR_BEAT_S:
            raise LineError(f"the door's thread has not turned for {now - self.door.beat:.1f} s")
        for worker in self._workers:
            worker.tend(now)
        self.link.tend()
        self.doorman.keep_schedule(self.door, self.access.free_for_s(), now)
        retry = self.faces.damaged and now >= self._next_gallery_try
        reload = self._reload.is_set()
        if reload:
            self._reload.clear()
            self.access.load()
        if retry or reload:
            self._next_gallery_try = now + _GALLERY_RETRY_S
            self.faces.load_gallery()
            self._publish_state()
        self.access.tend()
        self._tell_health(now)

    def wait(self) -> None:
        """Until `stop` is asked for, watching. Raises LineError when the door's thread is dead."""
        while not self._stopping.wait(_WATCH_S):
            self.watch()
            notify("WATCHDOG=1")

    def ask_to_stop(self) -> None:
        """End `wait`; callable from a signal handler."""
        self._stopping.set()

    def ask_to_reload(self) -> None:
        """Read the gallery again, soon; callable from a signal handler."""
        self._reload.set()

    def stop(self) -> None:
        """Lock first, then end the rest; bounded; may be called twice."""
        if self._stopped:
            return
        self._stopped = True
        notify("STOPPING=1")
        self.door.stop()
        self.grabber.stop()
        for worker in self._workers:
            worker.stop()
        for reader in self.readers:
            reader.close()
        self.access.tend(at_once=True)
        self.attendant.tell("Stopped", "the service ends, the door is locked")
        if self._control is not None:
            self._control.close()
        self.link.close()
        self.faces.close()

    def _on_notice(self, kind: DoorNotice, detail: str) -> None:
        self.attendant.tell(kind, detail)

    def _why_not(self, now: float) -> list[str]:
        by_face = Evidence.FACE in self.access.enough()
        problems = self.faces.why_not(searched=by_face) + self.access.why_not()
        problems += [] if by_face else [reader.fault for reader in self.readers if reader.fault]
        camera = self._camera_problem()
        problems += [f"camera: {camera}"] if camera else []
        if self._loop is not None and now - self._loop.beat > _VISION_BEAT_S:
            problems.append("the vision thread does not turn")
        if self._door_status.fault is not None:
            problems.append(self._door_status.fault)
        return problems

    def _camera_problem(self) -> str | None:
        if self.grabber.ended:
            return "the clip has ended"
        fault = self.attendant.camera_fault
        if fault is not None:
            return self.grabber.problem or fault
        return None if self.attendant.camera_seen else "no frame yet"

    def health(self, now: float) -> Health:
        """What `status` says about the parts at `now` (s, monotonic)."""
        problems = self._why_not(now)
        backend = self.faces.pipeline.backend if self.faces.pipeline else ""
        return Health(not problems, tuple(problems), self.faces.in_force[0], backend)

    def _tell_health(self, now: float) -> None:
        health = self.health(now)
        if health != self._told:
            self.link.set_health(health)
        if self._told is None or health.why_not != self._told.why_not:
            words = "armed" if health.armed else "not armed: " + "; ".join(health.why_not)
            log.info("%s", words)
            notify(f"STATUS={words}")
        self._told = health

    def _status_json(self) -> bytes:
        status = msgspec.to_builtins(self.health(time.monotonic()))
        status |= {
            "version": __version__,
            "simulation": self._config.simulation,
            "broker_connected": self.link.connected,
            "events_dropped": self.link.dropped,
            "mode": self._door_status.mode,
            "lock": self._door_status.lock,
            "dps": self._door_status.dps,
            "alarms": self._door_status.alarms,
        }
        return msgspec.json.encode(status)

    def _setting(self) -> wire.Setting:
        pipeline = self.faces.pipeline
        model = pipeline.embedder.model if pipeline else ""
        return wire.Setting(
            self._config.decision.threshold, model, self.faces.in_force[0], self._config.simulation
        )

    def _post(self, event: wire.Event) -> None:
        self.link.post(event)
        if isinstance(event, wire.Denied):
            self._last_refusal = event.reason
            self._publish_state()

    def _on_state(self, status: DoorStatus) -> None:
        log.info("door %s, lock %s, leaf %s", status.mode.value, status.lock, status.dps)
        self._door_status = status
        self._publish_state()

    def _publish_state(self) -> None:
        with self._state_turn:  # else one built earlier could be sent later
            status, (version, digest) = self._door_status, self.faces.in_force
            self.link.set_state(
                wire.State(
                    mode=status.mode,
                    lock=status.lock,
                    fault=status.fault,
                    gallery=version,
                    gallery_digest=digest,
                    changed_at=wire.rfc3339(time.time()),
                    last_refusal=self._last_refusal,
                    dps=status.dps,
                    alarms=list(status.alarms),
                )
            )


def build(
    config: Config,
    lines: LockLines | None = None,
    open_source: Callable[[], CameraSource] | None = None,
    inputs: DoorInputs | None = None,
    signals: DoorSignals | None = None,
) -> Daemon:
    """Wire a door; its lines are claimed and locked before anything else is looked at.

    Tests hand in siblings of the lines and the camera.

    Raises:
        LineError: the line can't be claimed; nothing runs, exit 78.
    """
    specs: list[str] = []
    if lines is None:
        claimed = claim_door(config.door, config.simulation)
        lines, inputs, signals = claimed.relay, claimed.inputs, claimed.signals
        specs = [] if config.simulation else claimed.specs
    tell_doord_lock(Path(config.socket).parent / "lines", specs)
    source = open_source or (lambda: open_camera(config.camera))
    try:
        return Daemon(config, lines, source, _link(config), inputs, signals)
    except LineError:  # a reader's lines
        for held in (lines, inputs, signals):
            if held is not None:
                held.close()
        raise


def _link(config: Config) -> Link:
    if config.mqtt is None:
        return NullLink()
    return _mqtt(config, config.mqtt)


def _mqtt(config: Config, mqtt: MqttConfig) -> Link:
    """The link; a door whose certificate files are unusable works without one, and says so."""
    outbox = MemoryOutbox(Path(config.state_dir) / "events.head")
    try:
        return MqttLink(mqtt, wire.Topics(config.site, config.door_id), outbox, config.simulation)
    except ConfigError as error:
        log.error("no broker: %s; mend it and restart, the door works on", error)
        return NullLink()


def run(config: Config) -> int:
    """`doord run`: until SIGTERM or SIGINT; SIGHUP reads gallery, rights and cards again. The exit code."""
    log.info("doord %s, door %s of site %s", __version__, config.door_id, config.site)
    if config.simulation:
        log.warning("simulation: mock lines, no real door is driven")
    log.warning(NO_PAD)
    try:
        daemon = build(config)
    except LineError as error:
        raise ConfigError(str(error)) from error
    _listen(daemon)
    sys.setswitchinterval(SWITCH_S)
    try:
        daemon.start()
        daemon.wait()
    except LineError as error:
        log.critical("%s", error)
        daemon.door.secure()
        return EX_SOFTWARE
    finally:
        daemon.stop()
    return 0


def _listen(daemon: Daemon) -> None:
    """Signals, and what a dying thread does."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        daemon.ask_to_stop()

    def on_death(death: threading.ExceptHookArgs) -> None:
        name = death.thread.name if death.thread else "?"
        if name == "door":
            daemon.door.secure()
            threading.Timer(1.0, os._exit, [EX_SOFTWARE]).start()  # should the log block
        log.critical(
            "thread %s died: %s: %s", name, death.exc_type.__name__, death.exc_value, exc_info=death.exc_value
        )
        if name == "door":
            os._exit(EX_SOFTWARE)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, lambda _signal, _frame: daemon.ask_to_reload())
    threading.excepthook = on_death
