"""`doord-lock`: drive the door's lines to locked, whatever has become of the daemon.

systemd runs it after the daemon has ended (ExecStopPost): a Pi's kernel keeps a released output
at its last level, so a daemon killed while the door is released would leave it released. It
imports nothing but the standard library, reads no configuration, and is done within 1 s. What to
drive stands in the file that the daemon wrote at its start, a line for each output: the lock's, then
the lamp's and the sounder's, for a siren must not outlast the daemon either:

    /dev/gpiochip0 17 0        the chip, the offset, the level that is locked, or off
"""

import errno
import signal
import sys
import time

from edge import gpio_uapi

PATH = "/run/doord/lines"
_BUSY_S = 0.7  # how long a line may stay held by a process that is still dying
_LINES = 1024  # more than any chip has
_ALL_S = 0.9  # a driver that hangs: the kernel ends this process (SIGALRM)


def main() -> int:
    """Drive all lines of the file named, or of /run/doord/lines. 0: all are as they should be."""
    signal.setitimer(signal.ITIMER_REAL, _ALL_S)
    path = sys.argv[1] if len(sys.argv) > 1 else PATH
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  # pathlib is slow to import
            specs = file.read().splitlines()
    except FileNotFoundError:
        return 0  # no line was ever claimed
    except OSError as error:
        _say(f"{path}: {error.strerror}")
        return 1
    deadline = time.monotonic() + _BUSY_S
    failed = [spec for spec in specs if not _rest(spec, path, deadline)]
    return int(bool(failed))


def _rest(spec: str, path: str, deadline: float) -> bool:
    """Whether the line that a line of the file names has its level of rest now."""
    try:
        chip, offset, level = spec.rsplit(" ", 2)
        line, rest = range(_LINES).index(int(offset)), {"0": 0, "1": 1}[level]
    except (ValueError, KeyError):
        _say(f"{path}: expected `<chip> <offset> <0 or 1>`, got {spec[:80]!r}")
        return False
    while True:
        try:
            gpio_uapi.drive(chip, line, rest, "doord-lock")
        except (OSError, ValueError) as error:
            if time.monotonic() < deadline and getattr(error, "errno", None) == errno.EBUSY:
                time.sleep(0.02)
                continue
            _say(f"{chip} line {line}: can't be driven to {rest}: {error}")
            return False
        _say(f"{chip} line {line}: driven to {rest}")
        return True


def _say(words: str) -> None:
    print(f"doord-lock: {words}", file=sys.stderr)  # noqa: T201  # journald reads it


if __name__ == "__main__":
    sys.exit(main())
