"""The bridge, whole: the shipped broker, its own certificate and key, doors that judge every order."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from admin_site import NOW, PASSPHRASE, ROOT_PASSPHRASE, made_site
from broker import Broker, wait_until
from scripted_door import ScriptedDoor
from signing import keys_of, new_signer
from site_broker import Guest, site_broker

from edge import keys
from edge.admin import bridge, lock_entity
from edge.admin.bridge_files import BridgeFolder, revoke_bridge, write_bridge_files
from edge.admin.doors import Revoked, add_door, kept_topics, retire_door
from edge.admin.folder import ROOT_KEYS, OpenSite, command_keys, command_signers
from edge.admin.keystore import Keystore
from edge.admin.model import Door
from edge.config import TlsConfig
from edge.errors import AdminError, GalleryKeyError
from edge.identity.sealing import COMMAND_KEYS
from edge.link.broker import tls_context
from edge.link.bundle import DoorBundle
from edge.link.commands import Refused
from edge.values import DoorMode


def now_utc() -> datetime:
    return datetime.now(timezone.utc)


def root_of(site: OpenSite) -> Keystore:
    return Keystore.open(site.folder / ROOT_KEYS, ROOT_PASSPHRASE)


def given_files(site: OpenSite, folder: Path) -> list[Path]:
    """What the bridge is given the first time."""
    return write_bridge_files(site, folder, NOW, [root_of(site)])


class Home:
    """Home Assistant: its certificate, what it sees, what is pressed."""

    def __init__(self, port: int, files: Path, folder: Path) -> None:
        pem = [(files / name).read_text() for name in ("ca.pem", "homeassistant.pem", "homeassistant.key")]
        self.guest = Guest(port, folder, *pem)

    def lock(self, door: str = "front") -> dict:
        return json.loads(self.guest.kept.get(lock_entity.state_topic("hq", door), b"{}"))

    def press(self, do: str, door: str = "front", age_s: float = 0.0, retain: bool = False) -> None:
        at = (now_utc() - timedelta(seconds=age_s)).isoformat(timespec="microseconds")
        payload = json.dumps({"do": do, "at": at}).encode()
        assert self.guest.say(lock_entity.set_topic("hq", door), payload, retain) < 128

    def wait_for_last(self, outcome: str, words: str = "", door: str = "front") -> None:
        def told() -> bool:
            last = self.lock(door).get("last") or {}
            return last.get("outcome") == outcome and words in last["detail"]

        wait_until(told, f"{outcome} {words}; now {self.lock(door)}")


class Office:
    """A site with its broker, the doors front and back, the bridge and Home Assistant."""

    def __init__(self, folder: Path, site: OpenSite, broker: Broker) -> None:
        self.site, self.broker, self.folder = site, broker, folder
        self.files = folder / "bridge"
        given_files(site, self.files)
        self.key = site.keys.signer("bridge")
        self.doors = {name: self._door(name) for name in ("front", "back")}
        write_bridge_files(site, self.files, NOW)
        self.home = Home(broker.port, self.files, folder / "home")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def _door(self, name: str) -> ScriptedDoor:
        bundle = add_door(self.site, name, NOW)
        signer = new_signer()
        tls = tls_of(self.folder / "tls" / name, bundle)
        door = ScriptedDoor(self.folder / name, self.broker.port, keys_of(self.key), name, tls)
        door.signer = signer
        public = {**signer.public_key.to_dict(), "keyid": signer.public_key.keyid}
        record = self.site.records.get(Door, name)
        self.site.records.put(name, msgspec.structs.replace(record, public_key=public))
        return door

    def start(self) -> None:
        self._stopping = threading.Event()
        given = (BridgeFolder(self.files), self._stopping, now_utc)
        self._thread = threading.Thread(target=bridge.run, args=given, daemon=True)
        self._thread.start()
        self.home.guest.subscribe("#")
        wait_until(lambda: self.home.guest.kept.get("doord/hq/bridge/status") == b"online", "the bridge")

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive()

    def close(self) -> None:
        self.stop()
        self.home.guest.close()
        for door in self.doors.values():
            door.stop()

    def obeyed(self, door: str = "front") -> list[str]:
        return [v.order.do for v in self.doors[door].history if not isinstance(v, Refused)]


def tls_of(folder: Path, bundle: DoorBundle) -> ssl.SSLContext:
    """A door's own certificate."""
    files = {"ca": bundle.ca, "cert": bundle.certificate, "key": bundle.certificate_key}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return tls_context(keys.tls_of(TlsConfig(*(str(folder / name) for name in files))))


@pytest.fixture
def office(tmp_path: Path, monkeypatch) -> Iterator[Office]:
    monkeypatch.setattr(bridge, "_RETRY_S", (0.05, 0.1))
    with made_site(tmp_path / "admin") as site, site_broker(site, tmp_path / "broker") as broker:
        made = Office(tmp_path, site, broker)
        try:
            yield made
        finally:
            made.close()


def test_a_press_opens_its_door_and_no_other(office):
    for door in office.doors.values():
        door.attest()
    office.start()
    wait_until(lambda: office.home.lock()["state"] == "LOCKED", "the lock is shown")
    office.home.press("unlock")
    office.home.wait_for_last("done", "Accessed")
    assert (office.obeyed(), office.obeyed("back")) == (["unlock"], [])
    assert office.doors["front"].history[0].keyid == office.key.public_key.keyid
    office.home.press("lock")
    wait_until(lambda: office.obeyed() == ["unlock", "lock"], "locked")


def test_the_locks_are_announced_and_again_when_home_assistant_is_born(office):
    office.start()
    topics = [lock_entity.config_topic(door) for door in ("front", "back")]
    wait_until(lambda: all(topic in office.home.guest.kept for topic in topics), "both are announced")
    before = office.home.guest.heard.count(topics[0])
    office.home.guest.say("homeassistant/status", b"online")
    wait_until(lambda: office.home.guest.heard.count(topics[0]) > before, "announced again")


def test_what_the_lock_is_comes_from_the_doors_signature_alone(office):
    front = office.doors["front"]
    genuine = front.attest()
    office.start()
    wait_until(lambda: office.home.lock()["state"] == "LOCKED", "the lock is shown")
    open_now = msgspec.structs.replace(genuine.state, lock="unlocked", mode=DoorMode.ACCESSED)
    front.attest(signer=new_signer(), state=open_now, seq=13)  # as a broker could make it up
    front.attest(state=open_now, seq=11)  # the door's own, from before
    front.attest(state=open_now, seq=14)
    wait_until(lambda: office.home.lock()["state"] == "UNLOCKED", "the genuine one")
    assert office.home.lock()["mode"] == "Accessed"


@pytest.mark.parametrize(
    ("how", "why"),
    [({"retain": True}, "retained"), ({"age_s": 11.0}, "of the last 10 s"), ({"age_s": -12.0}, "ahead")],
)
def test_a_press_that_is_not_of_now_opens_nothing(office, how, why):
    office.doors["front"].attest()
    office.start()
    wait_until(lambda: office.home.lock()["state"] == "LOCKED", "the lock is shown")
    office.home.press("unlock", **how)
    office.home.wait_for_last("refused", why)
    assert office.obeyed() == []


def test_a_press_that_is_replayed_opens_nothing(office):
    office.doors["front"].attest()
    office.start()
    wait_until(lambda: office.home.lock()["state"] == "LOCKED", "the lock is shown")
    payload = json.dumps({"do": "unlock", "at": now_utc().isoformat()}).encode()
    office.home.guest.say("doord/hq/bridge/front/set", payload)
    office.home.wait_for_last("done")
    office.home.guest.say("doord/hq/bridge/front/set", payload)
    office.home.wait_for_last("refused", "it came before")
    office.stop()  # nor does a bridge that has just come back know it for new
    office.start()
    office.home.guest.say("doord/hq/bridge/front/set", payload)
    office.home.wait_for_last("refused", "before the bridge was there")
    assert office.obeyed() == ["unlock"]


@pytest.mark.parametrize("payload", [b"UNLOCK", b"", b"\xff\x00", b"[" * 100_000])
def test_what_is_no_press_is_told_and_forgotten(office, payload):
    office.doors["front"].attest()
    office.start()
    office.home.guest.say("doord/hq/bridge/front/set", payload)
    office.home.wait_for_last("refused", "press: ")
    office.home.press("unlock")
    office.home.wait_for_last("done")


def test_a_silent_door_is_not_unlocked_unseen_but_a_lock_is_tried(office):
    office.doors["front"].attest(at="2026-01-01T00:00:00.000Z")
    office.start()
    wait_until(lambda: office.home.lock().get("available") == "offline", "shown as away")
    office.home.press("unlock")
    office.home.wait_for_last("refused", "has not been heard of")
    office.home.press("lock")
    office.home.wait_for_last("done")
    assert office.obeyed() == ["lock"]


def test_two_doors_at_once_are_one_order(office):
    for door in office.doors.values():
        door.attest()
    office.start()
    wait_until(lambda: office.home.lock("back").get("state") == "LOCKED", "both are shown")
    hold = threading.Event()
    office.doors["front"].obey = lambda accepted: hold.wait(10) or True
    office.home.press("unlock")
    wait_until(lambda: office.doors["front"].history, "the bridge waits for the answer")
    office.home.press("lock")
    office.home.press("lock", "back")
    hold.set()
    office.home.wait_for_last("done", door="back")
    office.home.wait_for_last("done")
    locked = [door.history[-1].order for door in office.doors.values()]
    assert locked[0] == locked[1]
    assert set(locked[0].doors) == {"front", "back"}


def test_the_bridge_comes_back_after_the_broker_and_says_when_it_is_gone(office):
    office.doors["front"].attest()
    office.start()
    wait_until(lambda: office.home.lock()["state"] == "LOCKED", "the lock is shown")
    office.broker.stop()
    office.broker.start()
    office.doors["front"].restart()
    office.home.guest.close()
    office.home = Home(office.broker.port, office.files, office.folder / "home2")
    office.home.guest.subscribe("#")
    wait_until(lambda: office.home.guest.kept.get("doord/hq/bridge/status") == b"online", "back")
    wait_until(lambda: office.home.lock().get("available") == "online", "shown again")
    office.home.press("unlock")
    office.home.wait_for_last("done")
    office.stop()
    wait_until(lambda: office.home.guest.kept["doord/hq/bridge/status"] == b"offline", "said goodbye")


def test_what_home_assistant_may_not_do_at_the_broker(office):
    with guest_at(office, "homeassistant") as home:
        assert home.say("doord/hq/door/front/command") >= 128
    with guest_at(office, "homeassistant") as home:
        assert home.say("doord/hq/bridge/front/state") >= 128
    with guest_at(office, "bridge") as ours:
        assert ours.say("doord/hq/gallery/metadata/timestamp.json") >= 128
    with guest_at(office, "bridge") as ours:
        assert ours.say("doord/hq/door/front/attestation") >= 128


def guest_at(office: Office, name: str) -> Guest:
    pem = [(office.files / one).read_text() for one in ("ca.pem", f"{name}.pem", f"{name}.key")]
    return Guest(office.broker.port, office.folder / f"guest-{name}-{time.monotonic_ns()}", *pem)


# The files


def test_the_folder_has_no_template_no_name_and_no_key_but_its_own(tmp_path):
    with made_site(tmp_path / "admin") as site:
        add_door(site, "front", NOW)
        written = given_files(site, tmp_path / "bridge")
        content = b"".join(path.read_bytes() for path in written)
        record, others = site.records.get(Door, "front"), ("people", "rights", "publish", "commands")
        for secret in (record.key_encryption_key, site.records.site().site_key, site.records.site().card_key):
            assert secret not in content
            assert msgspec.json.encode(secret)[1:-1] not in content
        assert not any(site.keys.signer(name).private_bytes in content for name in others)
        assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
        assert tuple(BridgeFolder(tmp_path / "bridge").doors()) == ("front",)


def test_the_bridges_key_may_command_once_root_has_signed_it_until_it_is_revoked(tmp_path):
    with made_site(tmp_path / "admin") as site:
        assert set(command_keys(command_signers(site.keys))) == {"admin", "collect"}
        with pytest.raises(GalleryKeyError, match="expected enough of its keys"):
            write_bridge_files(site, tmp_path / "bridge", NOW)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        given_files(site, tmp_path / "bridge")
        first = site.keys.signer("bridge").public_key
        assert first.keyid.encode() in site.tree.target(COMMAND_KEYS)
        write_bridge_files(site, tmp_path / "bridge", NOW)
        assert site.keys.signer("bridge").public_key == first
        revoked = set(site.records.all(Revoked))
        revoke_bridge(site, NOW, [root_of(site)])
        assert first.keyid.encode() not in site.tree.target(COMMAND_KEYS)
        assert len(set(site.records.all(Revoked)) - revoked) == 2  # the bridge's and Home Assistant's


def test_where_there_is_no_bridge_none_is_revoked(tmp_path):
    with (
        made_site(tmp_path / "admin") as site,
        pytest.raises(AdminError, match="bridge: expected one, got none"),
    ):
        revoke_bridge(site, NOW, [root_of(site)])


def test_a_retired_door_is_no_lock_and_its_topics_are_cleared(tmp_path):
    with made_site(tmp_path / "admin") as site:
        add_door(site, "front", NOW)
        retire_door(site, "front", NOW)
        given_files(site, tmp_path / "bridge")
        assert BridgeFolder(tmp_path / "bridge").doors() == {}
        assert {lock_entity.config_topic("front"), lock_entity.state_topic("hq", "front")} <= set(
            kept_topics("hq", "front")
        )


@pytest.mark.parametrize("name", ["bridge", "homeassistant", "admin", "collector"])
def test_no_door_takes_a_name_that_has_rights_of_its_own(tmp_path, name):
    with made_site(tmp_path / "admin") as site, pytest.raises(AdminError, match="an id that is free"):
        add_door(site, name, NOW)


def test_counters_rise_over_restarts_clocks_and_a_lost_file(tmp_path):
    with made_site(tmp_path / "admin") as site:
        given_files(site, tmp_path / "bridge")
    found = []
    for ahead_s in (0, 10, -3600, 0):
        folder = BridgeFolder(tmp_path / "bridge")
        found += [folder.next_counter(NOW + timedelta(seconds=ahead_s)) for _ in range(2)]
    assert found == sorted(set(found))
    (tmp_path / "bridge" / "counter").write_text("garbage")
    assert BridgeFolder(tmp_path / "bridge").next_counter(NOW + timedelta(days=1)) > found[-1]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"doord_bridge":2}', b"\xff"])
def test_a_folder_of_something_else_is_refused_in_one_line(tmp_path, content):
    with pytest.raises(AdminError, match="bridge-files writes it"):
        BridgeFolder(tmp_path)
    (tmp_path / "bridge.json").write_bytes(content)
    with pytest.raises(AdminError) as refused:
        BridgeFolder(tmp_path)
    assert "\n" not in str(refused.value)
