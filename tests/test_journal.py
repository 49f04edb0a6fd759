"""The log: what journald is given, what a terminal is given, and what is said once and counted."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge import journal
from edge.journal import Folding, Journal, Voice, datagram, printable, said, start_logging
from edge.message_ids import MESSAGE_IDS

log = logging.getLogger("edge.test")


def fields_of(data: bytes) -> dict[str, str]:
    """A datagram as journald reads it (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
        data = rest
    return found


class Journald:
    """A socket like journald's."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "journal.sock")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(5)

    def receive(self) -> dict[str, str]:
        return fields_of(self._socket.recv(1 << 20))

    def all(self) -> list[dict[str, str]]:
        self._socket.settimeout(0)
        found = []
        while True:
            try:
                found.append(self.receive())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journald(tmp_path):
    made = Journald(tmp_path)
    yield made
    made.close()


@pytest.fixture
def voice(journald):
    """The log as it is under systemd; undone at the end."""
    logger = logging.getLogger("edge")
    before = (logger.handlers[:], logger.level, logger.propagate)
    made = Voice(Journal(journald.address, {"SYSLOG_IDENTIFIER": "doord", "DOOR": "front", "SITE": "hq"}))
    logger.handlers[:] = [made]
    logger.setLevel(logging.DEBUG)
    yield made
    made.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_a_record_carries_its_kind_its_door_and_its_place(voice, journald):
    log.warning("the %s is open", "case", extra=said("DoorTamper", EVENT_ID="e1", SEQ=7, REASON=None))
    got = journald.receive()
    assert got["MESSAGE"] == "the case is open"
    assert got["MESSAGE_ID"] == MESSAGE_IDS["DoorTamper"]
    assert (got["KIND"], got["EVENT_ID"], got["SEQ"]) == ("DoorTamper", "e1", "7")
    assert (got["DOOR"], got["SITE"], got["SYSLOG_IDENTIFIER"]) == ("front", "hq", "doord")
    assert (got["PRIORITY"], got["LOGGER"], got["CODE_FUNC"]) == (
        "4",
        log.name,
        "test_a_record_carries_its_kind_its_door_and_its_place",
    )
    assert got["CODE_FILE"] == __file__
    assert got["CODE_LINE"].isdecimal()
    assert "REASON" not in got


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, "7"),
        (logging.INFO, "6"),
        (logging.WARNING, "4"),
        (logging.ERROR, "3"),
        (logging.CRITICAL, "2"),
    ],
)
def test_each_level_has_journalds_priority(voice, journald, level, priority):
    log.log(level, "x")
    assert journald.receive()["PRIORITY"] == priority


def test_a_dying_threads_trace_is_whole_and_a_message_is_one_line(voice, journald):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it\ndied")
    first, *trace = journald.receive()["MESSAGE"].split("\n")
    assert first == "it | died"
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-2:] == ["ValueError: two", "lines"]


def test_what_a_stranger_sent_moves_no_terminal_and_forges_no_field(voice, journald):
    log.error(
        "refused: %s", "a\x1b[2Jb\r\nMESSAGE_ID=f00\x00", extra=said("BrokerFault", DETAIL="x\nDOOR=back")
    )
    got = journald.receive()
    assert got["MESSAGE"] == "refused: a\\x1b[2Jb\\x0d | MESSAGE_ID=f00\\x00"
    assert (got["DOOR"], got["DETAIL"]) == ("front", "x\\x0aDOOR=back")
    assert got["MESSAGE_ID"] == MESSAGE_IDS["BrokerFault"]


def test_the_longest_text_still_fits_a_datagram(voice, journald):
    log.info("%s", "扉" * 1_000_000)
    assert journald.receive()["MESSAGE"] == "扉" * (32 * 1024 // 3)


def test_a_field_with_line_breaks_is_framed():
    data = datagram({"A": "1", "B": "x\ny", "C": "2"})
    assert data == b"A=1\nB\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\nC=2\n"


def test_without_journald_the_line_goes_to_stderr_with_its_priority(tmp_path, capsys):
    voice = Voice(Journal(str(tmp_path / "nobody"), {}))
    voice.handle(logging.makeLogRecord({"name": "edge.x", "msg": "hello", "levelno": logging.ERROR}))
    assert capsys.readouterr().err == "<3>hello\n"


def test_a_journald_that_hangs_costs_lines_and_a_moment_and_says_how_many(tmp_path, journald, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    door = Journal(journald.address, {})
    sent = 0
    while not door._lost:  # nobody receives: the queue fills, then one send waits, then none
        door.send({"MESSAGE": str(sent)})
        sent += 1
    assert all(door.send({"MESSAGE": "not even tried"}) for _ in range(9))
    assert len(journald.all()) == sent - 1
    now[0] = 5.0
    assert door.send({"MESSAGE": "again"})
    assert journald.all() == [{"MESSAGE": "again", "LINES_LOST": "10"}]
    assert door.send({"MESSAGE": "and on"})
    assert journald.all() == [{"MESSAGE": "and on"}]


def record(line: int, text: str = "broken", level: int = logging.ERROR, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord({"pathname": "x.py", "lineno": line, "msg": text, "levelno": level, **more})


def test_a_fault_that_repeats_is_said_five_times_a_minute_and_then_counted():
    folding = Folding()
    assert [folding.admits(record(1), 0.0) for _ in range(20)] == [True] * 5 + [False] * 15
    assert folding.admits(record(2), 1.0)  # another place
    assert list(folding.due(59.9)) == []
    (summary,) = folding.due(60.0)
    assert summary.getMessage() == "15 more like this in 60 s: broken"
    assert (summary.levelno, summary.journal["COUNT"]) == (logging.ERROR, "15")
    assert folding.admits(record(1), 60.0)


def test_no_event_is_ever_folded_and_no_line_below_a_warning():
    folding = Folding()
    event = said("DoorForcedOpen", EVENT_ID="e")
    assert all(folding.admits(record(1, level=logging.WARNING, **event), 0.0) for _ in range(100))
    assert all(folding.admits(record(1, level=logging.INFO), 0.0) for _ in range(100))


def test_what_was_folded_is_said_at_the_end(voice, journald):
    for i in range(8):
        log.error("broken %d", i)
    voice.close()
    said_ = [got["MESSAGE"] for got in journald.all()]
    assert said_ == [f"broken {i}" for i in range(5)] + ["3 more like this in 60 s: broken 7"]


def test_every_message_id_is_its_own():
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(len(bytes.fromhex(one)) == 16 for one in MESSAGE_IDS.values())


def test_printable_keeps_every_letter():
    assert printable("Tür, дверь, 扉\t\x85") == "Tür, дверь, 扉\\x09\\x85"
    assert printable("a\u2028b\u202ec\ud800") == "a\\u2028b\\u202ec\\ud800"


SAY = """
import logging, os, sys
from edge.journal import said, start_logging
if sys.argv[2] == "journald":
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
start_logging(address=sys.argv[1], DOOR="front")
logging.getLogger("edge.x").info("ready", extra=said("Armed"))
"""


@pytest.mark.parametrize("stderr", ["journald", "a terminal or a file"])
def test_journald_is_asked_only_where_stderr_is_its_own(journald, stderr):
    done = subprocess.run(
        [sys.executable, "-c", SAY, journald.address, stderr],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "JOURNAL_STREAM": "1:1"},  # inherited from a service that started this one
    )
    if stderr == "journald":
        assert done.stderr == ""
        got = journald.receive()
        assert (got["MESSAGE"], got["DOOR"], got["KIND"]) == ("ready", "front", "Armed")
    else:
        assert journald.all() == []
        assert done.stderr.endswith(" INFO    ready\n")


def test_logging_starts_at_info_and_keeps_one_handler():
    logger = logging.getLogger("edge")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        start_logging()
        start_logging(verbose=True)
        assert (len(logger.handlers), logger.level) == (1, logging.DEBUG)
        start_logging()
        assert logger.level == logging.INFO
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
