"""What becomes of a door on a Cortex-A72 that tries LiteRT's GPU accelerator: its trial dies, it does not.

    .cache/aarch64/python tests/aarch64/touched.py    # a line of a Markdown table

The processor's features are set aside, so that the child really loads the accelerator.
"""

from __future__ import annotations

import json
import sys

from edge.config import ModelsConfig
from edge.vision.gpu_children import Children
from edge.vision.gpu_conditions import Conditions
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelShelf
from edge.vision.selftest import load_model

DEVICE = {"name": "GPU", "kind": "integrated", "driver_version": "0x1", "lacking": []}
ANSWER = json.dumps({"devices": [DEVICE], "fault": ""})


def main() -> int:
    """See the module."""
    shelf = ModelShelf.open()
    entry = shelf.entry("blazeface-short-1", "detector")
    children = Children(look=(sys.executable, "-c", f"print({ANSWER!r})"))
    gpu = GpuVerdicts(ModelsConfig(), None, Conditions(""), children, budget_s=100)
    model = load_model(shelf, entry, ModelsConfig(), gpu)
    print(f"| the accelerator tried, against the first condition | {model.why}; {model.backend} goes on |")
    return 0 if model.why.endswith("it died of SIGILL") else 1


if __name__ == "__main__":
    sys.exit(main())
