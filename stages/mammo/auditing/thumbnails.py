"""The likeness of thumbnails: all pairs above a limit by a k-d tree, and the nearest neighbours of each."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from mammo.core import parallel
from mammo.core.randomness import generator

import numpy as np
import scipy.fft
from scipy.spatial import cKDTree

BLOCK = 2048  # thumbnails per block: a product of two blocks takes 16 MiB
SAME_PICTURE = 0.995  # correlation of thumbnails; in the complete Kaggle set all pairs above it are true duplicates
ROUNDING = 1e-4  # upper limit of float32's rounding error
FREQUENCIES = 16  # of the thumbnail's cosine transform, per direction
LEADING = 8  # numbers in which the even or odd part of a thumbnail is searched
LISTED = 50  # near-duplicates of one thumbnail that are listed, per group
TOGETHER = 2**17  # candidates that are checked at once
QUERIES = 256  # thumbnails that are searched for in the tree at once; each has as many candidates as copies

COARSE_FREQUENCIES = 8  # few, so that a crop by 5 % changes them little
NEIGHBOURS = 20  # per image by coarse correlation, checked for crops
NEIGHBOURS_OF_MANY = 5  # the same, beyond EXHAUSTIVE thumbnails
COARSE_LIKENESS = 0.9  # smallest coarse correlation of a neighbour
EXHAUSTIVE = 20_000  # thumbnails up to which neighbours are searched among all
CELL = 500  # thumbnails per cell beyond that number, on average
CELLS = 32  # cells that are searched for the neighbours of a thumbnail
TURNS = 4  # of the centres of cells

Two = tuple[int, int]
Oriented = tuple[float, bool, bool]
"""A correlation, whether the other thumbnail is mirrored for it, and whether it is inverted."""


class Spectra(NamedTuple):
    """Standardised thumbnails in the frequencies of a cosine transform, with a norm of 1.

    Mirroring changes the sign of a thumbnail's odd horizontal frequencies; inverting changes all signs. If e and o are
    the scalar products of the even and the odd parts of two thumbnails, their largest correlation over the four
    orientations is |e| + |o|.
    """

    even: np.ndarray
    """float32, (n, k), low frequencies that are even in the horizontal direction."""
    odd: np.ndarray
    """float32, (n, k), those that are odd."""
    rest: np.ndarray
    """float32, (n,), norm of all other frequencies."""

    def coarse(self) -> "Spectra":
        """Return the lowest frequencies alone, again with a norm of 1."""
        shape = (-1, FREQUENCIES, FREQUENCIES // 2)
        parts = [
            part.reshape(shape)[:, :COARSE_FREQUENCIES, : COARSE_FREQUENCIES // 2].reshape(len(part), -1)
            for part in (self.even, self.odd)
        ]
        norm = np.sqrt(sum(np.square(part).sum(axis=1, keepdims=True) for part in parts))
        even, odd = (part / norm for part in parts)
        return Spectra(even, odd, np.zeros(len(even), np.float32))


def spectra(thumbnails: np.ndarray) -> Spectra:
    """Return the low frequencies of thumbnails, none of which is blank.

    Args:
        thumbnails: uint8, (n, side, side).

    """
    number, half = len(thumbnails), FREQUENCIES // 2
    even, odd = (np.empty((number, FREQUENCIES * half), np.float32) for _ in range(2))
    rest = np.empty(number, np.float32)
    for start in range(0, number, BLOCK):
        part = thumbnails[start : start + BLOCK].astype(np.float32)
        part -= part.mean(axis=(1, 2), keepdims=True)
        part /= np.linalg.norm(part, axis=(1, 2), keepdims=True)
        low = scipy.fft.dctn(part, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
        even[start : start + BLOCK] = low[:, :, 0::2].reshape(len(low), -1)
        odd[start : start + BLOCK] = low[:, :, 1::2].reshape(len(low), -1)
        rest[start : start + BLOCK] = np.sqrt(np.maximum(0, 1 - (low.astype(np.float64) ** 2).sum(axis=(1, 2))))
    return Spectra(even, odd, rest)


def near_duplicates(thumbnails: np.ndarray, of: Spectra, groups: Sequence[str] | None = None) -> dict[Two, Oriented]:
    """Find all pairs whose correlation exceeds `SAME_PICTURE`, as they are, mirrored, inverted or both.

    Thumbnails of a norm of 1 that correlate above c are at most sqrt(2 - 2 c) apart, and so are their projections on
    any axes and the norms of what the axes leave out. A k-d tree finds all pairs that near to each other in a few
    projections (Bentley 1975, Commun. ACM 18:509). The scalar products of their low frequencies, which are wrong by at
    most the product of the norms of the others (Cauchy-Schwarz), leave few of them, which are correlated in float64.

    The number of pairs is quadratic in the number of copies of one image. A thumbnail is therefore listed with its
    first `LISTED` near-duplicates of each group only: if any pair spans two groups, one is listed.

    Args:
        thumbnails: uint8, (n, side, side).
        of: their spectra.
        groups: (n,) group of each, e.g. its split; None if all are of one.

    Returns:
        By pair (a, b), a < b, the correlation and the orientation of b.

    """
    found: dict[Two, Oriented] = {}
    listed: Counter[tuple[int, str]] = Counter()
    for a, b in close(of):
        group = (b, groups[a] if groups is not None else "")
        if listed[group] < LISTED and (exact := correlation(thumbnails[a], thumbnails[b]))[0] > SAME_PICTURE:
            found[a, b] = exact
            listed[group] += 1
    return found


def close(of: Spectra) -> Iterator[Two]:
    """Yield the pairs (a, b), a < b, that may correlate above the limit, sorted by b and a within each block of b."""
    radius = float(np.sqrt(2 - 2 * (SAME_PICTURE - ROUNDING)))
    (even, even_first), (odd, odd_first) = _projected(of.even), _projected(of.odd)
    points = np.column_stack([even, odd, of.rest])
    tree = cKDTree(points, balanced_tree=False, compact_nodes=True)
    for start in parallel.progress(range(0, len(points), QUERIES), "audit: near-duplicates", unit="blocks"):
        block = slice(start, start + QUERIES)
        candidates = []
        for flip_even in (False, True):
            for flip_odd in (False, True):
                # Both of a pair have the sign of their first number in common, unless it is small.
                small = (even_first[block] <= radius) | (not flip_even), (odd_first[block] <= radius) | (not flip_odd)
                rows = start + np.flatnonzero(small[0] & small[1])
                turned = points[rows]
                turned[:, :LEADING] *= -1 if flip_even else 1
                turned[:, LEADING + 1 : 2 * LEADING + 1] *= -1 if flip_odd else 1
                candidates.append(_within(tree, turned, rows, radius))
        pairs = np.unique(np.concatenate(candidates), axis=0)
        for first in range(0, len(pairs), TOGETHER):
            some = pairs[first : first + TOGETHER]
            b, a = some.T
            bound = np.abs(_products(of.even, some)) + np.abs(_products(of.odd, some)) + of.rest[a] * of.rest[b]
            near = bound > SAME_PICTURE - ROUNDING
            yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _projected(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the even or odd parts of thumbnails in the axes in which they differ most.

    Returns:
        float64, (n, LEADING + 1), their signs chosen so that a first number is positive, and the norm of what the axes
        leave out; and this first number, (n,), the frequency with the largest mean magnitude.

    """
    first = part[:, np.argmax(np.mean([np.abs(block).mean(axis=0) for block in _in_blocks(part)], axis=0))]
    signs = np.where(first < 0, np.float32(-1), np.float32(1))
    some = slice(None, None, max(1, len(part) // EXHAUSTIVE))
    axes = np.linalg.eigh(np.cov(part[some] * signs[some, None], rowvar=False))[1][:, ::-1][:, :LEADING]
    points = np.empty((len(part), LEADING + 1))
    for block, signed, sign in zip(_in_blocks(points), _in_blocks(part), _in_blocks(signs), strict=True):
        exact = signed.astype(np.float64)
        block[:, :LEADING] = exact @ axes * sign[:, None]
        left = np.square(exact).sum(axis=1) - np.square(block[:, :LEADING]).sum(axis=1)
        block[:, LEADING] = np.sqrt(np.maximum(0, left))
    return points, np.abs(first)


def _within(tree: cKDTree, points: np.ndarray, rows: np.ndarray, radius: float) -> np.ndarray:
    """Return the pairs (row, other) with another point of the tree before the row's that is within the radius."""
    found = tree.query_ball_point(points, radius, workers=parallel.cores(), return_sorted=False)
    sizes = np.fromiter(map(len, found), np.int64, len(found))
    others = np.fromiter(chain.from_iterable(found), np.int64, int(sizes.sum()))
    pairs = np.column_stack([np.repeat(rows, sizes), others])
    return pairs[pairs[:, 1] < pairs[:, 0]]


class Neighbours(NamedTuple):
    """Pairs of thumbnails, and how the second must be turned to match the first."""

    pairs: np.ndarray
    """int64, (n, 2), sorted; the first of a pair is the earlier thumbnail."""
    mirrored: np.ndarray
    """bool, (n,)."""
    inverted: np.ndarray
    """bool, (n,)."""


def neighbours(of: Spectra, without: Collection[Two] = ()) -> Neighbours:
    """Return pairs of a thumbnail and one of its `NEIGHBOURS` nearest by coarse correlation above `COARSE_LIKENESS`.

    Beyond `EXHAUSTIVE` thumbnails, `NEIGHBOURS_OF_MANY` are searched among those of the `CELLS` nearest cells only, so
    that time is linear in their number; docs/benchmarks.md says how many of the nearest that finds.

    Args:
        of: spectra of the thumbnails.
        without: pairs (a, b), a < b, that are left out.

    """
    coarse = of.coarse()
    number = len(coarse.even)
    found = [np.empty(0, np.int64)]
    for rows, best, who in _blocks(coarse) if number <= EXHAUSTIVE else _cells(coarse):
        row, column = np.nonzero(best > COARSE_LIKENESS)
        one, other = rows[row], who[row, column]
        found.append(np.minimum(one, other) * number + np.maximum(one, other))
    left_out = np.array([a * number + b for a, b in without], np.int64)
    pairs = np.column_stack(np.divmod(np.setdiff1d(np.concatenate(found), left_out), number))
    _, mirrored, inverted = _orientation(_products(coarse.even, pairs), _products(coarse.odd, pairs))
    return Neighbours(pairs, mirrored, inverted)


def _products(part: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the scalar product of the even or odd parts of each pair, float32, (n,)."""
    products = np.empty(len(pairs), np.float32)
    for block, (a, b) in zip(_in_blocks(products), (block.T for block in _in_blocks(pairs)), strict=True):
        block[:] = np.einsum("ij,ij->i", part[a], part[b])
    return products


Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Some thumbnails, (r,), the likenesses of their nearest neighbours, (r, k), and who these are, (r, k)."""


def _blocks(of: Spectra) -> Iterator[Part]:
    """Yield the nearest neighbours of a block of thumbnails after the other, searched among all."""
    starts = range(0, len(of.even), BLOCK)
    for top in parallel.progress(starts, "audit: neighbours", unit="blocks"):
        rows = np.arange(top, min(top + BLOCK, len(of.even)))
        best, who = _none(rows)
        for side in starts:
            columns = np.arange(side, min(side + BLOCK, len(of.even)))
            best, who = _nearer(best, who, likenesses(of, of, rows, columns), columns, NEIGHBOURS)
        yield rows, best, who


def _cells(of: Spectra) -> Iterator[Part]:
    """Yield the nearest neighbours of the thumbnails of a cell after the other, searched in the cells nearest to it."""
    centres = _centres(of, len(of.even) // CELL)
    every = np.arange(len(centres.even))
    cell = np.concatenate([_cell_of(of, rows, centres) for rows in _in_blocks(np.arange(len(of.even)))])
    members = np.split(np.argsort(cell, kind="stable"), np.searchsorted(np.sort(cell), every[1:]))

    def search(number: int) -> list[Part]:
        near = likenesses(centres, centres, every[number : number + 1], every)[0]
        near[number] = np.inf
        columns = np.concatenate([members[other] for other in np.argsort(-near, kind="stable")[:CELLS]])
        blocks = _in_blocks(members[number])
        return [
            (rows, *_nearer(*_none(rows), likenesses(of, of, rows, columns), columns, NEIGHBOURS_OF_MANY))
            for rows in blocks
        ]

    for parts in parallel.each(search, range(len(members)), "audit: neighbours", "cells"):
        yield from parts


def _centres(of: Spectra, number: int) -> Spectra:
    """Return the centres of cells: k-means for likeness, on a sample drawn by a fixed seed."""
    drawn = generator(1, "cells").permutation(len(of.even))[: max(4 * number, EXHAUSTIVE)]
    centres = Spectra(of.even[drawn[:number]], of.odd[drawn[:number]], np.zeros(number, np.float32))
    for _ in range(TURNS):
        nearest = np.concatenate([_cell_of(of, rows, centres) for rows in _in_blocks(drawn)])
        parts = []
        for part, centre in ((of.even, centres.even), (of.odd, centres.odd)):
            sign = np.where(np.einsum("ij,ij->i", part[drawn], centre[nearest]) < 0, -1, 1).astype(np.float32)
            total = np.zeros_like(centre)
            np.add.at(total, nearest, part[drawn] * sign[:, None])
            parts.append(total)
        norm = np.sqrt(sum(np.square(part).sum(axis=1, keepdims=True) for part in parts))
        empty = norm[:, 0] == 0
        even, odd = (np.where(norm > 0, part / np.where(norm > 0, norm, 1), 0) for part in parts)
        even[empty], odd[empty] = centres.even[empty], centres.odd[empty]
        centres = Spectra(even.astype(np.float32), odd.astype(np.float32), centres.rest)
    return centres


def _in_blocks(values: np.ndarray) -> list[np.ndarray]:
    return [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]


def _cell_of(of: Spectra, rows: np.ndarray, centres: Spectra) -> np.ndarray:
    return likenesses(of, centres, rows, np.arange(len(centres.even))).argmax(axis=1)


def likenesses(of: Spectra, others: Spectra, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the correlation of the low frequencies of each row with each column, float32; 0 with itself."""
    likeness = np.abs(of.even[rows] @ others.even[columns].T)
    likeness += np.abs(of.odd[rows] @ others.odd[columns].T)
    if of is others:
        likeness[rows[:, None] == columns] = 0
    return likeness


def _none(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(rows), 0), np.float32), np.zeros((len(rows), 0), np.int64)


def _nearer(
    best: np.ndarray, who: np.ndarray, likeness: np.ndarray, columns: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Update the `number` largest values of each row with those of other columns."""
    keep = min(number, likeness.shape[1])
    largest = np.argpartition(likeness, likeness.shape[1] - keep, axis=1)[:, -keep:]
    best = np.hstack([best, np.take_along_axis(likeness, largest, axis=1)])
    who = np.hstack([who, columns[largest]])
    order = np.argsort(-best, axis=1, kind="stable")[:, :number]
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(who, order, axis=1)


def _orientation(even: np.ndarray, odd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest correlations over the orientations, and whether these are mirrored and inverted."""
    mirrored = even * odd < 0
    return abs(even) + abs(odd), mirrored, np.where(mirrored | (abs(even) > abs(odd)), even, odd) < 0


def correlation(one: np.ndarray, other: np.ndarray) -> Oriented:
    """Return the exact correlation of two thumbnails in their best orientation, and that orientation."""
    one, other = one - one.mean(), other - other.mean()
    norm = np.sqrt((one * one).sum() * (other * other).sum())
    straight, mirror = float((one * other).sum() / norm), float((one * other[:, ::-1]).sum() / norm)
    likeness, mirrored, inverted = _orientation(*np.array([straight + mirror, straight - mirror]) / 2)
    return float(likeness), bool(mirrored), bool(inverted)
