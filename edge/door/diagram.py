"""The door's table as a Mermaid state diagram, drawn from the table itself. Pure."""

from __future__ import annotations

from edge.door.machine import TABLE
from edge.door.stimuli import LOCKED, Phase


def mermaid() -> str:
    """`stateDiagram-v2` of every move that changes the phase; Stop and LineFailed leave from all."""
    labels: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, stimulus), (to, _) in TABLE.items():
        if phase is not to and stimulus.__name__ not in ("Stop", "LineFailed"):
            labels.setdefault((phase, to), []).append(stimulus.__name__)
    moves = [
        f"    {phase.value} --> {to.value}: {', '.join(names)}"
        for (phase, to), names in sorted(labels.items(), key=lambda item: _place(*item[0]))
    ]
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {LOCKED.value}",
            *moves,
            f"    {Phase.BLOCKED.value}: {Phase.BLOCKED.value} (LineFailed, from anywhere)",
            f"    {Phase.STOPPED.value}: {Phase.STOPPED.value} (Stop, from anywhere)",
            "",
        ]
    )


def _place(*phases: Phase) -> list[int]:
    return [list(Phase).index(phase) for phase in phases]
