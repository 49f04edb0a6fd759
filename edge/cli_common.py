"""What every command of `doord` says and reads the same way."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

import msgspec

from edge.config import DEFAULT_PATH, Config, ModelsConfig, QualityConfig, load_config


def say(*lines: str) -> None:
    """Lines on standard output."""
    for line in lines:
        print(line)  # noqa: T201  # the command's own voice


def say_json(value: object) -> None:
    """One line of JSON; bytes in base64."""
    say(msgspec.json.encode(value).decode())


def tell(options: argparse.Namespace, words: str, **facts: object) -> None:
    """One fact, in words or as JSON."""
    say_json(facts) if options.json else say(words)


def configured(options: argparse.Namespace) -> Config:
    """The configuration that was named, or the door's. Raises ConfigError."""
    return load_config(options.config or DEFAULT_PATH)


def models_or_default(options: argparse.Namespace) -> tuple[ModelsConfig, QualityConfig]:
    """The configured models and gate; the defaults where no configuration was named."""
    if options.config is None:
        return ModelsConfig(), QualityConfig()
    config = load_config(options.config)
    return config.models, config.quality


class AddCommand(Protocol):
    """Makes one command of `doord`."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        """Its parser."""
