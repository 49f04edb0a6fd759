"""What is examined: a machine, the door's configuration, and what its running daemon says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edge.config import Config
from edge.control import RemoteDesk
from edge.errors import DoordError
from edge.tools.doctor.finding import Said
from edge.tools.doctor.host import Account, Host

UNIT = "doord.service"
_SERVICE = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NRestarts",
    "Result",
    "ExecMainStatus",
    "ActiveEnterTimestamp",
    "WatchdogUSec",
    "User",
    "SupplementaryGroups",
)


@dataclass(frozen=True, slots=True)
class Patient:
    """A door unit."""

    config: Config
    path: Path  # of the configuration
    host: Host = field(default_factory=Host)
    status: dict[str, Any] | None = None  # the running daemon's; None: none runs
    service: dict[str, str] = field(default_factory=dict)  # systemd's properties of its unit
    unasked: str = ""  # why the daemon that runs can't be asked

    @property
    def account(self) -> Account | None:
        """Who the daemon runs as: the unit's user, or the one that the package makes."""
        if self.service.get("LoadState") != "loaded":
            return self.host.account("doord")
        groups = self.service.get("SupplementaryGroups", "").split()
        return self.host.account(self.service.get("User") or "root", groups)


def admit(config: Config, path: Path, host: Host) -> Patient:
    """Ask the daemon and systemd once, for all checks."""
    service = host.properties(_SERVICE, UNIT)
    try:
        desk = RemoteDesk.find(Path(config.socket))
        status = None if desk is None else msgspec.json.decode(desk.status())
    except DoordError as error:
        return Patient(config, path, host, None, service, str(error))
    return Patient(config, path, host, status, service)


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table. `cure`: what to do when the check itself ends with a fault."""

    part: str
    run: Callable[[Patient], Said]
    cure: str
