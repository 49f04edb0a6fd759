"""In the guest: says what is done, so that the host knows it when the machine is no more."""

from __future__ import annotations

import json
import os
import termios


class Acks:
    """Says what is done; on a serial port."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_NOCTTY)

    def say(self, **facts: object) -> None:
        """One line, whole, from any thread; returns when the bytes have left the machine."""
        self.put(**facts)
        self.drain()

    def put(self, **facts: object) -> None:
        """One line, whole, from any thread; a cut may be sooner than its bytes."""
        os.write(self._handle, json.dumps(facts).encode() + b"\n")

    def drain(self) -> None:
        """Wait until everything has left the machine."""
        if os.isatty(self._handle):
            termios.tcdrain(self._handle)
