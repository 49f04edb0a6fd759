"""In the guest: runs the programs that the host names, one JSON line each way over a serial port.

It says "agent ready" first. Asked {"run": [argv], "timeout_s": 10, "input": ""}, it answers
{"code": 0, "out": "", "err": ""}; the code is null when the program had to be ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tty


def run(asked: dict) -> dict:
    """Run one program to its end, or to its time limit."""
    child = subprocess.Popen(
        asked["run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = child.communicate(asked.get("input", ""), timeout=asked["timeout_s"])
        return {"code": child.returncode, "out": out, "err": err}
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        out, err = child.communicate()
        return {"code": None, "out": out, "err": err}


def main() -> None:
    """Answer until the machine stops."""
    port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    with os.fdopen(port, "rb+", buffering=0) as line:
        line.write(b"\nagent ready\n")
        read = os.fdopen(os.dup(line.fileno()), "rb")
        while asked := read.readline():
            try:
                answer = run(json.loads(asked))
            except (OSError, ValueError, KeyError) as error:
                answer = {"code": None, "out": "", "err": f"agent: {error!r}"}
            data = json.dumps(answer).encode() + b"\n"
            while data:
                data = data[line.write(data) :]


main()
