"""A progress bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_EVERY_S = 0.1
_WIDTH = 30


def bar(words: str) -> Callable[[int, int], None]:
    """Draws `words [####    ] 12/40` on stderr when called with (done, total).

    Draws nothing when stderr is no terminal, so that logs and pipes stay clean.
    """
    if not sys.stderr.isatty():
        return silent
    drawn_at = float("-inf")

    def draw(done: int, total: int) -> None:
        nonlocal drawn_at
        now = time.monotonic()
        if done < total and now - drawn_at < _EVERY_S:
            return
        drawn_at = now
        full = _WIDTH * done // max(total, 1)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{words} [{'#' * full:{_WIDTH}}] {done:,}/{total:,}{end}")
        sys.stderr.flush()

    return draw


def silent(_done: int, _total: int) -> None:
    """Shows nothing."""
