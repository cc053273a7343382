"""Lesions of phantoms: spiculated (cancer) and benign masses, clustered and scattered calcifications."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mammo.core.randomness import generator
from mammo.core.settings import Phantoms
from mammo.sources.phantom.anatomy import Patient, coordinates

import numpy as np
from scipy import ndimage

PLACE = (52.0, 84.0)
"""Common position of masses, mm from the chest wall and from the upper edge of the field."""
ANGLES, RADII = 360, 96


@dataclass(frozen=True)
class Mass:
    """A mass in polar form about its centre."""

    x: float
    y: float
    """Centre, mm from the left and upper edge."""
    reach: float
    """Radius beyond which the brightness is 0, mm."""
    polar: np.ndarray
    """Brightness at (angle, radius), 0 to 1, (ANGLES, RADII); radii from 0 to `reach`."""


def spiculated_mass(random: np.random.Generator, x: float, y: float) -> Mass:
    """Draw a cancer: an irregular core of 6 to 10 mm radius with 12 to 30 tapered spicules of 1 to 2 radii.

    A two-dimensional version of de Sisternes et al. 2015 (Med Phys 42:1098): spicules grow from a random core.
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
    return Mass(x, y, reach, polar)


def benign_mass(mass: Mass) -> Mass:
    """Return the rotational mean of a mass: same position, radial profile and total brightness, no spicules."""
    return replace(mass, polar=np.broadcast_to(mass.polar.mean(0), mass.polar.shape).copy())


def rendered(mass: Mass, size: int) -> np.ndarray:
    """Render a mass as an image, 0 to 1, (size, size)."""
    x, y = coordinates(size)
    angle = np.mod(np.arctan2(y - mass.y, x - mass.x), 2 * np.pi) * (ANGLES / (2 * np.pi))
    radius = np.hypot(x - mass.x, y - mass.y) * (RADII / mass.reach) - 0.5
    polar = np.vstack([mass.polar, mass.polar[:1]])  # wrap the angle around
    return ndimage.map_coordinates(polar, (angle, np.maximum(radius, 0)), order=1, mode="grid-constant")


def _calcifications(random: np.random.Generator, mass: Mass, clustered: bool) -> list[tuple[float, float, float]]:
    """Draw 4 to 15 calcifications of 0.1 to 0.5 mm: x, y and diameter of each in mm.

    They are clustered within 5 to 10 mm beside a cancer or scattered within 35 mm of a benign mass. If the cluster were
    on the mass, the brightest pixel would separate the classes.
    """
    reach, aside = (random.uniform(5, 10), random.uniform(18, 26)) if clustered else (35.0, 0.0)
    direction = random.uniform(0, 2 * np.pi)
    centre_x, centre_y = mass.x + aside * np.cos(direction), mass.y + aside * np.sin(direction)
    calcifications = []
    for _ in range(random.integers(4, 16)):
        distance, angle = reach * np.sqrt(random.uniform()), random.uniform(0, 2 * np.pi)
        x, y = centre_x + distance * np.cos(angle), centre_y + distance * np.sin(angle)
        calcifications.append((max(x, 2.0), y, random.uniform(0.1, 0.5)))
    return calcifications


def _specks(calcifications: Iterable[tuple[float, float, float]], size: int) -> np.ndarray:
    """Render calcifications, blurred by the detector (0.6 mm), 0 to 1, (size, size)."""
    x, y = coordinates(size)
    image = np.zeros((size, size))
    for at_x, at_y, diameter in calcifications:
        speck = np.exp(-(((x - at_x) / 0.6) ** 2)) * np.exp(-(((y - at_y) / 0.6) ** 2))
        image = np.maximum(image, (diameter / 0.5) * speck)
    return image


def lesion(settings: Phantoms, patient: Patient, side: str, view: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw the lesions of a breast: one mass, and calcifications with a probability of one half.

    The mass is at the same distance from the chest wall in both views, as in real mammograms.

    Returns:
        Brightness to add to the tissue, (size, size); and the mask of the cancer, uint8, 0 or 255.

    """
    side_random = generator(settings.seed, "phantom mass", patient.number, side)
    view_random = generator(settings.seed, "phantom mass", patient.number, side, view)
    occult = side_random.uniform() < settings.occult
    brightness = side_random.uniform(0.24, 0.32)
    calcified = side_random.uniform() < 0.5
    cancer = settings.lesions and patient.label == 1 and side == patient.side
    x = PLACE[0] + side_random.uniform(-settings.spread, settings.spread)
    y = PLACE[1] + view_random.uniform(-settings.spread, settings.spread)
    mass = spiculated_mass(side_random, x, y)
    if view == "MLO":  # another projection of the same mass
        mass = replace(mass, polar=np.roll(mass.polar[::-1], side_random.integers(ANGLES), axis=0))
    image = rendered(mass if cancer and not occult else benign_mass(mass), settings.size)
    mask = image > 0.25
    image *= brightness
    if calcified:
        clustered = cancer and not occult
        specks = _specks(_calcifications(view_random, mass, clustered), settings.size)
        image += 0.2 * specks
        mask |= clustered & (specks > 0.25)
    return image, np.where(mask & cancer, 255, 0).astype(np.uint8)
