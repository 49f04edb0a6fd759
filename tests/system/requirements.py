"""What doord needs at run time, a line each, as pyproject.toml has it."""

import re
from pathlib import Path

text = Path("pyproject.toml").read_text(encoding="utf-8")
listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
if listed is None:
    raise SystemExit("pyproject.toml: expected dependencies, got none")
print("\n".join(re.findall(r'^ *"([^"]+)",', listed[1], re.MULTILINE)))
