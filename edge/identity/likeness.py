"""What makes pictures one photograph, or one person: the rules of an enrolment. Pure.

Of pictures and of a subject's templates alike; `names` are the pictures', for messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import AlreadyEnrolled, EnrolmentError
from edge.identity.match import distances

Vector = NDArray[np.float32]  # (D,), unit L2 norm

SAME_PHOTO = 0.05
"""L2 distance below which two pictures are one photograph. The same file is 0.00 away, and saved
again as JPEG of quality 75 0.03 in the median (LFW, 142 pictures). The next pictures of somebody
sitting still before a webcam start at 0.09 (80 pairs), so that `--camera` is not refused; another
photograph starts at 0.25 (LFW, 663 pairs)."""
SAME_PERSON = 1.0
"""L2 distance below which a picture may join a subject's others. Looser than the door's threshold,
which would turn away 28 to 41 % of honest sets of 2 to 5 photographs; 1.0 turns away 1 %, and 0.26 %
of strangers' pictures would pass (LFW, 300 people)."""
ADVISED = "3 to 5 photographs in different light are recognised more surely"


def refuse_known_photos(
    subject: str, names: Sequence[str], vectors: Sequence[Vector], own: Sequence[Vector]
) -> None:
    """No photograph twice, neither among these nor among the subject's templates.

    Raises:
        AlreadyEnrolled: as named.
    """
    known = list(own)
    for name, vector in zip(names, vectors, strict=True):
        away = float(distances(vector, np.stack(known)).min()) if known else 2.0
        if not away >= SAME_PHOTO:
            raise AlreadyEnrolled(
                f"{name}: subject {subject} has this photograph already (distance {away:.3f})"
            )
        known.append(vector)


def refuse_strangers(
    subject: str, names: Sequence[str], vectors: Sequence[Vector], own: Sequence[Vector]
) -> None:
    """All pictures must hang together, each within SAME_PERSON of one that belongs.

    What belongs grows from the subject's templates, or else from the first picture: a chain, so
    that with and without a beard pass with a picture between, and two pairs of strangers do not.

    Raises:
        EnrolmentError: naming the picture that does not belong.
    """
    known = list(own) or [vectors[0]]
    left = list(range(len(vectors)))
    while left:
        away = [float(distances(vectors[i], np.stack(known)).min()) for i in left]
        nearest = int(np.argmin(away))
        i = left.pop(nearest)
        if not away[nearest] < SAME_PERSON:
            raise EnrolmentError(
                f"{names[i]}: not the person of {f'subject {subject}' if own else names[0]} "
                f"(distance {away[nearest]:.2f}, expected < {SAME_PERSON:g})"
            )
        known.append(vectors[i])


def advice(own: Sequence[Vector], limit: float) -> list[str]:
    """What the admin should know about a subject's own templates."""
    if len(own) < 2:
        return [f"only 1 template: {ADVISED}"]
    stack = np.stack(own)
    each_to_all = np.stack([distances(row, stack) for row in stack])
    apart = float(each_to_all[np.triu_indices(len(own), 1)].mean())
    if not apart < limit:
        return [f"the photographs differ much (mean distance {apart:.2f}): add some like the door's view"]
    return []
