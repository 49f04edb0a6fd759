"""A whole run of a joined door, every level and every field of its log: what happened, and no secret."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from broker import die_with_parent, wait_until
from door_site import clip
from fakes_access import FakeWedge
from test_joined_door import Office, a_vector, an_office, face
from test_journal import Journald

from edge.config import load_config
from edge.joined import read_joined
from edge.message_ids import MESSAGE_IDS

# long enough to stand nowhere by chance: ids, clocks and hexadecimal digits are full of short numbers
KIAN, UNKNOWN = "0074659812", "0031938275"

# as under systemd, with another address for journald's socket, and debug lines
RUN = """
import os, sys
from edge import journal
address, start = sys.argv[1], journal.start_logging
journal.start_logging = lambda *_, **context: start(True, "doord", address, **context)
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from edge.cli import main
sys.exit(main(["run", "-c", sys.argv[2]]))
"""


class Journal(Journald):
    """Keeps every record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.records: list[dict[str, str]] = []
        self._over = False
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        self._socket.settimeout(0.1)
        while not self._over:
            with contextlib.suppress(TimeoutError):
                self.records.append(self.receive())

    def close(self) -> None:
        self._over = True
        self._thread.join()
        super().close()

    def wait_for(self, words: str) -> None:
        wait_until(lambda: any(words in r["MESSAGE"] for r in list(self.records)), words, 40)

    @property
    def kinds(self) -> list[str]:
        return [record["KIND"] for record in self.records if "KIND" in record]


@contextlib.contextmanager
def running(office: Office, journal: Journal) -> Iterator[subprocess.Popen[bytes]]:
    with office.door.log.open("ab") as out:
        daemon = subprocess.Popen(
            [sys.executable, "-c", RUN, journal.address, str(office.door.path)],
            stdout=out,
            stderr=out,
            preexec_fn=die_with_parent,
        )
    try:
        yield daemon
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)


@pytest.fixture(scope="module")
def run(tmp_path_factory, pipeline) -> Iterator[tuple[Office, Journal, dict[str, np.ndarray]]]:
    """kian's face and card, somebody's card, orders of the admin and of nobody; then the end."""
    folder = tmp_path_factory.mktemp("run")
    clip(folder / "clip.avi", ["biden.jpg", "obama2.jpg"], seconds=3, empty_s=2)
    with an_office(folder, pipeline) as office:
        wedge = FakeWedge(folder / "event0")
        wedge.plug()
        office.door.config["camera"] = {"source": f"file:{folder / 'clip.avi'}", "loop": True}
        office.door.config["readers"] = {"wedge": {"device": str(wedge.path)}}
        office.door.config["access"] |= {"mode": "card_or_face"}
        office.door.write()
        vectors = {"kian": face(pipeline, "obama.jpg"), "somebody": a_vector(1)}
        for subject, vector in vectors.items():
            office.published.enrol(subject, vector)
        office.published.cards[f"wedge:{KIAN}"] = "kian"
        office.publish()
        journal = Journal(folder)
        with running(office, journal):
            journal.wait_for("AccessGranted: kian, distance")
            journal.wait_for("AccessDenied: NoMatch")
            wedge.type(KIAN)
            journal.wait_for("AccessGranted: kian, by card")
            wedge.type(UNKNOWN)
            journal.wait_for("AccessDenied: Unauthorized")
            office.order("unlock")
            journal.wait_for("CommandObeyed: unlock")
            office.send(b"\x1b[2J open sesame")
            journal.wait_for("CommandRefused: Malformed")
        wait_until(lambda: "Stopped" in journal.kinds, "the last word")
        journal.close()
        yield office, journal, vectors


def test_every_record_says_which_door_and_every_event_is_whole(run):
    _, journal, _ = run
    assert {(r["DOOR"], r["SITE"], r["SYSLOG_IDENTIFIER"]) for r in journal.records} == {
        ("front", "hq", "doord")
    }
    for record in journal.records:
        assert {"MESSAGE", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "THREAD_NAME"} <= record.keys()
        if "KIND" in record:
            assert record["MESSAGE_ID"] == MESSAGE_IDS[record["KIND"]]
    events = [record for record in journal.records if "EVENT_ID" in record]
    assert len({event["EVENT_ID"] for event in events}) == len(events)
    assert {"AccessGranted", "AccessDenied", "CommandObeyed", "CommandRefused"} <= {e["KIND"] for e in events}
    assert {e["REASON"] for e in events if e["KIND"] == "AccessDenied"} >= {"NoMatch", "Unauthorized"}
    assert not any({"SUBJECT", "DISTANCE"} & e.keys() for e in events if e["KIND"] == "AccessDenied")


def test_it_reads_like_a_story_and_its_levels_mean_something(run):
    _, journal, _ = run
    kinds = journal.kinds
    assert kinds[0] == "Starting"
    # events are told when they are on the disk, other lines at once
    for order in (["Started", "GalleryApplied", "AccessGranted", "Stopped"], ["BrokerConnected", "Armed"]):
        assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    granted = kinds.index("AccessGranted")
    # the door's line comes from its own thread, beside the event's
    after = [r["MESSAGE"] for r in journal.records if "KIND" in r][granted - 1 :]
    assert any(message.startswith("door Accessed, lock unlocked") for message in after)
    levels = {record["KIND"]: record["PRIORITY"] for record in journal.records if "KIND" in record}
    assert {levels["AccessGranted"], levels["AccessDenied"], levels["CommandObeyed"]} == {"6"}
    assert levels["CommandRefused"] == "4"
    faults = [r["MESSAGE"] for r in journal.records if r["PRIORITY"] in "0123"]
    assert faults == ["nothing of the site is in force yet"]  # at the first start of a joined door


def spellings(secret: bytes) -> Iterator[str]:
    """How bytes could stand in a text."""
    yield secret.hex()
    yield repr(secret)[2:-1]
    for skipped in range(3):  # base64 of a text in which it stands anywhere
        yield base64.b64encode(secret[skipped:])[:-4].decode()


def secrets_of(office: Office, vectors: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Each with what it is. People's names are not here: they never leave the admin's machine."""
    published, state = office.published, Path(office.door.config["state_dir"])
    for number in (KIAN, UNKNOWN):
        yield "card number", number
        yield "card number", number.lstrip("0")
    keys = {"site": published.site_key, "cards": published.card_key, "door": published.door_key}
    keys["gallery"] = (state / "gallery.key").read_bytes()
    for name, key in keys.items():
        yield from ((f"key {name}", spelling) for spelling in spellings(key))
    bundle = read_joined(load_config(office.door.path)).bundle
    for pem in bundle.certificate_key, bundle.signing_key:
        yield from (("private key", line) for line in pem.splitlines() if "-----" not in line)
    for subject, vector in vectors.items():
        for kind in ("<f4", "<f2"):
            row = vector.astype(kind).tobytes()[:30]
            yield from ((f"vector of {subject}", spelling) for spelling in spellings(row))
        yield from ((f"vector of {subject}", repr(float(x))[:8]) for x in vector if abs(x) > 0.01)


def test_no_card_number_no_key_and_no_vector_stands_in_any_of_it(run):
    office, journal, vectors = run
    text = json.dumps(journal.records) + office.door.said + "\n".join(map(repr, journal.records))
    secrets = list(secrets_of(office, vectors))
    assert len(secrets) > 500
    assert [what for what, secret in secrets if secret in text] == []


def test_nothing_went_to_stderr_beside_journald(run):
    office, _, _ = run
    told = [line for line in office.door.said.splitlines() if "joined" not in line and line.strip()]
    assert [line for line in told if not line.startswith(("INFO: Created", "WARNING: All log"))] == []
