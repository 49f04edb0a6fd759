"""What a GPU's children are in tests: programs of a line, in place of `vulkan` and `gpu_probe`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GPU = {"name": "Orin (nvgpu)", "kind": "integrated", "driver_version": "0x1", "lacking": []}


def script(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"import json, os, signal, sys, time\n{code}"


def sees(*devices: dict, fault: str = "") -> tuple[str, ...]:
    return script(f"print(json.dumps({{'devices': {devices!r}, 'fault': {fault!r}}}))")


def says(why: str = "", log: Path = Path(os.devnull)) -> tuple[str, ...]:
    """A trial that notes the question."""
    return script(f"""
with open({str(log)!r}, "a") as file: file.write(sys.stdin.read() + "\\n")
print(json.dumps({{"why": {why!r}, "gpu_ms": 1.0, "cpu_ms": 2.0}}))""")
