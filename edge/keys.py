"""Where a door's secrets are, and the only reader of them: the key that seals gallery, cards and what a door
knows of its site; what it shows to a broker that its configuration names.

systemd hands them to the service as credentials (systemd.exec(5), CREDENTIALS_DIRECTORY); else they are
files. /usr/lib/doord/credentials makes one of the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edge.config import GALLERY_KEY, Config, MqttConfig, TlsConfig, credential_name
from edge.disk import FileKey
from edge.errors import ConfigError
from edge.link.broker import Login, Pem, Tls

_SEALED_BY = "/usr/lib/doord/credentials"
_NONE = b"missing"  # stands for a credential whose file is not there, as systemd/credentials has it
_NOTHING: Mapping[str, Pem] = MappingProxyType({})


def key_of(config: Config) -> FileKey:
    """The key's file: the one that is configured, systemd's, or the one in the state directory."""
    folder = _folder()
    if folder and not config.key_file and (folder / GALLERY_KEY).exists():
        # systemd grants the service's user by an access list, whose mask shows as the group's bits
        return FileKey(folder / GALLERY_KEY, open_to=0o040)
    return FileKey(config.key_path)


def broker_credentials(config: Config) -> list[str]:
    """Names of the credentials that are read for the broker."""
    kept = config.mqtt.kept if config.mqtt else {}
    return [name for where in kept.values() if (name := credential_name(where))]


def broker_login(mqtt: MqttConfig, known: Mapping[str, Pem] = _NOTHING) -> Login:
    """The broker that is configured, and what it is shown. `known`: by path, what is read from no file.

    Raises:
        ConfigError: a file or a credential can't be read, or is no text; it has nothing of its content.
    """
    return Login(mqtt, tls_of(mqtt.tls, known) if mqtt.tls else None, _password(mqtt.password_file))


def tls_of(tls: TlsConfig, known: Mapping[str, Pem] = _NOTHING) -> Tls:
    """What TLS is made of. Raises ConfigError."""
    parts = {"mqtt.tls.ca": tls.ca, "mqtt.tls.cert": tls.cert, "mqtt.tls.key": tls.key}
    return Tls(*(known.get(str(Path(kept))) or _pem(key, kept) for key, kept in parts.items()))


def _pem(key: str, kept: str) -> Pem | None:
    if not kept:
        return None
    # a comment may be in any encoding
    return Pem(f"{key}: {kept}", read_kept(key, kept).decode("utf-8", "replace"))


def _password(kept: str) -> str | None:
    """The first line."""
    if not kept:
        return None
    where = f"mqtt.password_file: {kept}"
    try:
        lines = read_kept("mqtt.password_file", kept).decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: expected UTF-8 text") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{where}: expected a password, got an empty first line")
    return lines[0]


def read_kept(key: str, kept: str) -> bytes:
    """The content of a file, or of `credential:NAME`. Raises ConfigError, which names `key`."""
    name = credential_name(kept)
    try:
        return Path(kept).read_bytes() if name is None else _credential(name)
    except OSError as error:
        raise ConfigError(f"{key}: {kept}: {error.strerror}") from error
    except LookupError as error:
        raise ConfigError(f"{key}: {kept}: {error.args[0]}") from None


def _credential(name: str) -> bytes:
    """Raises OSError; LookupError: it is not there, in words."""
    folder = _folder()
    if folder is None:
        raise LookupError("expected a credential of doord.service, got none here: not started by systemd")
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        content = _NONE
    if content == _NONE:
        raise LookupError(f"no such credential: {_SEALED_BY} {name} FILE, and restart doord")
    return content


def _folder() -> Path | None:
    told = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(told) if told else None
