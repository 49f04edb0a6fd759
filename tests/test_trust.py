"""What a door accepts of a site's signed tree; the attacks on it are in test_trust_attacks.py."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from repository import FRESH, KEY, NOW, DoorFiles, Repository, site_content

from edge.disk import seal, unseal
from edge.errors import GalleryError, GalleryExpired, GallerySignatureError, LinkError, PayloadError
from edge.link.fetch import FolderFetch

CONTENT = site_content("first")
CHANGED = {**CONTENT, "people/1": b"people/1 second"}


@pytest.fixture
def site() -> Repository:
    repository = Repository()
    repository.publish(CONTENT)
    return repository


@pytest.fixture
def door(site: Repository, tmp_path: Path) -> DoorFiles:
    return DoorFiles(tmp_path / "door", site.first_root, site)


def test_a_fresh_door_takes_what_the_site_has_signed(site, door):
    assert door.trust.in_force() is None
    assert door.update(list(CONTENT)) == CONTENT
    release = door.trust.in_force()
    assert (release.version, release.expires_utc) == (1, NOW + FRESH)
    keys = (site.keys["people"].public_key.keyid, site.keys["rights"].public_key.keyid)
    assert release.signers == tuple(sorted(keys))


def test_of_a_changed_release_only_what_changed_is_asked_for(site, door):
    door.update(list(CONTENT))
    site.publish(CHANGED)
    site.asked.clear()
    assert door.update(list(CONTENT)) == CHANGED
    assert site.asked == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/2.snapshot.json",
        "metadata/2.people.json",
        site.path("people/1"),
    ]


def test_a_release_that_is_no_news_costs_two_questions(site, door):
    door.update(list(CONTENT))
    site.asked.clear()
    assert door.trust.refresh().version == 1
    assert site.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_a_door_that_starts_without_a_network_has_what_was_in_force(site, door):
    door.update(list(CONTENT))
    site.publish(CHANGED)
    door.trust.refresh()  # the next one is known but was never taken
    site.reachable = False
    door.restart()
    assert door.content() == CONTENT
    with pytest.raises(LinkError, match="not reachable"):
        door.trust.refresh()


def test_what_is_in_force_can_be_had_after_its_time_and_says_so(site, door):
    door.update(list(CONTENT))
    door.now += FRESH + timedelta(seconds=1)
    with pytest.raises(GalleryExpired, match="timestamp"):
        door.trust.refresh()
    door.restart()
    assert door.content() == CONTENT
    assert door.trust.in_force().expires_utc < door.now
    site.now = door.now
    site.freshen()
    assert door.update(list(CONTENT)) == CONTENT


def test_a_release_that_was_signed_again_lasts_longer_under_the_same_number(site, door):
    door.update(list(CONTENT))
    site.now += timedelta(days=3)
    site.freshen()
    door.update(list(CONTENT))
    release = door.trust.in_force()
    assert (release.version, release.expires_utc) == (1, NOW + timedelta(days=3) + FRESH)


def test_without_a_trusted_clock_the_last_good_time_decides(site, door):
    door.update(list(CONTENT))
    site.publish(CHANGED)
    site.now -= timedelta(days=30)  # signed again with an end that is over by the last good time
    site.freshen()
    door.now = None
    door.restart()
    with pytest.raises(GalleryExpired):
        door.trust.refresh()
    site.now = NOW
    site.freshen()
    assert door.update(list(CONTENT)) == CHANGED


def test_a_fresh_door_without_a_trusted_clock_takes_what_is_signed(door):
    door.now = None
    assert door.update(list(CONTENT)) == CONTENT


def test_the_clock_of_a_door_never_goes_back(site, door):
    door.now += timedelta(days=5)
    door.update(list(CONTENT))
    site.now -= timedelta(days=4)
    site.freshen()  # its end is after NOW, but before the last good time
    door.now = NOW
    door.restart()
    with pytest.raises(GalleryExpired):
        door.trust.refresh()


def test_every_key_may_be_replaced_while_a_door_was_away(site, door):
    door.update(list(CONTENT))
    for names in (("publish",), ("people", "rights"), ("root",), ("root", "publish", "people")):
        site.rotate(*names)
        site.publish(CONTENT)
    site.publish(CHANGED)
    assert door.update(list(CONTENT)) == CHANGED
    assert site.keys["people"].public_key.keyid in door.trust.in_force().signers


def test_a_name_that_nobody_signed_is_none_and_one_that_another_role_signed_too(site, door):
    site.rights.targets["people/9"] = site.rights.targets["rights/0"]  # the rights key is no people key
    site._sign_again("rights")
    site.publish(CONTENT | {"rights/0": b"other"})
    release = door.trust.refresh()
    assert release.target("people/9") is None
    assert release.target("people/f") is None
    assert release.target("rights/0") is not None


def test_more_than_a_batch_comes_in_batches_and_all_of_it(site, door):
    content = site_content("many", shards=100)
    site.publish(content)
    assert door.update(list(content)) == content


def test_a_target_above_the_limit_is_refused_before_it_is_asked_for(site, door):
    big = {**CONTENT, "people/0": bytes(4 * 1024 * 1024 + 1)}
    site.publish(big)
    with pytest.raises(GalleryError, match="people/0: expected at most 4194304 bytes, got 4194305"):
        door.update(list(CONTENT))
    assert site.path("people/0") not in site.asked


# The disk


def test_a_file_that_was_cut_short_by_a_power_cut_is_fetched_again(site, door):
    door.update(list(CONTENT))
    for path in (door.folder / "targets").iterdir():
        path.write_bytes(path.read_bytes()[:10])
    door.restart()
    assert door.content() == CONTENT


def test_an_altered_file_of_the_right_length_is_fetched_again(site, door):
    door.update(list(CONTENT))
    for path in (door.folder / "targets").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    door.restart()
    assert door.content() == CONTENT


def test_a_damaged_record_of_what_is_in_force_is_said_and_all_begins_anew(site, door, caplog):
    door.update(list(CONTENT))
    (door.folder / "in_force.sealed").write_bytes(b"no seal")
    door.restart()
    assert door.trust.in_force() is None
    assert "must be fetched again" in caplog.text
    assert door.update(list(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: re.sub('(good_utc":"[^"]*)Z"', r'\1"', text),
        lambda text: re.sub('(expires_utc":"[^"]*)Z"', r'\1"', text),
        lambda text: text.replace('"name":', '"x":' + 2000 * "[" + 2000 * "]" + ',"name":', 1),
    ],
    ids=["a time without a zone", "an end without a zone", "nested too deeply"],
)
def test_an_altered_record_of_what_is_in_force_does_not_end_a_start_nor_the_updates(site, door, spoil):
    door.update(list(CONTENT))
    record = door.folder / "in_force.sealed"
    text = unseal(KEY, record.read_bytes(), b"doord in force 1", "record").decode()
    spoilt = spoil(text)
    assert spoilt != text
    record.write_bytes(seal(KEY, spoilt.encode(), b"doord in force 1"))
    door.restart()
    assert door.trust.in_force() is None
    assert door.update(list(CONTENT)) == CONTENT


def test_who_has_the_card_but_not_the_key_can_not_say_what_is_in_force(site, door, tmp_path):
    door.update(list(CONTENT))
    other = DoorFiles(tmp_path / "other", site.first_root, site)
    other.update(list(CONTENT))
    record = door.folder / "in_force.sealed"
    text = unseal(KEY, record.read_bytes(), b"doord in force 1", "record")
    for forged in (text, seal(b"x" * 32, text, b"doord in force 1"), record.read_bytes()[:-1]):
        record.write_bytes(forged)
        door.restart()
        assert door.trust.in_force() is None
    assert door.update(list(CONTENT)) == CONTENT


def test_a_disk_that_refuses_even_the_folder_ends_no_start(site, tmp_path):
    (tmp_path / "door").write_text("a file in the folder's place")
    door = DoorFiles(tmp_path / "door", site.first_root, site)
    assert door.trust.in_force() is None
    with pytest.raises(GalleryError, match="door"):
        door.update(list(CONTENT))
    (tmp_path / "door").unlink()
    assert door.update(list(CONTENT)) == CONTENT


@pytest.mark.parametrize("digest", ["#", "../../../../etc/passwd", "+", "0" * 64 + "\n", "g" * 64])
def test_a_digest_that_is_none_is_refused_before_it_becomes_a_topic_or_a_file(site, door, digest):
    """By who stole a key: MQTT's wildcards would end the sync thread instead of the update."""
    door.update(list(CONTENT))
    site.people.targets["people/1"].hashes["sha256"] = digest
    site._sign_again("people")
    site._sign_again("snapshot")
    site.timestamp.snapshot_meta.version = site.snapshot.version
    site.freshen()
    with pytest.raises(GallerySignatureError, match="people/1: expected a SHA-256"):
        door.update(list(CONTENT))


def test_what_is_no_longer_in_force_is_removed_and_so_is_what_a_kill_left(site, door):
    door.update(list(CONTENT))
    (door.folder / "targets" / "0123.new").write_bytes(b"half")
    (door.folder / "metadata" / "tmpabcdef").write_bytes(b"half")
    site.publish(CHANGED)
    door.update(list(CONTENT))
    release = door.trust.in_force()
    assert {path.name for path in (door.folder / "targets").iterdir()} == {
        target.sha256 for target in release.asked.values()
    }
    assert not list((door.folder / "metadata").glob("tmp*"))


def test_a_commit_of_what_is_in_force_already_spares_the_card(site, door):
    door.update(list(CONTENT))
    before = (door.folder / "in_force.sealed").stat().st_ino
    door.update(list(CONTENT))
    door.now += timedelta(hours=1)
    door.update(list(CONTENT))
    assert (door.folder / "in_force.sealed").stat().st_ino == before


def test_files_of_a_door_are_private(door):
    door.update(list(CONTENT))
    assert door.folder.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in (door.folder / "targets").iterdir()} == {0}


def test_a_disk_that_refuses_is_a_gallery_error_and_the_old_release_stays(site, door, monkeypatch):
    door.update(list(CONTENT))
    site.publish(CHANGED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GalleryError, match="No space left on device"):
        door.update(list(CONTENT))
    monkeypatch.undo()
    door.restart()
    assert door.content() == CONTENT


# A USB stick


@pytest.fixture
def stick(site: Repository, tmp_path: Path) -> Path:
    return site.write(tmp_path / "stick")


def test_the_same_tree_in_a_folder_is_taken(site, stick, tmp_path):
    door = DoorFiles(tmp_path / "door", site.first_root, FolderFetch(stick))
    assert door.update(list(CONTENT)) == CONTENT


def test_a_stick_that_was_pulled_is_no_answer_rather_than_nothing(site, tmp_path):
    door = DoorFiles(tmp_path / "door", site.first_root, FolderFetch(tmp_path / "gone"))
    with pytest.raises(LinkError, match="gone: expected a folder"):
        door.trust.refresh()


def test_an_empty_folder_is_no_gallery(site, tmp_path):
    door = DoorFiles(tmp_path / "door", site.first_root, FolderFetch(tmp_path))
    with pytest.raises(GalleryError, match=r"metadata/timestamp.json: is not published"):
        door.trust.refresh()


def test_links_out_of_a_stick_are_refused(stick, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (stick / "metadata" / "timestamp.json").unlink()
    (stick / "metadata" / "timestamp.json").symlink_to(tmp_path / "secret")
    with pytest.raises(PayloadError, match="a link out of it"):
        FolderFetch(stick).get(["metadata/timestamp.json"], 100)
    with pytest.raises(PayloadError, match="a link out of it"):
        FolderFetch(stick).get(["../secret"], 100)


def test_a_file_that_never_ends_and_one_that_never_answers_are_refused(stick):
    os.mkfifo(stick / "fifo")
    with pytest.raises(LinkError, match="expected a plain file"):
        FolderFetch(stick).get(["fifo"], 100)
    with pytest.raises(PayloadError, match="expected at most 100 bytes, got more"):
        FolderFetch(stick).get(["metadata/timestamp.json"], 100)
