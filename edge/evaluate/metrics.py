"""Figures of a verification: FMR, FNMR, EER, accuracy, and how sure they are. Pure.

A pair matches when its distance is below the threshold (strictly, as at the door). A pair with
a refused picture has the distance +inf: it matches at no threshold. Terms: ISO/IEC 19795-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
BIN = 1000  # histogram bins per unit of distance
MAX_DISTANCE = 2.0


def wilson(count: ArrayLike, of: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % confidence interval of the rate `count / of` (of >= 1): lower and upper bounds, 0..1.

    Wilson's score interval (Newcombe 1998, Statistics in Medicine 17:857, method 3): closed
    form, so every threshold has one, and sound at 0 errors. It takes comparisons as independent.
    """
    k, n = np.asarray(count, np.float64), np.asarray(of, np.float64)
    z2 = _Z95 * _Z95
    middle, half = 2 * k + z2, _Z95 * np.sqrt(z2 + 4 * k * (1 - k / n))
    low = np.maximum(middle - half, 0) / (2 * (n + z2))
    high = np.minimum((middle + half) / (2 * (n + z2)), 1)
    return np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)  # rounding leaves 1e-17 there


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate and its 95 % confidence interval."""

    count: int
    of: int
    rate: float  # 0..1
    low: float
    high: float


def rate(count: int, of: int) -> Rate:
    """`count` of `of` (>= 1) with Wilson's interval."""
    low, high = wilson(count, of)
    return Rate(int(count), int(of), count / of, float(low), float(high))


def bin_edges(*thresholds: float) -> NDArray[np.float64]:
    """Rising edges over 0..2, 0.001 apart, and the thresholds themselves.

    With a threshold among the edges the counts below it are exact, not rounded to a bin.
    """
    # k / 1000 and not k * 0.001: only the former is exactly the 0.7 that a config says
    grid = np.arange(round(MAX_DISTANCE * BIN) + 1) / BIN
    inside = [t for t in thresholds if 0 <= t <= MAX_DISTANCE]
    return np.unique(np.concatenate([grid, np.asarray(inside, np.float64)]))


@dataclass(frozen=True, slots=True)
class Tally:
    """Two histograms of distances. What is in no bin (+inf: refused) is still in the total."""

    edges: NDArray[np.float64]  # (B + 1,), rising, 0..2
    genuine: NDArray[np.int64]  # (B,) pairs with edges[i] <= distance < edges[i + 1]
    impostor: NDArray[np.int64]  # (B,)
    genuine_pairs: int
    impostor_pairs: int

    def matches(self, threshold: float) -> tuple[int, int]:
        """Genuine and impostor pairs below a threshold that is one of the edges."""
        below = int(np.searchsorted(self.edges, threshold))
        return int(self.genuine[:below].sum()), int(self.impostor[:below].sum())

    def fmr(self, threshold: float) -> Rate:
        """False match rate: impostor pairs below an edge."""
        return rate(self.matches(threshold)[1], self.impostor_pairs)

    def fnmr(self, threshold: float) -> Rate:
        """False non-match rate: genuine pairs not below an edge, refused ones included."""
        return rate(self.genuine_pairs - self.matches(threshold)[0], self.genuine_pairs)

    def accuracy(self, threshold: float) -> Rate:
        """Pairs judged rightly at an edge."""
        genuine, impostor = self.matches(threshold)
        pairs = self.genuine_pairs + self.impostor_pairs
        return rate(genuine + self.impostor_pairs - impostor, pairs)

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """FMR and FNMR at every edge, (B + 1,) each."""
        fmr = np.concatenate([[0], self.impostor.cumsum()]) / self.impostor_pairs
        tmr = np.concatenate([[0], self.genuine.cumsum()]) / self.genuine_pairs
        return fmr, 1 - tmr

    def eer(self) -> tuple[float, float] | None:
        """Where FMR and FNMR are equal: the rate and the threshold, on the line between edges.

        None: so many pictures are refused that the curves do not cross.
        """
        fmr, fnmr = self.curves()
        gap = fmr - fnmr
        above = np.flatnonzero(gap >= 0)
        if not len(above):
            return None
        i = int(above[0])
        if gap[i] == 0:  # equal over a stretch of thresholds: its middle
            flat = above[gap[above] == 0]
            return float(fmr[i]), float((self.edges[i] + self.edges[flat[-1]]) / 2)
        share = float(gap[i - 1] / (gap[i - 1] - gap[i]))
        return _between(fmr, i, share), _between(self.edges, i, share)


def _between(values: NDArray[np.float64], i: int, share: float) -> float:
    return float(values[i - 1] + share * (values[i] - values[i - 1]))


def tally_pairs(
    distances: NDArray[np.float32], genuine: NDArray[np.bool_], edges: NDArray[np.float64]
) -> Tally:
    """The histograms of listed pairs: (P,) distances, +inf for refused, and (P,) which are genuine."""
    own, other = distances[genuine], distances[~genuine]
    return Tally(edges, count_bins(own, edges), count_bins(other, edges), len(own), len(other))


def count_bins(distances: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """(B,) how many distances lie in each `[edge, next edge)`; exactly 2 and +inf lie in none."""
    place = np.searchsorted(edges, distances.astype(np.float64), side="right")
    return np.bincount(place, minlength=len(edges) + 1)[1 : len(edges)].astype(np.int64)


def tally_all(
    vectors: NDArray[np.float32],
    usable: NDArray[np.bool_],
    subjects: NDArray[np.intp],
    edges: NDArray[np.float64],
    block: int = 512,
) -> Tally:
    """The histograms of all pairs of N pictures: (N, D) unit rows, (N,) not refused, (N,) whose.

    Blocks of rows against all later rows, so memory stays at `block` x N.
    """
    n, sizes = len(subjects), np.bincount(subjects)
    genuine_pairs = int((sizes * (sizes - 1) // 2).sum())
    kept, owners = vectors[usable], subjects[usable]
    genuine, impostor = np.zeros((2, len(edges) - 1), np.int64)
    for start in range(0, len(kept), block):
        rows, later = kept[start : start + block], kept[start:]
        away = np.sqrt(np.maximum(2 - 2 * (rows @ later.T), 0))
        once = np.arange(len(later)) > np.arange(len(rows))[:, None]
        same = owners[start : start + block, None] == owners[None, start:]
        genuine += count_bins(away[once & same], edges)
        impostor += count_bins(away[once & ~same], edges)
    return Tally(edges, genuine, impostor, genuine_pairs, n * (n - 1) // 2 - genuine_pairs)


def best_threshold(distances: NDArray[np.float32], genuine: NDArray[np.bool_]) -> float:
    """The threshold, 0..2, of the highest accuracy: the middle of the widest best plateau.

    Accuracy is constant between two neighbouring distances, so a threshold there is the one
    least bound to single pictures. A refused pair (+inf) is accepted at none.
    """
    compared = np.isfinite(distances)
    places, order = np.unique(distances[compared], return_inverse=True)
    gain = np.bincount(order, np.where(genuine[compared], 1, -1), len(places))
    score = np.concatenate([[0], gain.cumsum()])  # after accepting the first i places
    ends = np.concatenate([places.astype(np.float64), [MAX_DISTANCE]]).clip(0, MAX_DISTANCE)
    starts = np.concatenate([[0.0], ends[:-1]])
    width = np.where(score == score.max(), ends - starts, -1)
    best = int(width.argmax())
    return float((starts[best] + ends[best]) / 2)
