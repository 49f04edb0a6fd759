"""What every command of `doord` says and reads the same way."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edge.config import DEFAULT_PATH, DEFAULT_SOCKET, Config, load_config
from edge.errors import ConfigError
from edge.log_view import one_line


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
        ConfigError: the file can't be used, and no daemon listens in the usual place either.
    """
    try:
        return Path(configured(options).socket)
    except ConfigError:
        if not DEFAULT_SOCKET.exists():
            raise
        return DEFAULT_SOCKET


class AddCommand(Protocol):
    """Makes one command of `doord`."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        """Its parser."""
