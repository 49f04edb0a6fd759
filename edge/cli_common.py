"""What every command of `doord` says and reads the same way."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edge.config import DEFAULT_PATH, DEFAULT_SOCKET, Config, ModelsConfig, QualityConfig, load_config
from edge.errors import ConfigError, DoordError, GalleryError
from edge.log_view import one_line

MAX_FILE_BYTES = 32 * 2**20  # of a photograph or a table
_MAX_PASSPHRASE = 4096  # bytes


def say(*lines: str) -> None:
    """Lines on standard output."""
    for line in lines:
        print(line)  # noqa: T201  # the command's own voice


def say_json(value: object) -> None:
    """One line of JSON; bytes in base64."""
    say(one_line(msgspec.json.encode(value).decode()))


def tell(options: argparse.Namespace, words: str, **facts: object) -> None:
    """One fact, in words or as JSON."""
    say_json(facts) if options.json else say(words)


def configured(options: argparse.Namespace) -> Config:
    """The configuration that was named, or the door's. Raises ConfigError."""
    return load_config(options.config or DEFAULT_PATH)


def daemon_socket(options: argparse.Namespace) -> Path:
    """Where the running daemon listens; also while the file on the disk can't be used, which it refused.

    Raises:
        ConfigError: the file can't be used, and no daemon listens in the usual place either, or not for us.
    """
    try:
        return Path(configured(options).socket)
    except ConfigError as error:
        try:
            there = DEFAULT_SOCKET.exists()
        except PermissionError:
            raise ConfigError(f"{error}: as root, or in the group doord") from None
        if not there:
            raise
        return DEFAULT_SOCKET


def models_or_default(options: argparse.Namespace) -> tuple[ModelsConfig, QualityConfig]:
    """The configured models and gate; the defaults where no configuration was named."""
    if options.config is None:
        return ModelsConfig(), QualityConfig()
    config = load_config(options.config)
    return config.models, config.quality


def read_file(path: Path, refusal: type[DoordError], most: int = MAX_FILE_BYTES) -> bytes:
    """A file's content, bounded: a device or a pipe never ends. Raises `refusal`."""
    try:
        if not path.is_file():
            raise refusal(f"{path}: expected a file, got {'something else' if path.exists() else 'none'}")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise refusal(f"{path}: {error.strerror or error}") from None
    if len(data) > most:
        raise refusal(f"{path}: expected at most {most} bytes, got more")
    return data


def write_export(path: Path, data: bytes) -> None:
    """Put an export where it was told to. Raises GalleryError: no file is there, or the disk refuses."""
    from edge.disk import write_atomically

    if path.exists() and not (path.is_file() and not path.is_symlink()):
        raise GalleryError(f"{path}: expected a file or nothing there, got something else")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise GalleryError(f"{path}: {error.strerror}") from None


def typed_passphrase(file: Path | None, twice: bool, otherwise: str = "") -> str:
    """A passphrase out of a file, or typed. `otherwise`: what else would do, in words.

    Raises:
        GalleryError: neither can be read, or the two that were typed differ.
    """
    if file is not None:
        try:
            with file.open("rb") as opened:
                return opened.read(_MAX_PASSPHRASE).decode("utf-8", "replace").rstrip("\n")
        except OSError as error:
            raise GalleryError(f"{file}: {error.strerror}") from None
    if not sys.stdin.isatty():
        raise GalleryError(f"expected --passphrase-file{otherwise} where nobody can type")
    passphrase = getpass.getpass("passphrase: ")
    if twice and getpass.getpass("again: ") != passphrase:
        raise GalleryError("the two passphrases differ")
    return passphrase


class AddCommand(Protocol):
    """Makes one command of `doord`."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        """Its parser."""
