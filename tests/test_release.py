"""From records to a signed tree: read back by python-tuf's own client, as a door would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import time
from datetime import timedelta

import msgspec
import numpy as np
import pytest
from admin_site import (
    NOW,
    PASSPHRASE,
    ROOT_PASSPHRASE,
    as_door,
    card,
    expected_vectors,
    made_site,
    person,
    put_people,
    settings,
)
from msgspec.structs import replace
from push_worker import push_for_ever
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import ExpiredMetadataError
from tuf_client import Client

from edge.admin import release as release_module
from edge.admin.content import CONTENT, Content, best_shards
from edge.admin.doors import add_door, retire_door
from edge.admin.folder import OpenSite, create_site
from edge.admin.keystore import ROOT_NAMES, Keystore
from edge.admin.model import Card, Door, Group, Period, Person, Removal, Revoked, Schedule, Seen
from edge.admin.publish import publish
from edge.admin.release import publications, push, refresh, rollback, rotate
from edge.admin.sign import Tree
from edge.errors import AdminError, ConfigError, GalleryBusy, GalleryError, GalleryKeyError, ModelMismatch
from edge.identity.rights import Permitted, decide
from edge.identity.sealing import COMMAND_KEYS
from edge.link import dsse
from edge.values import Deny, Reason

ADA, BOB = person("ada", 1), person("bob", 2, cards=[card(1)], groups=["staff"])


@pytest.fixture
def site(tmp_path):
    with made_site(tmp_path / "admin") as made:
        made.records.put("office", Schedule([Period(["mon"], "07:00", "19:00")]))
        made.records.put("staff", Group(schedule="office", doors=["front"]))
        yield made


@pytest.fixture
def front(site):
    return add_door(site, "front", NOW)


@pytest.fixture
def client(tmp_path, site, front):
    return Client(tmp_path / "door", tmp_path / "admin" / "tree", front.root)


def roots(site: OpenSite) -> list[Keystore]:
    return [Keystore.open(site.folder / "root.keys", ROOT_PASSPHRASE)]


def test_a_door_puts_in_force_what_the_records_say(site, front, client):
    put_people(site, ADA, BOB)
    pushed = push(site, NOW)
    gallery, rights, cards = as_door(front, client.update(NOW))
    assert (client.version, pushed.publication.version) == (2, 2)
    assert gallery.subjects == ("ada", "bob")
    by_ada = np.sort(gallery.templates[gallery.owners == 0], axis=0)
    np.testing.assert_allclose(by_ada, np.sort(expected_vectors(ADA), axis=0), atol=1e-3)
    assert decide(rights, "bob", "front", NOW, True) == Permitted()
    assert decide(rights, "bob", "back", NOW, True) == Deny(Reason.UNAUTHORIZED)
    assert [one.subject for one in cards.by_digest.values()] == ["bob"]


def test_a_new_site_is_a_valid_tree_without_people(site, client):
    assert client.update(NOW).keys() == {
        COMMAND_KEYS,
        "people/manifest",
        "people/0",
        "rights/0",
        "rights/site",
    }
    assert client.version == 1
    assert site.tree.check(NOW) == []


def test_a_push_without_a_change_is_a_new_timestamp_and_nothing_else(site, client):
    put_people(site, ADA)
    push(site, NOW)
    before = client.update(NOW)
    again = push(site, NOW + timedelta(days=1))
    assert (again.roles, again.targets, again.publication.version) == ((), (), 2)
    assert again.expires_utc == NOW + timedelta(days=8)
    assert client.update(NOW + timedelta(days=7, hours=1)) == before
    assert set(client.fetcher.got) == {"metadata/timestamp.json"}


def test_one_changed_person_changes_that_persons_shards_and_nothing_else(site, client, monkeypatch):
    monkeypatch.setattr("edge.admin.content.best_shards", lambda subjects, each, present: 16)
    people = [person(f"s-{i}", i) for i in range(64)]
    put_people(site, *people)
    push(site, NOW)
    client.update(NOW)
    put_people(site, person("s-5", 99))
    changed = push(site, NOW)
    assert len(changed.targets) == 1
    assert changed.roles == ("people",)
    client.update(NOW)
    assert sum(url.startswith("targets/") for url in client.fetcher.got) == 1
    put_people(site, person("s-5", 99, extended_release=True, name="known to the admin only"))
    changed = push(site, NOW)
    assert [name.partition("/")[0] for name in changed.targets] == ["rights"]
    put_people(site, person("s-5", 99, extended_release=True, name="another name"))
    assert push(site, NOW).targets == ()


def test_what_did_not_change_is_not_even_opened(site, monkeypatch):
    monkeypatch.setattr("edge.admin.content.best_shards", lambda subjects, each, present: 16)
    put_people(site, *(person(f"s-{i}", i) for i in range(64)))
    push(site, NOW)
    put_people(site, person("s-5", 99))
    opened = []
    some = site.records.some
    monkeypatch.setattr(site.records, "some", lambda kind, ids: opened.extend(ids) or some(kind, ids))
    push(site, NOW)
    assert "s-5" in opened
    assert len(opened) < 24  # one shard of people and one of rights


def test_a_removed_person_is_gone(site, front, client):
    put_people(site, ADA, BOB)
    push(site, NOW)
    site.records.delete(Person, "bob")
    push(site, NOW)
    gallery, rights, cards = as_door(front, client.update(NOW))
    assert (gallery.subjects, list(rights.subjects), list(cards.by_digest)) == (("ada",), ["ada"], [])


def test_a_dry_run_says_what_would_change_and_changes_nothing(site):
    put_people(site, ADA)
    files = sorted(site.folder.glob("tree/**/*"))
    kept = site.records.get(Content, CONTENT)
    told = push(site, NOW, dry_run=True)
    assert told.targets == ("people/0", "people/manifest", "rights/0", "rights/site")
    assert (told.publication.templates, told.expires_utc) == (2, None)
    assert sorted(site.folder.glob("tree/**/*")) == files
    assert site.records.get(Content, CONTENT) == kept


FOREIGN = msgspec.structs.replace(ADA, templates=[msgspec.structs.replace(ADA.templates[0], model="b")])
CARD = card(7 << 240)


@pytest.mark.parametrize(
    ("people", "error", "says"),
    [
        ([person("ada", 1, groups=["guards"])], GalleryError, r"subjects\.ada\.groups\[0\]: expected one of"),
        ([person("ada", 1, doors=[])], ConfigError, "person ada: doors: "),
        ([person("ada", 1, until="tomorrow")], ConfigError, "person ada: until: "),
        ([person("ada", 1, dimension=8)], GalleryError, "subject ada: expected 16 numbers"),
        ([FOREIGN], ModelMismatch, "subject ada: expected templates of facenet-a, got one of b"),
        (
            [person("ada", 1, cards=[CARD]), person("eve", 2, cards=[CARD])],
            AdminError,
            "card 000700000000: expected one person, got 2",
        ),
    ],
)
def test_what_no_door_would_take_is_not_signed(site, client, people, error, says):
    put_people(site, *people)
    with pytest.raises(error, match=says):
        push(site, NOW)
    client.update(NOW)
    assert client.version == 1


def test_a_rollback_is_a_new_version_with_the_earlier_content(site, front, client):
    put_people(site, ADA)
    first = push(site, NOW).publication.version
    put_people(site, BOB)
    push(site, NOW)
    client.update(NOW)
    back = rollback(site, first, NOW)
    gallery, rights, _ = as_door(front, client.update(NOW))
    assert (client.version, back.publication.version) == (4, 4)
    assert (gallery.subjects, list(rights.subjects)) == (("ada",), ["ada"])
    assert publications(site)[-1].note == "rolled back to 2"
    push(site, NOW)
    assert as_door(front, client.update(NOW))[0].subjects == ("ada", "bob")


def test_a_rollback_does_not_bring_back_who_was_removed_nor_a_retired_door(site, front, client, tmp_path):
    back = add_door(site, "back", NOW)
    put_people(site, ADA, BOB)
    first = push(site, NOW).publication.version
    site.records.delete(Person, "bob")
    site.records.put("x bob", Removal("bob", "2026-11-16T12:00:00Z"))
    retire_door(site, "back", NOW)
    push(site, NOW)
    rollback(site, first, NOW)
    targets = client.update(NOW)
    gallery, rights, cards = as_door(front, targets)
    assert (gallery.subjects, list(rights.subjects), list(cards.by_digest)) == (("ada",), ["ada"], [])
    assert "keys/back" not in targets
    assert back.door == "back"


def test_a_rollback_does_not_bring_back_the_old_templates_of_who_came_back(site, front, client):
    put_people(site, ADA, BOB)
    first = push(site, NOW).publication.version
    site.records.delete(Person, "bob")
    second = push(site, NOW).publication.version
    site.records.put("x bob", Removal("bob", "2026-11-16T12:00:00Z", second))
    put_people(site, person("bob", 77))
    third = push(site, NOW).publication.version
    rollback(site, first, NOW)
    assert as_door(front, client.update(NOW))[0].subjects == ("ada",)
    rollback(site, third, NOW)
    assert as_door(front, client.update(NOW))[0].subjects == ("ada", "bob")


def test_a_rollback_opens_nothing_that_was_closed_since(site, front, client):
    one, two, three = (Card(bytes([number]) * 32) for number in (1, 2, 3))
    put_people(site, ADA, replace(BOB, cards=[one, two, three]))
    first = push(site, NOW).publication.version
    put_people(site, replace(ADA, enabled=False))
    put_people(site, replace(BOB, cards=[replace(one, enabled=False), two]))
    push(site, NOW)
    rollback(site, first, NOW)
    gallery, rights, cards = as_door(front, client.update(NOW))
    assert gallery.subjects == ("ada", "bob")
    assert (rights.subjects["ada"].enabled, rights.subjects["bob"].enabled) == (False, True)
    assert {digest: held.enabled for digest, held in cards.by_digest.items()} == {
        one.digest: False,
        two.digest: True,
    }


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_rollback_to_what_is_not_kept_is_refused(site, version):
    put_people(site, ADA)
    push(site, NOW)
    with pytest.raises(AdminError, match=f"rollback: expected one of the versions 2, got {version}"):
        rollback(site, version, NOW)


def test_only_targets_of_kept_versions_stay_on_the_disk(site, client, monkeypatch):
    monkeypatch.setattr(release_module, "KEPT", 2)
    for seed in range(5):
        put_people(site, person("ada", seed))
        push(site, NOW)
    assert [bool(one.targets) for one in publications(site)] == [False, False, False, True, True]
    assert len(list(site.folder.glob("tree/targets/people/*.0"))) == 2
    assert site.tree.check(NOW) == []
    with pytest.raises(AdminError, match="expected one of the versions 5, 6, got 2"):
        rollback(site, 2, NOW)


def test_a_retired_door_cannot_read_what_is_published_afterwards(site, front, client):
    add_door(site, "back", NOW)
    put_people(site, ADA)
    push(site, NOW)
    before = client.update(NOW)
    retire_door(site, "front", NOW)
    push(site, NOW)
    after = client.update(NOW)
    assert "keys/front" not in after
    unchanged = {name for name in after if after[name] == before.get(name)}
    assert unchanged == {COMMAND_KEYS}
    with pytest.raises(GalleryError, match="people/manifest: expected key"):
        as_door(front, {**after, "keys/front": before["keys/front"]})


def test_a_site_from_before_collectors_gets_a_key_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.admin.folder.SITE_NAMES", ("people", "rights", "publish", "commands"))
    with made_site(tmp_path / "old") as site:
        push(site, NOW)
        assert not dsse.decode_keys(site.tree.target(COMMAND_KEYS)).ack
        rotate(site, ["collect"], roots(site), NOW)
        listed = dsse.decode_keys(site.tree.target(COMMAND_KEYS))
        assert listed.ack.keys() == {site.keys.signer("collect").public_key.keyid}
        assert listed.command.keys() == {site.keys.signer("commands").public_key.keyid}
        push(site, NOW)


def test_a_door_that_comes_back_with_new_hardware_is_no_alarm_and_has_a_certificate_that_counts(site):
    add_door(site, "front", NOW)
    site.records.put("front", Seen("front", "2026-11-16T11:00:00Z", starts=40, seq=900, version=7))
    retire_door(site, "front", NOW)
    old = site.records.all(Revoked)
    add_door(site, "front", NOW)
    assert site.records.get(Seen, "front") is None
    assert site.records.all(Revoked) == old
    assert str(site.records.get(Door, "front").certificate_serial) not in old


def test_new_keys_are_taken_over_by_a_client_that_trusts_the_first_root(site, front, client, tmp_path):
    put_people(site, ADA)
    push(site, NOW)
    client.update(NOW)
    names = ["people", "rights", "publish", "commands", "root", "targets"]
    old = {name: site.keys.signer(name).public_key.keyid for name in names[:4]}
    rotated = rotate(site, names, roots(site), NOW)
    assert not set(rotated.publication.signers) & set(old.values())
    put_people(site, BOB)
    push(site, NOW)
    targets = client.update(NOW)
    assert as_door(front, targets)[0].subjects == ("ada", "bob")
    listed = dsse.decode_keys(targets[COMMAND_KEYS])
    assert listed.command.keys() == {site.keys.signer("commands").public_key.keyid}
    assert listed.ack.keys() == {site.keys.signer("collect").public_key.keyid}
    assert old["commands"] not in listed.command
    rotate(site, names, roots(site), NOW)
    fresh = Client(tmp_path / "fresh", client.tree, front.root)  # walks 1, 2 and 3.root.json
    assert fresh.update(NOW).keys() == targets.keys()
    assert site.tree.check(NOW) == []


def test_old_keys_sign_nothing_after_a_rotation(site, tmp_path):
    stolen = (site.folder / "site.keys").read_bytes()
    rotate(site, ["people", "publish"], roots(site), NOW)
    (tmp_path / "stolen.keys").write_bytes(stolen)
    site.keys = Keystore.open(tmp_path / "stolen.keys", PASSPHRASE)
    put_people(site, ADA)
    with pytest.raises(GalleryKeyError, match="people: expected enough of its keys"):
        push(site, NOW)


def test_keys_are_not_changed_without_root(site):
    with pytest.raises(GalleryKeyError, match="root: expected enough of its keys"):
        rotate(site, ["publish"], [], NOW)
    with pytest.raises(AdminError, match="rotate-keys: expected names of keys at hand, got root"):
        rotate(site, ["root"], [], NOW)
    put_people(site, ADA)
    assert push(site, NOW).publication.version == 2  # with the keys from before


@pytest.mark.parametrize("names", [["people", "rights", "publish", "commands"], ["root", "targets"]])
def test_a_rotation_that_was_cut_short_is_finished_at_the_next_opening(site, client, monkeypatch, names):
    put_people(site, ADA)
    push(site, NOW)
    monkeypatch.setattr(Keystore, "promote", lambda self, names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rotate(site, names, roots(site), NOW)
    monkeypatch.undo()
    site.close()
    with OpenSite(site.folder, PASSPHRASE) as again:
        put_people(again, BOB)
        push(again, NOW)
        rotate(again, ["publish", "root"], roots(again), NOW)
        assert again.keys.waiting() == {}
        client.update(NOW)
        assert again.tree.check(NOW) == []


def test_a_tree_that_a_cut_left_unsigned_is_signed_by_the_next_push(site, client, monkeypatch):
    put_people(site, ADA)
    push(site, NOW)
    write = Tree._write

    def until_root(self, name, metadata):
        write(self, name, metadata)
        if name.endswith("root"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Tree, "_write", until_root)
    with pytest.raises(KeyboardInterrupt):
        rotate(site, ["publish"], roots(site), NOW)
    monkeypatch.undo()
    site.close()
    with OpenSite(site.folder, PASSPHRASE) as again:
        assert [fault.partition(":")[0] for fault in again.tree.faults()] == ["snapshot", "timestamp"]
        with pytest.raises(
            AdminError, match="publish: expected a signed tree, got: snapshot: expected enough"
        ):
            publish(again, NOW)
        push(again, NOW)
        assert again.tree.check(NOW) == []
    client.update(NOW)


def test_keys_of_another_site_are_refused(site, tmp_path):
    other = Keystore.create(tmp_path / "other.keys", "other", ROOT_NAMES, ROOT_PASSPHRASE)
    with pytest.raises(AdminError, match=r"other\.keys: expected keys of site hq, got other's"):
        rotate(site, ["people"], [other], NOW)


def test_a_root_of_two_keys_needs_both(tmp_path):
    paths = [tmp_path / "one.keys", tmp_path / "two.keys"]
    create_site(tmp_path / "admin", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW, paths, root_threshold=2)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        one, two = (Keystore.open(path, ROOT_PASSPHRASE) for path in paths)
        assert (one.names, two.names) == (ROOT_NAMES, ("root",))
        with pytest.raises(GalleryKeyError, match="root: expected enough of its keys"):
            rotate(site, ["publish"], [one], NOW)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        rotate(site, ["publish"], [one, two], NOW)
        rotate(site, ["root"], [one, two], NOW)
        client = Client(tmp_path / "door", tmp_path / "admin" / "tree", site.tree.root_bytes())
        client.update(NOW)
        assert site.tree.root.signed.version == 3
        assert len(site.tree.keys("root")) == 2


def test_a_root_key_that_was_stolen_counts_no_more_after_a_rotation_without_it(tmp_path):
    paths = [tmp_path / "stolen.keys", tmp_path / "safe.keys"]
    create_site(tmp_path / "admin", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW, paths)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        client = Client(tmp_path / "door", tmp_path / "admin" / "tree", site.tree.root_bytes())
        safe = Keystore.open(paths[1], ROOT_PASSPHRASE)
        rotate(site, ["root"], [safe], NOW)
        stolen = Keystore.open(paths[0], ROOT_PASSPHRASE)
        assert stolen.signer("root").public_key in site.tree.keys("root")  # kept: only not at hand
        rotate(site, ["root", "targets"], [safe], NOW, only_these=True)
        assert site.tree.keys("root") == [safe.signer("root").public_key]
        assert site.tree.keys("targets") == [safe.signer("targets").public_key]
        with pytest.raises(GalleryKeyError, match="root: expected enough of its keys"):
            rotate(site, ["publish"], [stolen], NOW)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        rotate(site, ["people", "publish"], [Keystore.open(paths[1], ROOT_PASSPHRASE)], NOW)
        client.update(NOW)
        assert site.tree.check(NOW) == []


def test_root_keeps_as_many_keys_as_must_sign(tmp_path):
    paths = [tmp_path / f"{name}.keys" for name in ("one", "two", "three")]
    create_site(tmp_path / "admin", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW, paths, root_threshold=2)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        one, two, _ = (Keystore.open(path, ROOT_PASSPHRASE) for path in paths)
        with pytest.raises(GalleryKeyError, match="root: expected enough of its keys"):
            rotate(site, ["root"], [one], NOW, only_these=True)
    with OpenSite(tmp_path / "admin", PASSPHRASE) as site:
        rotate(site, ["root"], [one, two], NOW, only_these=True)
        assert len(site.tree.keys("root")) == 2
        assert site.tree.check(NOW) == []


def test_a_second_signer_who_has_left_signs_no_more(site):
    other = CryptoSigner.generate_ed25519()
    rotate(site, [], roots(site), NOW, add={"people": [other.public_key]})
    rotate(site, ["people"], roots(site), NOW, only_these=True)
    with pytest.raises(AdminError, match="expected a key that people lists"):
        push(site, NOW, accepted_by="bob", also=[other])
    assert site.tree.check(NOW) == []


def test_a_second_signer_is_asked_for_and_must_be_one_of_the_site(site, client):
    site.records.put_site(msgspec.structs.replace(site.records.site(), second_signer=True))
    other = CryptoSigner.generate_ed25519()
    put_people(site, ADA)
    with pytest.raises(AdminError, match="expected a second signer"):
        push(site, NOW, accepted_by="bob")
    with pytest.raises(AdminError, match="expected a key that people lists"):
        push(site, NOW, accepted_by="bob", also=[other])
    rotate(site, [], roots(site), NOW, add={"people": [other.public_key]})
    signed = push(site, NOW, accepted_by="bob", also=[other])
    assert {other.public_key.keyid, site.keys.signer("people").public_key.keyid} <= set(
        signed.publication.signers
    )
    rotate(site, ["people"], roots(site), NOW)
    assert other.public_key.keyid in {key.keyid for key in site.tree.keys("people")}
    client.update(NOW)


def test_a_tree_that_nobody_signs_again_expires_and_a_refresh_renews_it(site, client):
    put_people(site, ADA)
    push(site, NOW)
    later = NOW + timedelta(days=8)
    with pytest.raises(ExpiredMetadataError):
        client.update(later)
    assert site.tree.check(later) == ["timestamp: expected to be valid for long, expires on 2026-11-23"]
    refreshed = refresh(site, later)
    assert (refreshed.roles, refreshed.publication.subjects) == ((), 1)
    client.update(later)


def test_roles_are_renewed_long_before_they_expire(site, client):
    put_people(site, ADA)
    push(site, NOW)
    later = NOW + timedelta(days=300)
    assert refresh(site, later).roles == ("people", "rights")
    client.update(later)
    assert site.tree.check(later) == ["targets: expected to be valid for long, expires on 2027-11-16"]
    rotate(site, [], roots(site), later)
    assert site.tree.check(later) == []


def test_what_was_altered_in_the_tree_is_found(site):
    put_people(site, ADA)
    push(site, NOW)
    [path] = site.folder.glob(f"tree/targets/people/{site.tree.listed()['people/0'].sha256}.0")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    [wrong] = site.tree.check(NOW)
    assert str(path) in wrong
    path.unlink()
    [wrong] = site.tree.check(NOW)
    assert "No such file" in wrong
    push(site, NOW)  # makes it again
    assert site.tree.check(NOW) == []


def test_a_lost_note_of_a_version_is_written_again(site, monkeypatch):
    put_people(site, ADA)
    recorded = release_module._recorded
    monkeypatch.setattr(release_module, "_recorded", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        push(site, NOW)
    monkeypatch.setattr(release_module, "_recorded", recorded)
    assert publications(site) == []
    site.close()
    with OpenSite(site.folder, PASSPHRASE) as again:
        assert refresh(again, NOW).publication.subjects == 1
        assert [(one.version, one.subjects) for one in publications(again)] == [(2, 1)]


def test_a_push_that_is_killed_leaves_the_old_version_or_the_new(site, front, client):
    put_people(site, ADA)
    push(site, NOW)
    site.close()
    rng, context = random.Random(4), multiprocessing.get_context("spawn")
    for _ in range(12):
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=push_for_ever, args=(site.folder, there), daemon=True)
        worker.start()
        there.close()
        versions = [here.recv(), here.recv()]
        time.sleep(rng.uniform(0, 0.05))
        worker.kill()
        worker.join()
        with contextlib.suppress(EOFError):
            while True:
                versions.append(here.recv())
        with OpenSite(site.folder, PASSPHRASE) as again:
            assert again.tree.version in (versions[-1], versions[-1] + 1)
            assert again.tree.check(NOW) == []
        gallery, _, _ = as_door(front, client.update(NOW))
        seed = client.version - 1 + 10 if client.version > 2 else 1
        expected = np.sort(expected_vectors(person("ada", seed)), axis=0)
        np.testing.assert_allclose(np.sort(gallery.templates, axis=0), expected, atol=1e-3)


def test_two_processes_do_not_hold_one_site(site):
    with pytest.raises(GalleryBusy, match=f"in use by process {os.getpid()}"):
        OpenSite(site.folder, PASSPHRASE)


def test_a_site_is_not_made_over_another(site, tmp_path):
    before = sorted(site.folder.rglob("*"))
    with pytest.raises(AdminError, match=r"site\.keys: expected no site yet"):
        create_site(site.folder, settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW)
    root = (site.folder / "root.keys").read_bytes()
    with pytest.raises(AdminError, match=r"root\.keys: expected no site yet"):
        create_site(
            tmp_path / "new", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW, [site.folder / "root.keys"]
        )
    assert (sorted(site.folder.rglob("*")), (site.folder / "root.keys").read_bytes()) == (before, root)


@pytest.mark.parametrize("short", [0, 1])
def test_a_site_that_could_not_be_made_leaves_nothing_in_the_way_of_the_next_try(tmp_path, short):
    phrases = [PASSPHRASE, ROOT_PASSPHRASE]
    phrases[short] = "short"
    with pytest.raises(GalleryError, match="at least 8 characters"):
        create_site(tmp_path / "admin", settings(), *phrases, NOW)
    assert list((tmp_path / "admin").iterdir()) == []
    create_site(tmp_path / "admin", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW)


def test_a_site_that_is_broken_off_while_it_is_made_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Tree, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        create_site(
            tmp_path / "admin", settings(), PASSPHRASE, ROOT_PASSPHRASE, NOW, [tmp_path / "stick.keys"]
        )
    assert [path.name for path in tmp_path.rglob("*")] == ["admin"]


@pytest.mark.parametrize(
    ("subjects", "present", "best"),
    [
        (0, 1, 1),
        (10, 1, 16),
        (200, 1, 128),
        (10_000, 1, 512),
        (10_000, 512, 512),
        (10_000, 256, 512),
        (6_000, 256, 256),
        (6_000, 512, 512),
        (64_000, 512, 2048),
        (10, 512, 16),
    ],
)
def test_the_number_of_shards_suits_the_size_and_changes_seldom(subjects, present, best):
    assert best_shards(subjects, 5 * 2 * 512, present) == best
