"""The network, fitted on the training split and chosen on the validation split; resumable."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from mammo import augmentation, checkpoint, dataset, files, networks, novelty, settings, stage, statistics
from mammo.dataset import Dataset
from mammo.errors import UserError
from mammo.randomness import generator
from pydantic import Field
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from tqdm import tqdm

# isort: split
import keras  # after networks, which quietens TensorFlow
import tensorflow as tf

COLLAPSED_SPREAD = 0.01  # interquartile range of the validation probabilities of a network that says the same of all
HISTORY = ("epoch", "split", "loss", "roc_auc", "accuracy")


class Train(settings.Settings):
    """Section `train` of params.yaml."""

    network: Literal["baseline"]
    seed: int
    epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    class_weight: Literal["balanced", "none"]
    precision: Literal["float32", "bfloat16"]
    threads: Annotated[int, Field(ge=1, le=256)]


@dataclass
class Progress:
    """Where a training stands after an epoch."""

    epoch: int = 0
    """Epochs finished."""
    best_epoch: int = 0
    """0 as long as the network has not learned."""
    best: tuple[float, float] = (-1.0, -float("inf"))
    """Validation ROC AUC of the best epoch and, to choose among equals, its cross-entropy, negative."""
    history: list[list[Any]] = field(default_factory=list)
    """Rows of plots/history.csv."""


def main(prepared: Path, gate: Path, model: Path, history: Path, metrics: Path) -> None:
    """Fit the network on PREPARED; write MODEL/model.keras and model.json, HISTORY by epoch, METRICS.

    GATE holds the audit's verdict, which the model carries along.
    """
    train = settings.read("train", Train)
    ranges = settings.read("augment", augmentation.Augment)
    source = settings.value("data", "source")
    verdict_of_audit = files.read_json(gate)
    data = dataset.load(prepared)
    networks.use_threads(train.threads)
    state = stage.STATE
    asked = {"train": train.model_dump(), "augment": ranges.model_dump(), "instructions": instructions()}
    key = checkpoint.digest(asked, [prepared / "images.npy", prepared / "index.csv"])
    network, progress = fit(data, train, ranges, history, state, key)
    step = networks.forward(network)
    probability = {split: networks.probabilities(step, data.images, data.part(split)) for split in ("train", "valid")}
    verdict = judge(probability, data)
    files.write_json(metrics, {"epochs": progress.epoch, "best_epoch": progress.best_epoch, **verdict})
    if verdict["collapsed"]:
        raise UserError(
            "THE NETWORK HAS COLLAPSED: it learned nothing or says nearly the same of every image "
            f"(training AUC {verdict['train']['roc_auc']['value']:.3f}, interquartile range of the validation "
            f"probabilities {verdict['valid']['probability_spread']:.4f}). Nothing is scored. "
            f"Try another train.seed or train.learning_rate; the figures are in {metrics}."
        )
    with files.written(model) as folder:
        folder.mkdir()
        networks.save(network, folder / "model.keras")
        files.write_json(
            folder / "model.json",
            {
                "epoch": progress.best_epoch,
                **card(network, data, train, source, verdict_of_audit, probability["valid"]),
            },
        )
    checkpoint.remove(state)


def fit(
    data: Dataset, train: Train, ranges: augmentation.Augment, history: Path, state: Path, key: str
) -> tuple[keras.Model, Progress]:
    """Train until `epochs` or until `patience` epochs brought no better validation ROC AUC.

    Only an epoch in which the network `has_learned` can be the best: before, its validation AUC is luck. Patience
    counts from the first such epoch.

    Returns:
        the network as specified, with the weights of the best epoch (of the last, where none can be), and the progress.

    """
    training, validation = data.part("train"), data.part("valid")
    mean, deviation = intensity(data.images, training)
    size = data.images.shape[1:]
    with networks.arithmetic(train.precision):
        trained = networks.trainable_baseline(size, mean, deviation, train.seed)
    optimizer = keras.optimizers.Adam(train.learning_rate)
    optimizer.build(trained.trainable_variables)
    forward = networks.forward(trained)
    step = training_step(trained, optimizer, class_weights(data.labels[training], train.class_weight))

    variables = [*trained.variables, *optimizer.variables]
    best = [variable.numpy() for variable in trained.variables]
    progress = Progress()
    if found := checkpoint.load(state, key):
        notes, arrays = found
        progress = Progress(**notes["progress"])
        for variable, array in zip(variables, arrays[: len(variables)], strict=True):
            variable.assign(array)
        best = arrays[len(variables) :]
        print(f"train: going on after epoch {progress.epoch} of an interrupted run", flush=True)

    def patient() -> bool:
        return not progress.best_epoch or progress.epoch - progress.best_epoch < train.patience

    labels = data.labels[validation]
    while progress.epoch < train.epochs and patient():
        progress.epoch += 1
        batches = augmented(data, training, train, ranges, progress.epoch)
        truth, seen = one_epoch(batches, step, progress.epoch, -(-len(training) // train.batch))
        probability = networks.probabilities(forward, data.images, validation)
        progress.history.append([progress.epoch, "train", *scores(truth, seen)])
        progress.history.append([progress.epoch, "valid", *scores(labels, probability)])
        loss, auc, _ = scores(labels, probability)
        learned = has_learned(statistics.delong_interval(truth, seen), spread(probability))
        if learned and (auc, -loss) > tuple(progress.best):
            progress.best, progress.best_epoch = (auc, -loss), progress.epoch
        if progress.best_epoch in (0, progress.epoch):
            best = [variable.numpy() for variable in trained.variables]
        files.write_csv(history, HISTORY, progress.history)
        arrays = [variable.numpy() for variable in variables] + best
        checkpoint.store(state, key, {"progress": vars(progress)}, arrays)

    progress.best_epoch = progress.best_epoch or progress.epoch
    files.write_csv(history, HISTORY, progress.history)
    for variable, array in zip(trained.variables, best, strict=True):
        variable.assign(array)
    with networks.arithmetic("float32"):
        network = networks.baseline(size, mean, deviation)
    networks.fold(trained, network)
    return network, progress


def intensity(images: np.ndarray, positions: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation in [0, 1] of all pixels of the images at `positions`, exact in any order."""
    count = total = squares = 0
    for position in positions:
        values = images[position].astype(np.int64)
        count, total, squares = count + values.size, total + int(values.sum()), squares + int((values**2).sum())
    mean = total / count
    return mean / 255, max((squares / count - mean**2) ** 0.5 / 255, 1e-3)


def class_weights(labels: np.ndarray, rule: str) -> np.ndarray:
    """Weight of each class, float32 (2,): `balanced` makes both classes count the same in sum."""
    if rule == "none":
        return np.ones(2, np.float32)
    return (len(labels) / (2 * np.bincount(labels, minlength=2))).astype(np.float32)


def augmented(
    data: Dataset, training: np.ndarray, train: Train, ranges: augmentation.Augment, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The augmented images and labels of one epoch in batches, the next one made while the last is learned from."""
    labels = data.labels
    order = generator(train.seed, "order", epoch).permutation(training)
    chunks = [order[first : first + train.batch] for first in range(0, len(order), train.batch)]

    def make(chunk: np.ndarray) -> np.ndarray:
        return augmentation.batch(data.images, chunk, ranges, train.seed, epoch)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(make, chunks[0])
        for position, chunk in enumerate(chunks):
            images = coming.result()
            if position + 1 < len(chunks):
                coming = ahead.submit(make, chunks[position + 1])
            yield images, labels[chunk]


def training_step(
    model: keras.Model, optimizer: keras.Optimizer, weights: np.ndarray
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """One step of gradient descent on the weighted cross-entropy; gives the probabilities of cancer before it."""

    @tf.function(jit_compile=False, reduce_retracing=True)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            output = model(tf.cast(images, tf.float32), training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, output)
            loss = tf.reduce_mean(losses * tf.gather(tf.constant(weights), labels))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return output[:, 1]

    return step


def one_epoch(
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    epoch: int,
    total: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Learn from every batch.

    Returns:
        labels and probabilities of the augmented images in the order of learning, each from before its own step.

    """
    labels, probability = [], []
    for images, truth in tqdm(batches, f"epoch {epoch}", total, unit=" batches", disable=None, leave=False):
        probability.append(step(tf.constant(images), tf.constant(truth)).numpy())
        labels.append(truth)
    return np.concatenate(labels), np.concatenate(probability).astype(float)


def scores(labels: np.ndarray, probability: np.ndarray) -> list[float]:
    """Cross-entropy, ROC AUC and accuracy at 0.5."""
    loss = log_loss(labels, np.clip(probability, 1e-7, 1 - 1e-7))
    return [float(loss), float(roc_auc_score(labels, probability)), float(accuracy_score(labels, probability >= 0.5))]


def spread(probability: np.ndarray) -> float:
    """The interquartile range."""
    lower, upper = np.percentile(probability, [25, 75])
    return float(upper - lower)


def has_learned(training_auc: statistics.Interval, validation_spread: float) -> bool:
    """Whether the network ranks its own training images better than chance and does not say the same of every image.

    The first by the lower end of the 95 % interval (DeLong) of that AUC, the second by the spread of the validation
    probabilities, which must exceed `COLLAPSED_SPREAD`.
    """
    return training_auc.low > 0.5 and validation_spread > COLLAPSED_SPREAD


def judge(probability: Mapping[str, np.ndarray], data: Dataset) -> dict[str, Any]:
    """What the fitted network makes of training (not augmented) and validation images."""
    auc = {
        split: statistics.delong_interval(data.labels[data.part(split)], values)
        for split, values in probability.items()
    }
    verdict = {
        split: {"roc_auc": vars(auc[split]), "probability_spread": spread(values)}
        for split, values in probability.items()
    }
    return {**verdict, "collapsed": not has_learned(auc["train"], spread(probability["valid"]))}


def card(
    network: keras.Model, data: Dataset, train: Train, source: str, audit: dict[str, Any], probability: np.ndarray
) -> dict[str, Any]:
    """What a prediction needs to know: data, geometry, thresholds locked on validation, arithmetic, what is usual."""
    training, validation = data.part("train"), data.part("valid")
    look = networks.features(network)
    features = [networks.probabilities(look, data.images, part) for part in (training, validation)]
    means = np.array([data.images[position].mean() for position in training])
    return {
        "network": train.network,
        "weights": network.count_params(),
        "trained_on": {
            "source": source,
            "images": len(training),
            "patients": len(set(data.patients[training])),
            "cancer": int(data.labels[training].sum()),
        },
        "audit": audit,
        "preprocess": {"size": list(data.images.shape[1:])},
        "thresholds": statistics.thresholds(data.labels[validation], probability),
        "arithmetic": {
            "precision": train.precision,
            "threads": train.threads,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "instructions": instructions(),
        },
        "training_intensity": {
            f"percentile_{share}": float(np.percentile(means, share)) for share in (0, 1, 25, 50, 75, 99, 100)
        },
        "training_features": novelty.reference(*features),
    }


def instructions() -> str:
    """The widest instruction set of this processor that TensorFlow's kernels choose by; it decides the last bits."""
    if tf.config.list_physical_devices("GPU"):
        return "gpu"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx")
    return next((name for name in known if name in flags), os.uname().machine)


if __name__ == "__main__":
    stage.run(main)
