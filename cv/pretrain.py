"""A network trained on phantoms, for the folds of a row to start from."""

import shutil
from pathlib import Path

from fold import trained_on
from mammo import folds
from mammo.core import dataset, files, settings, stage
from mammo.learning import networks
from mammo.scoring import statistics
from mammo.sources.own import phantom
from preprocess import Preprocess, decode_all


def main(weights: Path, metrics: Path) -> None:
    """Train what `pretraining` asks for; write the network to WEIGHTS and how well it learned to METRICS."""
    asked = folds.read("pretraining", folds.Pretraining)
    row = folds.row(asked.row)
    how = settings.read("preprocess", Preprocess, folds.PIPELINE, row.get("preprocess"))
    state = stage.STATE / "pretraining"
    raw, prepared = state / "raw", state / "prepared"
    for folder in (raw, prepared):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    drawn = phantom.generate(asked.phantom, raw, stage.cores())
    decode_all(raw, drawn, how, prepared)
    seed = asked.phantom.seed
    dataset.write_index(prepared, folds.assigned(drawn, 0, folds.Folds(number=5, seed=seed, valid=0.1)))
    recipe = {**row, "train": {**row.get("train", {}), "epochs": asked.epochs}}
    network, _, train = trained_on(prepared, recipe, state)
    data = dataset.load(prepared)
    test = data.part("test")
    chances = networks.probabilities(networks.forward(network, train.flip_at_test), data.images, test)
    scores = statistics.scores(data.labels[test], chances, data.patients[test], 0.5, seed)
    files.write_json(metrics, statistics.as_json({"phantom_roc_auc": scores["roc_auc"]}))
    weights.parent.mkdir(parents=True, exist_ok=True)
    networks.save(network, weights)
    shutil.rmtree(state)


if __name__ == "__main__":
    stage.run(main, reads_scores=True)
