"""For measure_site.py: a site of random people, its broker with TLS, and doors that joined it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import yaml
from demo import child

from edge.admin.broker_files import write_broker_files
from edge.admin.conversation import Conversation
from edge.admin.doors import add_door
from edge.admin.folder import OpenSite, create_site
from edge.admin.model import Door, Person, PersonTemplate, Site
from edge.admin.publish import Sent, publish
from edge.admin.release import push
from edge.admin.reports import read_reports
from edge.config import load_config
from edge.joined import read_joined
from edge.link.bundle import DoorBundle, encode_bundle
from edge.link.fetch import FolderFetch
from edge.link.orders import Attestation
from edge.link.trust import SiteTrust
from edge.link.wire import rfc3339
from edge.site import Site as DoorSite
from edge.site import in_force

SITE, DOOR = "hq", "front"
MODEL, DIMENSION = "facenet-512-int8-1", 512
PASSPHRASE = "only for measuring"  # noqa: S105  # of a site that is thrown away
PATIENCE_S = 120.0


def now() -> datetime:
    """The time, aware."""
    return datetime.now(timezone.utc)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relay:
    """Passes bytes on between doors and the broker, and counts them in both directions."""

    def __init__(self, to_port: int) -> None:
        self.down = self.up = 0  # bytes to the door, from the door
        self._to = to_port
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            door, _ = self._listening.accept()
            try:
                broker = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                door.close()
                continue
            for source, sink, down in ((broker, door, True), (door, broker, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=[source, sink, down], daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        try:
            while data := source.recv(1 << 20):
                sink.sendall(data)
                if down:
                    self.down += len(data)
                else:
                    self.up += len(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()


class Town:
    """A site on this machine. `broker` may be killed and started again."""

    def __init__(self, folder: Path, people: int, each: int, relayed: bool = False) -> None:
        self.folder, self.each = folder, each
        self.broker_port = free_port()
        self.relay = Relay(self.broker_port) if relayed else None
        self.random = np.random.default_rng(7)
        self._at = rfc3339(now().timestamp())
        self._make_site(people)

    def _make_site(self, people: int) -> None:
        site = Site(SITE, "UTC", "127.0.0.1", self.broker_port, MODEL, DIMENSION, b"\0" * 32, b"\0" * 32)
        create_site(self.folder / "admin", site, PASSPHRASE, PASSPHRASE, now())
        self.site = OpenSite(self.folder / "admin", PASSPHRASE)
        with self.site.records.transaction():
            for i in range(people):
                self.change(f"p{i:05d}")

    def change(self, subject: str) -> None:
        """Somebody comes, or is enrolled anew."""
        vectors = self.random.normal(size=(self.each, DIMENSION)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        templates = [PersonTemplate(row.astype("<f2").tobytes(), MODEL, self._at) for row in vectors]
        self.site.records.put(subject, Person(subject=subject, templates=templates, added_at_utc=self._at))

    def push(self) -> int:
        """Sign; the version."""
        return push(self.site, now()).publication.version

    def publish(self, everything: bool = False) -> Sent:
        """Send to the broker."""
        return publish(self.site, now(), everything)

    def bundle(self, door: str = DOOR) -> DoorBundle:
        """A new door's file; its port is the counting relay's, if there is one."""
        bundle = add_door(self.site, door, now())
        port = self.relay.port if self.relay else self.broker_port
        return DoorBundle(**{f: getattr(bundle, f) for f in bundle.__struct_fields__} | {"broker_port": port})

    def report(self, door: str = DOOR) -> Attestation | None:
        """What the door says of itself, verified."""
        with Conversation(self.site.mqtt(), SITE) as talk:
            return read_reports(talk, SITE, self.site.records.all(Door)).genuine.get(door)

    def wait_for(self, version: int, door: str = DOOR) -> Attestation:
        """Until the door reports that version in force."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            report = self.report(door)
            if report is not None and (report.state.gallery or 0) >= version:
                return report
            time.sleep(0.05)
        raise SystemExit(f"measure_site: door {door} did not report version {version}: {report}")

    @contextmanager
    def broker(self, *conf: str) -> Iterator[subprocess.Popen[bytes]]:
        """Mosquitto with the site's own certificates and access rules, as they are shipped."""
        folder = self.folder / "broker"
        write_broker_files(self.site, folder, now(), at=str(folder))
        path, listener = folder / "mosquitto.conf", f"listener {self.broker_port}"
        lines = [path.read_text().replace(listener, f"{listener} 127.0.0.1"), *conf]
        if os.geteuid() == 0:
            lines.insert(0, "user root")
        path.write_text("\n".join([*lines, f"persistence_location {folder}/", ""]))
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with child([program, "-c", str(folder / "mosquitto.conf")], folder / "log") as process:
            for _ in range(200):
                with socket.socket() as knock:
                    if knock.connect_ex(("127.0.0.1", self.broker_port)) == 0:
                        break
                time.sleep(0.05)
            yield process


class DoorUnit:
    """A door's folder and its daemon as a process."""

    def __init__(self, folder: Path, bundle: DoorBundle) -> None:
        folder.mkdir(parents=True)
        self.config, self.log = folder / "config.yaml", folder / "doord.log"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "site": SITE,
                    "door_id": bundle.door,
                    "simulation": True,
                    "state_dir": str(folder / "state"),
                    "socket": str(folder / "s"),
                    "door": {"relay": {"line": 17}},
                    "camera": {"source": f"folder:{folder}"},
                    # no clock of a test machine is sure to be synchronised
                    "access": {"mode": "card_and_face", "when_clock_untrusted": "judge"},
                    "readers": {"wedge": {"device": "/dev/null"}},
                }
            )
        )
        file = folder / "front.door"
        file.write_bytes(encode_bundle(bundle))
        command = [sys.executable, "-m", "edge.cli", "join", str(file), "-c", str(self.config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def in_force(self) -> tuple[int, str]:
        """Version and digest of what its disk says is in force."""
        joined = read_joined(load_config(self.config))
        if joined is None:
            raise SystemExit("measure_site: the door is joined no more")
        content = in_force(joined, None)
        return content.version, content.gallery.digest

    def wait_until_it_says(self, words: bytes, daemon: subprocess.Popen[bytes]) -> None:
        """Until the words stand in its log."""
        until = time.monotonic() + PATIENCE_S
        while words not in self.log.read_bytes():
            if daemon.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"measure_site: {self.log.read_text()[-300:]}")
            time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, for as long as the block lasts."""
        with child([sys.executable, "-m", "edge.cli", "run", "-c", str(self.config)], self.log) as process:
            yield process


class Reference:
    """A door that follows the admin's own tree, with no broker between: what each version is."""

    def __init__(self, town: Town, folder: Path, bundle: DoorBundle) -> None:
        self.digests: dict[int, str] = {}
        tree = FolderFetch(town.folder / "admin" / "tree")
        trust = SiteTrust(folder, bundle.root, tree, lambda: None, bundle.key_encryption_key)
        self._site = DoorSite(bundle, trust, None)

    def note(self) -> None:
        """Remember the newest version."""
        self._site.update()
        content = self._site.content
        if content is not None:
            self.digests[content.version] = content.gallery.digest


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process now and at its highest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {
        line.split(":")[0]: int(line.split()[1]) / 1024
        for line in lines
        if line.startswith(("VmRSS", "VmHWM"))
    }
    return {"rss_mb": round(found["VmRSS"]), "highest_mb": round(found["VmHWM"])}
