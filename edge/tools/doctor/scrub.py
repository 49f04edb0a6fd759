"""What may not leave the door, taken out of a text. Pure.

A subject becomes `subject-N`, the same one each time, so that a log can still be followed; a secret
becomes `***`. What is not known to be either can't be found: so what goes out is chosen first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_LOGIN = re.compile(r"(?<=//)[^/@\s]+@")
_TEMPLATES_OF = re.compile(r"templates of ([a-z0-9-]{1,32}) (?:enrolled|removed)")
_SHORTEST_SECRET = 4  # a shorter one would be found everywhere, and is none


class Scrubber:
    """Takes subjects and secrets out of texts."""

    def __init__(self, subjects: Iterable[str], secrets: Iterable[str]) -> None:
        self._names = {subject: f"subject-{i}" for i, subject in enumerate(sorted(set(subjects)), 1)}
        hidden = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, hidden))) if hidden else None
        ids = sorted(map(re.escape, self._names), key=len, reverse=True)
        # whole ids only: of `ada` nothing in `adapter` or `ada-2`
        self._ids = re.compile(rf"(?<![A-Za-z0-9-])({'|'.join(ids)})(?![A-Za-z0-9-])") if ids else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        text = _LOGIN.sub("...@", _PEM.sub("***", text))
        if self._secrets is not None:
            text = self._secrets.sub("***", text)
        if self._ids is not None:
            text = self._ids.sub(lambda found: self._names[found[1]], text)
        return text


def enrolled_in(text: str) -> set[str]:
    """Subjects that a log line names without a field for it."""
    return set(_TEMPLATES_OF.findall(text))
