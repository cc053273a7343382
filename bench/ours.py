"""The project's own code, one work a process: `python bench/ours.py WORK …`; measure.serve says how it is asked."""

import itertools
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from measure import serve

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))

from mammo.core import dataset, settings, stage
from mammo.imaging import images

ROOT = Path(__file__).resolve().parent.parent
PARAMS = ROOT / "params.yaml"


def preprocessing(raw: Path, work: Path) -> None:
    """The stage's decoding of all images of RAW into one array in a folder below WORK."""
    from preprocess import Preprocess, decode_all

    entries = dataset.read_index(raw)
    how = settings.read("preprocess", Preprocess, PARAMS)
    folder = work / "decoded"

    def once() -> None:
        folder.mkdir()
        decode_all(raw, entries, how, folder)
        shutil.rmtree(folder)

    serve(once, cores=stage.cores())


def decoding(raw: Path) -> None:
    """A bar for the stage: OpenCV's grey decoding at full size of the same files on all cores, and nothing else.

    Before that, how far scaled decoding takes the stage's pixels from those of full-size decoding, in grey levels.
    """
    paths = [raw / entry.image for entry in dataset.read_index(raw)]
    cv2.setNumThreads(1)

    def full(path: Path) -> np.ndarray:
        return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)

    gaps = []
    for path in paths[:: max(len(paths) // 300, 1)]:
        plain = cv2.resize(full(path), (224, 224), interpolation=cv2.INTER_AREA)
        gaps.append(np.abs(images.read(path, (224, 224)).astype(int) - plain))
    measured = np.stack(gaps)

    def once() -> None:
        with ThreadPoolExecutor(stage.cores()) as pool:
            for _ in pool.map(full, paths):
                pass

    serve(
        once,
        images=len(measured),
        mean=float(measured.mean()),
        percentile_99=float(np.percentile(measured, 99)),
        greatest=int(measured.max()),
    )


def epoch(prepared: Path, precision: str, number: int) -> None:
    """An epoch of the stage `train` over NUMBER images of PREPARED: order, augmentation, steps, training scores."""
    import keras
    from mammo.learning import networks, training
    from mammo.learning.augmentation import Augment

    asked = settings.read("train", training.Train, PARAMS).model_copy(update={"precision": precision})
    ranges = settings.read("augment", Augment, PARAMS)
    data = dataset.load(prepared)
    chosen = np.arange(number)
    networks.use_threads(asked.threads)
    with networks.arithmetic(precision):
        network = networks.trainable_baseline(
            data.images.shape[1:], *training.intensity(data.images, chosen), asked.seed
        )
    optimizer = keras.optimizers.Adam(asked.learning_rate)
    optimizer.build(network.trainable_variables)
    step = training.training_step(network, optimizer, training.class_weights(data.labels[chosen], asked.class_weight))
    numbers = itertools.count(1)

    def once() -> None:
        count = next(numbers)
        training.one_epoch(
            training.augmented(data, chosen, asked, ranges, count), step, count, -(-number // asked.batch)
        )

    serve(once)


def ceiling(prepared: Path, precision: str, number: int) -> None:
    """As many steps of Keras' `train_on_batch` as an epoch has, on one batch that already lies in memory.

    The network is the specified one as Keras' users write it: without the batch normalisation of ours.
    """
    import keras
    import tensorflow as tf
    from mammo.learning import networks, training

    asked = settings.read("train", training.Train, PARAMS)
    data = dataset.load(prepared)
    networks.use_threads(asked.threads)
    with networks.arithmetic(precision):
        network = networks.baseline(data.images.shape[1:], 0.2, 0.2)
    network.compile(keras.optimizers.Adam(asked.learning_rate), "sparse_categorical_crossentropy")
    batch = tf.constant(data.images[: asked.batch, :, :, None].astype(np.float32))
    labels = tf.constant(data.labels[: asked.batch])

    def once() -> None:
        for _ in range(-(-number // asked.batch)):
            network.train_on_batch(batch, labels)

    serve(once)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["preprocessing", raw, work]:
            preprocessing(Path(raw), Path(work))
        case ["decoding", raw]:
            decoding(Path(raw))
        case ["epoch", prepared, precision, number]:
            epoch(Path(prepared), precision, int(number))
        case ["ceiling", prepared, precision, number]:
            ceiling(Path(prepared), precision, int(number))
        case _:
            sys.exit(__doc__)
