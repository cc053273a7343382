"""Training of a network, shared by the pipeline and cross-validation; resumable after every epoch."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core import dataset, files, processor
from mammo.core.dataset import Dataset
from mammo.core.errors import UserError
from mammo.core.randomness import generator
from mammo.core.settings import Augment, Train
from mammo.core.wording import counted
from mammo.learning import augmentation, checkpoint, layer_rates, networks
from mammo.scoring import Cases, Interval, clustered_interval

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from tqdm import tqdm

# isort: split
import keras  # after networks, which silences TensorFlow
import tensorflow as tf

COLLAPSED_IQR = 0.01  # at or below it, the validation probabilities are nearly constant
ENOUGH_EPOCHS = 12  # by then the specified network had learned with each of 20 seeds (docs/evidence.md)
HISTORY = ("epoch", "split", "loss", "roc_auc", "accuracy")
WARM_UP = 0.05  # share of the steps in which a cosine schedule raises the learning rate


@dataclass
class Progress:
    """Progress of a training after an epoch."""

    epoch: int = 0
    """Number of finished epochs."""
    best_epoch: int = 0
    """0 while the network has not learned."""
    best: tuple[float, float] = (-1.0, -float("inf"))
    """Validation ROC AUC of the best epoch and, to break ties, its negative cross-entropy."""
    history: list[list[Any]] = field(default_factory=list)
    """Rows of plots/history.csv."""


class Fitted(NamedTuple):
    """A finished training."""

    network: keras.Model
    """The network in the form that is saved."""
    progress: Progress


@dataclass
class _Training:
    """A training in progress."""

    network: keras.Model
    """The network in the form that is trained."""
    optimizer: keras.Optimizer
    kept: list[np.ndarray]
    """The network's variables to save: those of the best epoch so far, or a mean over epochs."""
    progress: Progress

    @property
    def variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables]

    def weights(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.network.variables]


def fit_resumably(prepared: Path, train: Train, augment: Augment, history: Path, state: Path) -> Fitted:
    """Run `fit` on the folder `prepared`; resume from `state` if it holds an interrupted training with the same inputs.

    Raises:
        UserError: the initial weights cannot be loaded, or this processor does not support the precision.

    """
    networks.use_threads(train.threads)
    settings = {
        "train": train.model_dump(),
        "augment": augment.model_dump(),
        "instructions": instructions(train.precision),
    }
    inputs = [prepared / dataset.IMAGES, prepared / "index.csv", *networks.given(train.weights)]
    key = checkpoint.digest(settings, inputs)
    try:
        return fit(dataset.load(prepared), train, augment, history, state, key)
    except tf.errors.OpError as error:
        if train.precision == "float32":
            raise
        raise UserError(
            f"TensorFlow cannot compute in {train.precision} on this processor; set train.precision: float32"
        ) from error


def fit(data: Dataset, train: Train, augment: Augment, history: Path, state: Path, key: str) -> Fitted:
    """Train for `epochs`, or until the validation ROC AUC has not improved for `patience` epochs.

    Only an epoch in which the network `has_learned` can be the best, since before that its validation AUC is chance.
    Patience counts from the first such epoch. With `average` all epochs are run, and the weights are the mean over
    the last `average` epochs (Izmailov et al. 2018, arXiv:1803.05407).

    Args:
        data: the prepared images.
        train: the settings.
        augment: the ranges of augmentation.
        history: CSV file, replaced after every epoch.
        state: folder with the state of an interrupted training.
        key: hash of the inputs; a state with another key is ignored.

    Returns:
        the progress, and the network in the form that is saved, with the weights of the best epoch (the last epoch if
        there is no best one) or the mean weights.

    Raises:
        UserError: the initial weights cannot be loaded.

    """
    learned, validation = data.part("train"), data.part("valid")
    mean, deviation = intensity(data.images, learned)
    training = _begin(data.images.shape[1:], len(learned), train, mean, deviation)
    _resume(training, state, key)
    forward = networks.forward(training.network, train.flip_at_test)
    weights = class_weights(data.labels[learned], train.class_weight)
    step = training_step(training.network, training.optimizer, weights, train.label_smoothing)
    progress, labels = training.progress, data.labels[validation]
    begun, first = time.monotonic(), progress.epoch
    while _goes_on(progress, train):
        progress.epoch += 1
        batches = augmented(data, learned, train, augment, progress.epoch)
        truth, seen = one_epoch(batches, step, progress.epoch, -(-len(learned) // train.batch))
        probability = networks.probabilities(forward, data.images, validation)
        progress.history.append([progress.epoch, "train", *epoch_scores(truth, seen)])
        progress.history.append([progress.epoch, "valid", *epoch_scores(labels, probability)])
        if train.average:
            beyond = progress.epoch - (train.epochs - train.average)
            training.kept = _averaged(training.kept, training.weights(), beyond)
        else:
            patients = data.patients[epoch_order(learned, train.seed, progress.epoch)]
            learns = has_learned(clustered_interval(Cases(truth, seen, patients)), interquartile_range(probability))
            _select(training, learns, epoch_scores(labels, probability))
        files.write_csv(history, HISTORY, progress.history)
        arrays = [variable.numpy() for variable in training.variables] + training.kept
        checkpoint.store(state, key, {"progress": vars(progress)}, arrays)
        print(_in_a_line(progress, train, (time.monotonic() - begun) / (progress.epoch - first)), flush=True)
    progress.best_epoch = progress.best_epoch or progress.epoch
    files.write_csv(history, HISTORY, progress.history)
    for variable, array in zip(training.network.variables, training.kept, strict=True):
        variable.assign(array)
    return Fitted(networks.finished(train.network, training.network, mean, deviation, tuple(train.maps)), progress)


def _begin(size: tuple[int, ...], images: int, train: Train, mean: float, deviation: float) -> _Training:
    network = begun(size, train, mean, deviation)
    optimizer = _optimizer(train, -(-images // train.batch), network)
    optimizer.build(network.trainable_variables)
    training = _Training(network, optimizer, [], Progress())
    training.kept = training.weights()
    return training


def begun(size: tuple[int, ...], train: Train, mean: float, deviation: float) -> keras.Model:
    """Return the network with its initial weights; the arguments are those of `networks.build`."""
    height, width = size
    start = networks.Start(train.weights, train.frozen, train.thawed, tuple(train.maps))
    with networks.arithmetic(train.precision):
        return networks.build(train.network, (height, width), mean, deviation, train.seed, start)


def _resume(training: _Training, state: Path, key: str) -> None:
    """Resume after the last finished epoch of an interrupted run with the same inputs, if there is one."""
    if not (stored := checkpoint.load(state, key)):
        return
    notes, arrays = stored
    training.progress = Progress(**notes["progress"])
    count = len(training.variables)
    for variable, array in zip(training.variables, arrays[:count], strict=True):
        variable.assign(array)
    training.kept = arrays[count:]
    print(f"train: resuming after epoch {training.progress.epoch} of an interrupted run", flush=True)


def _goes_on(progress: Progress, train: Train) -> bool:
    waited = progress.epoch - progress.best_epoch
    patient = bool(train.average) or not progress.best_epoch or waited < train.patience
    return progress.epoch < train.epochs and patient


def _in_a_line(progress: Progress, train: Train, seconds: float) -> str:
    """Return the last epoch's scores for the terminal, with the remaining time at `seconds` per epoch."""
    (_, _, loss, auc, _), (_, _, _, validation_auc, _) = progress.history[-2:]
    left = f"at most {_duration(seconds * (train.epochs - progress.epoch))} left"
    text = f"train: epoch {progress.epoch}/{train.epochs}  loss {loss:.3f}  ROC AUC: training {auc:.3f}"
    return f"{text}, validation {validation_auc:.3f}  {left if progress.epoch < train.epochs else ''}".rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _select(training: _Training, learns: bool, scores: list[float]) -> None:
    """Keep the weights of this epoch if it is the best so far, or if there is no best epoch yet."""
    progress, (loss, auc, _) = training.progress, scores
    if learns and (auc, -loss) > tuple(progress.best):
        progress.best, progress.best_epoch = (auc, -loss), progress.epoch
    if progress.best_epoch in (0, progress.epoch):
        training.kept = training.weights()


def _optimizer(train: Train, steps: int, network: keras.Model) -> keras.Optimizer:
    """Return Adam, or AdamW if there is weight decay (Loshchilov and Hutter 2019), with the learning rate schedule.

    Raises:
        UserError: there is a decay by depth, and the network has no blocks.

    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = train.learning_rate
    if train.schedule == "cosine":
        total = steps * train.epochs
        rise = max(round(WARM_UP * total), 1)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(total - rise, 1), warmup_target=train.learning_rate, warmup_steps=rise
        )
    if train.depth_decay < 1:
        if not layer_rates.blocks(network):
            raise UserError(
                f"train.depth_decay is {train.depth_decay}, but {train.network} has no blocks: set it to 1.0"
            )
        return layer_rates.Adam(rate, network, train.depth_decay, train.weight_decay)
    if not train.weight_decay:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=train.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _averaged(mean: list[np.ndarray], weights: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Update the mean of `count` sets of weights with the newest; return the newest alone if `count` is 1 or less."""
    if count <= 1:
        return weights
    return [
        (old + (new - old) / count).astype(new.dtype) if np.issubdtype(new.dtype, np.floating) else new
        for old, new in zip(mean, weights, strict=True)
    ]


def intensity(images: np.ndarray, positions: np.ndarray) -> tuple[float, float]:
    """Return the mean and standard deviation, in [0, 1], of all pixels of the images at `positions`."""
    count = total = squares = 0
    for position in positions:
        values = images[position].astype(np.int64)
        count, total, squares = count + values.size, total + int(values.sum()), squares + int((values**2).sum())
    mean = total / count
    return mean / 255, max((squares / count - mean**2) ** 0.5 / 255, 1e-3)


def class_weights(labels: np.ndarray, rule: str) -> np.ndarray:
    """Return the weight of each class, float32 (2,); `balanced` gives both classes the same total weight."""
    if rule == "none":
        return np.ones(2, np.float32)
    return (len(labels) / (2 * np.bincount(labels, minlength=2))).astype(np.float32)


def epoch_order(training: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return the positions of the training images in the order of an epoch."""
    return generator(seed, "order", epoch).permutation(training)


def augmented(
    data: Dataset, training: np.ndarray, train: Train, augment: Augment, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the augmented images and labels of one epoch in batches; prepare the next batch in the background."""
    labels = data.labels
    order = epoch_order(training, train.seed, epoch)
    chunks = [order[first : first + train.batch] for first in range(0, len(order), train.batch)]

    def make(chunk: np.ndarray) -> np.ndarray:
        return augmentation.batch(data.images, chunk, augment, train.seed, epoch)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(make, chunks[0])
        for position, chunk in enumerate(chunks):
            images = coming.result()
            if position + 1 < len(chunks):
                coming = ahead.submit(make, chunks[position + 1])
            yield images, labels[chunk]


def training_step(
    model: keras.Model, optimizer: keras.Optimizer, weights: np.ndarray, smoothing: float = 0.0
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a gradient step on the weighted cross-entropy, which returns the probabilities of cancer before it.

    With label `smoothing` the target is 1 - smoothing / 2 for the labelled class and smoothing / 2 for the other
    (Szegedy et al. 2016).
    """

    @tf.function(jit_compile=False, reduce_retracing=True)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            output = model(tf.cast(images, tf.float32), training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, output)
            if smoothing:
                other = keras.losses.sparse_categorical_crossentropy(1 - labels, output)
                losses = (1 - smoothing / 2) * losses + smoothing / 2 * other
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
    """Train on every batch.

    Returns:
        labels and probabilities of the augmented images in the order of training, computed before their batch's step.

    """
    labels, probability = [], []
    for images, truth in tqdm(batches, f"epoch {epoch}", total, unit=" batches", disable=None, leave=False):
        probability.append(step(tf.constant(images), tf.constant(truth)).numpy())
        labels.append(truth)
    return np.concatenate(labels), np.concatenate(probability).astype(float)


def epoch_scores(labels: np.ndarray, probability: np.ndarray) -> list[float]:
    """Return cross-entropy, ROC AUC, and accuracy at threshold 0.5."""
    loss = log_loss(labels, np.clip(probability, 1e-7, 1 - 1e-7))
    return [float(loss), float(roc_auc_score(labels, probability)), float(accuracy_score(labels, probability >= 0.5))]


def interquartile_range(probability: np.ndarray) -> float:
    """Return the distance between the 25th and the 75th percentile."""
    lower, upper = np.percentile(probability, [25, 75])
    return float(upper - lower)


def has_learned(training_auc: Interval, validation_iqr: float) -> bool:
    """Return whether the training AUC is better than chance and the validation probabilities are not constant.

    The lower end of the AUC's 95 % interval over patients must exceed 0.5, and the interquartile range of the
    validation probabilities must exceed `COLLAPSED_IQR`.
    """
    return training_auc.low > 0.5 and validation_iqr > COLLAPSED_IQR


def advice(epochs: int) -> str:
    """Return what to change after a training of that many epochs in which the network has not learned."""
    if epochs < ENOUGH_EPOCHS:
        return f"It was trained for {counted(epochs, 'epoch')} only: raise train.epochs to {ENOUGH_EPOCHS} or more"
    return "Try another train.seed or train.learning_rate"


def judge(probability: Mapping[str, np.ndarray], data: Dataset) -> dict[str, Any]:
    """Return the ROC AUC and interquartile range of training (not augmented) and validation images."""
    auc = {
        split: clustered_interval(Cases(data.labels[part], values, data.patients[part], split))
        for split, values in probability.items()
        for part in [data.part(split)]
    }
    verdict = {
        split: {"roc_auc": vars(auc[split]), "probability_spread": interquartile_range(values)}
        for split, values in probability.items()
    }
    learned = has_learned(auc["train"], interquartile_range(probability["valid"]))
    return {**verdict, "collapsed": not learned}


def instructions(precision: str) -> str:
    """Return the set of instructions on which the rounding of a training depends here."""
    if tf.config.list_physical_devices("GPU"):
        return "gpu"
    return processor.instructions(precision)
