"""The log that people read with journalctl: one line a fact, severity for journald.

Under systemd (`JOURNAL_STREAM` is set) each line starts with its sd-daemon(3) priority, `<6>`;
on a terminal it starts with the time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", " | ")
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}"


def start_logging(verbose: bool = False) -> None:
    """Send doord's log to stderr, once a process."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("edge")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)), where it listens. Never raises: a deaf manager is no fault."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
        talk.settimeout(0.5)
        talk.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
