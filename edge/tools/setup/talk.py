"""Questions in a terminal, each of which can be answered in advance: plain text, line by line."""

from __future__ import annotations

import select
import shutil
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO, TypeVar

from edge.errors import ConfigError

_T = TypeVar("_T")
_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")
_SKIP = ("s", "skip", "-")


class Talk(Protocol):
    """Who is asked."""

    interactive: bool
    """Whether somebody sits at a terminal."""

    def say(self, *lines: str) -> None:
        """Tell something."""

    def ask(self, key: str, words: str, default: str | None, check: Callable[[str], _T]) -> _T:
        """An answer that `check` takes; it raises ValueError with the reason. Raises ConfigError: none."""

    def witness(self, key: str, words: str) -> bool | None:
        """What only eyes can tell: yes, no, or None where nobody looked."""

    def consent(self, key: str, words: str, default: bool) -> bool:
        """Whether something may be done."""

    def live(self, line: str) -> None:
        """One line that the next one replaces; an empty one ends it."""

    def went_on(self) -> bool:
        """Whether Enter was pressed since it was asked last."""


class Terminal:
    """Port Talk over streams. What stands in `answers` is not asked; without `source` nothing is."""

    def __init__(self, answers: Mapping[str, list[str]], source: TextIO | None, sink: TextIO) -> None:
        """`answers`: by key, used in order, the last one again and again."""
        self.interactive = source is not None
        self.given: dict[str, str] = {}  # what was answered, for who goes on another time
        self.unseen: list[str] = []  # what only eyes can tell, and was answered in advance
        self._answers = {key: list(told) for key, told in answers.items()}
        self._source = source
        self._sink = sink
        self._drawn = 0

    def say(self, *lines: str) -> None:
        """See Talk."""
        for line in lines:
            self._sink.write(f"{line}\n")
        self._sink.flush()

    def ask(self, key: str, words: str, default: str | None, check: Callable[[str], _T]) -> _T:
        """See Talk."""
        while True:
            told = self._in_advance(key)
            answer = told if told is not None else self._read(key, words, default)
            try:
                value = check(answer)
            except ValueError as error:
                if told is not None or self._source is None:
                    raise ConfigError(f"setup: {key}: {error}") from None
                self.say(f"  {error}")
                continue
            self.given[key] = answer
            return value

    def witness(self, key: str, words: str) -> bool | None:
        """See Talk."""
        told = self._in_advance(key)
        if told is None and self._source is None:
            return None
        while True:
            answer = (told or self._line(f"{words} [yes / no / skip]: ")).lower()
            if answer in _SKIP:
                return None
            if answer in (*_YES, *_NO):
                self.unseen += [key] if told is not None else []
                return answer in _YES
            if told is not None:
                raise ConfigError(f"setup: {key}: expected yes, no or skip, got {told!r:.40}")

    def consent(self, key: str, words: str, default: bool) -> bool:
        """See Talk."""
        return self.ask(key, words, "yes" if default else "no", _yes)

    def live(self, line: str) -> None:
        """See Talk. Where nobody sits at a terminal nothing is drawn."""
        if not self.interactive:
            return
        width = shutil.get_terminal_size().columns - 1
        drawn = f"\r{line[:width].ljust(min(width, self._drawn))}" if line else "\n" * bool(self._drawn)
        self._sink.write(drawn)
        self._sink.flush()
        self._drawn = len(line)

    def went_on(self) -> bool:
        """See Talk."""
        if self._source is None or not select.select([self._source], [], [], 0)[0]:
            return False
        self._line("")
        return True

    def _in_advance(self, key: str) -> str | None:
        told = self._answers.get(key)
        if not told:
            return None
        return told.pop(0) if len(told) > 1 else told[0]

    def _read(self, key: str, words: str, default: str | None) -> str:
        if self._source is None:
            if default is None:
                raise ConfigError(f"setup: {key}: expected an answer: --set {key}=..., or in --answers")
            return default
        return self._line(f"{words} [{default}]: " if default else f"{words}: ") or default or ""

    def _line(self, prompt: str) -> str:
        assert self._source is not None
        self._sink.write(prompt)
        self._sink.flush()
        line = self._source.readline()
        if not line:  # the terminal is gone
            raise KeyboardInterrupt
        return line.strip()


def _yes(answer: str) -> bool:
    if answer.lower() not in (*_YES, *_NO):
        raise ValueError(f"expected yes or no, got {answer!r:.40}")
    return answer.lower() in _YES
