"""Where a door's secrets are: files, and what systemd hands the service as credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from broker import Authority

from edge.config import Config, parse_config
from edge.errors import ConfigError
from edge.keys import broker_credentials, broker_login
from edge.uplink import made_of

PASSWORD = "credential:broker.password"


@pytest.fixture
def credentials(tmp_path, monkeypatch) -> Path:
    """As systemd hands them to the service."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def configured(mqtt: str) -> Config:
    return parse_config(f"site: hq\ndoor_id: front\ndoor: {{relay: {{line: 17}}}}\nmqtt: {{host: b, {mqtt}}}")


def with_password(kept: str = PASSWORD) -> Config:
    return configured(f"username: door, password_file: '{kept}'")


def test_a_password_is_the_first_line_of_a_credential(credentials):
    (credentials / "broker.password").write_text("söcret word\nnot this\n")
    login = broker_login(with_password().mqtt)
    assert login.password == "söcret word"
    assert "söcret" not in repr(login)


def test_certificate_and_key_for_the_broker_may_each_be_a_file_or_a_credential(credentials, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("front")
    (credentials / "broker.key").write_bytes(key.read_bytes())
    key.unlink()
    config = configured(f"tls: {{ca: {authority.path}, cert: {certificate}, key: 'credential:broker.key'}}")
    assert broker_credentials(config) == ["broker.key"]
    login = broker_login(config.mqtt)
    assert login.tls_context().get_ca_certs()
    assert "PRIVATE" not in repr(login)


def test_a_key_s_file_may_have_certificates_too_and_they_are_not_what_is_shown(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("front")
    key.write_bytes(key.read_bytes() + authority.path.read_bytes())  # as one file for another program
    config = configured(f"tls: {{ca: {authority.path}, cert: {certificate}, key: {key}}}")
    assert broker_login(config.mqtt).tls_context() is not None


def test_no_private_key_is_left_in_memory_files_of_the_process(credentials, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("front")
    config = configured(f"tls: {{ca: {authority.path}, cert: {certificate}, key: {key}}}")
    context = broker_login(config.mqtt).tls_context()
    open_files = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not any("doord-tls" in name for name in open_files)
    assert context is not None


@pytest.mark.parametrize("content", [None, "missing"])
def test_a_credential_that_is_not_there_is_told_in_one_line_with_its_cure(credentials, content):
    if content is not None:  # what systemd puts in the place of a file that is gone (SetCredential=)
        (credentials / "broker.password").write_text(content)
    with pytest.raises(ConfigError) as caught:
        broker_login(with_password().mqtt)
    assert str(caught.value) == (
        "mqtt.password_file: credential:broker.password: no such credential: "
        "/usr/lib/doord/credentials broker.password FILE, and restart doord"
    )


def test_a_credential_is_none_outside_the_service(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    words = "mqtt.password_file: credential:broker.password: expected a credential of doord.service, got none"
    with pytest.raises(ConfigError, match=words):
        broker_login(with_password().mqtt)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "an empty first line"), (b"\n", "an empty first line"), (b"\xff", "UTF-8")]
)
def test_a_credential_that_is_no_password_is_refused_without_its_content(credentials, content, message):
    (credentials / "broker.password").write_bytes(content)
    with pytest.raises(ConfigError, match=f"mqtt.password_file: credential:broker.password: .*{message}"):
        broker_login(with_password().mqtt)


@pytest.mark.parametrize(
    "kept", ["credential:", "credential:../x", "credential:a/b", "credential:.x", f"credential:{'x' * 65}"]
)
def test_a_name_that_no_credential_can_have_is_a_mistake_in_the_configuration(kept):
    with pytest.raises(ConfigError, match=r"mqtt\.password_file: expected text matching"):
        with_password(kept)


def test_the_gallery_s_key_is_shown_to_no_broker():
    message = r"mqtt\.password_file: expected a credential of its own, got credential:gallery\.key"
    with pytest.raises(ConfigError, match=message):
        with_password("credential:gallery.key")


def test_another_password_in_the_same_place_makes_another_link_and_the_same_one_does_not(tmp_path):
    place = tmp_path / "password"
    config = with_password(str(place))
    assert made_of(config, None) == made_of(config, None)  # nor does one that stays unreadable
    place.write_text("one")
    before = made_of(config, None)
    place.write_text("one\n")
    assert made_of(config, None) == before
    place.write_text("two")
    assert made_of(config, None) != before
