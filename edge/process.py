"""`doord run` as a process: signals, the watchdog's trace, and an end that nothing can hold up."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from edge import __version__
from edge.config import Config, load_config
from edge.daemon import Daemon, build
from edge.door.controller import SWITCH_S
from edge.errors import ConfigError, HangError, LineError
from edge.journal import notify, said
from edge.vision.delegates import check_library, exposed

log = logging.getLogger(__name__)

EX_UNAVAILABLE = 69  # sysexits(3): a line that can't be claimed; it may come, systemd tries again
EX_SOFTWARE = 70
# how long a line is waited for: a driver may come late, a process that held it may be dying. A start for each
# try of one that never comes wrote 140 MB of journal a day to the card
_CLAIM_S = 30.0
_CLAIM_EVERY_S = 1.0
_END_S = 1.9  # from being told to end, or the door's death, to the end


def run(path: Path) -> int:
    """Until SIGTERM or SIGINT; SIGHUP reads the configuration again. The exit code.

    Raises:
        ConfigError: the configuration can't be used.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    signal.signal(signal.SIGTERM, _leave)  # until there is a door that ends in order
    config = load_config(path)
    _refuse_root(Path(config.state_dir))
    check_library(config.models.delegate)
    log.info("doord %s, door %s of site %s", __version__, config.door_id, config.site, extra=said("Starting"))
    if config.simulation:
        log.warning("simulation: mock lines, no real door is driven")
    for words in (config.pad_warning, config.camera_warning, exposed(config.models.delegate)):
        if words:
            log.warning("%s", words)
    daemon = _claimed(config, path)
    if daemon is None:
        return EX_UNAVAILABLE
    sys.setswitchinterval(SWITCH_S)
    return serve(daemon)


def _refuse_root(state: Path) -> None:
    """Root, who tries the door by hand, would leave files that the service can't open. Raises ConfigError."""
    owner = state.stat().st_uid if state.is_dir() else 0
    if os.geteuid() == 0 and owner != 0:
        raise ConfigError(
            f"{state}: expected to run as its owner, user {owner}, got root: "
            "systemctl start doord, or doord run as that user"
        )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Told to end during the start: what was begun is undone, else it would look like a death by a GPU."""
    _end_soon()
    raise SystemExit(0)


def serve(daemon: Daemon) -> int:
    """Start a door and keep it until it is told to end, or is dead. The exit code."""
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the journal
    listen(daemon)
    try:
        daemon.start()
        daemon.wait()
    except (LineError, HangError) as error:
        _end_soon()
        hangs = isinstance(error, HangError)
        log.critical("%s", error, extra=said("ThreadHangs" if hangs else "LineFault"))
        daemon.door.secure()
        if hangs:
            faulthandler.dump_traceback()
        return EX_SOFTWARE
    finally:
        _end_soon()
        daemon.stop()
    return 0


def _claimed(config: Config, path: Path) -> Daemon | None:
    """The door; None: its lines could not be had in time."""
    until, said_before = time.monotonic() + _CLAIM_S, ""
    while True:
        try:
            return build(config, reread=lambda: load_config(path))
        except LineError as error:
            if str(error) != said_before:
                log.critical("%s; tried again for %g s", error, _CLAIM_S, extra=said("LineFault"))
                notify(f"STATUS=not ready: {error}")
            said_before = str(error)
            if time.monotonic() >= until:
                return None
            time.sleep(_CLAIM_EVERY_S)


def _end_soon() -> None:
    """A driver that hangs: the kernel ends this process (SIGALRM), and doord-lock locks the door."""
    if signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _END_S)


def listen(daemon: Daemon) -> None:
    """Signals, and what a dying thread does."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        _end_soon()
        daemon.ask_to_stop()

    def on_death(death: threading.ExceptHookArgs) -> None:
        name = death.thread.name if death.thread else "?"
        if name == "door":
            daemon.door.secure()
            threading.Timer(1.0, os._exit, [EX_SOFTWARE]).start()  # should the log block
        log.critical(
            "thread %s died: %s: %s",
            name,
            death.exc_type.__name__,
            death.exc_value,
            exc_info=death.exc_value,
            extra=said("ThreadDied", THREAD=name),
        )
        if name == "door":
            os._exit(EX_SOFTWARE)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, lambda _signal, _frame: daemon.ask_to_reload())
    threading.excepthook = on_death
