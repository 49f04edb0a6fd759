"""What root does by hand leaves nothing that the service's user could not open."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest
from door_site import Site
from published import Published, joined_bundle_file
from repository import Repository

from edge.acting import as_owner
from edge.config import load_config
from edge.errors import ConfigError, GalleryKeyError
from edge.joined import join
from edge.keys import broker_credentials, broker_login, key_of
from edge.tools.doctor import door, link
from edge.tools.doctor.patient import Patient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another")
OWNER = pwd.getpwnam("nobody")
everybody_s = pytest.mark.skipif(
    any(folder.stat().st_mode & 0o001 == 0 for folder in Path(sys.executable).resolve().parents),
    reason="this interpreter lies where only root may read; tests/system/run tries it in any case",
)


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, OWNER.pw_uid, OWNER.pw_gid)
    for folder in tmp_path.parents:  # pytest keeps them to root
        if folder != Path("/") and folder.stat().st_mode & 0o011 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)
    return site


def owners(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in folder.rglob("*")}


@everybody_s
def test_an_enrolment_and_a_look_at_the_files_by_root_leave_them_their_owner(site, tmp_path):
    site.enrol("obama", "obama.jpg")
    site.doord("card", "add", "--subject", "obama", "--number", "12345")
    site.doord("gallery", "list")
    site.doord("doctor", code=None)
    assert {"gallery.db", "gallery.key", "cards.sealed"} <= set(owners(tmp_path / "state"))
    assert set(owners(tmp_path / "state").values()) == {OWNER.pw_uid}


@everybody_s
def test_a_file_that_root_names_is_written_by_root(site, tmp_path):
    site.enrol("obama", "obama.jpg")
    (tmp_path / "private").mkdir(mode=0o700)
    site.doord("gallery", "export", "--plaintext", str(tmp_path / "private" / "export"))
    assert owners(tmp_path / "private") == {"export": 0}
    site.doord("gallery", "import", "--plaintext", str(tmp_path / "private" / "export"))


def test_root_is_root_again_afterwards(site):
    groups, config = os.getgroups(), load_config(site.path)
    with as_owner(config):
        assert (os.geteuid(), os.getegid()) == (OWNER.pw_uid, OWNER.pw_gid)
        assert 0 not in os.getgroups()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def credentials_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a systemd before 250 has them: none is sealed."""
    monkeypatch.setattr("edge.acting._KEPT", tmp_path / "credstore")
    monkeypatch.setattr("edge.acting._SEALED", tmp_path / "none")
    (tmp_path / "credstore").mkdir(mode=0o700)
    return tmp_path / "credstore"


def test_a_key_that_is_a_credential_is_there_while_root_acts(site, tmp_path, monkeypatch):
    credentials_in(tmp_path, monkeypatch).joinpath("doord.gallery.key").write_bytes(b"ab" * 32 + b"\n")
    config = load_config(site.path)
    with as_owner(config):
        folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
        assert key_of(config).key() == bytes.fromhex("ab" * 32)
    assert "CREDENTIALS_DIRECTORY" not in os.environ
    assert not folder.exists()


def test_of_the_broker_s_credentials_root_gets_those_that_are_asked_for(site, tmp_path, monkeypatch):
    folder = credentials_in(tmp_path, monkeypatch)
    for name, content in (("gallery.key", "ab" * 32), ("broker.password", "secret\n"), ("other", "x")):
        (folder / f"doord.{name}").write_text(content)
    site.config["mqtt"] = {"host": "b", "username": "door", "password_file": "credential:broker.password"}
    site.write()
    config = load_config(site.path)
    with as_owner(config, broker_credentials(config)):
        given = Path(os.environ["CREDENTIALS_DIRECTORY"])
        assert sorted(path.name for path in given.iterdir()) == ["broker.password", "gallery.key"]
        assert {path.stat().st_uid for path in (given, *given.iterdir())} == {OWNER.pw_uid}
        assert broker_login(config.mqtt).password == "secret"
    with as_owner(config), pytest.raises(ConfigError, match="no such credential"):
        broker_login(config.mqtt)


def test_doctor_reads_the_broker_s_password_as_the_service_does(site, tmp_path, monkeypatch):
    folder = credentials_in(tmp_path, monkeypatch)
    site.config["mqtt"] = {"host": "b", "username": "door", "password_file": "credential:broker.password"}
    site.write()
    patient = Patient(load_config(site.path), site.path)
    with pytest.raises(
        ConfigError, match=r"mqtt\.password_file: credential:broker\.password: expected a cred"
    ):
        link.broker(patient)
    assert "note: mqtt.password_file: credential:broker.password" in site.doord("check-config").stdout
    (folder / "doord.broker.password").write_text("secret\n")
    assert link.broker_flaw(patient.config) is None
    assert link._broker(patient.config).password == "secret"


def test_root_who_tries_the_door_by_hand_is_told_how_before_he_leaves_files_of_his_own(site, tmp_path):
    done = site.doord("run", code=78)
    assert (
        f"expected to run as its owner, user {OWNER.pw_uid}, got root: systemctl start doord" in done.stderr
    )
    assert owners(tmp_path / "state") == {}


def kept_as_credential(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """As deploy/install leaves a door: its key is root's, and no more where it was."""
    (tmp_path / "state/gallery.key").rename(credentials_in(tmp_path, monkeypatch) / "doord.gallery.key")
    return Patient(load_config(site.path), site.path)


def test_doctor_counts_the_cards_of_a_door_whose_key_is_a_credential(site, tmp_path, monkeypatch):
    site.doord("card", "add", "--subject", "obama", "--number", "12345")
    found = door.readers(kept_as_credential(site, tmp_path, monkeypatch))
    assert (found.verdict, found.detail) == ("ok", "no card reader is configured; 1 cards")


def test_doctor_knows_the_broker_and_the_site_of_a_door_whose_key_is_a_credential(
    site, tmp_path, monkeypatch
):
    pem = {"ca": "the ca", "certificate": "the certificate", "certificate_key": "the key"}
    bundle = Published(Repository()).bundle(1883, **pem)
    join(load_config(site.path), joined_bundle_file(bundle, tmp_path / "front.door"))
    patient = kept_as_credential(site, tmp_path, monkeypatch)
    assert link._broker(patient.config).mqtt.port == 1883
    assert link.news(patient).detail == "nothing of site hq is in force yet"


def test_a_credential_that_can_not_be_decrypted_is_named(site, tmp_path, monkeypatch):
    (tmp_path / "doord.gallery.key").write_bytes(b"x")
    monkeypatch.setattr("edge.acting._SEALED", tmp_path)
    with pytest.raises(GalleryKeyError, match=r"doord\.gallery\.key"), as_owner(load_config(site.path)):
        pass


def test_the_service_s_credential_is_the_key_though_its_access_list_shows_as_the_group_s(
    site, tmp_path, monkeypatch
):
    config = load_config(site.path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(GalleryKeyError, match=r"gallery\.key: is missing"):
        key_of(config).key()  # no credential of that name: the file of the state directory
    (tmp_path / "gallery.key").write_bytes(b"cd" * 32)
    (tmp_path / "gallery.key").chmod(0o440)
    assert key_of(config).key() == bytes.fromhex("cd" * 32)
    (tmp_path / "gallery.key").chmod(0o444)
    with pytest.raises(GalleryKeyError, match="expected mode"):
        key_of(config).key()
