"""In the guest: a joined door's syncs, one release after the other, and its commands' counter.

At its start it says what lies on the disk, with nowhere to fetch from, and whether the release before
that one is taken back when somebody offers it. Then it takes the next releases into force, while the
commands' thread stores counters and counts starts. What it has finished it says on the file in ACKS.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

from acks import Acks
from releases import CONFIG, FOLDER, MODEL, fingerprint
from repository import NOW

from edge.config import load_config
from edge.errors import DoordError, GalleryRollback, GallerySignatureError
from edge.link.counters import KeyCounters, next_epoch
from edge.link.fetch import FolderFetch, NoFetch
from edge.link.orders import epoch_count
from edge.link.trust import SiteTrust
from edge.membership import Source
from edge.site import Site
from edge.ties import tied

UNIT = Path("/etc/systemd/system/syncer.service")
KEY = "ab" * 32
_TEXT = """[Service]
Environment=PYTHONPATH=/opt/code:/opt/code/tests ACKS={acks}
ExecStart=/usr/bin/python3 /opt/code/tests/vm/guest/syncer.py
[Install]
WantedBy=multi-user.target
"""


def start_at_boot(acks: str) -> None:
    """From the next boot on run; say what is done on this port."""
    UNIT.write_text(_TEXT.format(acks=acks))
    subprocess.run(["systemctl", "enable", "--quiet", "syncer"], check=True, timeout=60)
    os.sync()


class Door:
    """What a joined door does at its start and for its site, without eyes and without a broker."""

    def __init__(self, acks: Acks) -> None:
        self._acks = acks
        self._source = Source(NoFetch())
        self._expected: list[str] = json.loads((FOLDER / "fingerprints.json").read_text())
        config = load_config(CONFIG)
        ties = tied(config)
        assert ties is not None
        self._starts = Path(config.state_dir) / "starts"
        self._count = epoch_count(ties.voice.epoch)
        self._counters = KeyCounters(Path(config.state_dir) / "counters.json")
        bundle = ties.joined.bundle
        trust = SiteTrust(ties.joined.tree, bundle.root, self._source, lambda: NOW)
        self._site = Site(bundle, trust, MODEL)

    def found(self) -> dict[str, object]:
        """What the last cut left: numbers, and of the release -1 when it is not whole."""
        why = ""
        try:
            self._site.load()
            number = self._release()
        except DoordError as error:
            number, why = -1, str(error)
        return {
            "site": number,
            "why": why,
            "counter": self._counters.last(KEY),
            "starts": self._count - 1,  # this one is not a finding
            "took_older": number > 1 and self._takes(number - 1),
        }

    def _release(self) -> int:
        """The number of the release that is in force in every part; 0: none; -1: a mixture."""
        content = self._site.content
        if content is None:
            return 0
        return content.version if fingerprint(content) == self._expected[content.version - 1] else -1

    def _takes(self, number: int) -> bool:
        """Whether the door believes a release older than the one it has."""
        self._source.instead = FolderFetch(FOLDER / str(number))
        try:
            self._site.update()
        except (GalleryRollback, GallerySignatureError):
            return False
        return True

    def sync_for_ever(self) -> None:
        """Each release after the one in force, until the power goes."""
        number = self._release()
        while True:
            number += 1
            self._acks.say(begun=number)
            self._source.instead = FolderFetch(FOLDER / str(number))
            try:
                self._site.update()
            except DoordError as error:
                self._acks.say(refused=str(error))
                raise
            self._acks.say(site=self._release())
            time.sleep(random.uniform(0, 0.1))

    def count_for_ever(self) -> None:
        """One more order, one more start."""
        counter = self._counters.last(KEY)
        while True:
            counter += 1
            self._counters.store(KEY, counter)
            self._acks.say(counter=counter)
            self._acks.say(starts=epoch_count(next_epoch(self._starts)))
            time.sleep(random.uniform(0.05, 0.3))


def main() -> None:
    """Say what was found, then both threads."""
    acks = Acks(os.environ.get("ACKS", "/dev/null"))
    door = Door(acks)
    acks.say(start=door.found())
    threading.Thread(target=door.count_for_ever, name="orders", daemon=True).start()
    door.sync_for_ever()


if __name__ == "__main__":
    main()
