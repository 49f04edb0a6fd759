"""A door's ledger, recorder and link in a process of their own, to be killed.

event_door.py FOLDER PORT COUNT RATE: records events numbered 0 to COUNT - 1, RATE a second, and goes
on where it was killed. What it acted upon, as a door is asked only after the commit, stands in FOLDER/acted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from event_collector import COLLECTOR
from events import SETTING, a_notice, told
from signing import keys_of

from edge.config import MqttConfig
from edge.link import wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink
from edge.recorder import Recorder

AT_ONCE = 500  # events that may wait for the disk


def acted(folder: Path) -> list[int]:
    """The events that were acted upon, in order."""
    path = folder / "acted"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def recorded(folder: Path) -> list[int]:
    """Those in the ledger; of a batch the last were perhaps not acted upon when it was killed."""
    path = folder / "events.db"
    return [int(event.detail) for event in told(path) if event.kind == "CameraFault"] if path.exists() else []


def run(folder: Path, port: int, count: int, rate: float) -> None:
    ledger = Ledger(folder / "events.db")
    desk = AckDesk("hq", "front", ledger, lambda: keys_of(COLLECTOR), lambda why: print(why, flush=True))
    login = Login(MqttConfig(host="127.0.0.1", port=port))
    topics = wire.Topics("hq", "front")
    link = MqttLink(login, topics, ledger, simulation=True, acks=desk, retry_s=(0.1, 0.5))
    recorder = Recorder(ledger, lambda: SETTING, lambda: None, link.wake)
    begin = 1 + max([-1, *acted(folder), *recorded(folder)])
    act_on = os.open(folder / "acted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    free = threading.Semaphore(AT_ONCE)
    recorder.start()
    link.start()

    def record(number: int) -> None:
        def act() -> None:
            os.write(act_on, b"%d\n" % number)
            free.release()

        recorder.post_then(a_notice(str(number), time.time()), None, act, float("inf"))

    for number in range(begin, count):
        if not free.acquire(timeout=60):
            raise SystemExit("the disk takes nothing")
        record(number)
        time.sleep(1 / rate)
    while True:  # until it is killed
        time.sleep(0.2)
        recorder.tend()
        link.tend()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
