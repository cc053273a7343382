"""Search of another set for copies of a model's own images that were saved again, e.g. re-encoded or darkened."""

from collections.abc import Sequence

from mammo.auditing.duplicates import Pair, same_images
from mammo.core.dataset import Entry
from mammo.sources.external import Shared, shared

import numpy as np

FILE = "same file"  # found by `external.shared_with`, without a look at the pictures
EQUAL = (FILE, "same pixels")


def copies(own_set: Sequence[Entry], other: Sequence[Entry], pictures: np.ndarray) -> list[Shared]:
    """Return the images of another set that show the same exposure as an image of a model's own set.

    Two images are of one exposure if the audit calls them so, see `duplicates.same_images`. Equal files are left out.

    Args:
        own_set: all images of the model's own set.
        other: those of the other set.
        pictures: uint8, (own and other, height, width), both prepared alike, first those of the own set; may be
            memory-mapped.

    """
    entries = [*own_set, *other]
    first, originals = len(own_set), dict[int, tuple[int, Pair]]()
    for pair in same_images(pictures, [entry.sha256 for entry in entries], own=first):  # in order of position
        uniform = np.ptp(pictures[pair.second]) == 0  # black, or not readable: it shows no exposure
        if pair.second < first or pair.second in originals or uniform:
            continue
        if pair.first < first:
            originals[pair.second] = (pair.first, pair)
        elif pair.kind in EQUAL and pair.first in originals:  # equal images are searched for once
            originals[pair.second] = originals[pair.first]
    found = [
        (entries[copy], entries[original], pair)
        for copy, (original, pair) in sorted(originals.items())
        if entries[copy].sha256 != entries[original].sha256
    ]
    if not found:
        return []
    names = [f"{copy.image} of {original.image} ({_kind(pair)})" for copy, original, pair in found]
    splits = [original.split for _, original, _ in found]
    one, several = "image is a copy, saved again, of one in", "images are copies, saved again, of some in"
    return [shared(one, several, splits, names)]


def _kind(pair: Pair) -> str:
    words = [pair.kind, *(word for word in ("mirrored", "inverted") if getattr(pair, word))]
    return ", ".join([*words, *([f"likeness {pair.likeness:.4f}"] if pair.likeness < 1 else [])])
