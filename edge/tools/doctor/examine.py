"""`doord doctor`: every check, one after the other. The camera is opened, no line is touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from edge.config import load_config
from edge.errors import ConfigError, DoordError
from edge.tools.doctor import door, link, machine, service, storage
from edge.tools.doctor.finding import Finding, Said
from edge.tools.doctor.host import Host
from edge.tools.doctor.patient import admit

_DOOR = (*service.CHECKS, *door.CHECKS, *link.CHECKS, *storage.CHECKS)
_AS_ROOT = "run doctor as root: what follows could not look everywhere"


def examine(path: Path, host: Host | None = None) -> Iterator[Finding]:
    """Findings as they are made, of the door that a configuration names.

    An unusable configuration is a finding too; then only the machine is examined.
    """
    host = host or Host()
    if os.geteuid() != 0:
        yield Finding("user", "note", _AS_ROOT)
    try:
        config = load_config(path)
    except ConfigError as error:
        cure = "doord check-config; doord setup writes a new one and keeps this"
        yield Finding("config", "fail", str(error), cure)
    else:
        yield Finding("config", "ok", f"{path}: no mistake found")
        patient = admit(config, path, host)
        for check in _DOOR:
            yield _tried(check.part, partial(check.run, patient), check.cure)
    for part, run in machine.CHECKS:
        yield _tried(part, partial(run, host), "")


def _tried(part: str, run: Callable[[], Said], cure: str) -> Finding:
    try:
        said = run()
    except (DoordError, OSError) as error:
        said = Said("fail", str(error), cure)
    return Finding(part, said.verdict, said.detail, said.cure)
