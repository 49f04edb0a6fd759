"""The log that people read with journalctl: one line a fact, fields for machines.

Under systemd each record goes to journald by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL),
with the stable MESSAGE_ID of its kind; on a terminal, and where there is no journald, it is a plain
line on stderr. Levels: info is what happens at a door, denials too; warning is an alarm or a refusal
that somebody should look at; error is a fault that the door works on with; critical ends it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge.message_ids import MESSAGE_IDS

SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_SEND_S = 0.05  # no thread of a door waits longer for journald, and only one of them in
_DEAF_S = 5.0  # this time
_MAX_TEXT = 32 * 1024  # bytes of one field: a datagram stays below the kernel's default send buffer
_BURST = 5  # lines of one fault, that is of one place in the code, in
_LATIN_1 = 0xFF
_WINDOW_S = 60.0  # this time; the rest is counted


def said(kind: str, **fields: object) -> dict[str, object]:
    """What a log call hands over as `extra`: the kind's MESSAGE_ID, and fields in journald's spelling."""
    shown = {name: str(value) for name, value in fields.items() if value is not None}
    return {"journal": {"MESSAGE_ID": MESSAGE_IDS[kind], "KIND": kind, **shown}}


def start_logging(
    verbose: bool = False, identifier: str = "doord", address: str = SOCKET, **context: str
) -> None:
    """Send the log of this process to journald or stderr, once a process.

    Args:
        verbose: debug lines too.
        identifier: SYSLOG_IDENTIFIER, what `journalctl -t` asks for.
        address: of journald's socket.
        context: fields of every record, such as DOOR and SITE.
    """
    journal = None
    if stderr_is_journald():
        journal = Journal(address, {"SYSLOG_IDENTIFIER": identifier, **context})
    logger = logging.getLogger("edge")
    logger.handlers[:] = [Voice(journal)]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def stderr_is_journald() -> bool:
    """Whether stderr is the stream that systemd connected, by `JOURNAL_STREAM` (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class Journal:
    """journald's socket. Never waits long, never raises."""

    def __init__(self, address: str, context: Mapping[str, str]) -> None:
        self._address = address
        self._context = dict(context)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_S)
        self._deaf_until = 0.0  # s, monotonic
        self._lost = 0

    def send(self, fields: Mapping[str, str]) -> bool:
        """Whether journald is there; one that is there and does not listen costs the record, counted."""
        lost = {"LINES_LOST": str(self._lost)} if self._lost else {}
        if time.monotonic() < self._deaf_until:
            self._lost += 1
            return True
        try:
            self._socket.sendto(datagram({**fields, **self._context, **lost}), self._address)
        except (TimeoutError, BlockingIOError):
            self._deaf_until = time.monotonic() + _DEAF_S
            self._lost += 1
        except OSError:
            return False
        else:
            self._lost = 0
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def datagram(fields: Mapping[str, str]) -> bytes:
    """A record as journald reads it; longer texts are cut to 32 KiB."""
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > _MAX_TEXT:  # not within a letter: journalctl shows what is no UTF-8 as a blob
        data = data[:_MAX_TEXT].decode("utf-8", "ignore").encode()
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


class Voice(logging.Handler):
    """Where records go. A fault that repeats itself is folded: said five times a minute, then counted."""

    def __init__(self, journal: Journal | None) -> None:
        super().__init__()
        self._journal = journal
        self._folding = Folding()
        self._marked = journal is not None or stderr_is_journald()  # with sd-daemon(3)'s priorities
        plain = "%(message)s" if self._marked else "%(asctime)s %(levelname)-7s %(message)s"
        self.setFormatter(logging.Formatter(plain, "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock."""
        now = time.monotonic()
        self._say_folded(now)
        if self._folding.admits(record, now):
            self._write(record)

    def close(self) -> None:
        """Say what was folded, at the end of the process."""
        with self.lock or contextlib.nullcontext():
            self._say_folded(float("inf"))
            if self._journal:
                self._journal.close()
                self._journal = None
        super().close()

    def _say_folded(self, now: float) -> None:
        for record in self._folding.due(now):
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            if self._journal is None or not self._journal.send(_fields(record)):
                self._write_line(record)
        except (TypeError, ValueError):  # arguments that don't fit their line, or a closed stderr
            self.handleError(record)

    def _write_line(self, record: logging.LogRecord) -> None:
        line = printable(self.format(record).replace("\n", " | "))
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>" if self._marked else ""
        with contextlib.suppress(OSError):  # nobody reads it any more
            sys.stderr.write(f"{priority}{line}\n")
            sys.stderr.flush()


def printable(text: str) -> str:
    """Without control characters: they would move a terminal, and journalctl shows such a line as a blob.

    Nor what ends or turns a line where it is shown (U+2028, U+202E).
    """
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code <= _LATIN_1 else f"\\u{code:04x}"  # as Python writes them


def _fields(record: logging.LogRecord) -> dict[str, str]:
    extra: Mapping[str, str] = getattr(record, "journal", {})
    message = printable(record.getMessage().replace("\n", " | "))
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        message += "\n" + "\n".join(printable(line) for line in trace.splitlines())
    return {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        "LOGGER": record.name,
        "THREAD_NAME": record.threadName or "",
        **{name: printable(value) for name, value in extra.items()},
    }


@dataclass(slots=True)
class _Window:
    began: float  # s, monotonic
    last: logging.LogRecord
    said: int = 0
    folded: int = 0


class Folding:
    """Counts what one place in the code says too often. Faults only: events are all told. Pure."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], _Window] = {}

    def admits(self, record: logging.LogRecord, now: float) -> bool:
        """Whether to write the record. `now`: s, monotonic; `due` has been asked at this time."""
        if record.levelno < logging.WARNING or "EVENT_ID" in getattr(record, "journal", {}):
            return True
        window = self._windows.setdefault((record.pathname, record.lineno), _Window(now, record))
        window.last = record
        if window.said < _BURST:
            window.said += 1
            return True
        window.folded += 1
        return False

    def due(self, now: float) -> Iterable[logging.LogRecord]:
        """A record for each place whose minute is over and which said more than was written."""
        over = [place for place, window in self._windows.items() if now - window.began >= _WINDOW_S]
        for window in [self._windows.pop(place) for place in over]:
            if window.folded:
                yield _summary(window)


def _summary(window: _Window) -> logging.LogRecord:
    last = window.last
    text = f"{window.folded} more like this in {_WINDOW_S:g} s: {last.getMessage()}"
    return logging.makeLogRecord(
        {
            **last.__dict__,
            "msg": "%s",
            "args": (text,),
            "exc_info": None,
            "exc_text": None,
            **said("Folded", COUNT=window.folded),
        }
    )


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)), where it listens. Never raises: a deaf manager is no fault."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
        talk.settimeout(0.5)
        talk.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
