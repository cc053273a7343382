"""Synthetic mammograms ("phantoms") with known truth, and the defects that can be planted among them.

They are pictures after published figures, no simulation of a detector. Real are: the two views, the outline with its
thinning edge, the power-law texture of each density class, the shape of masses and calcifications. Chosen for the task:
every breast is displayed with its chest wall on the left, as displays that normalise laterality do, and the mass lies
within `spread` of one place, since the specified network has no translation invariance. Every image of either class
holds one mass of the same radial profile and total brightness, so brightness gives nothing away: a spiculated mass is
cancer, its rotational mean is benign. A share of cancers is occult, drawn as benign: a ceiling no reader gets above.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy import fft, ndimage

from mammo.core import files, parallel
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.randomness import generator
from mammo.core.settings import Phantoms

FIELD = 160.0
"""Edge of the square field of view, mm."""
PLACE = (52.0, 84.0)
"""Where masses lie, mm from the chest wall and from the upper edge of the field."""
FAT = 0.27
"""Brightness of fat at full thickness, of 1."""
SIDES = ("L", "R")
VIEWS = ("CC", "MLO")
DELIVERY = ("train", "test", "train", "valid", "train", "train", "valid", "train", "test", "train")
"""Split of the 1st, 2nd, … patient of a class, over and over: 6 : 2 : 2, whatever the number of patients."""
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
    """Brightness of that disc over fat."""
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
    """What all images of a patient share. Lengths in mm."""

    number: int
    label: int
    split: str
    density: str
    depth: float
    """Chest wall to nipple."""
    upper: float
    """Height of the breast above the nipple in CC, on the chest wall."""
    lower: float
    """The same below."""
    axilla: float
    """Chest wall to skin at the upper edge of MLO, relative to depth."""
    pectoral: tuple[float, float]
    """Width of the pectoral muscle at the upper edge of MLO and its height along the left edge."""
    side: str
    """The affected side of a patient with cancer."""


def _density_of(seed: int, label: int, place_in_class: int) -> str:
    """Density of the n-th patient of a class: each ten of a class hold every density by its share.

    Drawn freely, densities would differ between the classes by chance, and brightness would tell them apart.
    """
    ten = [name for name, density in DENSITIES.items() for _ in range(round(10 * density.share))]
    block, place = divmod(place_in_class, len(ten))
    return ten[generator(seed, "phantom density", label, block).permutation(len(ten))[place]]


def patient_of(settings: Phantoms, index: int) -> Patient:
    """The patient at `index` (from 0), the same in a set of any number of patients."""
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


# ---------------------------------------------------------------------------------------------------------------------
# The breast


@lru_cache(maxsize=4)
def _frequency(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Radial frequency of each coefficient of `rfft2`, cycles per field, and the whole number nearest to it."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    radius[0, 0] = 1.0
    return radius.astype(np.float32), np.rint(radius).astype(np.int64)


def _with_power_law(field: np.ndarray, beta: float) -> np.ndarray:
    """`field` with the radial mean of its power spectrum turned into K / f^beta; mean 0, standard deviation 1.

    The phases stay, and with them the strands that noise of random phase does not have. Structures above 60 mm are held
    at the power of 60 mm: the breast itself sets what is larger.
    """
    radius, ring = _frequency(len(field))
    spectrum = fft.rfft2(field)
    power = np.bincount(ring.ravel(), (spectrum.real**2 + spectrum.imag**2).ravel()) / np.maximum(
        np.bincount(ring.ravel()), 1
    )
    gain = np.maximum(radius, FIELD / 60) ** np.float32(-beta / 2)
    gain /= np.sqrt(np.maximum(power, 1e-12)).astype(np.float32)[ring]
    spectrum *= gain
    spectrum[0, 0] = 0
    result = fft.irfft2(spectrum, s=field.shape)
    return result / result.std()


def tissue(random: np.random.Generator, size: int, beta: float, nipple: tuple[float, float]) -> np.ndarray:
    """Texture of breast tissue: strands that run towards the nipple, with a power spectrum K / f^beta.

    The power law is that of mammograms (Burgess 2003, Proc. SPIE 5034). The strands are the ridges of
    a noise field that is stretched along the rays from the nipple, as ducts and Cooper's ligaments lie.

    Args:
        random: draws the noise.
        size: height and width, pixels.
        beta: exponent of the power spectrum.
        nipple: its place, mm from the left and upper edge.

    Returns:
        float32, (size, size), mean 0, standard deviation 1.

    """
    x, y = _coordinates(size)
    angle = np.arctan2(y - nipple[1], nipple[0] - x)
    distance = np.hypot(nipple[0] - x + 15, y - nipple[1])
    noise = _with_power_law(random.standard_normal((size, size), dtype=np.float32), 2.0)
    across, along = np.float32(0.32 * size) * angle, distance * size / FIELD / 2.2
    stretched = cv2.remap(
        noise,
        (across % size).astype(np.float32),
        (along % size).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    strands = -np.sqrt(stretched**2 + 0.02)
    clouds = _with_power_law(random.standard_normal((size, size), dtype=np.float32), beta)
    return _with_power_law(strands / strands.std() + 0.5 * clouds, beta)


def _coordinates(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Place of each pixel's centre, mm from the left (1, size) and from the upper edge (size, 1)."""
    along = (np.arange(size) + 0.5) * FIELD / size
    return along[None, :], along[:, None]


def _skin(patient: Patient, view: str, depth: float, nipple: float, y: np.ndarray) -> np.ndarray:
    """Distance from chest wall to skin at heights `y`, mm; negative where the breast has ended.

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
    """Distance of each pixel to the nearest skin, mm; 0 outside the breast. (size, size)

    The breast goes on beyond the left edge, and in MLO beyond the upper one: no skin there.
    """
    pitch = FIELD / size
    margin = int(np.ceil(35 / pitch))
    y = (np.arange(-margin, size + margin) + 0.5) * pitch
    x = (np.arange(-margin, size) + 0.5) * pitch
    breast = np.maximum(x, 0)[None, :] <= _skin(patient, view, depth, nipple, y)[:, None]
    breast |= np.hypot((x - depth)[None, :] / 4.5, (y - nipple)[:, None] / 4.0) <= 1
    distance = ndimage.distance_transform_edt(breast).astype(np.float32)  # OpenCV's differs from call to call
    distance = cv2.GaussianBlur(distance, (0, 0), 0.8)
    return distance[margin : margin + size, margin:] * pitch


def _pectoral_muscle(patient: Patient, size: int, tilt: float) -> np.ndarray:
    """Share of pectoral muscle in each pixel of an MLO view, 0 to 1: a wedge in the upper corner at the chest wall."""
    x, y = _coordinates(size)
    width, height = patient.pectoral[0] * tilt, patient.pectoral[1] / tilt
    inside = (1 - x / width - (y / height) ** 1.15) / np.hypot(1 / width, 1 / height)
    return 1 / (1 + np.exp(-np.clip(inside / 1.6, -30, 30)))


def _vessels(random: np.random.Generator, size: int, nipple: tuple[float, float], depth: float) -> np.ndarray:
    """A few vessels that wind from the chest wall towards the nipple, 0 to 1."""
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
    return cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 0.5 * scale)


# ---------------------------------------------------------------------------------------------------------------------
# Masses and calcifications


@dataclass(frozen=True)
class Mass:
    """A mass in polar form about its centre."""

    x: float
    y: float
    """Centre, mm from the left and upper edge."""
    reach: float
    """Radius beyond which nothing is left, mm."""
    polar: np.ndarray
    """Brightness at (angle, radius), 0 to 1, float32, (angles, radii); radii from 0 to `reach`."""


ANGLES, RADII = 360, 96


def spiculated_mass(random: np.random.Generator, x: float, y: float) -> Mass:
    """A cancer: an irregular core of 6 to 10 mm radius with 12 to 30 tapered spicules of 1 to 2 radii.

    A flat relative of the model of de Sisternes et al. 2015 (Med Phys 42:1098): a random core, spicules grown from it.
    """
    core = random.uniform(6.0, 10.0)
    reach = 3.2 * core
    angle = np.arange(ANGLES)[:, None] * (2 * np.pi / ANGLES)
    radius = (np.arange(RADII) + 0.5)[None, :] * (reach / RADII)
    edge = np.full_like(angle, core)
    for wave in range(2, 7):
        edge += core * random.normal(0, 0.14 / wave) * np.cos(wave * angle + random.uniform(0, 2 * np.pi))
    polar = 1 / (1 + np.exp((radius - edge) / (0.12 * core)))
    for _ in range(random.integers(12, 31)):
        towards, length = random.uniform(0, 2 * np.pi), core * random.uniform(1, 2)
        left = np.clip(1 - (radius - core) / length, 0, 1)
        half_width = 0.2 * core * left + 0.15
        aside = radius * np.abs(np.angle(np.exp(1j * (angle - towards))))
        polar = np.maximum(polar, 0.9 * np.sqrt(left) * np.exp(-((aside / half_width) ** 2)) * (left > 0))
    return Mass(x, y, reach, polar.astype(np.float32))


def benign_mass(mass: Mass) -> Mass:
    """The rotational mean of a mass: same place, radial profile and total brightness, no spicules."""
    return replace(mass, polar=np.broadcast_to(mass.polar.mean(0), mass.polar.shape).copy())


def drawn(mass: Mass, size: int) -> np.ndarray:
    """A mass in the image's own pixels, 0 to 1, float32, (size, size)."""
    x, y = _coordinates(size)
    angle = np.mod(np.arctan2(y - mass.y, x - mass.x), 2 * np.pi) * (ANGLES / (2 * np.pi))
    radius = np.hypot(x - mass.x, y - mass.y) * (RADII / mass.reach) - 0.5
    polar = np.vstack([mass.polar, mass.polar[:1]])  # the last angle meets the first
    return cv2.remap(
        polar, np.maximum(radius, 0).astype(np.float32), angle.astype(np.float32), cv2.INTER_LINEAR, borderValue=0
    )


def _calcifications(random: np.random.Generator, mass: Mass, clustered: bool) -> list[tuple[float, float, float]]:
    """4 to 15 calcifications of 0.1 to 0.5 mm: x, y and diameter of each, mm.

    Clustered within 5 to 10 mm beside a cancer, strewn within 35 mm of a benign mass. A cluster on the mass would make
    the brightest pixel tell the classes apart.
    """
    reach, aside = (random.uniform(5, 10), random.uniform(18, 26)) if clustered else (35.0, 0.0)
    direction = random.uniform(0, 2 * np.pi)
    centre_x, centre_y = mass.x + aside * np.cos(direction), mass.y + aside * np.sin(direction)
    found = []
    for _ in range(random.integers(4, 16)):
        distance, angle = reach * np.sqrt(random.uniform()), random.uniform(0, 2 * np.pi)
        x, y = centre_x + distance * np.cos(angle), centre_y + distance * np.sin(angle)
        found.append((max(x, 2.0), y, random.uniform(0.1, 0.5)))
    return found


def _specks(calcifications: Iterable[tuple[float, float, float]], size: int) -> np.ndarray:
    """Calcifications as the detector's blur of 0.6 mm shows them, float64, (size, size)."""
    x, y = _coordinates(size)
    image = np.zeros((size, size))
    for at_x, at_y, diameter in calcifications:
        speck = np.exp(-(((x - at_x) / 0.6) ** 2)) * np.exp(-(((y - at_y) / 0.6) ** 2))
        image = np.maximum(image, (diameter / 0.5) * speck)
    return image


# ---------------------------------------------------------------------------------------------------------------------
# The image


def breast(random: np.random.Generator, patient: Patient, view: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Brightness of a breast that holds no mass yet, and how deep below the skin each pixel lies.

    Returns:
        Brightness of fat, gland, muscle and vessels at full thickness, about 0.2 to 0.7, (size, size); and the distance
        to the skin, mm, 0 outside the breast, (size, size).

    """
    density = DENSITIES[patient.density]
    depth = patient.depth * random.uniform(0.96, 1.04)
    nipple = depth, random.uniform(74, 88) if view == "CC" else random.uniform(86, 102)
    x, y = _coordinates(size)
    below_skin = _depth_below_skin(patient, view, depth, nipple[1], size)
    texture = tissue(random, size, density.beta, nipple)
    half_height = (patient.upper + patient.lower) / 2
    disc = np.hypot((x - 0.55 * depth) / (0.47 * depth), (y - nipple[1]) / (0.62 * half_height)).astype(np.float32)
    gland = 1 / (1 + np.exp(np.clip((disc / density.extent - 1 - 0.18 * texture) / 0.14, -30, 30)))
    gland *= 1 - np.exp(-((below_skin / 9) ** 2))  # a seam of fat below the skin
    value = FAT + density.gland * gland + texture * (0.035 + (density.contrast - 0.035) * gland)
    if view == "MLO":
        muscle = _pectoral_muscle(patient, size, random.uniform(0.92, 1.08))
        value += muscle * (0.24 - 0.5 * (value - FAT))
    return value + 0.07 * _vessels(random, size, nipple, depth), below_skin


def draw(settings: Phantoms, patient: Patient, side: str, view: str) -> tuple[np.ndarray, np.ndarray]:
    """One mammogram.

    Args:
        settings: of the set; `plant` is not looked at.
        patient: whose.
        side: L or R; both are shown with the chest wall on the left.
        view: CC (craniocaudal) or MLO (mediolateral oblique).

    Returns:
        The image, uint8, (size, size), black outside the breast; and the mask of the cancer, 0 or 255, all 0 without.

    """
    random = generator(settings.seed, "phantom image", patient.number, side, view)
    value, below_skin = breast(random, patient, view, settings.size)
    lesion, mask = _lesion(settings, patient, side, view)
    thickness = np.sqrt(1 - (1 - np.minimum(below_skin / 22, 1)) ** 2)
    value = (value + lesion) * thickness**0.75
    value += 0.10 * np.exp(-(((below_skin - 0.9) / 0.9) ** 2))  # the skin, seen edge-on
    value = np.clip(value, 0, 1) ** random.uniform(0.9, 1.15) * random.uniform(0.95, 1.1)
    value += 0.006 * random.standard_normal(value.shape, dtype=np.float32) * np.sqrt(value)  # quanta
    return np.clip(np.rint(np.where(below_skin > 0, value, 0) * 255), 0, 255).astype(np.uint8), mask


def _lesion(settings: Phantoms, patient: Patient, side: str, view: str) -> tuple[np.ndarray, np.ndarray]:
    """Mass and calcifications to add to the tissue, and the mask of the cancer.

    One mass in each breast, at the same distance from the chest wall in both views, as breasts are read; one breast in
    two also has calcifications.
    """
    side_random = generator(settings.seed, "phantom mass", patient.number, side)
    view_random = generator(settings.seed, "phantom mass", patient.number, side, view)
    occult = side_random.uniform() < settings.occult
    brightness = side_random.uniform(0.24, 0.32)
    calcified = side_random.uniform() < 0.5
    cancer = settings.lesions and patient.label == 1
    x = PLACE[0] + side_random.uniform(-settings.spread, settings.spread)
    y = PLACE[1] + view_random.uniform(-settings.spread, settings.spread)
    mass = spiculated_mass(side_random, x, y)
    if view == "MLO":  # another projection of the same mass
        mass = replace(mass, polar=np.roll(mass.polar[::-1], side_random.integers(ANGLES), axis=0))
    image = drawn(mass if cancer and not occult else benign_mass(mass), settings.size)
    mask = image > 0.25
    image *= brightness
    if calcified:
        clustered = cancer and not occult
        specks = _specks(_calcifications(view_random, mass, clustered), settings.size)
        image += 0.2 * specks
        mask |= clustered & (specks > 0.25)
    return image, np.where(mask & cancer, 255, 0).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# The set and its defects


@dataclass(frozen=True)
class Picture:
    """One file of the set: whose image it shows, where it is delivered, and what was done to it."""

    patient: Patient
    side: str
    view: str
    split: str
    """As delivered."""
    label: int
    """As delivered."""
    number: int
    """Of the patient, in the file's name."""
    defect: str = ""
    """`near_duplicate`, `inverted`, `burned_in_text` or none."""

    @property
    def path(self) -> str:
        """Below data/raw, with forward slashes."""
        return f"{self.split}/{self.label}/{self.number}_{self.side}_{self.view}.png"


def _pictures_of(patient: Patient) -> list[Picture]:
    sides = (patient.side,) if patient.label else SIDES
    return [
        Picture(patient, side, view, patient.split, patient.label, patient.number) for side in sides for view in VIEWS
    ]


def planned(settings: Phantoms) -> list[Picture]:
    """Every file of the set, planted defects included, sorted by path.

    Raises:
        UserError: more defects are asked for than there are patients to carry them.

    """
    patients = [patient_of(settings, index) for index in range(settings.patients)]
    pictures = {patient.number: _pictures_of(patient) for patient in patients}
    free = list(generator(settings.seed, "phantom defects").permutation(settings.patients))
    own_number = iter(range(FIRST_PATIENT + settings.patients, FIRST_PATIENT + 3 * settings.patients))

    def chosen(kind: str, suits: Callable[[Patient], bool]) -> Iterator[list[Picture]]:
        """The pictures of as many patients as `kind` wants, each without another defect."""
        wanted = getattr(settings.plant, kind)
        found = [index for index in free if suits(patients[index])][:wanted]
        if len(found) < wanted:
            raise UserError(
                f"data.phantom.plant.{kind} is {wanted}, but only {len(found)} patients are left to carry it: "
                "lower it or raise data.phantom.patients"
            )
        for index in found:
            free.remove(index)
            yield pictures[patients[index].number]

    for own in chosen("leaked_patients", lambda patient: patient.split == "train"):
        own[-1] = replace(own[-1], split="test")
    for own in chosen("duplicates", lambda patient: patient.split == "train"):
        own.append(replace(own[0], split="test", number=next(own_number)))
    for own in chosen("near_duplicates", lambda patient: patient.split == "train"):
        own.append(replace(own[0], split="test", number=next(own_number), defect="near_duplicate"))
    for own in chosen("contradictions", lambda patient: patient.label == 0):
        own.append(replace(own[0], label=1))
    for own in chosen("inverted", lambda _: True):
        own[0] = replace(own[0], defect="inverted")
    for own in chosen("burned_in_text", lambda _: True):
        own[0] = replace(own[0], defect="burned_in_text")
    return sorted((picture for own in pictures.values() for picture in own), key=lambda picture: picture.path)


def _with_defect(image: np.ndarray, picture: Picture, shortcut: float) -> np.ndarray:
    """The image as it is delivered: exposure of class 1 changed, then the picture's own defect."""
    if picture.patient.label and shortcut:
        image = cv2.convertScaleAbs(image, alpha=1 + 0.4 * shortcut)
    if picture.defect == "near_duplicate":
        saved = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        return cv2.convertScaleAbs(cv2.imdecode(saved, cv2.IMREAD_GRAYSCALE), alpha=0.95)
    if picture.defect == "inverted":
        return 255 - image
    if picture.defect == "burned_in_text":
        return _with_text(image, f"{picture.side} {picture.view}")
    return image


def _with_text(image: np.ndarray, text: str) -> np.ndarray:
    """`image` with white letters in the upper corner away from the chest wall."""
    scale = len(image) / 640
    stroke = max(1, round(2 * scale))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    corner = len(image) - width - round(20 * scale), height + round(20 * scale)
    return cv2.putText(image.copy(), text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, stroke, cv2.LINE_AA)


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _write(settings: Phantoms, folder: Path, picture: Picture) -> Entry:
    image, mask = draw(settings, picture.patient, picture.side, picture.view)
    path = folder / picture.path
    _write_png(path, _with_defect(image, picture, settings.plant.shortcut))
    _write_png(folder / "masks" / picture.path, mask)
    return Entry(picture.path, picture.label, picture.split, str(picture.number), files.sha256(path))


def _begin_worker() -> None:
    """Each worker has a core, over which OpenCV's own threads would fight; and none outlives a killed stage."""
    cv2.setNumThreads(1)
    parallel.end_with_parent()


def generate(settings: Phantoms, folder: Path, workers: int) -> list[Entry]:
    """Draw the set: `folder/{train,valid,test}/{0,1}/<patient>_<side>_<view>.png`, 8-bit grey.

    Beside them `folder/masks/` holds the mask of every image under the same path: 255 on the cancer, 0 elsewhere, all 0
    where there is none.

    Args:
        settings: of the set.
        folder: empty or new; the caller makes it appear whole or not at all.
        workers: processes; the bytes do not depend on it.

    Returns:
        One entry an image, sorted by path.

    Raises:
        UserError: more defects are asked for than there are patients to carry them.

    """
    pictures = planned(settings)
    write = partial(_write, settings, folder)
    if workers == 1:
        return list(parallel.progress(map(write, pictures), "drawing phantoms", len(pictures)))
    # spawned, not forked: a fork of a process that has threads (OpenCV, TensorFlow) can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool:
        return list(parallel.progress(pool.map(write, pictures, chunksize=8), "drawing phantoms", len(pictures)))


def contact_sheet(settings: Phantoms, path: Path) -> None:
    """Draw a picture for readers: density classes a to d in columns, views and classes in rows, cancers outlined."""
    columns, rows = list(DENSITIES), [(label, view) for label in (0, 1) for view in VIEWS]
    figure = Figure(figsize=(8.2, 8.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("Synthetic mammograms (phantoms), no patient's images", fontsize=12)
    axes = figure.subplots(len(rows), len(columns))
    for column, density in enumerate(columns):
        for row, (label, view) in enumerate(rows):
            patient = next(
                found
                for found in (patient_of(settings, index) for index in range(100_000))
                if found.density == density and found.label == label
            )
            image, mask = draw(settings, patient, patient.side, view)
            place = axes[row, column]
            place.imshow(image, cmap="gray", vmin=0, vmax=255)
            if mask.any():
                at_y, at_x = np.argwhere(mask).mean(0)
                reach = 1.2 * np.abs(np.argwhere(mask) - (at_y, at_x)).max()
                place.add_patch(Circle((at_x, at_y), reach, fill=False, color="white", lw=0.8, ls=":"))
            place.set(xticks=[], yticks=[])
            if row == 0:
                place.set_title(f"density {density}", fontsize=10)
            if column == 0:
                place.set_ylabel(f"{'cancer' if label else 'healthy'}, {view}", fontsize=10)
    with files.written(path) as beside:
        figure.savefig(beside, format="png", metadata={"Software": None})
