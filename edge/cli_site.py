"""`doord join | leave | sync`: a door and its site, on the device."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.cli_common import AddCommand, configured, say
from edge.errors import GalleryError


def site_commands(command: AddCommand) -> None:
    """The three commands."""
    sub = command("join", _join, "make this door part of a site, with the file of `doord admin door add`")
    sub.add_argument("file", type=Path)
    command("leave", _leave, "make this door a standalone one; what it has of its site is deleted")
    sub = command("sync", _sync, "ask the site for news now, of its broker or of a USB stick")
    sub.add_argument("folder", type=Path, nargs="?", help="where `doord admin export-tree` wrote")


def _join(options: argparse.Namespace) -> int:
    from edge.joined import join

    config = configured(options)
    joined = join(config, options.file)
    say(f"door {config.door_id} is part of site {joined.bundle.site}; restart doord: systemctl restart doord")
    say(f"note: {options.file} holds this door's keys: delete it now")
    if config.gallery_path.exists():
        say("note: who was enrolled on this door alone is no longer let in; `doord leave` brings that back")
    own_broker = config.mqtt.host if config.mqtt else ""
    for key, given in (("rights_file", config.rights_file), ("mqtt", own_broker)):
        if given:
            theirs = (
                "is used instead of the site's" if key == "mqtt" else "is not used: rights come from the site"
            )
            say(f"note: {key} of the configuration {theirs}")
    return 0


def _leave(options: argparse.Namespace) -> int:
    from edge.joined import leave

    config = configured(options)
    leave(config)
    say(f"door {config.door_id} stands alone")
    return 0


def _sync(options: argparse.Namespace) -> int:
    from edge.control import RemoteDesk

    config = configured(options)
    desk = RemoteDesk.find(Path(config.socket))
    if desk is None:
        raise GalleryError("doord is not running here, and syncs when it starts: systemctl start doord")
    say(desk.sync(None if options.folder is None else str(options.folder.resolve())))
    return 0
