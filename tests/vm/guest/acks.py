"""In the guest: says what is done, so that the host knows it when the machine is no more."""

from __future__ import annotations

import json
import os
import termios


class Acks:
    """Says what is done; on a serial port, returns when the bytes have left the machine."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_NOCTTY)

    def say(self, **facts: object) -> None:
        """One line, whole, from any thread."""
        os.write(self._handle, json.dumps(facts).encode() + b"\n")
        if os.isatty(self._handle):
            termios.tcdrain(self._handle)
