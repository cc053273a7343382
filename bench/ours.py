"""The project's own code, one task per process (see `measure.serve`):

    python bench/ours.py preprocessing RAW | decoding RAW | epoch PREPARED PRECISION NUMBER
                         | ceiling PREPARED PRECISION NUMBER

Settings are those of params.yaml in the working directory.
"""

import itertools
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from measure import ROOT, serve

sys.path.insert(0, str(ROOT / "stages"))

from mammo.core import dataset, parallel, settings
from mammo.imaging import images, prepare

COMPARED = 300  # images compared with full-size decoding


def preprocessing(raw: Path) -> None:
    """Serve the stage's decoding of all images of RAW into one array, which is then deleted."""
    entries, preprocess = dataset.read_index(raw), settings.read().preprocess

    def once() -> None:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            prepare.decode_all(raw, entries, preprocess, Path(folder))

    serve(once, cores=parallel.cores())


def decoding(raw: Path) -> None:
    """Serve OpenCV's grey decoding at full size, without resizing, of the images of RAW on all cores.

    Also report the differences between scaled and full-size decoding, in grey levels.
    """
    paths = [raw / entry.image for entry in dataset.read_index(raw)]
    height, width = settings.read().preprocess.size
    cv2.setNumThreads(1)

    def full(path: Path) -> np.ndarray:
        return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)

    gaps = []
    for path in paths[:: max(len(paths) // COMPARED, 1)]:
        plain = cv2.resize(full(path), (width, height), interpolation=cv2.INTER_AREA)
        gaps.append(np.abs(images.read(path, (height, width)).astype(int) - plain))
    measured = np.stack(gaps)

    def once() -> None:
        with ThreadPoolExecutor(parallel.cores()) as pool:
            for _ in pool.map(full, paths):
                pass

    serve(
        once,
        images=len(measured),
        mean=float(measured.mean()),
        percentile_99=float(np.percentile(measured, 99)),
        maximum=int(measured.max()),
    )


def epoch(prepared: Path, precision: str, number: int) -> None:
    """Serve an epoch of the stage train on NUMBER images: shuffling, augmentation, steps, training scores."""
    from mammo.learning import networks, training

    import keras

    params, data, chosen = settings.read(), dataset.load(prepared), np.arange(number)
    train = params.train
    networks.use_threads(train.threads)
    size, intensity = data.images.shape[1:], training.intensity(data.images, chosen)
    with networks.arithmetic(precision):
        network = networks.build("baseline", size, *intensity, train.seed)
    optimizer = keras.optimizers.Adam(train.learning_rate)
    optimizer.build(network.trainable_variables)
    step = training.training_step(network, optimizer, training.class_weights(data.labels[chosen], train.class_weight))
    numbers, steps = itertools.count(1), -(-number // train.batch)

    def once() -> None:
        count = next(numbers)
        training.one_epoch(training.augmented(data, chosen, train, params.augment, count), step, count, steps)

    serve(once)


def ceiling(prepared: Path, precision: str, number: int) -> None:
    """Serve the steps of an epoch with Keras' `train_on_batch`, all on one batch that is already in memory.

    The network is the specified one, without batch normalisation.
    """
    from mammo.learning import networks

    import keras
    import tensorflow as tf

    train, data = settings.read().train, dataset.load(prepared)
    networks.use_threads(train.threads)
    with networks.arithmetic(precision):
        network = networks.baseline(data.images.shape[1:], 0.2, 0.2)
    network.compile(keras.optimizers.Adam(train.learning_rate), "sparse_categorical_crossentropy")
    batch = tf.constant(data.images[: train.batch, :, :, None].astype(np.float32))
    labels = tf.constant(data.labels[: train.batch])

    def once() -> None:
        for _ in range(-(-number // train.batch)):
            network.train_on_batch(batch, labels)

    serve(once)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["preprocessing", raw]:
            preprocessing(Path(raw))
        case ["decoding", raw]:
            decoding(Path(raw))
        case ["epoch", prepared, precision, number]:
            epoch(Path(prepared), precision, int(number))
        case ["ceiling", prepared, precision, number]:
            ceiling(Path(prepared), precision, int(number))
        case _:
            sys.exit(__doc__)
