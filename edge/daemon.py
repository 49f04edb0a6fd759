"""The running door: `build` wires it, `Daemon` keeps it alive. The only file that knows all its parts.

Threads: main (signals, watching the others), camera, vision, door, recorder, control, the link's own.
A fault in main or door locks the door and ends the process, systemd starts it again; any other
thread is started again with back-off while the door goes on. A vision thread that hangs can't be: it ends
the process too, at a moment when the door is at rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

from securesystemslib.signer import Key

from edge import __version__
from edge.access import Access
from edge.attendant import Attendant
from edge.clock import SystemClock
from edge.config import CameraConfig, Config
from edge.control import ControlServer
from edge.desk import Desk, JoinedDesk, LocalDesk
from edge.door.controller import DoorController
from edge.door.lines import claim_door
from edge.door.notices import DoorNotice
from edge.door.readers import open_readers
from edge.door.stimuli import LockCommand
from edge.doorman import Doorman, tell_doord_lock
from edge.errors import GalleryError, LineError
from edge.faces import Faces
from edge.identity.claim import Verifier
from edge.identity.credentials import Evidence
from edge.identity.decide import Decider
from edge.journal import notify
from edge.link.ledger import Ledger
from edge.link.orders import Order
from edge.link.wire import NoticeKind
from edge.membership import Membership
from edge.ports import CameraSource, Clock, DoorInputs, DoorSignals, LockLines
from edge.recorder import Recorder
from edge.reload import LIVE, Reloader
from edge.reporter import Reporter, Standalone
from edge.sight import Sight
from edge.site import Content
from edge.ties import Ties, tied
from edge.uplink import made_of, make_link, open_link
from edge.vision.camera import open_camera
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.loop import picture
from edge.vitals import Meter
from edge.worker import Worker, stop_all

_WATCH_S = 0.2  # main looks after the threads and the status this often
_DOOR_BEAT_S = 5.0  # a door thread that has not turned for so long is dead
_GALLERY_RETRY_S = 5.0
_IDENTIFY_S = 10.0  # how long lamp and sounder say which door it is
_STUCK_S = 60.0  # longer than a step of any thread beside vision takes
_LOCK_S, _THREADS_S, _DISK_S, _GOODBYE_S = 0.3, 0.6, 0.4, 0.4  # of an end: what waits for what, at most


class Daemon:
    """All parts of a running door."""

    def __init__(
        self,
        config: Config,
        lines: LockLines,
        open_source: Callable[[CameraConfig], CameraSource],
        gpu: GpuVerdicts,
        inputs: DoorInputs | None = None,
        signals: DoorSignals | None = None,
        clock: Clock | None = None,
        ties: Ties | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._ties = ties
        self.ledger = Ledger(config.events_path, config.events.keep_days, config.events.max_mb << 20)
        self.recorder = Recorder(
            self.ledger, lambda: self.reporter.setting(), self._trusted_now, lambda: self.link.wake()
        )
        self.doorman = Doorman(Path(config.state_dir))
        self._gpu = gpu
        self.faces = Faces(config, self._gpu)
        self.clock = clock or SystemClock(Path(config.state_dir) / "clock.floor")
        self.access = Access(config, self.clock)
        self.sight = Sight(
            config, self.faces, self.access, open_source, self._gpu, lambda stages: self.meter.looked(stages)
        )
        self.member = self._membership(ties) if ties else None
        self._link_made_of = made_of(config, ties)  # first: what changes meanwhile is seen at the next reload
        self.link = open_link(config, ties, self.ledger, self._ack_keys, self._ack_refused)
        self.meter = Meter(
            lambda: self.sight.grabber.delivered, lambda vitals: self.link.set_vitals(vitals), self._tell
        )
        site = self.member or Standalone()
        live = LIVE - {"mqtt", "rights_file"} if ties else LIVE  # a joined door's come from its site
        self.reloader = Reloader(config, reread or (lambda: config), self._adopt, self._tell, live)
        self.reporter = Reporter(
            config,
            self.faces,
            self.link,
            self.recorder,
            self._why_not,
            site,
            self.meter,
            self.reloader,
            lambda: self.sight.pad.told(),
        )
        self.door = DoorController(
            lines,
            config.door,
            self.reporter.on_state,
            self._on_notice,
            inputs,
            signals,
            self.doorman.locked_down,
        )
        decider, verifier, max_age_s = _rules(config)
        self.attendant = Attendant(
            decider,
            verifier,
            self.access,
            self.faces.comparable,
            self.door,
            self.reporter,
            self.reporter.setting,
            max_age_s,
            pad=lambda with_card: self.sight.pad.rule(with_card),
        )
        self.readers = open_readers(config, self.attendant.present)
        self._stopping = threading.Event()
        self._workers: list[Worker] = []
        self._control: ControlServer | None = None
        self._stopped = False
        self._next_gallery_try = 0.0

    def start(self) -> None:
        """Lock the door, then start everything. Raises LineError."""
        self.door.start()
        self.recorder.start()
        self.attendant.tell("Started", f"doord {__version__}")
        self.link.start()
        self._control = ControlServer(
            Path(self._config.socket),
            self._desk,
            self.reporter.status_json,
            lambda action, minutes: self.doorman.carry_out(self.door, action, minutes),
            self._sync_now,
            self.reloader.reload,
            lambda: self.sight.tuner(self.reporter.publish_state),
        )
        self._workers.append(Worker("control", self._control.step))
        self._workers.append(Worker("upkeep", self._upkeep, _STUCK_S))
        self._workers.append(Worker("reload", self.reloader.step))
        self._workers += [Worker(f"reader-{i}", reader.step) for i, reader in enumerate(self.readers)]
        self._workers += self.sight.start(self.attendant.attend)
        if self.member is not None:
            self.member.start()
            self._workers += self.member.workers()
        self.watch()
        notify("READY=1")

    def _trusted_now(self) -> datetime | None:
        return self.clock.now_utc() if self.clock.trusted else None

    def _ack_keys(self) -> dict[str, Key]:
        return self.member.ack_keys if self.member else {}

    def _ack_refused(self, why: str) -> None:
        self.attendant.tell("AckRefused", why)

    def _tell(self, kind: NoticeKind, detail: str) -> None:
        self.attendant.tell(kind, detail)

    def _membership(self, ties: Ties) -> Membership:
        """How a joined door keeps up with its site."""
        return Membership(
            ties,
            self._config,
            self.clock,
            self.faces.model,
            self._apply,
            self._obey,
            self._tell,
        )

    def _apply(self, content: Content) -> None:
        """Put what the site published in force."""
        self.faces.put_in_force(content.gallery)
        self.access.put_in_force(content.rights, content.cards, content.expires_utc)
        if content.rights.lockdown:  # else a door that is held open would stay so
            self.doorman.command(self.door, LockCommand())
        self.reporter.publish_state()

    def _obey(self, order: Order) -> tuple[bool, str]:
        """Do what a signed order says; whether it is in force, and a word about it."""
        if order.do == "sync" and self.member is not None:
            self.member.news()
        elif order.do == "restart":
            self.ask_to_stop()
        elif order.do == "identify-yourself":
            self.door.identify(_IDENTIFY_S)
        else:
            return self.doorman.obey(self.door, order, self.clock.now_utc())
        return True, ""

    def _sync_now(self, folder: str | None) -> str:
        if self.member is None:
            raise GalleryError("this door is part of no site: doord join")
        return self.member.sync_now(None if folder is None else Path(folder))

    def _desk(self) -> Desk | None:
        if self.member is not None:
            return JoinedDesk(self._config.site, self.faces.gallery, self.access.cards)
        if self.faces.store is None:
            return None
        loop = self.sight.loop
        take_pictures = partial(loop.sit, picture) if loop else None
        cards = self.access.card_file
        return LocalDesk(self.faces.store, self.faces.enroller(), take_pictures, self._desk_changed, cards)

    def _desk_changed(self) -> None:
        """Put what the desk did in force. Raises GalleryError: nobody is let in by face until it is."""
        try:
            self.access.load()
            self.faces.gallery_changed()
        finally:
            self.reporter.publish_state()

    def watch(self) -> None:
        """One look after everything.

        Raises:
            LineError: the door's thread is dead.
            HangError: the vision thread hangs, and the door is at rest.
        """
        now = time.monotonic()
        if not self.door.alive or now - self.door.beat > _DOOR_BEAT_S:
            raise LineError(f"the door's thread has not turned for {now - self.door.beat:.1f} s")
        for worker in self._workers:
            worker.tend(now)
        self.recorder.tend()
        self.link.tend()
        if self.member is not None:
            self.member.tend()
        self.doorman.keep_schedule(self.door, self.access.free_for_s(), now)
        retry = self.faces.damaged and now >= self._next_gallery_try
        if retry:
            self._next_gallery_try = now + _GALLERY_RETRY_S
            self.faces.load_gallery()
            self.reporter.publish_state()
        self.sight.tend(now, at_rest=self.door.status.lock == "locked")
        self._gpu.tend(now)
        self.reporter.tell_health(now)

    def _upkeep(self) -> None:
        """What may wait for a disk: not main, which the watchdog would end with a door that works."""
        self.meter.step()
        self.access.tend()

    def wait(self) -> None:
        """Until `stop` is asked for, watching. Raises what `watch` does."""
        while not self._stopping.wait(_WATCH_S):
            self.watch()
            notify("WATCHDOG=1")

    def ask_to_stop(self) -> None:
        """End `wait`; callable from a signal handler."""
        self._stopping.set()

    def ask_to_reload(self) -> None:
        """Read the configuration and its files again, soon; callable from a signal handler."""
        self.reloader.ask()

    def _adopt(self, config: Config) -> None:
        """Put another configuration in force; not on main. Raises ConfigError: none of it is."""
        before = self._config
        parts = made_of(config, self._ties)
        link = self.link
        if config.mqtt != before.mqtt or parts != self._link_made_of:
            link = make_link(config, self._ties, self.ledger, self._ack_keys, self._ack_refused)
        with self.sight.adopting(config):
            self.access.adopt(config)
        self._config, self._link_made_of = config, parts
        self.attendant.rule_by(*_rules(config))
        self.faces.adopt(config)
        if self.member is not None:
            self.member.adopt(config)
        if link is not self.link:
            self.link.close()  # first: the broker knows the door by one name
            self.link = link
            link.start()
        self.reporter.adopt(config, link)

    def stop(self) -> None:
        """Lock first, then end the rest; bounded; may be called twice."""
        if self._stopped:
            return
        self._stopped = True
        written_by = time.monotonic() + _LOCK_S + _THREADS_S + _DISK_S
        notify("STOPPING=1")
        self.door.stop(_LOCK_S)
        self._gpu.close()
        self.sight.grabber.ask_to_stop()
        self.recorder.ask_to_stop()
        stop_all(self._workers, time.monotonic() + _THREADS_S)
        for reader in self.readers:
            reader.close()
        self.access.tend(at_once=True)
        if self._control is not None:
            self._control.close()
        self.attendant.tell("Stopped", "the service ends, the door is locked")  # after all who tell
        self.recorder.stop(max(_DISK_S, written_by - time.monotonic()))
        if self.member is not None:
            self.member.close(_GOODBYE_S / 4)
        self.link.close(_GOODBYE_S)
        self.sight.grabber.stop(0)
        self.recorder.close()
        self.faces.close()

    def _on_notice(self, kind: DoorNotice, detail: str) -> None:
        self.attendant.tell(kind, detail)

    def _why_not(self, now: float) -> list[str]:
        by_face = Evidence.FACE in self.access.enough()
        problems = self.faces.why_not(searched=by_face) + self.access.why_not()
        problems += self.sight.pad.why_not() if by_face else []
        problems += [] if by_face else [reader.fault for reader in self.readers if reader.fault]
        problems += self.sight.why_not(now, self.attendant.camera_fault, self.attendant.camera_seen)
        if self.reporter.door.fault is not None:
            problems.append(self.reporter.door.fault)
        return problems


def build(
    config: Config,
    lines: LockLines | None = None,
    open_source: Callable[[], CameraSource] | None = None,
    inputs: DoorInputs | None = None,
    signals: DoorSignals | None = None,
    reread: Callable[[], Config] | None = None,
) -> Daemon:
    """Wire a door; its lines are claimed and locked before anything else is looked at.

    Tests hand in siblings of the lines and the camera. `reread`: the configuration as it is now, for a
    reload; raises ConfigError.

    Raises:
        LineError: the line can't be claimed; nothing runs.
    """
    specs: list[str] = []
    if lines is None:
        claimed = claim_door(config.door, config.simulation)
        lines, inputs, signals = claimed.relay, claimed.inputs, claimed.signals
        specs = [] if config.simulation else claimed.specs
    tell_doord_lock(Path(config.socket).parent / "lines", specs)
    source = open_camera if open_source is None else _always(open_source)
    ties = tied(config)
    gpu = GpuVerdicts(config.models, Path(config.state_dir))
    try:
        with ExitStack() as unfinished:
            unfinished.callback(gpu.close)  # what ends with an exception did not die of a GPU
            daemon = Daemon(config, lines, source, gpu, inputs, signals, ties=ties, reread=reread)
            unfinished.pop_all()
        return daemon
    except LineError:  # a reader's lines
        for held in (lines, inputs, signals):
            if held is not None:
                held.close()
        raise


def _rules(config: Config) -> tuple[Decider, Verifier, float]:
    """Who decides, and how old a frame may be, s."""
    max_age_s = config.camera.max_frame_age_ms / 1000
    verifier = Verifier(config.decision, max_age_s, config.access.claim_timeout_s)
    return Decider(config.decision, max_age_s, config.pad.alarm_after), verifier, max_age_s


def _always(open_source: Callable[[], CameraSource]) -> Callable[[CameraConfig], CameraSource]:
    """A sibling of the camera stays what it is, whatever is configured."""
    return lambda _config: open_source()
