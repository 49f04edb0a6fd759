"""What the release tests run in a process that is killed: one push after another."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from admin_site import NOW, PASSPHRASE, person, put_people

from edge.admin.folder import OpenSite
from edge.admin.release import push


def push_for_ever(folder: Path, told: Connection) -> None:
    """Change a person and push, again and again; tell each version once it is signed."""
    with OpenSite(folder, PASSPHRASE) as site:
        told.send(site.tree.version)
        while True:
            put_people(site, person("ada", site.tree.version + 10))
            told.send(push(site, NOW).publication.version)
