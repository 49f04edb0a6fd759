"""What all commands of `doord admin` share: where the site is, and how it is told."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from edge.cli_common import say, say_json
from edge.errors import AdminError

if TYPE_CHECKING:
    from edge.admin.folder import OpenSite

FOLDER = "DOORD_ADMIN_DIR"
STORE = Path("collected", "events.db")  # of collected events, below the folder
DEFAULT_FOLDER = Path("~/.local/share/doord-admin")

Run = Callable[[argparse.Namespace], int]
Actions = Any  # argparse's _SubParsersAction: generic in its stubs, private, and no class to subscript


class Parsers:
    """Adds commands that all know --json, --config and --dir."""

    def __init__(self, shared: argparse.ArgumentParser) -> None:
        place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        place.add_argument(
            "--dir", type=Path, help=f"the site's folder (default ${FOLDER}, else {DEFAULT_FOLDER})"
        )
        self._parents = [shared, place]

    def add(self, actions: Actions, name: str, run: Run | None, words: str) -> argparse.ArgumentParser:
        """One command; without `run` it needs one of its own."""
        sub: argparse.ArgumentParser = actions.add_parser(
            name, parents=self._parents, help=words, description=words
        )
        if run is not None:
            sub.set_defaults(run=run)
        return sub

    def group(self, actions: Actions, name: str, words: str) -> Actions:
        """A command that has commands of its own."""
        return self.add(actions, name, None, words).add_subparsers(required=True, metavar="ACTION")


def dry_run(sub: argparse.ArgumentParser) -> None:
    """Add --dry-run."""
    sub.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def folder(options: argparse.Namespace) -> Path:
    """The site's folder."""
    named = getattr(options, "dir", None) or os.environ.get(FOLDER) or DEFAULT_FOLDER
    return Path(named).expanduser()


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[OpenSite]:
    """The site, this process's alone. Asks for the passphrase."""
    from edge.admin.folder import RECORDS, OpenSite
    from edge.admin.keystore import SITE_VARIABLE, ask_passphrase

    where = folder(options)
    if not (where / RECORDS).exists():
        raise AdminError(f"{where}: expected a site, got none: doord admin init, or name another --dir")
    with OpenSite(where, ask_passphrase(SITE_VARIABLE, f"the keys in {where}")) as site:
        yield site


def now() -> datetime:
    """The calendar time, aware."""
    return datetime.now(timezone.utc)


def now_utc() -> str:
    """The same, RFC 3339 to the second."""
    return f"{now():%Y-%m-%dT%H:%M:%SZ}"


def now_local(site: OpenSite) -> str:
    """The time on the site's clocks, as `rights.yaml` writes one."""
    zone = ZoneInfo(site.records.site().time_zone)
    return now().astimezone(zone).strftime("%Y-%m-%dT%H:%M")


def show(options: argparse.Namespace, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people, a list of objects for machines."""
    if options.json:
        say_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    say(*("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)


def write_file(path: Path, data: bytes) -> None:
    """A new file, mode 0600, whole or not at all. Raises AdminError: there is something already."""
    from edge.disk import write_atomically

    if os.path.lexists(path):
        raise AdminError(f"{path}: expected nothing there yet, got a file: nothing is overwritten")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise AdminError(f"{path}: {error.strerror}") from None
