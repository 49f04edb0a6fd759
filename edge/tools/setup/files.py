"""What setup writes: the configuration, its answers so far, the report; each whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from edge.config import Config, parse_config
from edge.disk import write_atomically
from edge.errors import ConfigError
from edge.strict import parse_yaml
from edge.tools.setup.config_text import Data

_GROUP = "doord"
_MODE = 0o640  # a camera's password may stand in it


def read_data(path: Path) -> Data | None:
    """What stands in a configuration; None: there is none. Raises ConfigError: it can't be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    parse_config(text, str(path))
    data: Data = parse_yaml(text, str(path))
    return data


def read_answers(path: Path) -> dict[str, list[str]]:
    """An answer file: `key: answer`, or a list of answers to a question that is asked again.

    Raises:
        ConfigError: it can't be read, or is not that.
    """
    try:
        told = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{path}: expected lines such as `door: front`, got no keys")
    return {str(key): [_word(word) for word in _listed(value)] for key, value in told.items()}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def write_answers(path: Path, given: Mapping[str, str]) -> None:
    """Keep answers for another time, for this user alone. Raises OSError."""
    lines = [f"{key}: {json.dumps(answer)}" for key, answer in given.items()]
    write_atomically(path, ("\n".join(lines) + "\n").encode(), 0o600)


def replace_config(path: Path, text: str) -> Config:
    """Put a configuration in force of the next start; the one before stays as `.bak`.

    Raises:
        ConfigError: it can't be used, or can't be written; nothing was replaced then.
    """
    config = parse_config(text, str(path))
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from None
    return config


def replace_text(path: Path, text: str) -> None:
    """Write a file, with the owner and mode of the one before, which stays as `.bak`. Raises OSError."""
    mode, owner = _MODE, None
    if path.exists():
        before = path.stat()
        mode, owner = stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
        backup = path.with_name(f"{path.name}.bak")
        write_atomically(backup, path.read_bytes(), mode)
        _give(backup, owner)
    write_atomically(path, text.encode(), mode)
    _give(path, owner)


def _give(path: Path, owner: tuple[int, int] | None) -> None:
    """To its owner before, or to the group that the daemon is in; only root can."""
    with contextlib.suppress(PermissionError, LookupError):  # LookupError: there is no such group
        if owner is not None:
            os.chown(path, *owner)
        else:
            shutil.chown(path, group=_GROUP)
