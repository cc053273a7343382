"""Ensembles of networks, logistic regression as last layer, and blocks that are thawed at rates of their own."""

from pathlib import Path
from typing import Any

from mammo.core import dataset, files, settings
from mammo.core.errors import UserError
from mammo.learning import backbones, ensembles, layer_rates, logistic_head, networks, training
from mammo.learning.networks import Start

import numpy as np
import pytest
from conftest import TRAIN_PATHS, copy_inputs, run_stage, write_params, write_prepared
from miniature import ROOT
from sklearn.metrics import roc_auc_score

# isort: split
import keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

SIZE = (40, 40)
LITE: dict[str, Any] = {"network": backbones.LITE, "weights": "imagenet", "frozen": True}
LOGISTIC = LITE | {"head": "logistic", "maps": [1, 2], "epochs": 1}


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "use_threads", lambda _: None)  # TensorFlow may run already, with the threads it has


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared images, and settings for them."""
    folder = tmp_path_factory.mktemp("prepared")
    write_prepared(folder)
    write_params(folder)
    return folder


def read(folder: Path, **train: Any) -> settings.Params:
    return settings.read(folder / "params.yaml", {"train": {"epochs": 2, **train}})


def fit(folder: Path, target: Path, **train: Any) -> training.Fitted:
    params = read(folder, **train)
    return ensembles.fit_resumably(
        folder / "data/prepared", params.train, params.augment, target / "history.csv", target / "state"
    )


def chances(network: keras.Model, folder: Path, split: str = "test") -> np.ndarray:
    data = dataset.load(folder / "data/prepared")
    return networks.probabilities(networks.forward(network), data.images, data.part(split))


# Settings


def test_every_member_is_trained_with_every_seed_and_one_network_with_its_own() -> None:
    alone = settings.read(ROOT / "params.yaml").train
    assert alone.trainings == [alone]
    together = settings.read(
        ROOT / "params.yaml", {"train": {"seeds": [3, 4], "members": [{"epochs": 5}, {"network": "compact"}]}}
    ).train
    assert [(one.network, one.epochs, one.seed) for one in together.trainings] == [
        ("baseline", 5, 3),
        ("baseline", 5, 4),
        ("compact", 30, 3),
        ("compact", 30, 4),
    ]
    assert (ensembles.title(alone), ensembles.title(together)) == ("baseline", "mean of 2 baseline and 2 compact")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"members": [{"epoch": 3}]}, "allowed is members of known settings; of one of them epoch: "),
        ({"members": [{}, {"epochs": 0}]}, "of one of them epochs: Input should be greater than or equal to 1"),
        (
            {"members": [{"seed": 3}]},
            r"allowed is members without seed \(number 1\), which is the same for all of them",
        ),
        ({"members": [{}, {"size": [9, 9]}]}, r"members without size \(number 2\), which is the same for all of them"),
        ({"seeds": [2, 2]}, "allowed is seeds that differ: the same seed gives the same network again"),
        ({"maps": [6]}, "maps.0 is 6; allowed is less than or equal to 5"),
    ],
)
def test_members_that_cannot_be_trained_together_are_refused(train: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings.read(ROOT / "params.yaml", {"train": train})


# One network of several


def test_the_network_of_an_ensemble_is_the_mean_of_its_members(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    fine_tuned = networks.build(backbones.LITE, SIZE, 0.2, 0.3, 2, Start("imagenet", maps=(1, 2)))
    members = [
        networks.baseline(SIZE, 0.3, 0.2),
        networks.build("compact", SIZE, 0.2, 0.3, 2),
        networks.finished(backbones.LITE, fine_tuned, 0.2, 0.3, maps=(1, 2)),
    ]
    for member in members:
        member.layers[-1].set_weights([random.normal(0, 0.1, array.shape) for array in member.layers[-1].get_weights()])
    together = ensembles.averaged(members)
    assert together.input_shape == (None, *SIZE, 1) and together.output_shape == (None, 2)
    assert together.count_params() == sum(member.count_params() for member in members)
    images = random.integers(0, 256, (5, *SIZE), dtype=np.uint8)
    each = [networks.probabilities(networks.forward(one), images, np.arange(5)) for one in members]
    assert min(np.ptp(one) for one in each) > 1e-4, "each tells images apart"
    networks.save(together, tmp_path / "model.keras")
    loaded = networks.load(tmp_path / "model.keras")
    for network in (together, loaded):
        found = networks.probabilities(networks.forward(network), images, np.arange(5))
        assert found == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    assert networks.probabilities(networks.features(loaded), images, np.arange(5)).shape[1] > 1, "novelty"


def test_an_ensemble_is_trained_and_saved_like_any_network(folder: Path, tmp_path: Path) -> None:
    copy_inputs(folder, tmp_path)
    write_params(tmp_path, train={"seeds": [1, 2]})
    done = run_stage("train", *TRAIN_PATHS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train: network 2 of 2: baseline, seed 2\n" in done.stdout
    assert "train: 4 epochs, kept the mean of 2 networks; validation ROC AUC " in done.stdout
    info = files.read_json(tmp_path / "data/model/model.json")
    assert (info["network"], info["weights"]) == (
        "mean of 2 baseline",
        2 * networks.baseline(SIZE, 0.3, 0.2).count_params(),
    )
    assert not list((tmp_path / "data/state").rglob("state.npz"))
    rows = files.read_csv(tmp_path / "plots/history.csv", training.HISTORY)
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (str(epoch), split) for epoch in (1, 2, 3, 4) for split in ("train", "valid")
    ]


@pytest.mark.proof
def test_an_interrupted_ensemble_resumes_and_trains_no_finished_network_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"seeds": [1, 2], "members": [{"network": "compact"}, {"average": 2}]}
    epochs: list[int] = []
    one_epoch = training.one_epoch

    def until_the_third_network(*arguments: Any) -> Any:
        epochs.append(arguments[2])
        if len(epochs) == 6:  # in the second epoch of the third network
            raise KeyboardInterrupt
        return one_epoch(*arguments)

    monkeypatch.setattr(training, "one_epoch", until_the_third_network)
    with pytest.raises(KeyboardInterrupt):
        fit(folder, tmp_path, **settings)
    resumed = fit(folder, tmp_path, **settings)
    assert epochs == [1, 2] * 2 + [1, 2] + [2, 1, 2], "the interrupted epoch and what had not begun"
    whole = fit(folder, tmp_path / "whole", **settings)
    pairs = zip(resumed.network.get_weights(), whole.network.get_weights(), strict=True)
    assert all((a == b).all() for a, b in pairs)
    assert (tmp_path / "history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()


# Logistic regression


def test_logistic_regression_becomes_the_last_layers_weights(folder: Path, tmp_path: Path) -> None:
    fitted = fit(folder, tmp_path, **LOGISTIC)
    data = dataset.load(folder / "data/prepared")
    test = data.part("test")
    assert roc_auc_score(data.labels[test], chances(fitted.network, folder)) > 0.9
    normalisation = fitted.network.get_layer(backbones.NORMALISATION)
    assert normalisation.moving_mean.shape == (24 + 40,), "of the stages chosen alone"
    rows = files.read_csv(tmp_path / "history.csv", training.HISTORY)
    assert [(row["epoch"], row["split"]) for row in rows] == [("1", "train"), ("1", "valid")]
    again = fit(folder, tmp_path / "again", **LOGISTIC)
    assert all((a == b).all() for a, b in zip(fitted.network.get_weights(), again.network.get_weights(), strict=True))
    kernel, bias = fitted.network.layers[-1].get_weights()
    assert kernel[:, 0] == pytest.approx(-kernel[:, 1]) and bias[0] == pytest.approx(-bias[1])


def test_the_penalty_is_as_strong_as_the_data_call_for() -> None:
    """Many features of which none says anything call for a strong penalty, few that say a lot for a weak one."""
    random = np.random.default_rng(1)
    labels = np.arange(200) % 2
    fold = np.arange(200) // 2 % logistic_head.FOLDS
    clear = labels[:, None] + random.normal(0, 0.8, (200, 2))
    hidden = np.concatenate(
        [0.3 * labels[:, None] + random.normal(size=(200, 1)), random.normal(size=(200, 150))], axis=1
    )
    weak, strong = (
        logistic_head.selected_strength(logistic_head.Images(features, labels, fold), "balanced")
        for features in (np.concatenate([clear, -(clear**2)], axis=1), hidden)
    )
    assert strong < 0.1 and strong <= weak


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"network": "baseline", "head": "logistic", "frozen": True},
            "train.head is logistic, but train.network is baseline",
        ),
        (LITE | {"frozen": False, "thawed": 1}, "train.thawed is 1, but train.frozen is false"),
        ({"network": "compact", "maps": [1]}, r"train.maps is \[1\]; only EfficientNetLite0 has stages to choose from"),
        ({"network": "baseline", "depth_decay": 0.5}, "train.depth_decay is 0.5, but baseline has no blocks"),
    ],
)
def test_settings_that_a_network_does_not_have_are_refused(
    folder: Path, tmp_path: Path, train: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fit(folder, tmp_path, **train)


# Thawed blocks


def test_thawed_blocks_are_trained_and_those_below_are_not() -> None:
    model = networks.build(backbones.LITE, SIZE, 0.2, 0.3, 1, Start("imagenet", frozen=True, thawed=2))
    numbers = layer_rates.blocks(model)
    assert numbers == list(range(15))
    trained = {layer_rates.block(layer.name) for layer in model.layers if layer.trainable_variables}
    assert trained == {13, 14, None}


def test_the_rate_falls_with_the_depth() -> None:
    model = networks.build(backbones.LITE, SIZE, 0.2, 0.3, 1, Start("imagenet"))
    by_name = dict(zip([one.path for one in model.trainable_variables], layer_rates.factors(model, 0.5), strict=True))
    assert by_name["class/kernel"] == 1
    assert by_name["block_14_expand/kernel"] == 0.5 and by_name["block_13_expand/kernel"] == 0.25
    assert by_name["block_0_depthwise/kernel"] == 0.5**15 and by_name["stem/kernel"] == 0.5**16


def test_a_step_is_as_long_as_its_rate_says_and_kernels_alone_decay() -> None:
    """Adam's first step has the length of the rate, whatever the gradient."""
    model = networks.build("compact", SIZE, 0.2, 0.3, 1)
    optimizer = layer_rates.Adam(0.01, model, 0.5, 0.0)
    optimizer.build(model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply([keras.ops.ones(one.shape) for one in model.trainable_variables], model.trainable_variables)
    for variable, old, factor in zip(model.trainable_variables, before, layer_rates.factors(model, 0.5), strict=True):
        assert old - variable.numpy() == pytest.approx(0.01 * factor, rel=1e-3, abs=1e-7), variable.path
    decaying = layer_rates.Adam(0.01, model, 0.5, 0.1)
    decaying.build(model.trainable_variables)
    still = [keras.ops.zeros(one.shape) for one in model.trainable_variables]
    before = [variable.numpy() for variable in model.trainable_variables]
    decaying.apply(still, model.trainable_variables)
    for variable, old, factor in zip(model.trainable_variables, before, layer_rates.factors(model, 0.5), strict=True):
        shrunk = 0.01 * factor * 0.1 if variable.path.endswith("kernel") else 0.0
        assert variable.numpy() == pytest.approx(old * (1 - shrunk), rel=1e-6)


@pytest.mark.proof
def test_thawed_training_is_the_same_bytes_twice(folder: Path, tmp_path: Path) -> None:
    settings = LITE | {"thawed": 1, "depth_decay": 0.5, "weight_decay": 0.05, "average": 1}
    one, two = (fit(folder, tmp_path / name, **settings).network.get_weights() for name in ("one", "two"))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
