"""A joined door as a process: a site on a real broker with TLS, real faces, signed orders."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest
from broker import Authority, Broker, tls_conf, wait_until
from door_site import Site, clip
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from published import Published, a_vector, joined_bundle_file
from repository import Mirror, Repository
from securesystemslib.signer import CryptoSigner

from edge.link import dsse, orders
from edge.link.orders import Order
from edge.link.wire import rfc3339
from edge.vision.pictures import load_picture


@pytest.fixture(scope="session")
def visitors(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("visitors") / "clip.avi"
    clip(path, ["obama2.jpg"], seconds=3, empty_s=2)
    return path


class Admin(Client):
    """An admin's connection: publishes the tree, orders, and hears all the door says."""

    def __init__(self, port: int, authority: Authority) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, "admin", protocol=MQTTProtocolVersion.MQTTv5)
        certificate, key = authority.issue("admin")
        self.tls_set(str(authority.path), str(certificate), str(key))
        self.heard: dict[str, list[bytes]] = {}
        self.on_message = lambda _c, _u, message: self.heard.setdefault(
            message.topic.rpartition("/")[2], []
        ).append(message.payload)
        self.on_connect = lambda client, *_: client.subscribe("doord/hq/door/front/#", 1)
        self.connect("127.0.0.1", port)
        self.loop_start()
        wait_until(self.is_connected, "the admin is connected")

    def events(self, kind: str) -> list[dict]:
        found = [json.loads(data) for data in self.heard.get("event", [])]
        return [event for event in found if event["kind"] == kind]

    def state(self) -> dict:
        return json.loads(self.heard["state"][-1]) if "state" in self.heard else {}


class Office:
    """A site with one joined door, its broker and its admin."""

    def __init__(self, folder: Path, published: Published, broker: Broker, authority: Authority) -> None:
        self.published = published
        self.admin = Admin(broker.port, authority)
        self.mirror = Mirror(published.repository, broker.port, client=self.admin)
        certificate, key = authority.issue("front")
        bundle = published.bundle(
            broker.port,
            ca=authority.path.read_text(),
            certificate=certificate.read_text(),
            certificate_key=key.read_text(),
        )
        self.door = Site(
            folder / "door",
            # no clock of a test machine is sure to be synchronised
            access={"when_clock_untrusted": "judge"},
            camera={"source": f"file:{folder / 'nobody'}", "loop": True},
        )
        self.door.doord("join", str(joined_bundle_file(bundle, folder / "front.door")))

    def publish(self) -> int:
        version = self.published.publish()
        self.mirror.push()
        return version

    def report(self) -> orders.Attestation:
        """The newest, verified."""
        key = CryptoSigner(self.published.signing_key).public_key
        data = self.admin.heard["attestation"][-1]
        keys = {key.keyid: key}
        return orders.decode_attestation(
            dsse.opened(data, orders.ATTESTATION_TYPE, keys, orders.MAX_REPORT_BYTES)[0]
        )

    def order(self, do: str, key: CryptoSigner | None = None, retain: bool = False, **changes) -> bytes:
        """Sent to the door; the bytes, to be sent again."""
        now = time.time()
        order = Order("hq", {"front": self.report().epoch}, int(now * 1000), rfc3339(now + 20), do)
        order = msgspec.structs.replace(order, **changes)
        data = dsse.sign(orders.encode(order), orders.COMMAND_TYPE, key or self.published.commander)
        self.send(data, retain)
        return data

    def send(self, data: bytes, retain: bool = False) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = b"c1"
        self.admin.publish("doord/hq/door/front/command", data, 1, retain, properties).wait_for_publish(5)


@contextmanager
def an_office(folder: Path, pipeline) -> Iterator[Office]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "door").mkdir()
    authority = Authority(folder / "ca")
    published = Published(Repository(datetime.now(timezone.utc)), model=pipeline.embedder.model)
    with Broker(folder / "broker", *tls_conf(authority)) as broker:
        office = Office(folder, published, broker, authority)
        try:
            yield office
        finally:
            office.admin.disconnect()
            office.admin.loop_stop()


@pytest.fixture
def office(tmp_path, pipeline) -> Iterator[Office]:
    with an_office(tmp_path, pipeline) as made:
        yield made


def face(pipeline, name: str):
    return pipeline(load_picture(Path(__file__).parent / "pictures" / name)).probe.vector


def test_who_is_published_is_let_in_and_who_is_removed_is_not(office, visitors, pipeline):
    office.door.config["camera"] = {"source": f"file:{visitors}", "loop": True}
    office.door.write()
    office.published.enrol("somebody", a_vector(1))
    office.publish()
    with office.door.running():
        office.door.wait_for("GalleryApplied: version 1, 1 people")
        office.door.wait_for("AccessDenied: NoMatch")
        office.published.enrol("kian", face(pipeline, "obama.jpg"), face(pipeline, "obama3.jpg"))
        office.publish()
        office.door.wait_for("AccessGranted: kian")
        wait_until(lambda: office.admin.state().get("gallery") == 2, "the state says version 2")
        state = office.admin.state()
        assert (state["subjects"], state["templates"], state["gallery_refusal"]) == (2, 3, None)
        assert [event["detail"][:9] for event in office.admin.events("GalleryApplied")] == [
            "version 1",
            "version 2",
        ]
        office.published.remove("kian")
        office.publish()
        office.door.wait_for("GalleryApplied: version 3")
        said = len(office.door.said)
        wait_until(lambda: "AccessDenied: NoMatch" in office.door.said[said:], "denied again", 30)
        assert "AccessGranted" not in office.door.said[said:]
    with office.door.running():  # and after a restart, from what lies on its own disk
        office.door.wait_for("site version 3 in force: 1 people, 1 templates")


def test_signed_orders_are_obeyed_once_and_nothing_else_moves_the_door(office):
    office.published.enrol("somebody", a_vector(1))
    office.publish()
    stranger = CryptoSigner.generate_ed25519()
    with office.door.running() as daemon:
        office.door.wait_for("GalleryApplied")
        wait_until(lambda: "attestation" in office.admin.heard, "the door reports")
        unlock = office.order("unlock")
        office.door.wait_for("CommandObeyed: unlock")
        assert "door Accessed" in office.door.said
        office.door.wait_for("door Locked, lock locked")
        office.send(unlock)
        office.door.wait_for("CommandRefused: Repeated")
        office.order("unlock", key=stranger)
        office.door.wait_for("CommandRefused: NotSigned")
        office.order("unlock", expires_at=rfc3339(time.time() - 1))
        office.door.wait_for("CommandRefused: Expired")
        office.order("unlock", doors={"front": "1-0123456789abcdef"})
        office.door.wait_for("CommandRefused: AnotherEpoch")
        office.order("unlock", retain=True)
        office.send(b"open sesame")
        office.door.wait_for("CommandRefused: Malformed")
        assert office.door.said.count("lock unlocked") == 1
        office.order("lockdown")
        wait_until(lambda: office.report().state.mode.value == "LockedDown", "the signed report says so")
        wait_until(lambda: len(office.admin.heard["reply"]) == 4, "two obeyed, one late, one of another run")
        office.order("normal")
        wait_until(lambda: office.report().state.mode.value == "Locked", "back to normal")
        until = rfc3339(time.time() + 3600)
        office.order("free-access", until=until)
        wait_until(lambda: office.report().state.mode.value == "LockedOpen", "free access")
        office.order("lock")
        wait_until(lambda: office.report().state.mode.value == "Locked", "locked")
        office.order("identify-yourself")
        office.door.wait_for("CommandObeyed: identify-yourself")
        epoch = office.report().epoch
        office.order("restart")
        daemon.wait(15)
    with office.door.running():
        wait_until(lambda: office.report().epoch != epoch, "a new run, a new epoch", 30)
        assert orders.epoch_count(office.report().epoch) == orders.epoch_count(epoch) + 1
        office.door.wait_for("CommandRefused: Retained")  # the broker kept that one


def test_a_lockdown_of_the_whole_site_ends_a_free_access(office):
    office.published.enrol("somebody", a_vector(1))
    office.publish()
    with office.door.running():
        office.door.wait_for("GalleryApplied")
        wait_until(lambda: "attestation" in office.admin.heard, "the door reports")
        office.order("free-access", until=rfc3339(time.time() + 3600))
        wait_until(lambda: office.report().state.mode.value == "LockedOpen", "free access")
        office.published.rights["mode"] = "lockdown"
        office.publish()
        wait_until(lambda: office.report().state.mode.value == "Locked", "locked")
        assert office.report().state.lock == "locked"


def test_a_joined_door_tells_the_installer_where_people_are_changed(office):
    office.published.enrol("ada", a_vector(1), a_vector(2))
    office.published.cards["wedge:0012"] = "ada"
    office.publish()
    refused = "this door is part of site hq: change it there, with doord admin"
    with office.door.running():
        office.door.wait_for("GalleryApplied")
        assert "ada" in office.door.doord("gallery", "list").stdout
        assert "ada" in office.door.doord("card", "list").stdout
        assert refused in office.door.doord("gallery", "remove", "ada", code=2).stderr
        assert "version 1 is in force" in office.door.doord("sync").stdout
    assert refused in office.door.doord("gallery", "remove", "ada", code=2).stderr
    assert refused in office.door.doord("card", "add", "--subject", "ada", "--number", "1", code=2).stderr
    assert "ada" in office.door.doord("gallery", "list").stdout
    doctor = office.door.doord("doctor", code=None).stdout
    assert "1 subjects, 2 templates, version 1 of site hq" in doctor
    assert "answers with TLSv1.3" in doctor


def test_a_usb_stick_brings_the_site_to_a_door_without_a_network(office, tmp_path):
    office.published.enrol("ada", a_vector(1))
    office.published.publish()  # to nobody's broker
    stick = office.published.repository.write(tmp_path / "stick")
    with office.door.running():
        office.door.wait_for("not armed")
        assert "version 1 is in force: 1 people" in office.door.doord("sync", str(stick)).stdout
        wait_until(lambda: office.door.status()["gallery"] == 1, "in force")
