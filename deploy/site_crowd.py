"""For measure_site.py: many doors in a few processes, each with its own state and its own connection."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from edge.disk import make_private_folder
from edge.errors import GalleryError, LinkError
from edge.joined import Joined
from edge.link.bundle import DoorBundle
from edge.link.downlink import Downlink
from edge.link.trust import SiteTrust
from edge.link.wire import Topics
from edge.site import Site

PROCESSES = 4
PATIENCE_S = 120.0


class Follower:
    """What of a door follows its site."""

    def __init__(self, folder: Path, bundle: DoorBundle) -> None:
        make_private_folder(folder)
        login = Joined(folder, bundle).login
        self._news = threading.Event()
        topics = Topics(bundle.site, bundle.door)
        self._link = Downlink(login, topics, self._news.set, lambda _order: None, (0.5, 5.0))
        trust = SiteTrust(folder / "tuf", bundle.root, self._link, lambda: None, bundle.key_encryption_key)
        self._site = Site(bundle, trust, None)
        self._link.start()
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def version(self) -> int:
        """In force; 0: nothing yet."""
        content = self._site.content
        return content.version if content else 0

    def _follow(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            try:
                self._site.update()
            except LinkError:
                time.sleep(0.5)
                self._news.set()
            except GalleryError as error:
                print(error, flush=True)


def _serve(folder: Path, bundles: Sequence[DoorBundle], pipe: Connection) -> None:
    followers = [Follower(folder / bundle.door, bundle) for bundle in bundles]
    while True:
        pipe.recv()
        pipe.send(min(follower.version for follower in followers))


class Crowd:
    """All of them."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    def wait_for(self, version: int) -> None:
        """Until every door has that version in force."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for pipe in self._pipes:
                pipe.send("?")
            if min(pipe.recv() for pipe in self._pipes) >= version:
                return
            time.sleep(0.05)
        raise SystemExit(f"measure_site: not every door had version {version} within {PATIENCE_S:g} s")


@contextmanager
def crowd(folder: Path, bundles: Sequence[DoorBundle]) -> Iterator[Crowd]:
    """The doors, for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for i in range(PROCESSES):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(folder, bundles[i::PROCESSES], theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        yield Crowd(pipes)
    finally:
        for process in processes:
            process.kill()
            process.join()
