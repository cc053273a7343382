"""Augmentation means what ImageDataGenerator means by the same numbers."""

import warnings

from mammo.core.settings import Augment
from mammo.learning.augmentation import Warp, apply, batch, draw

import numpy as np
import pytest

STILL = {
    **dict.fromkeys(("rotation_range", "width_shift_range", "height_shift_range", "zoom_range"), 0.0),
    **{"horizontal_flip": False, "vertical_flip": False, "intensity_range": 0.0, "erase": 0.0},
}
RANGES = Augment.model_validate(
    STILL | {"rotation_range": 15.0, "width_shift_range": 0.1, "height_shift_range": 0.2, "zoom_range": 0.1}
)


def smooth_image(height: int, width: int) -> np.ndarray:
    """A picture without symmetry, smooth enough for two bilinear interpolations to agree."""
    y, x = np.mgrid[:height, :width]
    return (60 * np.sin(x / 17) + 50 * np.cos(y / 11 + x / 40) + 120).astype(np.uint8)


@pytest.mark.parametrize(
    "warp",
    [
        Warp(theta=12.5),
        Warp(tx=7.25),
        Warp(ty=-9.5),
        Warp(zx=0.9, zy=1.1),
        Warp(theta=-14, tx=11.3, ty=-6.1, zx=1.08, zy=0.93),
    ],
)
def test_a_warp_equals_image_data_generator(warp: Warp) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf

        reference = tf.keras.preprocessing.image.ImageDataGenerator(fill_mode="nearest")
        image = smooth_image(224, 224)
        expected = reference.apply_transform(image[:, :, None].astype(np.float32), vars(warp))[:, :, 0]
    difference = np.abs(apply(image, warp).astype(float) - expected)
    # OpenCV places samples on a grid of 1/32 pixel and rounds to whole grey levels.
    assert difference.max() <= 2
    assert difference.mean() < 0.5
    assert np.abs(image.astype(float) - expected).mean() > 2, "the warp must do something for this to be a test"


def test_an_oblong_image_turns_about_its_centre() -> None:
    image = np.zeros((61, 101), np.uint8)
    image[30, 50] = 255
    assert apply(image, Warp(theta=90, zx=0.5, zy=0.5))[30, 50] == 255


def test_shifts_go_along_their_own_axis() -> None:
    image = np.zeros((61, 101), np.uint8)
    image[30, 50] = 255
    assert np.argwhere(apply(image, Warp(tx=3))).tolist() == [[30, 47]]
    assert np.argwhere(apply(image, Warp(ty=3))).tolist() == [[27, 50]]


def test_no_range_leaves_the_image_as_it_is() -> None:
    still = Augment.model_validate(STILL)
    image = smooth_image(64, 80)
    assert (apply(image, draw(still, (64, 80), seed=3, epoch=1, index=0)) == image).all()


def test_draws_fill_their_ranges_and_both_zooms_are_independent() -> None:
    warps = [draw(RANGES, (100, 200), seed=1, epoch=1, index=index) for index in range(2000)]
    table = np.array([[w.theta, w.tx, w.ty, w.zx, w.zy] for w in warps])
    limits = np.array([15, 20, 20, 0.1, 0.1])  # tx: 0.1 of the width of 200, ty: 0.2 of the height of 100
    centred = table - [0, 0, 0, 1, 1]
    assert (np.abs(centred) <= limits).all()
    assert (np.abs(centred).max(axis=0) > 0.99 * limits).all()
    assert (np.abs(centred.mean(axis=0)) < 0.05 * limits).all()
    assert (np.abs(np.corrcoef(table.T) - np.eye(5)) < 0.08).all()


def test_a_draw_depends_on_seed_epoch_and_index_alone() -> None:
    images = np.stack([smooth_image(64, 64) + shade for shade in (0, 5, 9)]).astype(np.uint8)
    together = batch(images, [2, 0, 1], RANGES, seed=1, epoch=4)
    alone = batch(images, [1], RANGES, seed=1, epoch=4)
    assert (together[2] == alone[0]).all()
    assert together.shape == (3, 64, 64, 1)
    assert together.dtype == np.uint8
    for other in ({"seed": 2, "epoch": 4}, {"seed": 1, "epoch": 5}):
        assert (batch(images, [1], RANGES, **other) != alone).any()


@pytest.mark.parametrize(("flip", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_a_flip_mirrors_half_of_the_images_exactly(flip: str, axis: int) -> None:
    image = smooth_image(64, 80)
    ranges = Augment.model_validate(STILL | {flip: True})
    drawn = [apply(image, draw(ranges, image.shape, seed=1, epoch=1, index=index)) for index in range(200)]
    mirrored = sum((one == np.flip(image, axis)).all() for one in drawn)
    assert mirrored + sum((one == image).all() for one in drawn) == 200
    assert 75 <= mirrored <= 125


def test_flips_change_no_other_draw() -> None:
    flipping = RANGES.model_copy(update={"horizontal_flip": True, "vertical_flip": True})
    for index in range(20):
        one, other = (vars(draw(ranges, (64, 80), 1, 1, index)) for ranges in (RANGES, flipping))
        assert {name: abs(value) for name, value in other.items()} == {name: abs(value) for name, value in one.items()}


def test_intensity_changes_brightness_and_contrast_but_neither_order_nor_black() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
    ranges = Augment.model_validate(STILL | {"intensity_range": 0.3})
    drawn = [batch(ramp[None], [0], ranges, seed=seed, epoch=1)[0, 0, :, 0].astype(int) for seed in range(200)]
    assert all((np.diff(one) >= 0).all() and one[0] == 0 for one in drawn)
    middle = np.array([one[128] for one in drawn])
    assert middle.min() < 100 and middle.max() > 155
    assert len({int(value) for value in middle}) > 30


def test_erasing_blackens_one_rectangle_in_the_asked_share_of_images() -> None:
    image = np.full((90, 60), 200, np.uint8)
    ranges = Augment.model_validate(STILL | {"erase": 0.4})
    erased = [batch(image[None], [0], ranges, seed=seed, epoch=1)[0, :, :, 0] == 0 for seed in range(300)]
    hit = [one for one in erased if one.any()]
    assert 90 <= len(hit) <= 150
    for one in hit:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        assert one.sum() == (rows[-1] + 1 - rows[0]) * (columns[-1] + 1 - columns[0])
        assert 9 <= len(rows) <= 30 and 6 <= len(columns) <= 20
    assert len({(rows.any(axis=1).argmax(), rows.any(axis=0).argmax()) for rows in hit}) > 50
