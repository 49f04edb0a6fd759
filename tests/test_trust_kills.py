"""kill -9 during updates from a folder; `KILLS=200 pytest tests/test_trust_kills.py` for more of them."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from repository import DoorFiles, Repository, Unplugged, site_content
from trust_worker import update

_workers = multiprocessing.get_context("forkserver")  # warm, so that many are quick to start
_workers.set_forkserver_preload(["trust_worker"])
KILLS = int(os.environ.get("KILLS", "20"))


def content(i: int) -> dict[str, bytes]:
    return site_content(f"release-{i}", shards=64, size=20_000)


class Victim:
    """One process that takes one release."""

    def __init__(self, folder: Path, site: Repository, stick: Path) -> None:
        self._said, theirs = _workers.Pipe(duplex=False)
        arguments = (folder, site.first_root, stick, list(content(0)), theirs)
        self._process = _workers.Process(target=update, args=arguments)
        self._process.start()
        theirs.close()
        assert self._hears("ready")

    def end(self) -> float:
        """Let it finish; how long that took, s."""
        began = time.monotonic()
        assert self._hears("in force")
        self._process.join(30)
        return time.monotonic() - began

    def kill(self, after_s: float) -> bool:
        """Whether it said that the release is in force before it was killed."""
        self._process.join(after_s)  # the instant of the kill is the point
        self._process.kill()
        self._process.join(10)
        try:
            return self._said.poll(0) and self._said.recv() == "in force"
        except EOFError:
            return False

    def _hears(self, word: str) -> bool:
        pipe: Connection = self._said
        return pipe.poll(30) and pipe.recv() == word


@pytest.mark.slow
def test_kill_minus_9_of_an_update_leaves_the_old_or_the_new_release_and_never_a_mixture(tmp_path):
    rng = random.Random(5)  # not a secret
    site, stick, folder = Repository(), tmp_path / "stick", tmp_path / "door"
    site.publish(content(0))
    latest_s = Victim(folder, site, site.write(stick)).end()
    in_force, seen = content(0), {"old": 0, "new": 0}
    for i in range(1, KILLS + 1):
        site.served.clear()  # the stick has the earlier ones
        site.publish(content(i))
        site.write(stick)
        said = Victim(folder, site, stick).kill(rng.uniform(0, latest_s))
        found = DoorFiles(folder, site.first_root, Unplugged()).content()
        assert found in (in_force, content(i))
        assert found == content(i) or not said  # what was said to be in force is
        seen["new" if found == content(i) else "old"] += 1
        latest_s *= 0.8 if found == content(i) else 1.25  # the disk's speed is no constant
        in_force = found
    assert min(seen.values()) >= KILLS // 5, (
        seen
    )  # else the kills were too early or too late to prove anything
    Victim(folder, site, stick).end()
    assert DoorFiles(folder, site.first_root, Unplugged()).content() == content(KILLS)
