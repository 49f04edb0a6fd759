"""Where the key is that seals gallery, cards and what a door knows of its site.

systemd hands it to the service as a credential (systemd.exec(5), CREDENTIALS_DIRECTORY); else it is a
file beside the data.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge.config import Config
from edge.disk import FileKey

CREDENTIAL = "gallery.key"


def key_of(config: Config) -> FileKey:
    """The key's file: the one that is configured, systemd's, or the one in the state directory."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and not config.key_file and (Path(folder) / CREDENTIAL).exists():
        # systemd grants the service's user by an access list, whose mask shows as the group's bits
        return FileKey(Path(folder) / CREDENTIAL, open_to=0o040)
    return FileKey(config.key_path)
