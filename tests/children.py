"""Camera children for tests: hostile ones, and doord's own with a sibling of a library before its path."""

from __future__ import annotations

import sys
from pathlib import Path

from edge.vision.child import PROGRAM, Program

_PREFIX = """
import json, mmap, os, runpy, struct, sys, time
decoder = runpy.run_path(PROGRAM)
RECORD, HEADER, MAGIC, SLOTS = (decoder[k] for k in ("RECORD", "HEADER", "MAGIC", "SLOTS"))
request = json.loads(sys.stdin.buffer.readline())
fd = int(sys.argv[1])
memory = mmap.mmap(fd, 0)
room = len(memory) // SLOTS
def say(line):
    os.write(2, (request["mark"] + " " + line + "\\n").encode("utf-8", "surrogateescape"))
def paint(slot, sequence, value, size=64 * 48 * 3):
    HEADER.pack_into(memory, slot * room, sequence)
    memory[slot * room + HEADER.size : slot * room + HEADER.size + size] = bytes([value]) * size
def tell(slot=0, width=64, height=48, at=None, sequence=1, magic=MAGIC):
    os.write(1, RECORD.pack(magic, slot, width, height, time.monotonic_ns() if at is None else at, sequence))
"""


def child(body: str) -> Program:
    """A child that does what `body` says; it has `say`, `paint`, `tell`, `memory`, `request`."""
    code = f"PROGRAM = {str(PROGRAM)!r}\n{_PREFIX}\n{body}"
    return Program((sys.executable, "-I", "-c", code), {}, "the camera")


def python_with(folder: Path, at: Path) -> Path:
    """An interpreter, to be called as `-I PROGRAM ...`, for which the modules of `folder` come first."""
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    at.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -c "{code}" "$@"\n')
    at.chmod(0o755)
    return at
