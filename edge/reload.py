"""The configuration read again while the door works: what changed, what of it can be in force at once.

The door's line does not move. A file that can't be used is refused whole and the one before stays in
force; what only a restart can change is named, and stays as it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from edge.config import Config, check_config
from edge.errors import ConfigError
from edge.journal import notify
from edge.link.wire import NoticeKind

LIVE = frozenset({"rights_file", "camera", "quality", "decision", "pad", "access", "sync", "mqtt"})
"""Sections that are put in force without a restart. The others claim lines, files or memory at the start."""
_WAIT_S = 0.5
_NAMED = 10  # keys in one line


class Reloader:
    """Reads the configuration again when asked, by a signal or over the socket."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        apply: Callable[[Config], None],
        tell: Callable[[NoticeKind, str], None],
        live: frozenset[str] = LIVE,
    ) -> None:
        """What came of it is told.

        Args:
            config: in force.
            reread: the configuration as it is now. Raises ConfigError.
            apply: puts one in force, whole or not at all. Raises ConfigError.
            tell: reports.
            live: sections that can be.
        """
        self.refusal: str | None = None  # why the file as it is now is not in force
        self.waiting: tuple[str, ...] = ()  # keys that are in force after a restart
        self._config = config
        self._reread = reread
        self._apply = apply
        self._tell = tell
        self._live = live
        self._asked = threading.Event()
        self._turn = threading.Lock()

    def ask(self) -> None:
        """Reload soon; callable from a signal handler."""
        self._asked.set()

    def step(self) -> None:
        """Wait a moment for `ask`, and reload."""
        if not self._asked.wait(_WAIT_S):
            return
        self._asked.clear()
        try:
            self.reload()
        except ConfigError:
            return  # told already

    def reload(self) -> str:
        """Reload now, from any thread; what came of it. Raises ConfigError: all stays as it was."""
        with self._turn:
            # sd_notify(3): the manager waits for READY=1; the door is ready all the time
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                came = self._take(self._reread())
            except ConfigError as error:
                self.refusal = str(error)
                self._tell("ConfigRefused", f"{error}; the one before stays in force")
                raise
            finally:
                notify("READY=1")
            self.refusal = None
            self._tell("ConfigReloaded", came)
            return came

    def _take(self, new: Config) -> str:
        merged = msgspec.structs.replace(self._config, **{key: getattr(new, key) for key in self._live})
        changed, waiting = differences(self._config, merged), differences(merged, new)
        try:
            check_config(merged, "the configuration in force")
        except ConfigError as error:  # half of a change that needs a restart would contradict the rest
            raise ConfigError(f"{error}: needs a restart, with {_named(waiting)}") from None
        self._apply(merged)
        self._config, self.waiting = merged, waiting
        parts = [f"in force: {_named(changed)}" if changed else "no key changed"]
        parts += [f"after a restart: {_named(waiting)}"] if waiting else []
        return "; ".join(parts)


def differences(before: Config, after: Config) -> tuple[str, ...]:
    """Dotted paths of the keys whose values differ, in the configuration's order."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return tuple(path for path in {**old, **new} if old.get(path) != new.get(path))


def _leaves(section: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{prefix}{field}.")
        else:
            yield prefix + field, value


def _named(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more
