"""The shipped Mosquitto configuration, against a real Mosquitto: who may what, and who is let in."""

from __future__ import annotations

import signal
from datetime import datetime, timezone
from pathlib import Path

import pytest
from admin_site import NOW, PASSPHRASE, made_site
from broker import Authority, wait_until
from site_broker import Guest, site_broker

from edge.admin.broker_files import acl, conf, write_broker_files
from edge.admin.collector import FolderRoster, SiteRoster, write_collector_files
from edge.admin.conversation import Conversation
from edge.admin.doors import add_door, retire_door
from edge.admin.pki import Authority as SiteAuthority
from edge.errors import AdminError

SHIPPED = Path(__file__).parent.parent / "deploy" / "mosquitto"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Site, broker, and the doors front and back; one for all: nothing here changes them."""
    folder = tmp_path_factory.mktemp("broker")
    with made_site(folder / "admin") as site, site_broker(site, folder / "broker") as broker:
        yield site, broker, add_door(site, "front", NOW), add_door(site, "back", NOW)


def guest(broker, folder, bundle) -> Guest:
    return Guest(broker.port, folder, bundle.ca, bundle.certificate, bundle.certificate_key)


@pytest.mark.skipif(not SHIPPED.exists(), reason="needs the repository")
def test_the_shipped_files_are_what_the_command_writes():
    assert (SHIPPED / "mosquitto.conf").read_text() == conf("hq", 8883, "/etc/mosquitto/doord")
    assert (SHIPPED / "acl").read_text() == acl("hq")


@pytest.mark.parametrize("last", ["status", "state", "event", "reply", "attestation", "fence", "discovery"])
def test_a_door_writes_its_own_topics(parts, tmp_path, last):
    _, broker, front, _ = parts
    topic = (
        f"doord/hq/door/front/{last}" if last != "discovery" else "homeassistant/device/doord-front/config"
    )
    with guest(broker, tmp_path, front) as door:
        assert door.say(topic) < 128


@pytest.mark.parametrize(
    "topic",
    [
        "doord/hq/door/back/status",
        "doord/hq/door/back/event",
        "doord/hq/door/back/fence",
        "doord/hq/door/back/command",
        "doord/hq/door/front/command",
        "doord/hq/door/front/event/ack",
        "doord/hq/door/front/other",
        "doord/hq/gallery/metadata/timestamp.json",
        "doord/hq/gallery/targets/people/0",
        "doord/hq/admin/fence",
        "doord/other/door/front/status",
        "homeassistant/device/doord-back/config",
        "homeassistant/lock/front/config",
        "homeassistant/device/doord-front/state",
        "homeassistant/status",
        "homeassistant/lock/doord-front/config",
        "doord/hq/bridge/front/set",
    ],
)
def test_a_door_does_not_write_what_is_not_its_own(parts, tmp_path, topic):
    _, broker, front, _ = parts
    with (
        guest(broker, tmp_path / "back", parts[3]) as door,
        guest(broker, tmp_path / "front", front) as thief,
    ):
        door.subscribe("doord/hq/door/back/#")
        assert thief.say(topic, retain=True) >= 128
    with Conversation(parts[0].mqtt(), "hq") as admin:
        assert list(admin.kept(topic)) == []


def test_a_door_hears_the_gallery_its_commands_and_its_fence_and_nothing_else(parts, tmp_path):
    site, broker, front, _ = parts
    own = ["doord/hq/door/front/command", "doord/hq/door/front/event/ack", "doord/hq/door/front/fence"]
    heard = ["doord/hq/gallery/metadata/1.root.json", "homeassistant/status", *own]
    silent = [
        "doord/hq/door/back/command",
        "doord/hq/door/back/event",
        "doord/hq/door/back/fence",
        "doord/hq/door/front/status",
        "homeassistant/device/doord-back/config",
    ]
    with guest(broker, tmp_path, front) as door, Conversation(site.mqtt(), "hq") as admin:
        door.subscribe("#")
        for topic in silent + heard:
            admin.say(topic, b"x")
        wait_until(lambda: heard[-1] in door.heard, "the last message")
        assert door.heard == heard


def test_the_admin_reads_and_writes_the_whole_site(parts, tmp_path):
    site, broker, front, _ = parts
    with guest(broker, tmp_path, front) as door, Conversation(site.mqtt(), "hq") as admin:
        admin.keep([("doord/hq/door/front/command", b"x"), ("doord/hq/gallery/x", b"x")])
        admin.keep([("doord/hq/door/front/command", b""), ("doord/hq/gallery/x", b"")])
        assert door.say("doord/hq/door/front/state", b"mine", retain=True) < 128
        assert [heard.payload for heard in admin.kept("doord/hq/door/front/state")] == [b"mine"]


def refused(broker, make) -> bool:
    """Whether a client is turned away, by the broker's own log: paho does not say why."""
    before = len(broker.log)
    client = make()
    try:
        wait_until(lambda: client.over.is_set() or client.connected.is_set(), "an answer")
        return not client.connected.is_set() and "error" in broker.log[before:].lower()
    finally:
        client.close()


def test_no_certificate_of_another_authority_is_let_in(parts, tmp_path):
    _, broker, front, _ = parts
    certificate, key = Authority(tmp_path / "other").issue("front")
    assert refused(
        broker,
        lambda: Guest(broker.port, tmp_path / "g", front.ca, certificate.read_text(), key.read_text()),
    )


def test_an_expired_certificate_is_not_let_in(parts, tmp_path):
    site, broker, front, _ = parts
    old = site.authority().client("front", datetime(1990, 1, 1, tzinfo=timezone.utc))
    assert refused(broker, lambda: Guest(broker.port, tmp_path, front.ca, old.certificate, old.key))


def test_a_certificate_for_clients_is_none_for_servers_and_the_other_way_round(parts, tmp_path):
    site, broker, front, _ = parts
    server = site.authority().server(["127.0.0.1"], NOW)
    assert refused(broker, lambda: Guest(broker.port, tmp_path, front.ca, server.certificate, server.key))


def test_a_retired_door_is_refused_once_the_broker_has_the_new_list(tmp_path):
    with made_site(tmp_path / "admin") as site:
        broker = site_broker(site, tmp_path / "broker")
        front, back = add_door(site, "front", NOW), add_door(site, "back", NOW)
        files = tmp_path / "broker" / "files"
        with broker:
            with guest(broker, tmp_path / "1", front):
                key = (files / "server.key").read_bytes()
            retire_door(site, "front", NOW)
            write_broker_files(site, files, NOW, at=str(files))
            assert (files / "server.key").read_bytes() == key
            broker.send(signal.SIGHUP)  # what `systemctl reload` does
            wait_until(lambda: refused(broker, lambda: guest(broker, tmp_path / "2", front)), "a refusal")
            with guest(broker, tmp_path / "3", back), Conversation(site.mqtt(), "hq"):
                pass
            again = add_door(site, "front", NOW)  # under the same name, with another certificate
            with guest(broker, tmp_path / "4", again):
                pass


def test_keys_are_private_and_nothing_else_is_secret(parts, tmp_path):
    site = parts[0]
    written = write_broker_files(site, tmp_path / "out", NOW, ["broker.example", "10.0.0.1"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in written}
    assert {name for name, mode in modes.items() if mode == 0o600} == {"server.key"}
    assert not any("PRIVATE" in path.read_text() for path in written if path.name != "server.key")


@pytest.mark.parametrize("write", [write_broker_files, write_collector_files])
def test_a_folder_that_can_not_be_made_is_one_line(parts, tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(AdminError, match=r"/file/out: expected a folder, got: Not a directory$"):
        write(parts[0], tmp_path / "file" / "out", NOW)


@pytest.mark.parametrize("hosts", [["a" * 70], ["bad host"], ["-x"], ["x..y"], [""]])
def test_a_host_that_is_none_is_refused(parts, tmp_path, hosts):
    with pytest.raises(AdminError, match="broker: expected a host name or address"):
        write_broker_files(parts[0], tmp_path / "out", NOW, hosts)


def test_no_authority_signs_for_another_site():
    one, other = SiteAuthority.create("hq", NOW), SiteAuthority.create("hq", NOW)
    assert one.record.certificate != other.record.certificate
    assert SiteAuthority(one.record).client("front", NOW).serial != one.client("front", NOW).serial


def test_who_only_collects_reads_reports_and_writes_acks_and_nothing_else(parts, tmp_path):
    site, broker, front, _ = parts
    write_collector_files(site, tmp_path / "files", NOW)
    pems = [(tmp_path / "files" / name).read_text() for name in ("ca.pem", "collector.pem", "collector.key")]
    with Guest(broker.port, tmp_path / "collector", *pems) as collector:
        collector.subscribe("doord/hq/#")
        with guest(broker, tmp_path / "front", front) as door:
            for last in ("event", "attestation", "state", "reply"):
                assert door.say(f"doord/hq/door/front/{last}") < 128
            door.subscribe("doord/hq/door/front/#")
            assert collector.say("doord/hq/door/front/event/ack") < 128
            wait_until(lambda: "doord/hq/door/front/event/ack" in door.heard, "the door hears the ack")
        assert set(collector.heard) == {"doord/hq/door/front/event", "doord/hq/door/front/attestation"}
        assert collector.say("doord/hq/door/front/command") >= 128


def test_the_files_of_a_collector_are_written_again_with_the_doors_of_now_and_the_same_certificate(tmp_path):
    with made_site(tmp_path / "admin") as site:
        add_door(site, "front", NOW)
        write_collector_files(site, tmp_path / "files", NOW)
        first = (tmp_path / "files" / "collector.key").read_bytes()
        add_door(site, "back", NOW)
        retire_door(site, "front", NOW)
        assert FolderRoster(tmp_path / "files").doors().keys() == {"front"}
        write_collector_files(site, tmp_path / "files", NOW)
        roster = FolderRoster(tmp_path / "files")
        assert {name: door.retired for name, door in roster.doors().items()} == {"front": True, "back": False}
        assert roster.signer.public_key == site.keys.signer("collect").public_key
        assert (tmp_path / "files" / "collector.key").read_bytes() == first
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "files").glob("*")} == {0o600}
        assert SiteRoster(tmp_path / "admin", PASSPHRASE).doors() == roster.doors()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: "", "truncated"),
        (lambda text: text.replace('"doord_collector":1', '"doord_collector":2'), "expected format 1, got 2"),
        (lambda text: text.replace('"site":"hq"', '"site":"+"'), "site"),
    ],
)
def test_files_of_a_collector_that_are_damaged_are_refused(tmp_path, change, why):
    with made_site(tmp_path / "admin") as site:
        write_collector_files(site, tmp_path / "files", NOW)
    path = tmp_path / "files" / "collector.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(AdminError, match=why):
        FolderRoster(tmp_path / "files")
    with pytest.raises(AdminError, match=r"collector\.json: No such file"):
        FolderRoster(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["admin", "collector"])
def test_no_door_may_have_a_name_that_the_broker_gives_other_rights(tmp_path, name):
    with (
        made_site(tmp_path / "admin") as site,
        pytest.raises(AdminError, match="expected an id that is free"),
    ):
        add_door(site, name, NOW)
