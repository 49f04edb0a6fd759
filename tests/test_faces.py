"""Models and gallery as the daemon holds them: which gallery is in force, and when none is."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.config import Config, DoorConfig, ModelsConfig, RelayConfig
from edge.disk import StateLock
from edge.errors import GalleryBusy, GalleryError
from edge.faces import Faces
from edge.identity.gallery import build_gallery
from edge.values import Template


def template(subject: str, seed: int, model: str) -> Template:
    vector = np.random.default_rng(seed).normal(size=512).astype(np.float32)
    return Template(subject, vector / np.linalg.norm(vector), model, "2026-01-01T00:00:00Z")


@pytest.fixture
def faces(tmp_path):
    config = Config("hq", "front", DoorConfig(RelayConfig(17)), state_dir=str(tmp_path / "state"))
    faces = Faces(config)
    model = faces.pipeline.embedder.model
    faces.store.add([template("ada", 1, model), template("bob", 2, model)])
    faces.gallery_changed()
    yield faces
    faces.close()


def test_a_slower_reload_does_not_bring_back_who_was_removed(faces, monkeypatch):
    """Main reads the old gallery, the desk removes somebody meanwhile, main goes on."""
    real, reached, go_on = faces.store.load, threading.Event(), threading.Event()

    def slow(model, dimension):
        gallery = real(model, dimension)
        if threading.current_thread().name == "slow":
            reached.set()
            go_on.wait(5)
        return gallery

    monkeypatch.setattr(faces.store, "load", slow)
    slow_one = threading.Thread(target=faces.load_gallery, name="slow")
    slow_one.start()
    assert reached.wait(5)
    faces.store.remove("ada")
    desk = threading.Thread(target=faces.gallery_changed)
    desk.start()
    go_on.set()
    slow_one.join(5)
    desk.join(5)
    assert faces.searchable().subjects == ("bob",)


def test_a_change_that_can_not_be_read_back_lets_nobody_in(faces, monkeypatch):
    def broken(model, dimension):
        raise GalleryError("disk I/O error")

    faces.store.remove("ada")
    monkeypatch.setattr(faces.store, "load", broken)
    with pytest.raises(GalleryError, match="changed, but not in force: disk I/O error"):
        faces.gallery_changed()
    assert faces.searchable() is None
    assert faces.why_not() == ["disk I/O error"]
    monkeypatch.undo()
    faces.load_gallery()
    assert faces.searchable().subjects == ("bob",)


def test_a_gallery_that_can_not_be_read_again_stays_in_force_and_armed(faces, monkeypatch):
    def broken(model, dimension):
        raise GalleryError("disk I/O error")

    monkeypatch.setattr(faces.store, "load", broken)
    faces.load_gallery()
    assert faces.damaged
    assert faces.why_not() == []
    assert faces.searchable().subjects == ("ada", "bob")


def test_an_empty_gallery_has_a_version_and_a_digest(faces):
    before = faces.in_force
    faces.store.remove("ada")
    faces.store.remove("bob")
    faces.gallery_changed()
    version, digest = faces.in_force
    assert version == before[0] + 2
    assert digest not in (None, before[1])
    assert faces.why_not() == ["nobody is enrolled"]


def test_a_joined_door_takes_the_state_directory_as_soon_as_it_can_whatever_is_in_force(tmp_path):
    """Else `doord leave` could delete the site under the running daemon."""
    config = Config("hq", "front", DoorConfig(RelayConfig(17)), state_dir=str(tmp_path / "state"))
    (tmp_path / "state" / "site").mkdir(parents=True)
    (tmp_path / "state" / "site" / "bundle.sealed").write_bytes(b"")
    with StateLock(tmp_path / "state"):  # a `doord join` that is at it
        faces = Faces(config)
        faces.put_in_force(build_gallery([], "m", 512, 1))
        assert faces.damaged
    faces.load_gallery()
    assert not faces.damaged
    with pytest.raises(GalleryBusy):
        StateLock(tmp_path / "state")
    faces.close()


def test_without_a_model_the_sites_version_is_in_force_but_no_claim_waits_for_a_face(tmp_path):
    """Else who shows a card would wait for a camera that nobody looks through, and be no event."""
    config = Config(
        "hq",
        "front",
        DoorConfig(RelayConfig(17)),
        state_dir=str(tmp_path / "state"),
        models=ModelsConfig(dir=str(tmp_path)),
    )
    faces = Faces(config)
    assert faces.pipeline is None
    faces.put_in_force(build_gallery([], "m", 512, 7))
    assert faces.in_force[0] == 7
    assert faces.comparable() is None
    faces.close()


def test_a_claimed_subject_is_verified_where_a_search_would_not_be_allowed(faces):
    assert faces.comparable().subjects == ("ada", "bob")
