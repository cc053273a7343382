"""Networks by name: what they take and give, where they start, and that what is saved is what was trained."""

import os
import pickle
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from mammo.core.errors import UserError
from mammo.core.settings import Network
from mammo.learning import backbones, lite, networks
from mammo.learning.networks import Start

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

# isort: split
import keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

SIZE = (96, 64)
IMAGES = np.random.default_rng(1).integers(0, 256, (5, *SIZE), dtype=np.uint8)
ALL = np.arange(5)
SMALL_BACKBONE = "MobileNetV3Small"


def with_a_last_layer(model: keras.Model) -> keras.Model:
    """The last layer starts at zero, so that every image gets 0.5; here it gets something to say."""
    random = np.random.default_rng(2)
    model.layers[-1].set_weights([0.02 * random.normal(size=array.shape) for array in model.layers[-1].get_weights()])
    return model


def chances(model: keras.Model, flip: str = "none", images: np.ndarray = IMAGES) -> np.ndarray:
    return networks.probabilities(networks.forward(model, flip), images, np.arange(len(images)))


def test_a_network_has_one_name_in_the_settings_and_in_the_table_of_backbones() -> None:
    assert set(get_args(Network)) == {"baseline", "compact", *backbones.BACKBONES}


@pytest.mark.parametrize("name", ["compact", backbones.LITE, pytest.param(SMALL_BACKBONE, marks=pytest.mark.proof)])
def test_a_network_of_any_size_trains_in_bfloat16_and_is_saved_in_float32(name: str, tmp_path: Path) -> None:
    """In a process of its own: one that has computed in float32 before cannot compute in bfloat16."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
        own.submit(saved_in_float32, name, tmp_path).result()


def saved_in_float32(name: str, tmp_path: Path) -> None:
    """The test itself."""
    with networks.arithmetic("bfloat16"):
        trained = with_a_last_layer(networks.build(name, SIZE, 0.2, 0.3, seed=1))
    saved = networks.finished(name, trained, 0.2, 0.3)
    assert {variable.dtype for variable in saved.trainable_variables} == {"float32"}
    assert chances(saved) == pytest.approx(chances(trained), abs=0.05)
    networks.save(saved, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (chances(loaded) == chances(saved)).all()
    assert name != "compact" or np.ptp(chances(saved)) > 0.01, "images told apart, so the comparisons mean something"


def test_compact_has_at_most_a_million_weights_whatever_the_size() -> None:
    counts = {networks.build("compact", size, 0.2, 0.3, seed=1).count_params() for size in (SIZE, (240, 144))}
    assert counts == {304_722}


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="other builds of TensorFlow have no oneDNN"
)
def test_onednn_convolves_on_every_processor() -> None:
    """By default TensorFlow asks it on processors with AVX-512 alone."""
    predict = (
        "from mammo.learning import networks; import numpy as np;"
        "network = networks.build('baseline', (64, 64), 0.5, 0.2, 1); network(np.zeros((1, 64, 64, 1), np.float32))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", predict],
        env={**environment, "ONEDNN_VERBOSE": "profile_exec"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "exec,cpu,convolution" in done.stdout


def test_the_seed_alone_decides_the_weights() -> None:
    one, same, other = (networks.build("compact", SIZE, 0.2, 0.3, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_compact_sees_a_lesion_wherever_it_lies() -> None:
    """The maxima and means of its maps stay what they are when all that is not background moves by the total stride."""
    image = np.zeros((2, 320, 320), np.uint8)
    lesion = np.random.default_rng(3).integers(100, 256, (24, 24), dtype=np.uint8)
    image[0, 112:136, 128:152] = image[1, 160:184, 144:168] = lesion
    seen = chances(with_a_last_layer(networks.build("compact", (320, 320), 0.2, 0.3, seed=1)), images=image)
    assert seen[0] == pytest.approx(seen[1], abs=1e-4)


@pytest.mark.parametrize(("flip", "axis"), [("vertical", 1), ("horizontal", 2)])
def test_a_flip_at_test_is_the_mean_over_the_image_and_its_mirror_image(flip: str, axis: int) -> None:
    model = with_a_last_layer(networks.build("compact", SIZE, 0.2, 0.3, seed=1))
    mirrored = np.ascontiguousarray(np.flip(IMAGES, axis))
    assert chances(model, flip) == pytest.approx((chances(model) + chances(model, images=mirrored)) / 2, abs=1e-6)
    assert chances(model, flip) == pytest.approx(chances(model, flip, mirrored), abs=1e-6)
    assert np.abs(chances(model, flip) - chances(model)).max() > 1e-4


@pytest.mark.parametrize("name", ["compact", SMALL_BACKBONE])
def test_a_training_starts_from_the_weights_of_another_of_another_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    source = with_a_last_layer(networks.build(name, (64, 64), 0.5, 0.2, seed=5))
    networks.save(source, tmp_path / "first.keras")
    second = networks.build(name, SIZE, 0.2, 0.3, seed=1, start=Start("first.keras"))
    pairs = list(zip(source.get_weights(), second.get_weights(), strict=True))
    assert all((a == b).all() for a, b in pairs[:-2])
    assert not second.layers[-1].get_weights()[0].any(), "the last layer starts anew"


def test_a_backbone_starts_from_the_weights_that_keras_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    keras.utils.set_random_seed(7)
    published = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    published.save_weights(tmp_path / "notop.weights.h5")
    body = networks.build(SMALL_BACKBONE, SIZE, 0.2, 0.3, seed=1, start=Start("notop.weights.h5")).get_weights()
    assert all((a == b).all() for a, b in zip(published.get_weights(), body[:-4], strict=True))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved weights of another network."""
    path = tmp_path_factory.mktemp("other") / "other.keras"
    networks.save(networks.build(SMALL_BACKBONE, (64, 64), 0.2, 0.3, seed=1), path)
    return path


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("compact", "none.keras", "none.keras does not exist; data/weights/README.md says what belongs there"),
        ("compact", "other.keras", "other.keras is another network: its layer stem is missing or differs"),
        ("compact", "text.keras", "text.keras cannot be read"),
        ("compact", "text.h5", "is 'text.h5'; allowed for compact are none and a .keras file"),
        ("compact", "imagenet", "is 'imagenet'; allowed for compact are none and a .keras file"),
        ("baseline", "other.keras", "is 'other.keras'; baseline starts from none"),
        (SMALL_BACKBONE, "text.h5", "text.h5 cannot be loaded"),
        (SMALL_BACKBONE, "imagenet", "on a machine with internet"),
        (backbones.LITE, "text.h5", "is 'text.h5'; allowed for EfficientNetLite0 are none, imagenet and a .keras file"),
    ],
)
def test_weights_that_cannot_be_had_are_refused(
    name: str, weights: str, said: str, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there: no internet
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "text.h5").write_text("text")
    shutil.copy(other, tmp_path / "other.keras")
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    with pytest.raises(UserError, match=r"^train\.weights") as refused:
        networks.build(name, SIZE, 0.2, 0.3, seed=1, start=Start(weights))
    assert said in str(refused.value).replace(str(tmp_path), "data/weights")
    assert "\n" not in str(refused.value)


def test_the_weights_of_imagenet_know_a_daisy() -> None:
    """All of EfficientNet-Lite0, with the last layers that the project has no use for, on scikit-learn's photograph."""
    photograph = cv2.resize(load_sample_image("flower.jpg")[:, 106:533], (224, 224), interpolation=cv2.INTER_AREA)
    colours = keras.Input((224, 224, 3))
    values = lite._block(lite.maps(colours)[-1], 3, 1, 6, 320, "block_15")
    values = lite._activated(keras.layers.Conv2D(1280, 1, use_bias=False, name="head")(values), "head")
    values = keras.layers.GlobalAveragePooling2D()(values)
    model = keras.Model(colours, keras.layers.Dense(1000, name="objects")(values))
    lite.start_from_imagenet(model)
    values = lite.read(lite.PATH)
    lite.set_block_weights(model, values, 15)
    lite.set_weights(model, values, "head", "_conv_head", "_bn1")
    model.get_layer("objects").set_weights([values["_fc.weight"].reshape(1280, 1000), values["_fc.bias"]])
    seen = np.asarray(model((photograph[None].astype(np.float32) - 127) / 128))[0]
    assert seen.argmax() == 985, "ImageNet's class daisy"
    assert np.sort(seen)[-1] - np.sort(seen)[-2] > 0.5


def test_a_file_of_weights_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Path.cwd))
    with pytest.raises(pickle.UnpicklingError, match="contains"):
        lite.read(tmp_path / "bad.pth")


def test_only_the_last_layer_of_a_frozen_network_learns() -> None:
    model = networks.build(backbones.LITE, SIZE, 0.2, 0.3, seed=1, start=Start("imagenet", frozen=True))
    assert {variable.path for variable in model.trainable_variables} == {"class/kernel", "class/bias"}
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(IMAGES[..., None].astype(np.float32), np.arange(5) % 2, epochs=2, verbose=0)
    changed = {
        layer.name
        for layer in model.layers
        if any((a != b).any() for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert changed == set(networks.HEAD)
    assert np.ptp(chances(model)) > 0


def test_a_network_that_starts_from_imagenet_keeps_its_statistics_and_trains_all_else() -> None:
    model = networks.build(backbones.LITE, SIZE, 0.2, 0.3, seed=1, start=Start("imagenet", maps=(5,)))
    kernels = {variable.path for layer in model.layers for variable in layer.trainable_variables}
    assert {"stem/kernel", "stem_normalisation/gamma", "block_14_project_normalisation/beta"} <= kernels
    batch = np.random.default_rng(1).uniform(0, 255, (4, *SIZE, 1)).astype(np.float32)
    maps = keras.Model(model.input, model.get_layer("block_14_sum").output)
    before = {layer.name: layer.get_weights() for layer in maps.layers}
    assert np.array_equal(maps(batch, training=True), maps(batch, training=False))
    model(batch, training=True)
    for layer in maps.layers:
        assert all(map(np.array_equal, layer.get_weights(), before[layer.name])), layer.name
    normalisation = model.get_layer(backbones.NORMALISATION)
    assert not np.array_equal(normalisation.moving_mean, np.zeros(192)), "the means of its maps are standardised anew"


def test_a_network_is_not_frozen_as_it_was_drawn() -> None:
    with pytest.raises(UserError, match=r"^train\.frozen is true, but train\.weights is none"):
        networks.build("compact", SIZE, 0.2, 0.3, seed=1, start=Start(frozen=True))


LARGE = [
    pytest.param(name, marks=pytest.mark.proof)
    for name in backbones.BACKBONES
    if name not in (SMALL_BACKBONE, backbones.LITE)
]


@pytest.mark.parametrize("name", ["compact", SMALL_BACKBONE, backbones.LITE, *LARGE])
def test_features_are_few_enough_for_a_card(name: str) -> None:
    features = networks.probabilities(networks.features(networks.build(name, SIZE, 0.2, 0.3, 1)), IMAGES, ALL)
    assert features.shape[0] == 5 and 16 <= features.shape[1] <= networks.FEATURES
