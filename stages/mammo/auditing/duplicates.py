"""Search for duplicates: equal files, equal pixels, and near-duplicates, also mirrored, inverted or cropped."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from mammo.auditing import thumbnails
from mammo.auditing.findings import Finding
from mammo.core import dataset, parallel
from mammo.core.dataset import Dataset

import cv2
import numpy as np

THUMBNAIL = 64  # pixels
BLANK = 0.5  # grey levels; largest standard deviation of a blank thumbnail
TOGETHER = 256  # images per task of a thread
COMPARED = 64  # pairs per task
ITERATIONS = 10  # of a registration; more did not find more of the planted crops
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


def same_images(
    images: np.ndarray, hashes: Sequence[str], splits: Sequence[str] | None = None, own: int | None = None
) -> list[Pair]:
    """Return pairs of images that show the same exposure.

    Equal images are paired with the first of them, and only the first is compared with other images. The search for
    near-duplicates is exhaustive: it finds every pair whose thumbnails correlate above `thumbnails.SAME_PICTURE`, as
    they are, mirrored, inverted or both; of an image with many, the first `thumbnails.LISTED` of each split are
    returned. Crops are searched for among each image's nearest neighbours.

    Args:
        images: uint8, (n, height, width), may be memory-mapped.
        hashes: hash of each image's file.
        splits: (n,) split of each image; None if there are none.
        own: number of first images that are of another set than the rest; crops are then searched for only between the
            two sets. None if all are of one.

    Returns:
        Pairs in order of position.

    """
    files = _equal(hashes, range(len(images)), "same file")
    left = sorted(set(range(len(images))) - {pair.second for pair in files})
    pixels = _equal([sha256(images[i].tobytes()).digest() for i in left], left, "same pixels")
    left = sorted(set(left) - {pair.second for pair in pixels})
    return sorted([*files, *pixels, *_alike(images, np.array(left, dtype=np.int64), splits, own)])


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


class _Candidate(NamedTuple):
    """A pair of images that may be of the same exposure, with their thumbnails."""

    first: int
    second: int
    thumbnail: np.ndarray
    other: np.ndarray
    mirrored: bool
    inverted: bool


def _alike(images: np.ndarray, positions: np.ndarray, splits: Sequence[str] | None, own: int | None) -> Iterator[Pair]:
    positions, small = _textured(images, positions)
    if len(positions) < 2:
        return
    of = thumbnails.spectra(small)
    groups = None if splits is None else [splits[position] for position in positions]
    near = thumbnails.near_duplicates(small, of, groups)
    for (a, b), (likeness, mirrored, inverted) in near.items():
        yield Pair(int(positions[a]), int(positions[b]), "near-duplicate", likeness, mirrored, inverted)
    beside = thumbnails.neighbours(of, near)
    del of
    first, second = positions[beside.pairs].T
    asked = range(len(first)) if own is None else np.flatnonzero((first < own) & (own <= second)).tolist()

    def candidate(number: int) -> _Candidate:
        a, b = beside.pairs[number]
        how = bool(beside.mirrored[number]), bool(beside.inverted[number])
        return _Candidate(int(positions[a]), int(positions[b]), small[a], small[b], *how)

    candidates = _Chunks(candidate, asked, COMPARED)
    compare = partial(_compared, dataset.by_path(images))
    for found in parallel.spread(compare, candidates, "audit: same exposure", f"×{COMPARED} pairs"):
        yield from found


class _Chunks(Sequence[list[Any]]):
    """Items that are made of others when their chunk is asked for."""

    def __init__(self, make: Callable[[Any], Any], of: Sequence[Any], size: int) -> None:
        self._make, self._of, self._size = make, of, size

    def __len__(self) -> int:
        return -(-len(self._of) // self._size)

    def __getitem__(self, number: Any) -> list[Any]:
        return [self._make(one) for one in self._of[number * self._size : (number + 1) * self._size]]


def _textured(images: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the images that are not blank, and their thumbnails.

    Blank images cannot be compared; `odd_scans` reports them.
    """
    small = np.empty((len(positions), THUMBNAIL, THUMBNAIL), np.uint8)
    kept = 0
    chunks = [positions[start : start + TOGETHER] for start in range(0, len(positions), TOGETHER)]
    textured = np.zeros(len(positions), bool)
    resized = parallel.spread(partial(_thumbnails, dataset.by_path(images)), chunks, "audit: thumbnails", "chunks")
    for start, part in zip(range(0, len(positions), TOGETHER), resized, strict=True):
        not_blank = part.std(axis=(1, 2)) > BLANK
        textured[start : start + len(part)] = not_blank
        small[kept : kept + not_blank.sum()] = part[not_blank]
        kept += int(not_blank.sum())
    return positions[textured], small[:kept]


def _thumbnails(images: np.ndarray | dataset.OnDisk, positions: np.ndarray) -> np.ndarray:
    return np.stack([_resized(images[position], THUMBNAIL) for position in positions])


def _compared(images: np.ndarray | dataset.OnDisk, candidates: Sequence[_Candidate]) -> list[Pair]:
    """Return the candidates that are of the same exposure, found by registration."""
    found = (_registered(images, candidate) for candidate in candidates)
    return [pair for pair in found if pair is not None]


def _registered(images: np.ndarray | dataset.OnDisk, pair: _Candidate) -> Pair | None:
    how = pair.mirrored, pair.inverted
    small = _turned(pair.other, *how)
    start = _registration(pair.thumbnail, small, THUMBNAIL)
    if start is None or _agreement(pair.thumbnail, small, start, 1) < FIRST_LOOK:
        return None
    if thumbnails.correlation(pair.thumbnail, pair.other)[0] > thumbnails.SAME_PICTURE:
        return None  # a near-duplicate beyond those that are listed
    other = _turned(_resized(images[pair.second], SCALE), *how)
    likeness = _likeness_of_detail(_resized(images[pair.first], SCALE), other, start)
    return None if likeness < SAME_DETAIL else Pair(pair.first, pair.second, "same exposure", likeness, *how)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape == (side, side):
        return np.ascontiguousarray(image)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _turned(image: np.ndarray, mirrored: bool = False, inverted: bool = False) -> np.ndarray:
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(255 - image if inverted else image)


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
