"""The process of a camera's campaign: a whole daemon on one camera, which tells how it fares.

argv: its configuration. stdout, every 50 ms, a line of JSON: {"at", "delivered", "width", "beat", "rss",
"children": {pid: rss}, "problem"}; `beat` is the longest the door's loop was ever late, s, rss is in KiB.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from broker import die_with_parent

from edge import process
from edge.config import load_config
from edge.daemon import Daemon, build
from edge.values import Frame

_EVERY_S, _TELL_EVERY = 0.01, 5


def tell(daemon: Daemon) -> None:
    longest, turn = 0.0, 0
    deliver, width = daemon.sight.grabber._deliver, 0

    def look(
        reader: int, frame: Frame
    ) -> bool:  # at what is delivered: taking it would take it from the door
        nonlocal width
        width = frame.pixels.shape[1]
        return deliver(reader, frame)

    daemon.sight.grabber._deliver = look
    while True:
        longest = max(longest, time.monotonic() - daemon.door.beat)
        turn += 1
        if turn % _TELL_EVERY == 0:
            told = {
                "at": time.monotonic(),
                "delivered": daemon.sight.grabber.delivered,
                "width": width,
                "beat": round(longest, 3),
                "rss": rss(os.getpid()),
                "children": {pid: rss(pid) for pid in children()},
                "problem": daemon.sight.grabber.problem,
            }
            print(json.dumps(told), flush=True)
        time.sleep(_EVERY_S)


def children() -> list[int]:
    """The decoders that run."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "children").read_text().split()
        except OSError:
            continue
    return [int(pid) for pid in found]


def rss(pid: int) -> int:
    """Resident KiB without what is shared with other processes; 0: gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") // 1024


if __name__ == "__main__":
    die_with_parent()
    door = build(load_config(sys.argv[1]))
    threading.Thread(target=tell, args=(door,), daemon=True).start()
    sys.exit(process.serve(door))
