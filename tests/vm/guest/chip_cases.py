"""What only a real chip can show: other holders, a chip that goes, the level behind a close.

pytest is given this file by name (tests/vm/run); nothing here runs elsewhere.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gpiochip
import pytest
from broker import wait_until
from gpiochip import SimLine

from edge.config import RelayConfig
from edge.door.gpio import RelayLine, claim_relay
from edge.errors import LineError

LINE = 17
_HOLD = """
import gpiod, sys
from gpiod.line import Direction, Value
settings = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value(int(sys.argv[2])))
held = gpiod.request_lines(sys.argv[1], {17: settings}, consumer="another")
print(flush=True)
sys.stdin.read()
"""


class Wired:
    """A relay on the chip: `active` unlocks, and the resistor on the line pulls to locked."""

    def __init__(self, active: str) -> None:
        self.active = active
        self.unlocked = int(active == "high")
        self.locked = 1 - self.unlocked
        self.look()

    def look(self) -> None:
        """Find the chip as it is plugged in now."""
        self.line = SimLine(LINE)
        self.line.pull(self.locked)
        gpiochip.forget()

    def claim(self) -> RelayLine:
        return claim_relay(RelayConfig(LINE, self.line.chip, self.active), simulation=False)

    @contextlib.contextmanager
    def held(self, level: int) -> Iterator[subprocess.Popen[bytes]]:
        """The line in the hand of another process."""
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD, self.line.chip, str(level)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout.readline() == b"\n"
            yield holder
            holder.kill()


@pytest.fixture(params=["high", "low"])
def relay(request):
    gpiochip.plug(True)
    yield Wired(request.param)
    gpiochip.keep_level(False)
    gpiochip.plug(True)


def test_a_claim_and_a_close_never_drive_the_line_to_unlocked(relay):
    relay.claim().close()
    assert set(relay.line.driven()) == {relay.locked}
    assert relay.line.level == relay.locked


def test_unlocked_is_the_active_level(relay):
    lock = relay.claim()
    lock.unlock(30)
    assert relay.line.level == relay.unlocked
    lock.close()
    assert relay.line.level == relay.locked


def test_a_line_of_another_process_is_refused_and_not_moved(relay):
    with relay.held(relay.locked):
        gpiochip.forget()
        with pytest.raises(LineError, match=f'{relay.line.chip} line {LINE}: .*busy.*held by "another"'):
            relay.claim()
        assert relay.line.driven() == []
        assert relay.line.level == relay.locked
    relay.claim().close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_thousand_claims_and_closes_leave_no_file_open_and_never_unlock(relay):
    relay.claim().close()
    before = open_files()
    for _ in range(1000):
        relay.claim().close()
    assert open_files() == before
    assert set(relay.line.driven()) == {relay.locked}


def test_a_chip_unplugged_during_a_pulse_is_a_fault_and_never_unlocks_again(relay):
    lock = relay.claim()
    lock.unlock(30)
    gpiochip.plug(False)
    for drive in (lock.lock, lambda: lock.unlock(30)):
        with pytest.raises(LineError, match=f"{relay.line.chip} line {LINE}: can't be driven to"):
            drive()
    lock.close()  # says so, raises nothing
    gpiochip.plug(True)
    relay.look()
    again = relay.claim()
    assert set(relay.line.driven()) == {relay.locked}
    assert relay.line.level == relay.locked
    again.close()


def test_no_chip_is_a_line_error_that_names_it(relay):
    gpiochip.plug(False)
    with pytest.raises(LineError, match=f"{relay.line.chip}: .*No such file"):
        relay.claim()


def test_a_killed_holder_leaves_its_level_where_the_kernel_keeps_it(relay):
    """The trap of Pi kernels, and that this simulated chip can show it."""
    for keep, after in ((False, relay.locked), (True, relay.unlocked)):
        gpiochip.keep_level(keep)
        with relay.held(relay.unlocked) as holder:
            assert relay.line.level == relay.unlocked
            holder.kill()
            holder.wait()
        assert relay.line.level == after


def test_a_restart_locks_what_a_killed_holder_left_unlocked(relay):
    gpiochip.keep_level(True)
    with relay.held(relay.unlocked):
        pass
    wait_until(lambda: relay.line.level == relay.unlocked, "the holder is gone, its level is not")
    lock = relay.claim()
    assert relay.line.level == relay.locked
    lock.close()
    assert relay.line.level == relay.locked
