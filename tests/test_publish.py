"""A version brought to a real broker, with the shipped configuration, and to a folder."""

from __future__ import annotations

import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from admin_site import NOW, PASSPHRASE, ROOT_PASSPHRASE, as_door, made_site, person, put_people
from broker import wait_until
from site_broker import Guest, site_broker
from tuf_client import Client

from edge.admin.conversation import Conversation
from edge.admin.doors import add_door, kept_topics, retire_door
from edge.admin.folder import OpenSite
from edge.admin.keystore import Keystore
from edge.admin.publish import AtBroker, export, publish
from edge.admin.release import push, rotate
from edge.errors import AdminError, LinkError
from edge.link.bundle import DoorBundle

BASE = "doord/hq/gallery"


@pytest.fixture
def site(tmp_path):
    with made_site(tmp_path / "admin") as made:
        put_people(made, person("ada", 1), person("bob", 2))
        yield made


@pytest.fixture
def broker(site, tmp_path):
    with site_broker(site, tmp_path / "broker") as running:
        yield running


@pytest.fixture
def front(site, broker):
    return add_door(site, "front", NOW)


def guest(broker, folder: Path, bundle: DoorBundle) -> Guest:
    return Guest(broker.port, folder, bundle.ca, bundle.certificate, bundle.certificate_key)


def gallery_at(broker, site: OpenSite, folder: Path, bundle: DoorBundle) -> dict[str, bytes]:
    """What the broker keeps, as a door gets it."""
    with guest(broker, folder / "tls", bundle) as door:
        door.subscribe(f"{BASE}/#")
        timestamp = f"{BASE}/metadata/timestamp.json"
        expected = len(site.tree.files()) + len(site.tree.roots())
        wait_until(lambda: timestamp in door.kept and len(door.kept) > expected, "the gallery at the broker")
        return {topic.removeprefix(f"{BASE}/"): data for topic, data in door.kept.items()}


def as_folder(files: dict[str, bytes], folder: Path) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_what_is_published_is_what_a_door_puts_in_force(site, broker, front, tmp_path):
    push(site, NOW)
    steps = []
    sent = publish(site, NOW, progress=lambda done, of: steps.append((done, of)))
    assert (sent.version, sent.files) == (2, len(site.tree.files()) + 2)
    assert steps[-1] == (sent.bytes, sent.bytes)
    tree = as_folder(gallery_at(broker, site, tmp_path, front), tmp_path / "got")
    gallery, _, _ = as_door(front, Client(tmp_path / "door", tree, front.root).update(NOW))
    assert gallery.subjects == ("ada", "bob")


def test_to_publish_again_sends_nothing(site, broker, front):
    push(site, NOW)
    publish(site, NOW)
    again = publish(site, NOW)
    assert (again.files, again.bytes, again.deleted) == (0, 0, 0)
    assert publish(site, NOW, everything=True).files == len(site.tree.files()) + 2


def test_only_what_changed_is_sent_and_the_timestamp_comes_last(site, broker, front, tmp_path):
    push(site, NOW)
    publish(site, NOW)
    with guest(broker, tmp_path / "tls", front) as door:
        door.subscribe(f"{BASE}/#")
        wait_until(lambda: len(door.heard) >= len(site.tree.files()) + 2, "what is kept")
        door.heard.clear()
        put_people(site, person("ada", 9))
        changed = push(site, NOW)
        publish(site, NOW)
        wait_until(lambda: door.heard and door.heard[-1].endswith("timestamp.json"), "the new version")
        order = [topic.removeprefix(f"{BASE}/") for topic in door.heard]
    assert [path.partition("/")[0] for path in order] == ["targets"] + 4 * ["metadata"]
    assert len(changed.targets) == 1
    assert order[1:] == [
        "metadata/3.people.json",
        "metadata/3.snapshot.json",
        "metadata/1.root.json",
        "metadata/timestamp.json",
    ]


def test_what_is_stale_is_forgotten_after_a_grace_time_but_no_root(site, broker, front, tmp_path):
    push(site, NOW)
    publish(site, NOW)
    before = gallery_at(broker, site, tmp_path, front)
    put_people(site, person("ada", 9))
    rotate(site, ["publish"], [Keystore.open(site.folder / "root.keys", ROOT_PASSPHRASE)], NOW)
    push(site, NOW)
    assert publish(site, NOW).deleted == 0
    assert before.keys() <= gallery_at(broker, site, tmp_path / "2", front).keys()
    later = NOW + timedelta(hours=2)
    assert publish(site, later).deleted > 0
    wanted = {*site.tree.files(), *site.tree.roots(), "metadata/timestamp.json"}
    assert gallery_at(broker, site, tmp_path / "3", front).keys() == wanted
    assert publish(site, later).deleted == 0


def test_a_broker_that_lost_its_store_is_sent_everything(site, broker, front, tmp_path):
    push(site, NOW)
    everything = publish(site, NOW).files
    broker.stop(signal.SIGKILL)  # nothing was saved yet
    broker.start()
    assert publish(site, NOW).files == everything
    assert gallery_at(broker, site, tmp_path, front).keys() >= set(site.tree.files())


def test_a_broker_that_fell_back_is_sent_what_it_lacks(site, broker, front, tmp_path):
    push(site, NOW)
    publish(site, NOW)
    broker.stop()  # in order: saved
    broker.start()
    put_people(site, person("ada", 9))
    push(site, NOW)
    sent = publish(site, NOW).files
    broker.stop(signal.SIGKILL)
    broker.start()
    assert publish(site, NOW).files == sent
    tree = as_folder(gallery_at(broker, site, tmp_path, front), tmp_path / "got")
    client = Client(tmp_path / "door", tree, front.root)
    client.update(NOW)
    assert client.version == 3


def test_a_publication_that_was_cut_short_leaves_nothing_behind_for_ever(
    site, broker, front, tmp_path, monkeypatch
):
    push(site, NOW)
    publish(site, NOW)
    put_people(site, person("ada", 9))
    push(site, NOW)
    keep = Conversation.keep
    parts = []

    def once(self, messages, told=None):
        if parts:
            raise LinkError("cut")
        parts.append(keep(self, messages, told))

    monkeypatch.setattr(Conversation, "keep", once)
    with pytest.raises(LinkError):
        publish(site, NOW)
    monkeypatch.undo()
    put_people(site, person("ada", 10))
    push(site, NOW)
    publish(site, NOW)
    publish(site, NOW + timedelta(hours=2))
    wanted = {*site.tree.files(), *site.tree.roots(), "metadata/timestamp.json"}
    assert gallery_at(broker, site, tmp_path, front).keys() == wanted


def test_an_old_copy_of_the_admins_folder_does_not_publish_over_a_newer_version(
    site, broker, front, tmp_path
):
    push(site, NOW)
    shutil.copytree(site.folder, tmp_path / "old")
    put_people(site, person("ada", 9))
    push(site, NOW)
    publish(site, NOW)
    with OpenSite(tmp_path / "old", PASSPHRASE) as old:
        with pytest.raises(AdminError, match="expected at most version 2 at the broker, got 3"):
            publish(old, NOW)
        assert publish(old, NOW, everything=True).version == 2  # whoever wants it so


@pytest.mark.parametrize("foreign", [b"x", b"{}", b'{"signed":{},"signatures":[]}', b"[" * 5000])
def test_a_foreign_timestamp_at_the_broker_is_replaced(site, broker, front, foreign):
    push(site, NOW)
    with Conversation(site.mqtt(), "hq") as talk:
        talk.keep([(f"{BASE}/metadata/timestamp.json", foreign)])
    assert publish(site, NOW).files == len(site.tree.files()) + 2


def test_a_snapshot_in_the_timestamps_place_is_foreign_though_the_same_key_signed_it(site, broker, front):
    push(site, NOW)
    snapshot = (site.tree.folder / "metadata" / "2.snapshot.json").read_bytes()
    with Conversation(site.mqtt(), "hq") as talk:
        talk.keep([(f"{BASE}/metadata/timestamp.json", snapshot)])
    assert publish(site, NOW).files == len(site.tree.files()) + 2


def test_a_version_of_the_same_number_that_was_signed_elsewhere_is_not_mixed_with_ours(
    site, broker, front, tmp_path
):
    push(site, NOW)
    shutil.copytree(site.folder, tmp_path / "restored")
    put_people(site, person("ada", 9))
    push(site, NOW)
    publish(site, NOW)
    with OpenSite(tmp_path / "restored", PASSPHRASE) as restored:
        put_people(restored, person("bob", 9))
        assert push(restored, NOW).publication.version == 3
        with pytest.raises(AdminError, match="at most version 3 at the broker, got another of that number"):
            publish(restored, NOW)
    client = Client(
        tmp_path / "d", as_folder(gallery_at(broker, site, tmp_path, front), tmp_path / "b"), front.root
    )
    assert as_door(front, client.update(NOW))[0].subjects == ("ada", "bob")


def test_a_broker_that_is_not_there_is_a_link_error_and_what_was_signed_stays(site, broker, front):
    push(site, NOW)
    broker.stop()
    with pytest.raises(LinkError, match="nothing listens there"):
        publish(site, NOW)
    broker.start()
    assert publish(site, NOW).version == 2


def test_what_the_broker_keeps_of_a_retired_door_is_cleared(site, broker, front, tmp_path):
    push(site, NOW)
    with guest(broker, tmp_path / "tls", front) as door:
        for topic in ("doord/hq/door/front/status", "homeassistant/device/doord-front/config"):
            assert door.say(topic, retain=True) < 128
    retire_door(site, "front", NOW)
    push(site, NOW)
    publish(site, NOW)
    with Conversation(site.mqtt(), "hq") as talk:
        assert [heard.topic for topic in kept_topics("hq", "front") for heard in talk.kept(topic)] == []


def test_a_stick_has_what_the_broker_has(site, front, tmp_path):
    push(site, NOW)
    stick = tmp_path / "stick"
    assert export(site, stick) == len(site.tree.files()) + 2
    client = Client(tmp_path / "door", stick, front.root)
    assert as_door(front, client.update(NOW))[0].subjects == ("ada", "bob")
    assert export(site, stick) == 0
    put_people(site, person("ada", 9))
    push(site, NOW)
    assert export(site, stick) == 4  # shard, people, snapshot, timestamp
    client.update(NOW)
    assert client.version == 3
    found = {str(path.relative_to(stick)) for path in stick.glob("*/**/*") if path.is_file()}
    assert found == {*site.tree.files(), *site.tree.roots(), "metadata/timestamp.json"}


def test_a_stick_keeps_what_is_not_ours_and_the_sites_own_folder_is_no_stick(site, tmp_path):
    push(site, NOW)
    put_people(site, person("ada", 9))
    push(site, NOW)
    others = [
        tmp_path / "stick" / "metadata" / "holiday.jpg",
        tmp_path / "stick" / "targets" / "2026" / "bill.pdf",
    ]
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    export(site, tmp_path / "stick")
    assert [path.read_bytes() for path in others] == [b"mine", b"mine"]
    with pytest.raises(AdminError, match="expected another folder than the site's own"):
        export(site, site.folder / "tree")
    assert site.tree.files(2)


def test_a_tree_whose_change_of_keys_was_cut_short_goes_on_no_stick(site, tmp_path, monkeypatch):
    push(site, NOW)
    monkeypatch.setattr(type(site.tree), "sign", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rotate(site, ["publish"], [Keystore.open(site.folder / "root.keys", ROOT_PASSPHRASE)], NOW)
    with pytest.raises(AdminError, match="expected a signed tree"):
        export(site, tmp_path / "stick")


def test_a_copy_of_a_root_in_the_folder_is_not_taken_for_one(site):
    copy = site.tree.folder / "metadata" / "1 (copy).root.json"
    copy.write_bytes(site.tree.root_bytes())
    site.close()
    with OpenSite(site.folder, PASSPHRASE) as again:
        assert again.tree.check(NOW) == []


def test_what_can_not_be_written_is_said(site, tmp_path):
    (tmp_path / "stick").write_text("a file")
    with pytest.raises(AdminError, match="stick"):
        export(site, tmp_path / "stick")


def test_another_machine_publishes_with_a_copy_of_the_folder(site, broker, front):
    push(site, NOW)
    publish(site, NOW)
    site.records.delete(AtBroker, "broker")
    site.close()
    with OpenSite(site.folder, PASSPHRASE) as again:
        assert publish(again, NOW).files == 0
