"""How long the models take on each TFLite runtime, in turns on the same machine.

    .venv/bin/python deploy/measure_runtimes.py [--rounds 30] [--python .cache/tflite-runtime/venv/bin/python]

ai-edge-litert in this interpreter's environment, tflite-runtime (with and without XNNPACK for int8) in the
one that tests/test_tflite_runtime.py makes. Each way of running is a child process that waits for its turn;
in a round each runs every model once per thread count, so that other load hits all alike. Reported: the
median over the rounds of a run, ms, the known answer's drift, and the child's memory with every model loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OLDER = ROOT / ".cache/tflite-runtime/venv/bin/python"
MODELS = ("blazeface-short-1", "facenet-512-int8-1", "minifasnet-se-1")
THREADS = (1, 2)
RUNS = 3  # in a turn: the median of them


def serve(plain: bool) -> None:
    """The child: load everything, say so, then run each model once for each line that comes."""
    from edge.config import ModelsConfig
    from edge.tools.bench import memory_mb
    from edge.vision import xnnpack
    from edge.vision.manifest import ModelShelf
    from edge.vision.selftest import known_answer, load_model, output_drift

    if plain:
        xnnpack._VERSION = "none"
    shelf = ModelShelf.open()
    entries = [e for e in shelf.entries if e.id in MODELS]
    loaded, about = [], {}
    for entry in entries:
        shown, stored = known_answer(shelf, entry)
        for threads in THREADS:
            model = load_model(shelf, entry, ModelsConfig(threads=threads, delegate="cpu"))
            drift = max(output_drift(w, g) for w, g in zip(stored, model(shown), strict=True))
            loaded.append((f"{entry.id} {threads}t", model, shown))
            about[f"{entry.id} {threads}t"] = {"backend": model.backend, "drift": drift}
    print(json.dumps({"about": about, "rss_mb": memory_mb()[0]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({name: once(model, shown) for name, model, shown in loaded}), flush=True)


def once(model: Any, shown: Any) -> float:
    """The median of a few runs, ms."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        model(shown)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


class Child:
    """One way of running the models."""

    def __init__(self, python: Path, path: Path, *arguments: str) -> None:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(path)}
        self._process = subprocess.Popen(
            [str(python), __file__, "--serve", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        self.told = self._answer()
        self.times: list[dict[str, float]] = []

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a child ended before it answered: is its environment whole?")
        return json.loads(line)

    def turn(self) -> None:
        """Run everything once."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.times.append(self._answer())

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def package(folder: Path) -> Path:
    """A folder with `edge` in it and nothing else of this environment."""
    import edge

    inside = folder / "edge"
    inside.mkdir()
    for item in Path(edge.__file__).parent.iterdir():
        if item.name != "models":
            (inside / item.name).symlink_to(item)
    (inside / "models").symlink_to(Path(str(resources.files("edge.models"))))
    return folder


def measure(older: Path, rounds: int) -> list[Child]:
    """Every child after its rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = package(Path(folder))
        children = [Child(Path(sys.executable), path), Child(older, path), Child(older, path, "--plain")]
        for turn in range(rounds):
            for child in children if turn % 2 else reversed(children):
                child.turn()
        for child in children:
            child.end()
    return children


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--python", type=Path, default=OLDER)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.plain)
        return
    if not options.python.exists():
        raise SystemExit(f"{options.python}: not there: pytest tests/test_tflite_runtime.py makes it")
    load = os.getloadavg()[0]
    children = measure(options.python, options.rounds)
    print(f"{options.rounds} rounds, load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    print("| model | runs on | ms (1st, 9th tenth) | of the first | drift |\n|---|---|---|---|---|")
    for name in children[0].told["about"]:
        first = statistics.median(t[name] for t in children[0].times)
        for child in children:
            about, times = child.told["about"][name], sorted(t[name] for t in child.times)
            middle, low, high = (
                statistics.median(times),
                times[len(times) // 10],
                times[-len(times) // 10 - 1],
            )
            print(f"| {name} | {about['backend']} | **{middle:.2f}** ({low:.2f}, {high:.2f}) "
                  f"| {middle / first:.1f} | {about['drift']:.4f} |")  # fmt: skip
    print("memory, every model loaded:", ", ".join(f"{c.told['rss_mb']:.0f} MB" for c in children))


if __name__ == "__main__":
    main()
