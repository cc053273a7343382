"""The specified network, trained without collapsing, to the same bytes, resumed where it was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

from mammo.core import dataset, files
from mammo.core.rules import ThresholdRule

import numpy as np
import pytest
from conftest import ROOT, TRAIN_PATHS, copy_inputs, run_stage, write_params, write_prepared

OUTPUTS = (
    "data/model/model.keras",
    "data/model/model.tflite",
    "data/model/model.json",
    "plots/history.csv",
    "metrics/train.json",
)


def output_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def test_baseline_is_the_specified_network_weight_by_weight() -> None:
    from mammo.learning import networks

    network = networks.baseline((224, 224), mean=0.2, deviation=0.25)
    with_weights = [
        (layer.__class__.__name__, layer.activation.__name__, [tuple(weight.shape) for weight in layer.weights])
        for layer in network.layers
        if layer.weights
    ]
    assert with_weights == [
        ("Conv2D", "relu", [(5, 5, 1, 16), (16,)]),
        ("Conv2D", "relu", [(3, 3, 16, 32), (32,)]),
        ("Dense", "relu", [(93312, 16), (16,)]),
        ("Dense", "relu", [(16, 8), (8,)]),
        ("Dense", "softmax", [(8, 2), (2,)]),
    ]
    kinds = [layer.__class__.__name__ for layer in network.layers]
    assert kinds == ["Rescaling"] * 2 + ["Conv2D", "MaxPooling2D"] * 2 + ["Flatten"] + ["Dense"] * 3
    assert [layer.pool_size for layer in network.layers if "Pool" in layer.name or "pool" in layer.name] == [(2, 2)] * 2
    assert network.count_params() == 1_498_218


def test_fusing_the_normalisation_keeps_the_function() -> None:
    from mammo.learning import networks

    random = np.random.default_rng(1)
    trainable = networks.trainable_baseline((48, 48), mean=0.3, deviation=0.2, seed=1)
    for layer in trainable.layers:
        if "normalisation" in layer.name:
            shape = layer.get_weights()[0].shape
            layer.set_weights([random.uniform(0.5, 2, shape) for _ in range(4)])
    trainable.get_layer("class").set_weights([random.normal(0, 0.2, (8, 2)), np.zeros(2)])
    plain = networks.baseline((48, 48), mean=0.3, deviation=0.2)
    networks.fuse(trainable, plain)
    images = random.integers(0, 256, (50, 48, 48), dtype=np.uint8)
    before = networks.probabilities(networks.forward(trainable), images, np.arange(50))
    after = networks.probabilities(networks.forward(plain), images, np.arange(50))
    assert np.abs(before - after).max() < 1e-5
    assert after.std() > 0.01


def test_a_probability_does_not_depend_on_its_neighbours() -> None:
    from mammo.learning import networks

    random = np.random.default_rng(2)
    network = networks.baseline((48, 48), mean=0.3, deviation=0.2)
    images = random.integers(0, 256, (40, 48, 48), dtype=np.uint8)
    step = networks.forward(network)
    together = networks.probabilities(step, images, np.arange(40))
    alone = [networks.probabilities(step, images, np.array([position]))[0] for position in (0, 17, 39)]
    assert [together[position] for position in (0, 17, 39)] == alone


def test_training_writes_a_model_that_plain_keras_loads(trained: Path) -> None:
    code = (
        "import keras, numpy as np; m = keras.models.load_model('data/model/model.keras');"
        "p = m.predict(np.zeros((1, 40, 40, 1)), verbose=0); print(m.count_params(), p.shape, float(p.sum()))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=trained, capture_output=True, text=True, check=True)
    count, *shape, total = loaded.stdout.split()
    assert (" ".join(shape), round(float(total), 5)) == ("(1, 2)", 1.0)
    card = json.loads((trained / "data/model/model.json").read_text())
    assert card["weights"] == int(count)
    assert card["trained_on"] == {"source": "folder", "images": 72, "patients": 36, "cancer": 36}
    assert card["preprocess"]["size"] == [40, 40]
    assert set(card["thresholds"]) == set(get_args(ThresholdRule))
    assert card["arithmetic"]["precision"] == "float32"


def test_history_has_a_row_per_epoch_and_split_and_the_best_epoch_is_kept(trained: Path) -> None:
    rows = files.read_csv(trained / "plots/history.csv", ("epoch", "split", "roc_auc"))
    metrics = json.loads((trained / "metrics/train.json").read_text())
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (str(epoch), split) for epoch in range(1, metrics["epochs"] + 1) for split in ("train", "valid")
    ]
    validation = [float(row["roc_auc"]) for row in rows if row["split"] == "valid"]
    best = metrics["best_epoch"]
    better = [epoch for epoch, auc in enumerate(validation, 1) if auc > validation[best - 1]]
    assert all(epoch < best for epoch in better), "only epochs before the network had learned may have a higher AUC"
    assert metrics["valid"]["roc_auc"]["value"] == pytest.approx(validation[best - 1], abs=0.01)
    assert json.loads((trained / "data/model/model.json").read_text())["epoch"] == best
    assert metrics["collapsed"] is False


def test_a_network_has_learned_where_it_beats_chance_and_tells_images_apart() -> None:
    from mammo.learning import training
    from mammo.scoring import Interval

    assert training.has_learned(Interval(0.56, 0.53, 0.59), 0.011)
    assert not training.has_learned(Interval(0.52, 0.49, 0.55), 0.2)
    assert not training.has_learned(Interval(0.8, 0.7, 0.9), 0.01)


def test_whether_a_network_has_learned_is_judged_over_patients() -> None:
    """Ten patients of 20 images: as many independent images would have shown that it beats chance."""
    from mammo.learning import training
    from mammo.scoring import Cases, delong_interval

    random = np.random.default_rng(3)
    patients, labels = np.repeat(np.arange(10), 20), np.repeat(np.arange(10) % 2, 20)
    entries = [
        dataset.Entry(f"{split}/{image}", int(label), split, f"{split} {patient}", "")
        for split in ("train", "valid")
        for image, (label, patient) in enumerate(zip(labels, patients, strict=True))
    ]
    data = dataset.Dataset(np.zeros((400, 1, 1), np.uint8), entries)
    seen = 1 / (1 + np.exp(-(0.4 * labels + random.normal(size=10)[patients] + 0.3 * random.normal(size=200))))
    assert delong_interval(Cases(labels, seen)).low > 0.5
    verdict = training.judge({"train": seen, "valid": seen}, data)
    assert verdict["train"]["roc_auc"]["low"] < 0.5 and verdict["collapsed"] is True


def test_the_same_inputs_give_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    copy_inputs(trained, tmp_path)
    # Another hash seed and one visible core must not matter.
    command = [sys.executable, ROOT / "stages/train.py", *TRAIN_PATHS]
    one_core = {min(os.sched_getaffinity(0))}
    subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        preexec_fn=lambda: os.sched_setaffinity(0, one_core),
        check=True,
    )
    assert output_bytes(tmp_path) == output_bytes(trained)


def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    copy_inputs(trained, tmp_path)
    command = [sys.executable, ROOT / "stages/train.py", *TRAIN_PATHS]
    first = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "data/state/state.npz").exists():
        assert first.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "data/model").exists()
    second = run_stage("train", *TRAIN_PATHS, folder=tmp_path)
    assert "resuming after epoch" in second.stdout
    assert output_bytes(tmp_path) == output_bytes(trained)
    assert not (tmp_path / "data/state/state.npz").exists()


def test_the_state_of_other_settings_is_not_used(trained: Path, tmp_path: Path) -> None:
    from mammo.learning import checkpoint

    key = checkpoint.digest({"train": {"seed": 1}}, [trained / "params.yaml"])
    checkpoint.store(tmp_path, key, {"progress": {"epoch": 2}}, [np.arange(3.0)])
    found = checkpoint.load(tmp_path, key)
    assert found is not None
    assert found[0]["progress"] == {"epoch": 2}
    assert found[1][0].tolist() == [0, 1, 2]
    assert checkpoint.load(tmp_path, checkpoint.digest({"train": {"seed": 2}}, [trained / "params.yaml"])) is None
    assert checkpoint.load(tmp_path, checkpoint.digest({"train": {"seed": 1}}, [trained / OUTPUTS[0]])) is None


def test_a_collapsed_network_is_named_recorded_and_fails_the_stage(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path)
    write_params(tmp_path, train={"epochs": 1})
    images = np.load(prepared / "images.npy")
    np.save(prepared / "images.npy", np.broadcast_to(images[:1], images.shape))  # nothing can be told apart
    done = run_stage("train", *TRAIN_PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert "THE NETWORK HAS COLLAPSED" in done.stderr
    assert "It was trained for 1 epoch only: raise train.epochs to 12 or more; the numbers are in" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "metrics/train.json").read_text())["collapsed"] is True
    assert not (tmp_path / "data/model").exists()


@pytest.mark.parametrize(
    ("epochs", "advice"), [(2, "for 2 epochs only: raise train.epochs"), (12, "another train.seed")]
)
def test_a_collapse_after_few_epochs_advises_more_of_them(epochs: int, advice: str) -> None:
    from mammo.learning import training

    assert advice in training.advice(epochs)
    assert ("epochs" in training.advice(epochs)) == (epochs < 12)


def test_a_wrong_setting_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    write_prepared(tmp_path)
    write_params(tmp_path, train={"epochs": 0})
    done = run_stage("train", *TRAIN_PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "train: params.yaml: train.epochs is 0; allowed is greater than or equal to 1\n"


def test_a_processor_that_cannot_compute_in_bfloat16_is_told_in_one_line(tmp_path: Path) -> None:
    """Such as one with AVX2 alone, by oneDNN's own switch; where bfloat16 works all the same, nothing is told."""
    write_prepared(tmp_path)
    write_params(tmp_path, train={"precision": "bfloat16", "epochs": 2})
    done = run_stage("train", *TRAIN_PATHS, folder=tmp_path, environment={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    if done.returncode:
        assert done.stderr == (
            "train: TensorFlow cannot compute in bfloat16 on this processor; set train.precision: float32\n"
        )
