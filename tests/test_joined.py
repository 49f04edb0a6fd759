"""Joining a site and leaving it, and what a joined door does with rights, cards, gallery and changes."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import numpy as np
import pytest
from broker import Authority, Broker, tls_conf, wait_until
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from fakes_access import FakeClock
from published import Published, a_vector, joined_bundle_file
from repository import Repository

from edge.access import Access
from edge.config import Config, parse_config
from edge.desk import JoinedDesk
from edge.disk import FileKey, StateLock, seal
from edge.errors import ConfigError, GalleryBusy, GalleryError
from edge.identity.credentials import Cards, Credential
from edge.identity.rights import Limits, Permitted, Rights, SubjectRights
from edge.joined import broker_of, is_joined, join, leave, read_joined, site_folder
from edge.link.broker import Login
from edge.link.bundle import DoorBundle, decode_bundle, encode_bundle
from edge.link.downlink import Downlink
from edge.link.ledger import Ledger
from edge.link.port import NullLink
from edge.link.topics import Topics
from edge.ties import tied
from edge.uplink import open_link
from edge.values import Deny, Gallery, Reason

PEM = {"ca": "the ca", "certificate": "the certificate", "certificate_key": "the key"}


@pytest.fixture
def bundle() -> DoorBundle:
    return Published(Repository()).bundle(1883, **PEM)


@pytest.fixture
def file(bundle, tmp_path) -> Path:
    return joined_bundle_file(bundle, tmp_path / "front.door")


def configured(folder: Path, more: str = "", door: str = "front") -> Config:
    return parse_config(
        f"site: hq\ndoor_id: {door}\ndoor: {{relay: {{line: 17}}}}\nstate_dir: {folder}/state\n{more}"
    )


def test_a_joined_door_knows_its_site_and_its_broker(bundle, file, tmp_path):
    config = configured(tmp_path)
    assert read_joined(config) is None
    join(config, file)
    joined = read_joined(config)
    assert joined.bundle == bundle
    login = broker_of(config, joined)
    assert (login.mqtt.host, login.mqtt.port, login.password) == ("127.0.0.1", 1883, None)
    parts = login.tls.ca, login.tls.certificate, login.tls.key
    assert [part.text for part in parts] == ["the ca", "the certificate", "the key"]
    assert "the key" not in repr(login)


def test_a_joined_door_keeps_one_file_and_no_key_in_plain(file, tmp_path):
    folder = join(configured(tmp_path), file).folder
    assert [path.name for path in folder.iterdir()] == ["bundle.sealed"]


def test_a_joined_door_shows_the_broker_its_certificate_though_no_file_has_its_key(tmp_path):
    authority = Authority(tmp_path / "ca")
    paths = (authority.path, *authority.issue("front"))
    with Broker(tmp_path / "broker", *tls_conf(authority)) as broker:
        texts = dict(zip(PEM, (path.read_text() for path in paths), strict=True))
        bundle = Published(Repository()).bundle(broker.port, **texts)
        wait_until(lambda: "running" in broker.log, "mosquitto has read its files, after it listens")
        for path in paths:
            path.unlink()
        config = configured(tmp_path)
        join(config, joined_bundle_file(bundle, tmp_path / "front.door"))
        login = broker_of(config, read_joined(config))
        link = Downlink(login, Topics("hq", "front"), lambda: None, lambda _: None, (0.05, 0.1))
        link.start()
        wait_until(lambda: link.connected, "the broker takes the certificate")
        link.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in kept


def test_what_an_older_doord_left_in_plain_goes_at_the_next_start_and_at_a_join(file, tmp_path):
    config = configured(tmp_path)
    folder = join(config, file).folder
    for again in (tied, lambda config: join(config, file)):
        for name in ("ca.pem", "door.pem", "door.key"):
            (folder / name).write_text(PEM["certificate_key"])
        assert read_joined(config) is not None  # a command that only looks removes nothing
        assert (folder / "door.key").exists()
        again(config)
        assert [path.name for path in folder.iterdir()] == ["bundle.sealed"]
        assert broker_of(config, read_joined(config)).tls.key.text == "the key"


def test_a_key_in_plain_that_can_not_be_removed_is_told_and_the_door_works(file, tmp_path, caplog):
    config = configured(tmp_path)
    (join(config, file).folder / "door.key").mkdir()  # as on a disk that only reads: it stays
    assert tied(config) is not None
    assert "door.key: " in caplog.text
    assert "can't be removed" in caplog.text


def test_what_was_joined_with_can_be_read_by_nobody_else_and_not_without_the_key(bundle, file, tmp_path):
    config = configured(tmp_path)
    joined = join(config, file)
    for path in joined.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert bundle.key_encryption_key not in path.read_bytes()
    assert stat.S_IMODE(joined.folder.stat().st_mode) == 0o700
    config.key_path.write_text("0" * 64 + "\n")
    with pytest.raises(GalleryError, match="sealed with another key"):
        read_joined(config)
    assert is_joined(config)
    assert tied(config) is None  # and yet no standalone door: nobody is let in
    assert Access(config, FakeClock()).permitted("ada") == Deny(Reason.OTHER)


def test_a_broker_in_the_configuration_is_used_instead_of_the_sites(file, tmp_path):
    config = configured(tmp_path, "mqtt: {host: broker.example, port: 1}")
    assert broker_of(config, join(config, file)) == Login(config.mqtt)


def test_what_a_joined_door_is_told_of_its_events_holds_at_the_sites_broker(bundle, file, tmp_path):
    config = configured(tmp_path, "mqtt: {acks: collector, heartbeat_s: 30, home_assistant: false}")
    joined = join(config, file)
    login = broker_of(config, joined)
    mqtt = login.mqtt
    assert (mqtt.acks, mqtt.heartbeat_s, mqtt.home_assistant) == ("collector", 30, False)
    assert (mqtt.host, mqtt.port, login.tls) == ("127.0.0.1", 1883, joined.login.tls)
    assert broker_of(config, None) is None  # alone it has no broker


def test_a_door_without_a_site_whose_configuration_forgot_the_broker_says_so(tmp_path, caplog):
    config = configured(tmp_path, "mqtt: {heartbeat_s: 30}")
    assert isinstance(open_link(config, None, Ledger(tmp_path / "events.db"), dict, print), NullLink)
    assert "mqtt.host: expected a broker, or a site whose is used, got neither" in caplog.text


def test_a_configuration_that_names_the_files_an_older_doord_kept_has_what_was_in_them(file, tmp_path):
    """As one had to, to be acked by the collector: these doors would be off their site after the upgrade."""
    site = tmp_path / "state" / "site"
    tls = f"{{ca: {site}/ca.pem, cert: {site}/door.pem, key: {site}//door.key}}"
    config = configured(tmp_path, f"mqtt: {{host: broker.example, acks: collector, tls: {tls}}}")
    join(config, file)
    assert tied(config) is not None
    login = broker_of(config, read_joined(config))
    assert (login.mqtt, login.mqtt.host) == (config.mqtt, "broker.example")
    parts = login.tls.ca, login.tls.certificate, login.tls.key
    assert [part.text for part in parts] == ["the ca", "the certificate", "the key"]
    with pytest.raises(ConfigError, match=r"ca\.pem: No such file"):
        broker_of(config, None)


def test_another_doors_file_is_refused(file, tmp_path):
    with pytest.raises(ConfigError, match="expected door back of site hq as configured, got door front"):
        join(configured(tmp_path, door="back"), file)
    assert not is_joined(configured(tmp_path))


def test_joining_again_brings_new_keys_but_another_site_has_to_be_left_first(bundle, file, tmp_path):
    config = configured(tmp_path)
    join(config, file)
    again = Published(Repository()).bundle(1883, **PEM)
    with pytest.raises(GalleryError, match="doord leave"):
        join(config, joined_bundle_file(again, file))
    assert read_joined(config).bundle == bundle
    leave(config)
    assert join(config, file).bundle == again


def test_leaving_deletes_what_the_door_had_of_its_site(file, tmp_path):
    config = configured(tmp_path)
    folder = join(config, file).folder
    leave(config)
    assert not folder.exists()
    assert read_joined(config) is None
    with pytest.raises(GalleryError, match="part of no site"):
        leave(config)


def test_a_leave_that_was_cut_short_is_finished_by_the_next_and_by_a_join(bundle, file, tmp_path):
    config = configured(tmp_path)
    for again in (leave, lambda config: join(config, file)):
        folder = join(config, file).folder
        (folder / "tuf").mkdir()
        (folder / "bundle.sealed").unlink()  # and here the power went
        assert read_joined(config) is None
        again(config)
        assert not (folder / "tuf").exists()  # else the other site's floor would refuse all of this one's


@pytest.mark.parametrize("key", ["encrypted", "another kind", "no key"])
def test_a_file_whose_key_signs_nothing_is_refused_and_ends_no_start(bundle, file, tmp_path, key):
    text = {
        "encrypted": pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        "another kind": pem(ec.generate_private_key(ec.SECP256R1()), NoEncryption()),
        "no key": "no key",
    }[key]
    config = configured(tmp_path)
    join(config, file)
    bad = joined_bundle_file(msgspec.structs.replace(bundle, signing_key=text), tmp_path / "bad.door")
    with pytest.raises(ConfigError, match="signing_key: expected an Ed25519 key in PEM, not encrypted"):
        join(config, bad)
    sealed = seal(FileKey(config.key_path).key(), bad.read_bytes(), b"doord bundle 1")
    (site_folder(config) / "bundle.sealed").write_bytes(sealed)  # as an earlier doord would have joined
    assert tied(config) is None


def pem(key, encryption) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def test_nothing_is_joined_or_left_under_a_running_daemon(file, tmp_path):
    config = configured(tmp_path)
    join(config, file)
    with StateLock(Path(config.state_dir)):
        with pytest.raises(GalleryBusy):
            join(config, file)
        with pytest.raises(GalleryBusy):
            leave(config)
    assert is_joined(config)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a file of `doord admin door add`"),
        (b"\xff\xfe", "expected a file of `doord admin door add`"),
        (b"[" * 100_000, "expected a file of `doord admin door add`"),
        (b"x" * 300_000, "expected at most 262144 bytes"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_name(content, words):
    with pytest.raises(ConfigError, match=f"front.door: {words}"):
        decode_bundle(content, "front.door")


def test_a_file_of_a_later_format_is_refused(bundle):
    data = encode_bundle(bundle).replace(b'"doord_door": 1', b'"doord_door": 2')
    with pytest.raises(ConfigError, match="expected format 1, got 2"):
        decode_bundle(data, "front.door")


def test_each_start_has_its_own_epoch_with_a_count_that_rises(file, tmp_path):
    config = configured(tmp_path)
    join(config, file)
    epochs = [tied(config).voice.epoch for _ in range(3)]
    assert [epoch.partition("-")[0] for epoch in epochs] == ["1", "2", "3"]
    assert len({epoch.partition("-")[2] for epoch in epochs}) == 3


# Rights and cards of a site

EXPIRES = datetime(2026, 6, 2, tzinfo=timezone.utc)
LIMITED = Limits(until_utc=datetime(2027, 1, 1, tzinfo=timezone.utc))
RIGHTS = Rights(
    subjects={
        "ada": SubjectRights(),
        "guest": SubjectRights(own=LIMITED),
        "temp": SubjectRights(groups=(LIMITED,)),
        "both": SubjectRights(groups=(LIMITED, Limits())),
    }
)
DENIED = Deny(Reason.GALLERY_EXPIRED)


def joined_access(tmp_path: Path, file: Path, policy: str) -> tuple[Access, FakeClock]:
    config = configured(tmp_path, f"sync: {{when_expired: {policy}}}")
    join(config, file)
    clock = FakeClock()
    return Access(config, clock), clock


def test_a_joined_door_lets_nobody_in_before_it_has_anything_of_its_site(file, tmp_path):
    access, _ = joined_access(tmp_path, file, "warn")
    assert access.permitted("ada") == Deny(Reason.OTHER)
    assert access.claimed("wedge:0012") == Deny(Reason.OTHER)
    assert access.why_not() == ["nothing of the site is in force yet"]
    access.load()  # SIGHUP
    assert access.permitted("ada") == Deny(Reason.OTHER)
    access.put_in_force(RIGHTS, Cards(), EXPIRES)
    assert access.permitted("ada") == Permitted()
    assert access.why_not() == []


@pytest.mark.parametrize(
    ("policy", "denied"),
    [
        ("warn", set()),
        ("deny_limited", {"guest", "temp"}),
        ("deny", {"ada", "guest", "temp", "both"}),
    ],
)
def test_who_is_refused_when_the_site_was_not_heard_of_in_time(file, tmp_path, policy, denied):
    access, clock = joined_access(tmp_path, file, policy)
    access.put_in_force(RIGHTS, Cards(), EXPIRES)
    assert {s for s in RIGHTS.subjects if access.permitted(s) == DENIED} == set()
    clock.now = EXPIRES
    assert {s for s in RIGHTS.subjects if access.permitted(s) == DENIED} == denied
    assert "was not heard of in time" in " ".join(access.problems)
    assert bool(access.why_not()) is (policy == "deny")
    access.put_in_force(RIGHTS, Cards(), EXPIRES + timedelta(days=7))
    assert {s for s in RIGHTS.subjects if access.permitted(s) == DENIED} == set()


def test_a_clock_that_is_not_trusted_gives_back_nobody_what_has_expired(file, tmp_path):
    access, clock = joined_access(tmp_path, file, "deny_limited")
    access.put_in_force(RIGHTS, Cards(), EXPIRES)
    clock.trusted = False
    assert access.permitted("guest") == Deny(Reason.CLOCK_NOT_TRUSTED)
    clock.now = EXPIRES + timedelta(days=30)
    assert access.permitted("ada") == Permitted()
    assert access.permitted("guest") == DENIED


# The desk of a joined door


def test_a_joined_door_tells_who_is_in_force_and_changes_nothing():
    vectors = [a_vector(1), a_vector(2), a_vector(3)]
    gallery = Gallery(7, "m", ("ada", "eve"), np.stack(vectors), np.array([0, 0, 1]))
    cards = Cards(b"", {b"d" * 32: Credential(b"d" * 32, "ada")})
    desk = JoinedDesk("hq", lambda: gallery, lambda: cards)
    assert [(row.subject, row.templates) for row in desk.subjects()] == [("ada", 2), ("eve", 1)]
    assert [row.subject for row in desk.cards()] == ["ada"]
    for change in (
        lambda: desk.enrol("eve", [], False),
        lambda: desk.enrol_camera("eve", False),
        lambda: desk.remove("ada"),
        lambda: desk.export(None),
        lambda: desk.import_(b"", None),
        lambda: desk.add_card("ada", "wedge:1", True, None),
        lambda: desk.change_card("64", "remove"),
    ):
        with pytest.raises(GalleryError, match="part of site hq: change it there, with doord admin"):
            change()


def test_the_key_of_a_door_is_made_at_the_join(file, tmp_path):
    config = configured(tmp_path)
    join(config, file)
    assert len(FileKey(config.key_path).key()) == 32
