"""Search for duplicates: equal files, equal pixels, and near-duplicates, also mirrored, inverted or cropped."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from mammo.auditing.findings import Finding
from mammo.core import parallel
from mammo.core.dataset import Dataset

import cv2
import numpy as np
import scipy.fft

THUMBNAIL = 64  # pixels
BLANK = 0.5  # grey levels; largest standard deviation of a blank thumbnail
SAME_PICTURE = 0.995  # correlation of thumbnails; in the complete Kaggle set all pairs above it are true duplicates
FREQUENCIES = 16  # of the thumbnail's cosine transform, per direction
COARSE_FREQUENCIES = 8  # few, so that a crop by 5 % changes them little
NEIGHBOURS = 5  # per image by coarse correlation, checked for crops
COARSE_LIKENESS = 0.9  # smallest coarse correlation of a neighbour
BLOCK = 2048  # images per side: blocks of 16 MiB

ITERATIONS = 10  # of a registration; more did not find more of the planted crops
ROUNDING = 1e-4  # upper limit of float32's rounding error
Two = tuple[int, int]
KINDS = ("same file", "same pixels", "near-duplicate", "same exposure")
SCALE = 224  # pixels at which two registered images are compared
BREAST = (12, 243)  # grey levels between background and saturated white, also when inverted
FIRST_LOOK = 0.1  # smallest correlation of detail in thumbnails for a comparison at full scale
SAME_DETAIL = 0.4  # correlation of fine detail: below 0.15 for different images, 0.94 for a crop by 5 % (median)


@dataclass(frozen=True, order=True)
class Pair:
    """Two images of the same exposure."""

    first: int
    """Position of the earlier image."""
    second: int
    """Position of the later one."""
    kind: str
    """`same file`, `same pixels`, `near-duplicate` or `same exposure`."""
    likeness: float = 1.0
    """Correlation of the thumbnails; for `same exposure`, correlation of fine detail after registration."""
    mirrored: bool = False
    """Left and right are exchanged."""
    inverted: bool = False
    """Black and white are exchanged."""


def same_images(images: np.ndarray, hashes: Sequence[str]) -> list[Pair]:
    """Return all pairs of images that show the same exposure.

    Equal images are paired with the first of them, and only the first is compared with other images. The search for
    near-duplicates is exhaustive: it finds every pair whose thumbnails correlate above `SAME_PICTURE`, as they are,
    mirrored, inverted or both. Crops are searched for among each image's nearest neighbours.

    Args:
        images: uint8, (n, height, width), may be memory-mapped.
        hashes: hash of each image's file.

    Returns:
        Pairs in order of position.

    """
    files = _equal(hashes, range(len(images)), "same file")
    left = sorted(set(range(len(images))) - {pair.second for pair in files})
    pixels = _equal([sha256(images[i].tobytes()).digest() for i in left], left, "same pixels")
    left = sorted(set(left) - {pair.second for pair in pixels})
    return sorted([*files, *pixels, *_alike(images, np.array(left, dtype=np.int64))])


def images_twice(data: Dataset, pairs: Sequence[Pair]) -> list[Finding]:
    """Return the findings of pairs of the same exposure: leaks across splits and contradicting labels."""
    findings = []
    for pair in pairs:
        one, other = data.entries[pair.first], data.entries[pair.second]
        details = [pair.kind, *(word for word in ("mirrored", "inverted") if getattr(pair, word))]
        if pair.likeness < 1:
            details.append(f"likeness {pair.likeness:.4f}")
        if one.patient != other.patient:
            details.append(f"patients {one.patient or 'unknown'} and {other.patient or 'unknown'}")
        patient = one.patient if one.patient == other.patient else ""
        row = (one.image, other.image, patient, ", ".join(details))
        across = one.split != other.split
        findings.append(
            Finding("same_image_across_splits", "leak", *row) if across else Finding("same_image", "warning", *row)
        )
        if one.label != other.label:
            findings.append(Finding("same_image_with_both_labels", "warning", *row))
    return findings


def _equal(keys: Sequence[Hashable], positions: Iterable[int], kind: str) -> list[Pair]:
    first: dict[Hashable, int] = {}
    pairs = []
    for key, position in zip(keys, positions, strict=True):
        if key in first:
            pairs.append(Pair(first[key], position, kind))
        else:
            first[key] = position
    return pairs


def _alike(images: np.ndarray, positions: np.ndarray) -> Iterator[Pair]:
    small = np.empty((len(positions), THUMBNAIL, THUMBNAIL), np.uint8)
    for place, position in enumerate(positions):
        small[place] = _resized(images[position], THUMBNAIL)
    # blank images cannot be compared; `odd_scans` reports them
    textured = np.array([thumbnail.std() > BLANK for thumbnail in small], dtype=bool)
    positions, thumbnails = positions[textured], small if textured.all() else small[textured]
    if len(positions) < 2:
        return
    near, turn = _search(thumbnails)
    for (a, b), (likeness, mirrored, inverted) in near.items():
        yield Pair(int(positions[a]), int(positions[b]), "near-duplicate", likeness, mirrored, inverted)

    def compare(pair: tuple[int, int]) -> Pair | None:
        a, b = pair
        mirrored, inverted = turn[pair]
        start = _registration(_turned(thumbnails[a]), _turned(thumbnails[b], mirrored, inverted), THUMBNAIL)
        if start is None:
            return None
        if _agreement(thumbnails[a], _turned(thumbnails[b], mirrored, inverted), start, 1) < FIRST_LOOK:
            return None
        one = _resized(images[positions[a]], SCALE)
        other = _turned(_resized(images[positions[b]], SCALE), mirrored, inverted)
        likeness = _likeness_of_detail(one, other, start)
        if likeness < SAME_DETAIL:
            return None
        return Pair(int(positions[a]), int(positions[b]), "same exposure", likeness, mirrored, inverted)

    candidates = [pair for pair in sorted(turn) if pair not in near]
    compared = parallel.each(compare, candidates, "audit: same exposure", "pairs")
    yield from (pair for pair in compared if pair is not None)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape == (side, side):
        return np.ascontiguousarray(image)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _turned(image: np.ndarray, mirrored: bool = False, inverted: bool = False) -> np.ndarray:
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(255 - image if inverted else image)


def _transformed(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the low frequencies of standardised thumbnails' cosine transform, and the norm of all other frequencies.

    Returns:
        float32, (n, FREQUENCIES, FREQUENCIES), and float32, (n,).

    """
    low = np.empty((len(thumbnails), FREQUENCIES, FREQUENCIES), np.float32)
    for start in range(0, len(thumbnails), BLOCK):
        part = thumbnails[start : start + BLOCK].astype(np.float32)
        part -= part.mean(axis=(1, 2), keepdims=True)
        part /= np.linalg.norm(part, axis=(1, 2), keepdims=True)
        low[start : start + BLOCK] = scipy.fft.dctn(part, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
    rest = np.sqrt(np.maximum(0, 1 - (low.astype(np.float64) ** 2).sum(axis=(1, 2))))
    return low, rest.astype(np.float32)


def _even_odd(low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return low[:, :, 0::2].reshape(len(low), -1), low[:, :, 1::2].reshape(len(low), -1)


def _search(thumbnails: np.ndarray) -> tuple[dict[Two, tuple[float, bool, bool]], dict[Two, tuple[bool, bool]]]:
    """Find all near-duplicates, and the nearest neighbours of each image.

    Mirroring changes the sign of an image's odd horizontal frequencies; inverting changes all signs. If e and o are the
    scalar products of the even and the odd parts of two images, their largest correlation over the four orientations
    is |e| + |o|. Using low frequencies only, the error is at most the product of the norms of the omitted frequencies
    (Cauchy-Schwarz), so a few hundred numbers per image exclude nearly all pairs without missing a near-duplicate.

    Returns:
        Two dictionaries by pair (a, b), a < b. For near-duplicates: the correlation, whether b is mirrored, whether it
        is inverted. For pairs of NEIGHBOURS: whether b must be mirrored, and whether inverted, to match a.

    """
    low, rest = _transformed(thumbnails)
    even, odd = _even_odd(low)
    coarse = low[:, :COARSE_FREQUENCIES, :COARSE_FREQUENCIES]
    coarse_even, coarse_odd = _even_odd(coarse / np.linalg.norm(coarse, axis=(1, 2), keepdims=True))
    near: dict[Two, tuple[float, bool, bool]] = {}
    turn: dict[Two, tuple[bool, bool]] = {}
    starts = range(0, len(low), BLOCK)
    for top in parallel.progress(starts, "audit: near-duplicates", unit="blocks"):
        rows = slice(top, top + BLOCK)
        best = np.zeros((len(low[rows]), 0), np.float32)
        who = np.zeros((len(low[rows]), 0), np.int64)
        for side in starts:
            columns = slice(side, side + BLOCK)
            likeness = np.abs(coarse_even[rows] @ coarse_even[columns].T)
            likeness += np.abs(coarse_odd[rows] @ coarse_odd[columns].T)
            if top == side:
                np.fill_diagonal(likeness, 0)
            best, who = _nearest(best, who, likeness, side)
            if side < top:
                continue
            bound = np.abs(even[rows] @ even[columns].T)
            bound += np.abs(odd[rows] @ odd[columns].T)
            bound += rest[rows, None] * rest[None, columns]
            for row, column in np.argwhere(bound > SAME_PICTURE - ROUNDING).tolist():
                a, b = top + row, side + column
                if a < b and (exact := _correlation(thumbnails[a], thumbnails[b]))[0] > SAME_PICTURE:
                    near[a, b] = exact
        for row, column in np.argwhere(best > COARSE_LIKENESS).tolist():
            a, b = sorted((top + row, int(who[row, column])))
            products = float(coarse_even[a] @ coarse_even[b]), float(coarse_odd[a] @ coarse_odd[b])
            turn[a, b] = _orientation(*products)[1:]
    return near, turn


def _nearest(best: np.ndarray, who: np.ndarray, likeness: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Update the NEIGHBOURS largest values of each row with a new block whose columns begin at `offset`."""
    keep = min(NEIGHBOURS, likeness.shape[1])
    columns = np.argpartition(likeness, likeness.shape[1] - keep, axis=1)[:, -keep:]
    best = np.hstack([best, np.take_along_axis(likeness, columns, axis=1)])
    who = np.hstack([who, columns + offset])
    order = np.argsort(-best, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(who, order, axis=1)


def _orientation(even: float, odd: float) -> tuple[float, bool, bool]:
    """Return the largest correlation over the orientations, and whether that one is mirrored and inverted."""
    mirrored = even * odd < 0
    return abs(even) + abs(odd), mirrored, (even if mirrored or abs(even) > abs(odd) else odd) < 0


def _correlation(one: np.ndarray, other: np.ndarray) -> tuple[float, bool, bool]:
    """Return the exact correlation of two thumbnails in their best orientation, and that orientation."""
    one, other = one - one.mean(), other - other.mean()
    norm = np.sqrt((one * one).sum() * (other * other).sum())
    straight, mirror = float((one * other).sum() / norm), float((one * other[:, ::-1]).sum() / norm)
    return _orientation((straight + mirror) / 2, (straight - mirror) / 2)


def _registration(one: np.ndarray, other: np.ndarray, side: int, start: np.ndarray | None = None) -> np.ndarray | None:
    """Register `other` to `one` at `side` pixels (Evangelidis & Psarakis 2008, IEEE TPAMI 30:1858).

    Returns:
        affine map, float32, (2, 3), from pixels of `one` to pixels of `other`; None if the search does not converge.

    """
    template, moved = (cv2.GaussianBlur(_resized(image, side).astype(np.float32), (0, 0), 1) for image in (one, other))
    begin = np.eye(2, 3, dtype=np.float32) if start is None else start.copy()
    enough = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, ITERATIONS, 1e-3 if start is None else 1e-4)
    everywhere = np.full(template.shape, 255, np.uint8)
    try:
        return cv2.findTransformECC(template, moved, begin, cv2.MOTION_AFFINE, enough, everywhere, 1)[1]
    except cv2.error:
        return None


def _rescaled(transform: np.ndarray, factor: float) -> np.ndarray:
    """Return an affine map for images enlarged by `factor`; pixel centres are at half-integers."""
    linear, centre = transform[:, :2].astype(np.float64), np.full(2, factor / 2 - 0.5)
    shift = factor * transform[:, 2] + centre - linear @ centre
    return np.column_stack([linear, shift]).astype(np.float32)


def _likeness_of_detail(one: np.ndarray, other: np.ndarray, start: np.ndarray) -> float:
    """Refine a registration of thumbnails on SCALE-pixel images and return the correlation of fine detail."""
    half = SCALE // 2
    transform = _registration(one, other, half, _rescaled(start, half / THUMBNAIL))
    return 0.0 if transform is None else _agreement(one, other, _rescaled(transform, 2), 2)


def _agreement(one: np.ndarray, other: np.ndarray, transform: np.ndarray, scale: float) -> float:
    """Return the correlation of fine detail inside the breast, after `other` is registered to `one`.

    Outline and overall brightness, which are similar in different breasts, are removed: detail is the difference from a
    Gaussian blur of `scale` pixels, divided by its local strength.
    """
    size = one.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(
        other.astype(np.float32), transform, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1e6
    )
    low, high = BREAST
    inside = ((one > low) & (one < high) & (laid > low) & (laid < high)).astype(np.uint8)
    reach = 4 * round(scale) + 1
    inside = cv2.erode(inside, np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if inside.mean() < 0.04:  # too little to compare
        return 0.0
    a = _detail(one.astype(np.float32), scale)[inside]
    b = _detail(np.maximum(laid, 0), scale)[inside]
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def _detail(image: np.ndarray, scale: float) -> np.ndarray:
    detail = image - cv2.GaussianBlur(image, (0, 0), scale)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 3 * scale))
    return detail / (strength + 1.5)
