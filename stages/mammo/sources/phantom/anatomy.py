"""Patients of the synthetic set and their breasts: density classes, outline, tissue, pectoral muscle, vessels.

Everything is computed in float64, by NumPy and SciPy, and rounded to grey levels at the end: the last bits of an
exponential or of a product differ between processors, and in float32 (or with OpenCV's filters) that would change the
grey level of one pixel in a million.
"""

from dataclasses import dataclass
from functools import lru_cache

from mammo.core.randomness import generator
from mammo.core.settings import Phantoms

import cv2
import numpy as np
from scipy import fft, ndimage

FIELD = 160.0
"""Edge of the square field of view, mm."""
FAT = 0.27
"""Brightness of fat at full thickness, 0 to 1."""
SIDES = ("L", "R")
VIEWS = ("CC", "MLO")
DELIVERY = ("train", "test", "train", "valid", "train", "train", "valid", "train", "test", "train")
"""Split of the 1st, 2nd, … patient of a class, repeated cyclically: 6 : 2 : 2 for any number of patients."""
FIRST_PATIENT = 1001


@dataclass(frozen=True)
class Density:
    """A density class of the breast."""

    beta: float
    """Exponent of the tissue's power spectrum K / f^beta."""
    share: float
    """Share of women."""
    extent: float
    """Extent of the fibroglandular disc, relative to the breast."""
    gland: float
    """Brightness of that disc relative to fat."""
    contrast: float
    """Standard deviation of its texture."""


# beta: digitised film at 0.2 mm per pixel gives 2.68 ± 0.27 for fatty, 3.08 ± 0.21 for glandular and 3.17 ± 0.25 for
# dense breasts; class b takes the mean over all mammograms, 2.8 (Burgess 2003, Proc. SPIE 5034).
# Shares: the usual 10, 40, 40 and 10 % of women in screening (ACR BI-RADS, 5th edition).
DENSITIES = {
    "a": Density(beta=2.68, share=0.1, extent=0.45, gland=0.04, contrast=0.050),
    "b": Density(beta=2.80, share=0.4, extent=0.70, gland=0.09, contrast=0.070),
    "c": Density(beta=3.08, share=0.4, extent=0.90, gland=0.17, contrast=0.085),
    "d": Density(beta=3.17, share=0.1, extent=1.10, gland=0.22, contrast=0.070),
}


@dataclass(frozen=True)
class Patient:
    """Properties shared by all images of a patient. Lengths in mm."""

    number: int
    label: int
    split: str
    density: str
    depth: float
    """Distance from chest wall to nipple."""
    upper: float
    """Height of the breast above the nipple in CC, on the chest wall."""
    lower: float
    """Height of the breast below the nipple in CC, on the chest wall."""
    axilla: float
    """Distance from chest wall to skin at the upper edge of MLO, relative to depth."""
    pectoral: tuple[float, float]
    """Width of the pectoral muscle at the upper edge of MLO and its height along the left edge."""
    side: str
    """The affected side of a patient with cancer."""


def _density_of(seed: int, label: int, place_in_class: int) -> str:
    """Return the density of the n-th patient of a class; each block of ten has every density according to its share.

    Independent draws would differ between the classes by chance, and brightness would then separate the classes.
    """
    ten = [name for name, density in DENSITIES.items() for _ in range(round(10 * density.share))]
    block, place = divmod(place_in_class, len(ten))
    return ten[generator(seed, "phantom density", label, block).permutation(len(ten))[place]]


def patient_of(settings: Phantoms, index: int) -> Patient:
    """Return the patient at `index` (from 0), which does not depend on the number of patients."""
    before, after = (int(np.floor(settings.cancer_share * (index + i) + 0.5)) for i in (0, 1))
    label = after - before
    place_in_class = before if label else index - before
    random = generator(settings.seed, "phantom patient", index)
    return Patient(
        number=FIRST_PATIENT + index,
        label=label,
        split=DELIVERY[place_in_class % len(DELIVERY)],
        density=_density_of(settings.seed, label, place_in_class),
        depth=random.uniform(82, 112),
        upper=random.uniform(54, 74),
        lower=random.uniform(54, 74),
        axilla=random.uniform(0.4, 0.85),
        pectoral=(random.uniform(28, 55), random.uniform(60, 115)),
        side=str(random.choice(SIDES)),
    )


@lru_cache(maxsize=4)
def _frequency(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial frequency of each coefficient of `rfft2`, cycles per field, and the integer nearest to it."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    radius[0, 0] = 1.0
    return radius, np.rint(radius).astype(np.int64)


def _normal(random: np.random.Generator, size: int) -> np.ndarray:
    """Return independent normal numbers, float64, (size, size), drawn with the precision of float32."""
    return random.standard_normal((size, size), dtype=np.float32).astype(np.float64)


def _with_power_law(field: np.ndarray, beta: float) -> np.ndarray:
    """Scale the power spectrum of `field` to a radial mean of K / f^beta; return it with mean 0, standard deviation 1.

    The phases are kept, and with them the strands, which noise with random phases lacks. Above 60 mm the power is
    constant, since larger structures are those of the breast itself.
    """
    radius, ring = _frequency(len(field))
    spectrum = fft.rfft2(field)
    power = np.bincount(ring.ravel(), (spectrum.real**2 + spectrum.imag**2).ravel()) / np.maximum(
        np.bincount(ring.ravel()), 1
    )
    gain = np.maximum(radius, FIELD / 60) ** (-beta / 2) / np.sqrt(np.maximum(power, 1e-12))[ring]
    spectrum *= gain
    spectrum[0, 0] = 0
    result = fft.irfft2(spectrum, s=field.shape)
    return result / result.std()


def coordinates(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of the pixel centres in mm, from the left (1, size) and from the upper edge (size, 1)."""
    along = (np.arange(size) + 0.5) * FIELD / size
    return along[None, :], along[:, None]


def _tissue(random: np.random.Generator, size: int, beta: float, nipple: tuple[float, float]) -> np.ndarray:
    """Return the texture of tissue, (size, size), with a power spectrum K / f^beta; mean 0, variance 1.

    The power law is that of mammograms (Burgess 2003, Proc. SPIE 5034). The strands are the ridges of a noise field
    stretched along the rays from the nipple (mm), the direction of ducts and Cooper's ligaments.
    """
    x, y = coordinates(size)
    angle = np.arctan2(y - nipple[1], nipple[0] - x)
    distance = np.hypot(nipple[0] - x + 15, y - nipple[1])
    noise = _with_power_law(_normal(random, size), 2.0)
    across, along = 0.32 * size * angle, distance * size / FIELD / 2.2
    stretched = ndimage.map_coordinates(noise, (along % size, across % size), order=1, mode="grid-wrap")
    strands = -np.sqrt(stretched**2 + 0.02)
    clouds = _with_power_law(_normal(random, size), beta)
    return _with_power_law(strands / strands.std() + 0.5 * clouds, beta)


def _skin(patient: Patient, view: str, depth: float, nipple: float, y: np.ndarray) -> np.ndarray:
    """Return the distance from chest wall to skin at heights `y`, mm; negative above and below the breast.

    CC is nearly a half-ellipse; in MLO the upper contour rises to the axilla and the lower one ends at the fold.
    """
    above, below = nipple - y, y - nipple
    lower = depth * np.sqrt(np.clip(1 - (np.maximum(below, 0) / patient.lower) ** 2.3, 0, None)) - (
        below > patient.lower
    )
    if view == "CC":
        upper = depth * np.sqrt(np.clip(1 - (np.maximum(above, 0) / patient.upper) ** 2.3, 0, None))
        upper -= above > patient.upper
    else:
        up = np.clip(above / nipple, 0, 1.2)
        upper = depth * (1 - (1 - patient.axilla) * (0.35 * (1 - np.cos(np.pi * up)) / 2 + 0.65 * up**1.9))
    return np.where(above > 0, upper, lower)


def _depth_below_skin(patient: Patient, view: str, depth: float, nipple: float, size: int) -> np.ndarray:
    """Return the distance of each pixel to the nearest skin, mm; 0 outside the breast; (size, size).

    The breast continues beyond the left edge, and in MLO beyond the upper one: there is no skin there.
    """
    pitch = FIELD / size
    margin = int(np.ceil(35 / pitch))
    y = (np.arange(-margin, size + margin) + 0.5) * pitch
    x = (np.arange(-margin, size) + 0.5) * pitch
    breast = np.maximum(x, 0)[None, :] <= _skin(patient, view, depth, nipple, y)[:, None]
    breast |= np.hypot((x - depth)[None, :] / 4.5, (y - nipple)[:, None] / 4.0) <= 1
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(breast), 0.8, mode="mirror")
    return distance[margin : margin + size, margin:] * pitch


def _pectoral_muscle(patient: Patient, size: int, tilt: float) -> np.ndarray:
    """Return the share of muscle in each pixel of MLO, 0 to 1: a wedge in the upper corner at the chest wall."""
    x, y = coordinates(size)
    width, height = patient.pectoral[0] * tilt, patient.pectoral[1] / tilt
    inside = (1 - x / width - (y / height) ** 1.15) / np.hypot(1 / width, 1 / height)
    return 1 / (1 + np.exp(-np.clip(inside / 1.6, -30, 30)))


def _vessels(random: np.random.Generator, size: int, nipple: tuple[float, float], depth: float) -> np.ndarray:
    """Return the brightness of a few vessels from the chest wall towards the nipple, 0 to 1."""
    canvas = np.zeros((size, size), np.uint8)
    scale = size / FIELD
    for _ in range(random.integers(2, 6)):
        along = np.linspace(0, 1, 40)
        bend = np.cumsum(np.cumsum(random.normal(0, 0.22, 40)))
        start = nipple[1] + random.uniform(-50, 50)
        y = start + (nipple[1] - start) * 0.8 * along + bend - bend[-1] * along
        x = along * depth * random.uniform(0.6, 0.9)
        points = np.rint(np.stack([x, y], 1) * scale * 16).astype(np.int32)
        width = max(1, round(random.uniform(0.6, 1.5) * scale))
        cv2.polylines(canvas, [points], False, int(random.integers(120, 255)), width, cv2.LINE_AA, shift=4)
    return ndimage.gaussian_filter(canvas / 255, 0.5 * scale, mode="mirror")


def breast(random: np.random.Generator, patient: Patient, view: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the brightness of a breast without a mass, and the depth of each pixel below the skin.

    Returns:
        Brightness of fat, gland, muscle and vessels at full thickness, about 0.2 to 0.7, (size, size); and the distance
        to the skin, mm, 0 outside the breast, (size, size).

    """
    density = DENSITIES[patient.density]
    depth = patient.depth * random.uniform(0.96, 1.04)
    nipple = depth, random.uniform(74, 88) if view == "CC" else random.uniform(86, 102)
    x, y = coordinates(size)
    below_skin = _depth_below_skin(patient, view, depth, nipple[1], size)
    texture = _tissue(random, size, density.beta, nipple)
    half_height = (patient.upper + patient.lower) / 2
    disc = np.hypot((x - 0.55 * depth) / (0.47 * depth), (y - nipple[1]) / (0.62 * half_height))
    gland = 1 / (1 + np.exp(np.clip((disc / density.extent - 1 - 0.18 * texture) / 0.14, -30, 30)))
    gland *= 1 - np.exp(-((below_skin / 9) ** 2))  # a layer of fat below the skin
    value = FAT + density.gland * gland + texture * (0.035 + (density.contrast - 0.035) * gland)
    if view == "MLO":
        muscle = _pectoral_muscle(patient, size, random.uniform(0.92, 1.08))
        value += muscle * (0.24 - 0.5 * (value - FAT))
    return value + 0.07 * _vessels(random, size, nipple, depth), below_skin
