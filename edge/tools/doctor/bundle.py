"""`doord doctor --bundle FILE`: what a support engineer needs of a door, and nothing of its people.

Each file is made of chosen facts, never copied as it lies; then subjects and secrets are taken out of
it. No template, no picture, no key, no passphrase, no card number is ever read into one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge import __version__
from edge.acting import as_owner
from edge.config import Config, credential_name, load_config, parse_config, shown_source
from edge.disk import write_atomically
from edge.errors import ConfigError, DoordError
from edge.keys import read_kept
from edge.link.ledger_view import LedgerView
from edge.strict import parse_yaml
from edge.tools.doctor import machine
from edge.tools.doctor.door import entries
from edge.tools.doctor.finding import Finding
from edge.tools.doctor.host import Host
from edge.tools.doctor.patient import UNIT, Patient, admit
from edge.tools.doctor.scrub import Scrubber, enrolled_in
from edge.tools.local import read_gallery

_LINES = 5000
_FIELDS = ("MESSAGE", "PRIORITY", "KIND", "MESSAGE_ID", "LOGGER", "REASON", "_PID", "SUBJECT")
_JOURNAL = ["journalctl", "--unit", UNIT, "--quiet", "--no-pager", "--output=json", f"--lines={_LINES}"]
_BATCH = 2000
_SOMEBODY = "(somebody)"
_STAND_IN = "site: none\ndoor_id: none\ndoor: {relay: {line: 0}}"  # with the state where it is by default
_WRITTEN_BY_HAND = ("config", "rights")
_PLACES = re.compile(r"^(state_dir|rights_file|key_file)\s*:\s*[\"']?(/[^\"'#\s]+)", re.MULTILINE)
_SAID = re.compile(r"\b(?:username|fpir_accepted_by)\s*:\s*[\"']?([^\"'#,}\n]+)")
_PASSWORD_FILE = re.compile(r"\bpassword_file\s*:\s*[\"']?((?:/|credential:)[^\"'#,}\s]+)")
_KEY = re.compile(r"^\s+([a-z0-9-]{1,32})\s*:", re.MULTILINE)
_IN_URL = re.compile(r"//([^/@]*?:?([^/@:]*))@|\?(.*)")  # login, its password, query
WHAT = {
    "doctor.jsonl": "the findings of doord doctor",
    "config.yaml": "the configuration in force, its secrets and names masked",
    "status.json": "what the running daemon says of itself",
    "service.json": "what systemd says of the unit",
    "journal.jsonl": f"the unit's last {_LINES} log lines; who was granted is subject-N",
    "events.json": "how many events of which kind, and when; none of them",
    "versions.json": "of doord and of what it stands on",
    "models.json": "which models run, and their hashes",
}
WITHOUT = "templates, pictures, subjects' ids, card numbers, keys, passwords"


class _Row(msgspec.Struct, frozen=True):
    """What is counted of an event."""

    kind: str
    at: str
    reason: str | None = None
    subject: str | None = None


@dataclass
class _Known:
    """What must not go out."""

    subjects: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)


def write_bundle(path: Path, config_path: Path, findings: Sequence[Finding], host: Host | None = None) -> str:
    """Make the file, for this user alone; a line about it.

    Raises:
        DoordError: there is a file already, or it can't be written.
    """
    if path.exists():
        raise DoordError(f"{path}: expected no file yet, got one")
    host = host or Host()
    known = _Known()
    texts = dict(_texts(config_path, findings, host, known))
    scrub = Scrubber(known.subjects, known.secrets)
    files = {name: scrub(text).encode() for name, text in texts.items()}
    data = _packed(files)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise DoordError(f"{path}: can't be written: {error.strerror or error}") from None
    return f"{path}: {len(files)} files, {len(data) / 1e3:.0f} kB; without {WITHOUT}"


def _texts(
    config_path: Path, findings: Sequence[Finding], host: Host, known: _Known
) -> Iterator[tuple[str, str]]:
    yield "doctor.jsonl", "".join(f"{_told(finding)}\n" for finding in findings)
    yield "versions.json", _json(_versions(host))
    yield "journal.jsonl", _journal(host, known)
    try:
        config = load_config(config_path)
    except ConfigError as error:
        _learn_as_far_as_told(config_path, known)
        yield "config.yaml", f"# can't be used: {_without_values(str(error))}\n"
        return
    _learn(config, known)
    patient = admit(config, config_path, host)
    yield "config.yaml", _masked(config)
    yield "status.json", _json(patient.status)
    yield "service.json", _json(patient.service)
    yield "events.json", _json(_statistics(config, known))
    yield "models.json", _json(_models(patient))


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _packed(files: dict[str, bytes]) -> bytes:
    at = int(time.time())
    manifest = {
        "doord": __version__,
        "made_at": at,
        "without": WITHOUT,
        "files": [
            {
                "name": name,
                "what": WHAT.get(name, ""),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in files.items()
        ],
    }
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, data in {"manifest.json": _json(manifest).encode(), **files}.items():
            entry = tarfile.TarInfo(f"doord-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), at, 0o600
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def _learn_as_far_as_told(path: Path, known: _Known) -> None:
    """Of a configuration that can't be used: the log goes out all the same, and names who is enrolled."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    config = msgspec.structs.replace(parse_config(_STAND_IN), **dict(_PLACES.findall(text)))
    _learn(config, known)
    _learn_secrets(config, _PASSWORD_FILE.findall(text), known)
    known.secrets |= {part for found in _IN_URL.findall(text) for part in found if part}
    known.secrets |= {said.strip() for said in _SAID.findall(text)}
    _statistics(config, known)


def _learn_secrets(config: Config, paths: Sequence[str], known: _Known) -> None:
    for kept in paths:
        names = filter(None, [credential_name(kept)])
        with contextlib.suppress(OSError, UnicodeDecodeError, DoordError), as_owner(config, list(names)):
            known.secrets |= set(read_kept("", kept).decode().split())


def _learn(config: Config, known: _Known) -> None:
    """What this door knows of people and secrets, to be found in any text."""
    mqtt = config.mqtt
    paths = [str(config.key_path), *([mqtt.password_file] if mqtt and mqtt.password_file else [])]
    _learn_secrets(config, paths, known)
    source = str(config.camera.source)
    known.secrets |= {part for found in _IN_URL.findall(source) for part in found if part}
    known.secrets |= {
        name for name in (config.decision.fpir_accepted_by, mqtt.username if mqtt else "") if name
    }
    if config.rights_file:
        known.subjects |= _named_in(Path(config.rights_file))
    with contextlib.suppress(DoordError, OSError):
        _, _, embedder = entries(config)
        known.subjects |= set(read_gallery(config, embedder.id, embedder.dimension or 0).subjects)


def _named_in(rights_file: Path) -> set[str]:
    """The subjects of a rights file, also of one that can't be used: what is said of it may name them."""
    try:
        text = rights_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    try:
        subjects = parse_yaml(text, "")["subjects"]
        return {str(subject) for subject in subjects}
    except (ConfigError, KeyError, TypeError):
        return set(_KEY.findall(text))


def _told(finding: Finding) -> str:
    """Of what a file of a person's hand holds, only what was expected there."""
    if finding.part in _WRITTEN_BY_HAND:
        finding = replace(finding, detail=_without_values(finding.detail))
    return msgspec.json.encode(finding).decode()


def _masked(config: Config) -> str:
    """The configuration as parsed, so that no comment goes out."""
    data: dict[str, Any] = msgspec.to_builtins(config)
    data["camera"]["source"] = shown_source(config.camera.source)
    if data["decision"]["fpir_accepted_by"]:
        data["decision"]["fpir_accepted_by"] = _SOMEBODY
    if data["mqtt"] and data["mqtt"]["username"]:
        data["mqtt"]["username"] = _SOMEBODY
    return str(yaml.safe_dump(data, sort_keys=False))


def _without_values(message: str) -> str:
    """Of `where: path: expected ..., got ...` not what came: it may be a secret in a wrong place."""
    return message.split(", got ")[0]


def _journal(host: Host, known: _Known) -> str:
    told = host.run([*_JOURNAL, f"--output-fields={','.join(_FIELDS)}"]) or ""
    lines = []
    for line in told.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        message = record.get("MESSAGE")
        if not isinstance(message, str):  # what is no text journalctl gives as numbers
            continue
        if isinstance(record.get("SUBJECT"), str):
            known.subjects.add(record["SUBJECT"])
        known.subjects |= enrolled_in(message)
        kept = {key: record[key] for key in ("__REALTIME_TIMESTAMP", *_FIELDS[:-1]) if key in record}
        lines.append(json.dumps(kept))
    return "".join(f"{line}\n" for line in lines)


def _statistics(config: Config, known: _Known) -> dict[str, object]:
    """Counts over the whole ledger."""
    try:
        if not config.events_path.exists():  # raises where this user may not look
            return {"records": 0}
        with as_owner(config), contextlib.closing(LedgerView(config.events_path)) as view:
            told = {"head": view.head.seq, "undelivered": view.undelivered}
            return told | {"bytes": config.events_path.stat().st_size} | _counted(view, known)
    except (DoordError, OSError) as error:
        return {"fault": str(error)}


def _counted(view: LedgerView, known: _Known) -> dict[str, object]:
    """Of which kind, why, from when to when. Raises LedgerError."""
    kinds: Counter[str] = Counter()
    denials: Counter[str] = Counter()
    times: list[str] = []
    after = 0
    while records := view.after(after, _BATCH):
        after = records[-1].seq
        for row in _rows(records):
            kinds[row.kind] += 1
            denials.update([row.reason] if row.reason else [])
            known.subjects |= {row.subject} if row.subject else set()
            times = [*times[:1], row.at]
    return {
        "records": sum(kinds.values()),
        "first_at": times[0] if times else None,
        "last_at": times[-1] if times else None,
        "kinds": dict(kinds.most_common()),
        "denials": dict(denials.most_common()),
    }


def _rows(records: Sequence[Any]) -> Iterator[_Row]:
    for record in records:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            yield msgspec.json.decode(record.payload, type=_Row)


def _versions(host: Host) -> dict[str, object]:
    return {"doord": __version__, "wheels": machine.wheels(), "machine": machine.versions(host).detail}


def _models(patient: Patient) -> list[dict[str, str]]:
    try:
        _, detector, embedder = entries(patient.config)
    except DoordError as error:
        return [{"fault": str(error)}]
    return [{"id": entry.id, "role": entry.role, "sha256": entry.sha256} for entry in (detector, embedder)]
