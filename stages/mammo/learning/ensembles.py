"""Ensembles: every network that `train` names, fitted one after the other, and one network that averages them."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mammo.core import files
from mammo.core.settings import Augment, Train
from mammo.core.wording import counted
from mammo.learning import checkpoint, logistic_head, training
from mammo.learning.training import HISTORY, Fitted, Progress

import numpy as np

# isort: split
import keras  # after networks, which silences TensorFlow

NETWORKS = "networks"  # folder of the states of interrupted trainings, below that of a single one


def fit_resumably(prepared: Path, train: Train, augment: Augment, history: Path, state: Path) -> Fitted:
    """Fit every network that `train` names; resume with the network and after the epoch at which it was interrupted.

    Returns:
        The network itself if there is one; otherwise one that averages all (see `averaged`), with the epochs and the
        history of all (see `joined`).

    Raises:
        UserError: the initial weights cannot be loaded, or this processor does not support the precision.

    """
    every = train.trainings
    if len(every) == 1:
        return _fit(prepared, every[0], augment, history, state)
    fitted = []
    for number, one in enumerate(every, 1):
        print(f"train: network {number} of {len(every)}: {one.network}, seed {one.seed}", flush=True)
        own = state / NETWORKS / str(number)
        fitted.append(_fit(prepared, one, augment, own / "history.csv", own))
    progress = joined([each.progress for each in fitted])
    files.write_csv(history, HISTORY, progress.history)
    return Fitted(averaged([each.network for each in fitted]), progress)


def _fit(prepared: Path, train: Train, augment: Augment, history: Path, state: Path) -> Fitted:
    how = logistic_head if train.head == "logistic" else training
    return how.fit_resumably(prepared, train, augment, history, state)


def forget(train: Train, state: Path) -> None:
    """Remove the states of finished trainings."""
    checkpoint.remove(state)
    for number in range(1, len(train.trainings) + 1):
        checkpoint.remove(state / NETWORKS / str(number))


def joined(every: Sequence[Progress]) -> Progress:
    """Return the progress of all networks: the last epoch and the last best one, and the mean scores per epoch.

    The scores of an epoch are the means over the networks that reached it.
    """
    rows: dict[tuple[int, str], list[list[float]]] = {}
    for progress in every:
        for epoch, split, *scores in progress.history:
            rows.setdefault((epoch, split), []).append(scores)
    order = sorted(rows, key=lambda place: (place[0], place[1] == "valid"))
    return Progress(
        epoch=max(progress.epoch for progress in every),
        best_epoch=max(progress.best_epoch for progress in every),
        history=[[*place, *np.mean(rows[place], axis=0).tolist()] for place in order],
    )


def averaged(members: Sequence[keras.Model]) -> keras.Model:
    """Return one network whose probabilities are the means of those of the members for the same image.

    Its layers are copies of theirs, named after the number of their network, e.g. `network_2_class`.

    Args:
        members: networks in the form that is saved, with inputs of the same size.

    """
    image = keras.Input(members[0].input_shape[1:], name="image")
    copies = [_copy(member, number, image) for number, member in enumerate(members, 1)]
    model = keras.Model(image, keras.layers.Average(name="class")(copies), name="ensemble")
    layers = {layer.name: layer for layer in model.layers}
    for number, member in enumerate(members, 1):
        for layer in member.layers:
            if layer.weights:
                layers[_name(number, layer)].set_weights(layer.get_weights())
    return model


def _copy(member: keras.Model, number: int, image: keras.KerasTensor) -> keras.KerasTensor:
    """Return the output of a copy of a network, with its layers renamed, for another input."""
    renamed = partial(_renamed, number)
    if not isinstance(member, keras.Sequential):
        return keras.models.clone_model(member, input_tensors=image, clone_function=renamed).output
    values = image
    for layer in member.layers:
        values = renamed(layer)(values)
    return values


def _renamed(number: int, layer: keras.Layer) -> keras.Layer:
    return layer.__class__.from_config({**layer.get_config(), "name": _name(number, layer)})


def _name(number: int, layer: keras.Layer) -> str:
    return f"network_{number}_{layer.name}"


def title(train: Train) -> str:
    """Return the name of the network, or the numbers of the networks that are averaged, e.g. `mean of 3 compact`."""
    names = [one.network for one in train.trainings]
    if len(names) == 1:
        return names[0]
    return "mean of " + " and ".join(f"{number} {name}" for name, number in Counter(names).items())


def kept(train: Train, progress: Progress) -> str:
    """Return which weights were kept, in words for the terminal."""
    if (number := len(train.trainings)) > 1:
        return f"the mean of {counted(number, 'network')}"
    if train.head == "logistic":
        return "the logistic regression on its features"
    return f"the mean of the last {train.average}" if train.average else f"epoch {progress.best_epoch}"
