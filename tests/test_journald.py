"""The same records read back by journalctl, from a real journald in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from broker import die_with_parent, wait_until

from edge.message_ids import MESSAGE_IDS

JOURNALD = Path("/lib/systemd/systemd-journald")
TOOLS = [shutil.which(name) for name in ("unshare", "nsenter", "journalctl", "mount")]

# journald's paths below /run are fixed, so it gets a /run of its own
START = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal/$(cat /etc/machine-id)
exec /lib/systemd/systemd-journald
"""
SAY = """
import logging, os
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from edge.journal import said, start_logging
start_logging(DOOR="front", SITE="hq")
log = logging.getLogger("edge.x")
log.warning("DoorTamper: %s", "the case is open", extra=said("DoorTamper", EVENT_ID="e-1", SEQ=4))
try:
    1 / 0
except ZeroDivisionError:
    log.exception("thread died")
log.info("long %s", "x" * 100_000)
"""


@pytest.fixture
def inside(tmp_path):
    """inside(*command): run where journald runs; its output."""
    if os.geteuid() != 0 or not JOURNALD.exists() or None in TOOLS:
        pytest.skip("needs root, journald and util-linux")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    daemon = subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", START], stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
    )

    def run(*command: str) -> str:
        entered = ["nsenter", f"--mount=/proc/{daemon.pid}/ns/mnt", f"--wd={Path.cwd()}", *command]
        return subprocess.run(entered, capture_output=True, text=True, timeout=30).stdout

    try:
        wait_until(lambda: "socket" in run("ls", "/run/systemd/journal"), "journald's socket")
        yield run
    finally:
        daemon.kill()
        daemon.wait()


def test_journalctl_finds_a_record_by_its_id_and_shows_all_of_it(inside):
    inside(sys.executable, "-c", SAY)
    read = ("journalctl", "--directory=/run/log/journal", "--no-pager", "-t", "doord")
    wait_until(lambda: len(inside(*read, "-o", "json").splitlines()) == 3, "three records")
    found = inside(*read, "-o", "json", f"MESSAGE_ID={MESSAGE_IDS['DoorTamper']}")
    record = json.loads(found)
    assert record["MESSAGE"] == "DoorTamper: the case is open"
    assert (record["DOOR"], record["SITE"], record["SEQ"], record["PRIORITY"]) == ("front", "hq", "4", "4")
    assert record["_TRANSPORT"] == "journal"
    shown = inside(*read, "-o", "cat")
    assert "ZeroDivisionError: division by zero" in shown
    assert "blob" not in shown
    errors = inside(*read, "-o", "cat", "-p", "err")
    assert errors.startswith("thread died\nTraceback")
    assert "DoorTamper" not in errors
