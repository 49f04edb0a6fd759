"""An admin's keys: one file under a passphrase, and nothing of it without."""

from __future__ import annotations

import stat

import pytest

from edge.admin.keystore import ROOT_NAMES, SITE_NAMES, SITE_VARIABLE, Keystore, ask_passphrase
from edge.errors import AdminError, GalleryError, GalleryKeyError

PASSPHRASE = "correct horse"


def test_keys_come_back_as_they_were_made(tmp_path):
    made = Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    found = Keystore.open(tmp_path / "site.keys", PASSPHRASE)
    assert (found.site, found.names, found.data_key) == ("hq", SITE_NAMES, made.data_key)
    for name in SITE_NAMES:
        signature = found.signer(name).sign(b"words")
        made.signer(name).public_key.verify_signature(signature, b"words")
    assert len({found.signer(name).public_key.keyid for name in SITE_NAMES}) == len(SITE_NAMES)


def test_the_file_is_private_and_tells_nothing(tmp_path):
    Keystore.create(tmp_path / "root.keys", "hq", ROOT_NAMES, PASSPHRASE)
    data = (tmp_path / "root.keys").read_bytes()
    assert stat.S_IMODE((tmp_path / "root.keys").stat().st_mode) == 0o600
    assert b"PRIVATE" not in data
    assert b"targets" not in data


def test_a_key_that_is_kept_elsewhere_is_missing_by_name(tmp_path):
    store = Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    with pytest.raises(GalleryKeyError, match=r"site\.keys: expected a key named root, got people, rights"):
        store.signer("root")


def test_an_existing_file_is_never_overwritten(tmp_path):
    Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    before = (tmp_path / "site.keys").read_bytes()
    with pytest.raises(AdminError, match="expected no file yet"):
        Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    assert (tmp_path / "site.keys").read_bytes() == before


def test_new_keys_replace_those_of_the_same_name_only(tmp_path):
    store = Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    other = Keystore.create(tmp_path / "other.keys", "hq", ["people"], PASSPHRASE)
    kept = store.signer("rights").public_key.keyid
    store.add({"people": other.signer("people")})
    found = Keystore.open(tmp_path / "site.keys", PASSPHRASE)
    assert found.signer("people").public_key == other.signer("people").public_key
    assert found.signer("rights").public_key.keyid == kept


def test_the_passphrase_can_be_changed(tmp_path):
    store = Keystore.create(tmp_path / "site.keys", "hq", SITE_NAMES, PASSPHRASE)
    with pytest.raises(GalleryError, match="passphrase: expected at least 8 characters"):
        store.change_passphrase("short")
    store.change_passphrase("another horse")
    assert Keystore.open(tmp_path / "site.keys", "another horse").names == SITE_NAMES
    with pytest.raises(GalleryKeyError, match="wrong passphrase"):
        Keystore.open(tmp_path / "site.keys", PASSPHRASE)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:40], "wrong passphrase, or the file was altered or cut short"),
        (lambda data: data[:12], "is cut short"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong passphrase"),
        (lambda data: data[:11] + b"\x02" + data[12:], "expected format 1, got 2: made by another doord"),
        (lambda data: b"", "expected a file of doord"),
        (lambda data: b"-----BEGIN PRIVATE KEY-----", "expected a file of doord"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, damage, says):
    path = tmp_path / "site.keys"
    Keystore.create(path, "hq", ["people"], PASSPHRASE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GalleryKeyError, match=says) as caught:
        Keystore.open(path, PASSPHRASE)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(GalleryKeyError, match=r"site\.keys: No such file"):
        Keystore.open(tmp_path / "site.keys", PASSPHRASE)


def test_the_passphrase_comes_from_the_named_file_else_from_who_types(tmp_path, monkeypatch):
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    with pytest.raises(GalleryKeyError, match=f"expected {SITE_VARIABLE} to name a file"):
        ask_passphrase(SITE_VARIABLE, "site.keys")
    asked = []
    assert (
        ask_passphrase(SITE_VARIABLE, "site.keys", ask=lambda text: asked.append(text) or PASSPHRASE)
        == PASSPHRASE
    )
    assert asked == ["passphrase of site.keys: "]
    answers = iter(["one horse", "other horse"])
    with pytest.raises(GalleryKeyError, match="the two passphrases differ"):
        ask_passphrase(SITE_VARIABLE, "site.keys", again=True, ask=lambda _: next(answers))
    (tmp_path / "pass").write_text(f"{PASSPHRASE}\n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "pass"))
    assert ask_passphrase(SITE_VARIABLE, "site.keys") == PASSPHRASE
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(GalleryKeyError, match=f"{SITE_VARIABLE}: .*none: can't be read"):
        ask_passphrase(SITE_VARIABLE, "site.keys")


def test_a_passphrase_is_the_same_whatever_editor_wrote_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "pass"))
    for text in (b"correct horse", b"correct horse\n", b"\xef\xbb\xbfcorrect horse\r\n# mine\r\n"):
        (tmp_path / "pass").write_bytes(text)
        (tmp_path / "pass").chmod(0o600)
        assert ask_passphrase(SITE_VARIABLE, "the keys") == "correct horse"


def test_nothing_typed_is_no_passphrase(monkeypatch):
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    with pytest.raises(GalleryKeyError, match="the keys: expected a passphrase, got the end"):
        ask_passphrase(SITE_VARIABLE, "the keys", ask=lambda _: (_ for _ in ()).throw(EOFError))


def test_a_passphrase_that_anybody_can_read_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "pass"))
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "pass").chmod(0o604)
    with pytest.raises(GalleryKeyError, match="expected mode 0600, got 0604: chmod 600"):
        ask_passphrase(SITE_VARIABLE, "the keys")
    (tmp_path / "pass").chmod(0o440)
    assert ask_passphrase(SITE_VARIABLE, "the keys") == "correct horse"
