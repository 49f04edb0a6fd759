"""In the guest: a site's releases, one folder each, and what a door has in force that takes them all.

releases.py COUNT. `FOLDER/<n>` is a USB stick with release n and nothing else; `fingerprints.json`
has one of each release, in order, taken from a door that no power cut ever met.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path

from published import Published, a_vector, joined_bundle_file
from repository import NOW, SIGNED_BY, Repository

from edge.config import load_config
from edge.joined import join
from edge.link.trust import SiteTrust
from edge.site import Content, Site

FOLDER = Path("/var/lib/releases")
CONFIG = Path("/etc/doord/joined.yaml")
MODEL = ("facenet-int8", 512)
PEOPLE = 48
SHARDS = 16
_TEXT = """site: hq
door_id: front
simulation: true
state_dir: /var/lib/joined
door: {relay: {line: 17}}
"""


def fingerprint(content: Content) -> str:
    """Another one when anything else is in force: a template, a right, a card, a command key."""
    parts = (
        content.gallery.digest,
        sorted(content.rights.subjects.items()),
        sorted(content.cards.by_digest.items()),
        sorted(content.command_keys),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def change(site: Published, number: int) -> None:
    """Every third person gets other templates and rights, one gets a card: some files change, some stay."""
    until = str(date(2026, 6, 1) + timedelta(days=number))
    for i in range(PEOPLE):
        if number == 1 or i % 3 == number % 3:
            site.enrol(f"p-{i}", *(a_vector(number * 1000 + 2 * i + k) for k in (0, 1)), until=until)
    site.cards = {f"wedge:{number}": f"p-{number % PEOPLE}"}


def publish(site: Published, number: int) -> None:
    """Sign release `number`, and write it and no other one to its folder."""
    change(site, number)
    content = site.content()
    repository = site.repository
    assert repository.publish(content) == number
    paths = {repository.newest(role) for role in SIGNED_BY} | {repository.path(name) for name in content}
    repository.served = {path: repository.served[path] for path in paths}
    repository.write(FOLDER / str(number))


def main() -> None:
    """Join the door, publish, and take each release into force on a door of its own."""
    FOLDER.mkdir(parents=True)
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(_TEXT)
    site = Published(Repository(), *MODEL, shard_count=SHARDS)
    join(load_config(CONFIG), joined_bundle_file(site.bundle(), FOLDER / "bundle"))
    trust = SiteTrust(FOLDER / "witness", site.bundle().root, site.repository, lambda: NOW)
    witness = Site(site.bundle(), trust, MODEL)
    found = []
    for number in range(1, int(sys.argv[1]) + 1):
        publish(site, number)
        assert witness.update()
        found.append(fingerprint(witness.content))
    assert len(set(found)) == len(found)
    (FOLDER / "fingerprints.json").write_text(json.dumps(found))
    os.sync()


if __name__ == "__main__":
    main()
