"""What a joined door has of its site: in force whole or not at all, and what it refuses."""

from __future__ import annotations

import errno
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from published import Published, a_vector
from repository import NOW, Repository

from edge.errors import (
    GalleryError,
    GalleryExpired,
    GalleryNotStored,
    GalleryRollback,
    GallerySignatureError,
    ModelMismatch,
)
from edge.identity.credentials import claimed
from edge.identity.match import compare
from edge.identity.rights import Permitted, decide
from edge.link.trust import SiteTrust
from edge.site import Site
from edge.values import Deny, Probe, Reason

MODEL = ("facenet-int8", 512)


@pytest.fixture
def published() -> Published:
    site = Published(Repository())
    site.enrol("ada", a_vector(1), a_vector(2))
    site.enrol("eve", a_vector(3), until="2026-12-31")
    site.cards["wedge:0012"] = "ada"
    site.publish()
    return site


class DoorOfSite:
    """The door's copy, which a test may switch off and on."""

    def __init__(self, published: Published, folder: Path) -> None:
        self.published = published
        self.folder = folder
        self.model: tuple[str, int] | None = MODEL
        self.now: datetime | None = NOW
        self.check = lambda _rights: None
        self.start()

    def start(self) -> Site:
        """As after a restart."""
        bundle = self.published.bundle()
        trust = SiteTrust(self.folder, bundle.root, self.published.repository, lambda: self.now, b"k" * 32)
        self.site = Site(bundle, trust, self.model, self.check)
        return self.site

    @property
    def subjects(self) -> tuple[str, ...]:
        content = self.site.content
        return () if content is None else content.gallery.subjects


@pytest.fixture
def door(published, tmp_path) -> DoorOfSite:
    return DoorOfSite(published, tmp_path / "tuf")


def test_a_door_that_has_heard_nothing_has_nothing_in_force(door):
    assert door.site.load() is None
    assert door.site.content is None


def test_what_was_published_comes_in_force_with_gallery_rights_cards_and_keys(door, published):
    assert door.site.update() is True
    content = door.site.content
    assert (content.version, content.gallery.version) == (1, 1)
    assert content.gallery.subjects == ("ada", "eve")
    best = compare(Probe(a_vector(3), "facenet-int8", 0.0), content.gallery, "eve").best
    assert best.distance < 0.01  # float16 on the way
    assert np.allclose(np.linalg.norm(content.gallery.templates, axis=1), 1, atol=1e-6)
    assert decide(content.rights, "ada", "front", NOW, True) == Permitted()
    after = NOW + timedelta(days=400)
    assert decide(content.rights, "eve", "front", after, True) == Deny(Reason.CREDENTIAL_EXPIRED)
    assert claimed(content.cards, "wedge:0012", NOW, True).subject == "ada"
    assert list(content.keys.command) == [published.commander.public_key.keyid]


def test_a_second_look_at_the_same_release_changes_nothing(door):
    door.site.update()
    before = door.site.content
    assert door.site.update() is False
    assert door.site.content is before


def test_a_release_signed_again_lasts_longer_and_costs_no_file(door, published):
    door.site.update()
    before = door.site.content
    published.repository.now += timedelta(days=3)
    published.repository.freshen()
    published.repository.asked.clear()
    assert door.site.update() is True
    assert door.site.content.expires_utc == before.expires_utc + timedelta(days=3)
    assert door.site.content.gallery.templates is before.gallery.templates
    assert not [path for path in published.repository.asked if path.startswith("targets/")]


def test_one_changed_person_costs_its_shards_and_no_other(door, published):
    door.site.update()
    published.enrol("ada", a_vector(1), a_vector(4))
    published.publish()
    published.repository.asked.clear()
    assert door.site.update() is True
    files = [path for path in published.repository.asked if path.startswith("targets/")]
    assert len(files) == 1
    assert files[0].startswith("targets/people/")


def test_somebody_removed_is_gone_with_the_next_release(door, published):
    door.site.update()
    published.remove("eve")
    published.publish()
    door.site.update()
    assert door.subjects == ("ada",)
    assert decide(door.site.content.rights, "eve", "front", NOW, True) == Deny(Reason.UNAUTHORIZED)


def test_after_a_restart_without_a_network_what_was_in_force_is_so_again(door, published):
    door.site.update()
    digest = door.site.content.gallery.digest
    published.repository.reachable = False
    assert door.start().load().gallery.digest == digest
    assert door.site.content.version == 1


def test_a_file_damaged_on_the_card_is_fetched_again(door, published):
    door.site.update()
    largest = max((door.folder / "targets").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"\0" * largest.stat().st_size)
    assert door.start().load().gallery.subjects == ("ada", "eve")


def test_the_gallery_of_another_embedder_is_refused_and_the_old_one_stays(door, published):
    door.site.update()
    published.model = "facenet-float"
    published.publish()
    with pytest.raises(ModelMismatch, match="facenet-int8, got those of facenet-float"):
        door.site.update()
    assert door.site.content.version == 1
    door.start().load()
    assert door.subjects == ("ada", "eve")
    published.model = "facenet-int8"
    published.publish()
    assert door.site.update() is True


def test_rights_that_lack_a_schedule_the_door_goes_by_are_refused(door, published):
    door.check = lambda rights: None if "office" in rights.schedules else "expected 'office', got none"
    door.start()
    with pytest.raises(GalleryError, match="version 1: expected 'office'"):
        door.site.update()
    assert door.site.content is None
    published.rights["schedules"] = {"office": [{"days": ["mon"], "from": "07:00", "until": "19:00"}]}
    published.publish()
    assert door.site.update() is True


def test_rights_that_contradict_themselves_are_refused(door, published):
    door.site.update()
    published.enrol("zoe", a_vector(9), schedule="nowhere")
    published.publish()
    with pytest.raises(GalleryError, match="nowhere"):
        door.site.update()
    assert door.subjects == ("ada", "eve")


def test_a_door_that_nobody_sealed_the_keys_for_opens_nothing(published, tmp_path):
    door = DoorOfSite(published, tmp_path / "tuf")
    published.door = "back"
    published.publish()
    with pytest.raises(GalleryError, match="expected keys/front, which nobody has signed"):
        door.site.update()


def test_a_new_site_key_is_taken_with_everything_it_seals(door, published):
    door.site.update()
    published.site_key = bytes(range(32))
    published.publish()
    assert door.site.update() is True
    assert door.site.content.version == 2
    assert door.start().load().version == 2


def test_a_target_of_the_same_site_under_another_name_does_not_open(door, published):
    door.site.update()
    content = published.content()
    content["people/1"] = content["people/0"]  # signed so, by who stole the people's key
    published.repository.publish(content)
    with pytest.raises(GalleryError, match="people/1"):
        door.site.update()
    assert door.site.content.version == 1


def test_a_release_with_fewer_templates_than_it_says_is_refused(door, published):
    door.site.update()
    content = published.content()
    published.remove("eve")
    wrong = published.content()
    content.update(
        {name: data for name, data in wrong.items() if name.startswith("people/") and "man" not in name}
    )
    published.repository.publish(content)
    with pytest.raises(GalleryError, match="expected 3 templates of 2 subjects, got 2 of 1"):
        door.site.update()
    assert door.subjects == ("ada", "eve")


@pytest.mark.parametrize("attack", ["truncated", "bit-flipped", "missing"])
def test_a_spoilt_shard_leaves_the_old_release_in_force(door, published, attack):
    door.site.update()
    published.enrol("ada", a_vector(7))
    published.publish()
    repository = published.repository
    name = next(f"people/{i}" for i in range(4) if repository.path(f"people/{i}") not in repository.asked)
    honest = dict(repository.served)
    if attack == "truncated":
        repository.cut(repository.path(name), 40)
    elif attack == "bit-flipped":
        repository.flip(repository.path(name))
    else:
        del repository.served[repository.path(name)]
    with pytest.raises(GalleryError):
        door.site.update()
    assert door.site.content.version == 1
    repository.served = honest
    assert door.site.update() is True
    assert door.site.content.version == 2


def test_an_older_release_is_refused_after_a_restart_too(door, published):
    old = dict(published.repository.served)
    published.enrol("eve", a_vector(3), until="2026-06-30")
    published.publish()
    door.site.update()
    published.repository.served = old
    door.start().load()
    with pytest.raises((GalleryRollback, GallerySignatureError)):
        door.site.update()
    assert door.site.content.version == 2


def test_what_nobody_signed_again_in_time_is_refused_but_stays_in_force(door):
    door.site.update()
    door.now = NOW + timedelta(days=8)
    with pytest.raises(GalleryExpired):
        door.site.update()
    assert door.subjects == ("ada", "eve")


def test_a_door_without_models_takes_the_gallery_all_the_same(door):
    door.model = None
    door.start().update()
    assert door.subjects == ("ada", "eve")


def test_old_files_are_removed_and_none_that_is_in_force(door, published):
    door.site.update()
    published.remove("eve")
    published.publish()
    door.site.update()
    kept = {path.name for path in (door.folder / "targets").iterdir()}
    assert len(kept) == len(published.content())
    published.repository.reachable = False
    assert door.start().load().gallery.subjects == ("ada",)


def test_a_newer_version_with_the_same_parts_is_the_galleries_version_too(door, published):
    """Else a door would lag for ever behind a version that only concerns other doors."""
    door.site.update()
    before = door.site.content.gallery
    published.publish()  # as after `door add`: another door's keys
    assert door.site.update() is True
    gallery = door.site.content.gallery
    assert (door.site.content.version, gallery.version) == (2, 2)
    assert gallery.templates is before.templates
    assert door.start().load().gallery.version == 2


def test_files_that_can_not_be_removed_are_no_refusal(door, published, caplog):
    door.site.update()
    (door.folder / "targets" / "lost+found").mkdir()  # which unlink refuses
    published.remove("eve")
    published.publish()
    assert door.site.update() is True
    assert door.subjects == ("ada",)
    assert "no longer in force stay" in caplog.text


def test_an_update_that_the_disk_refuses_gives_its_space_back_and_succeeds_later(
    door, published, monkeypatch
):
    door.site.update()
    kept = {path.name for path in (door.folder / "targets").iterdir()}
    published.site_key = bytes(range(32))  # every file is another
    published.publish()
    room, write = [3], Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", until_full)
        with pytest.raises(GalleryNotStored, match="No space left"):
            door.site.update()
    assert {path.name for path in (door.folder / "targets").iterdir()} == kept
    assert door.site.content.version == 1
    assert door.site.update() is True
    assert door.site.content.version == 2
