"""What published curves under pseudonyms still tell: how many are unique, and how many link across epochs.

Unicity is the share of curves that no other curve agrees with at p points drawn at random: Y.-A. de Montjoye, C. A.
Hidalgo, M. Verleysen, V. D. Blondel: Unique in the Crowd, Scientific Reports 3, 1376 (2013). Linkage is the share of
curves of one epoch whose nearest curve of the next one is their own: the attack of M. Jawurek, M. Johns, K. Rieck:
Smart Metering De-Pseudonymization, ACSAC 2011, in its simplest form. Both are of a sample. Among more curves fewer are
unique, and fewer link: of all that is published the shares are smaller than of the sample, not greater.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

UNICITY_FORMULA = "share of curves with which no other agrees at p random points (de Montjoye et al. 2013)"
LINKAGE_FORMULA = (
    "share of curves whose nearest of the next epoch, by asinh(kWh) of the months that both have, is their own; "
    "ties by chance (after Jawurek et al. 2011)"
)
_UNITS = 1e6
#: Curves that are compared with all others at a time: what bounds the memory.
_AT_ONCE = 64
#: Distances that differ by less are the same, computed in another order.
_SAME = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Curves under pseudonyms.

    Attributes:
        ids: binary(16), distinct pseudonyms.
        energy: int64 [ids, points], millionths of a kWh, as published; 0 where unknown.
        known: bool, the same shape.
    """

    ids: pa.Array
    energy: Ints
    known: Mask


def gather_curves(pseudonyms: pa.Array, points: Ints, energy: Ints, width: int) -> Curves:
    """Gather rows to curves; what has one pseudonym and point is added up.

    Args:
        pseudonyms: binary(16), of each row.
        points: int64, which point of a curve it is, from 0.
        energy: int64, millionths of a kWh.
        width: how many points a curve has.
    """
    encoded = pseudonyms.dictionary_encode()
    place = encoded.indices.to_numpy(), points
    shape = len(encoded.dictionary), width
    sums, known = np.zeros(shape, np.int64), np.zeros(shape, bool)
    np.add.at(sums, place, energy)
    known[place] = True
    return Curves(encoded.dictionary, sums, known)


def measure_unicity(
    curves: Curves, known_points: int, most: int, random: np.random.Generator
) -> tuple[int, float | None]:
    """Measure the share of curves that are unique at some of their points.

    Args:
        curves: of one epoch.
        known_points: how many points an attacker knows.
        most: how many curves are looked at, drawn at random; each is compared with all.
        random: draws curves and points.

    Returns:
        How many were looked at, and the share; None where no curve has so many points.
    """
    able = np.flatnonzero(curves.known.sum(axis=1) >= known_points)
    chosen = random.permutation(able)[:most]
    if not len(chosen):
        return 0, None
    drawn = np.where(curves.known[chosen], random.random((len(chosen), curves.known.shape[1])), 2)
    points = np.argsort(drawn, axis=1)[:, :known_points]
    unique = 0
    for begin in range(0, len(chosen), _AT_ONCE):
        of, at = chosen[begin : begin + _AT_ONCE], points[begin : begin + _AT_ONCE]
        agree = np.ones((len(of), len(curves.ids)), bool)
        for column in at.T:
            agree &= curves.known[:, column].T & (curves.energy[of, column][:, None] == curves.energy[:, column].T)
        unique += int((agree.sum(axis=1) == 1).sum())
    return len(chosen), unique / len(chosen)


def measure_linkage(
    before: Curves, after: Curves, pairs: tuple[Ints, Ints], most: int, random: np.random.Generator
) -> tuple[int, float | None]:
    """Measure the share of curves whose nearest in the next epoch is their own.

    Args:
        before: of one epoch; the points are those that both epochs have.
        after: of the next one.
        pairs: rows of ``before``, and of ``after``, that are in truth the same.
        most: how many pairs are looked at, drawn at random; each is compared with all of ``after``.
        random: draws them.

    Returns:
        How many were looked at, and the share; None where no pair has every point.
    """
    whole = np.flatnonzero(after.known.all(axis=1))
    place = np.full(len(after.ids), -1)
    place[whole] = np.arange(len(whole))
    complete: Mask = np.logical_and.reduce(before.known, axis=1)
    able = np.flatnonzero(complete[pairs[0]] & (place[pairs[1]] >= 0))
    chosen = random.permutation(able)[:most]
    if not len(chosen) or not before.energy.shape[1]:
        return 0, None
    others = np.arcsinh(after.energy[whole] / _UNITS)
    mine, own = np.arcsinh(before.energy[pairs[0][chosen]] / _UNITS), place[pairs[1][chosen]]
    linked = 0.0
    for begin in range(0, len(chosen), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        distance = np.zeros((len(mine[rows]), len(whole)))
        for point in range(others.shape[1]):
            distance += (mine[rows, point, None] - others[None, :, point]) ** 2
        nearest: Mask = np.less_equal(distance, distance.min(axis=1, keepdims=True) + _SAME)
        found = nearest[np.arange(len(nearest)), own[rows]]
        linked += float((found / nearest.sum(axis=1)).sum())
    return len(chosen), linked / len(chosen)
