"""Train a network on phantoms; its weights are the initial weights of a variant's folds."""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import dataset, files, parallel, stage
from mammo.imaging import prepare
from mammo.learning import ensembles, export, exported, networks
from mammo.scoring import Bootstrap, Cases, as_json, scores
from mammo.sources import phantom

import crossvalidation


def main(settings: Path, weights: Path, metrics: Path) -> None:
    """Train the variant of SETTINGS; write the network to WEIGHTS and its test ROC AUC on phantoms to METRICS."""
    pretraining, trained = crossvalidation.read().pretraining, crossvalidation.trained(settings)
    seed, train = pretraining.phantom.seed, trained.with_train(epochs=pretraining.epochs)
    state = stage.STATE / "pretraining"
    raw, prepared = (crossvalidation.emptied(state / name) for name in ("raw", "prepared"))
    drawn = phantom.generate(pretraining.phantom, raw, parallel.cores())
    readable = prepare.decode_all(raw, drawn, trained.preprocess, prepared)
    folds = crossvalidation.Folds(number=5, seed=seed, valid=0.1)
    dataset.write_index(prepared, crossvalidation.assign(readable, 0, folds))
    fitted = ensembles.fit_resumably(prepared, train, trained.augment, state / "history.csv", state)
    data = dataset.load(prepared)
    test = data.part("test")
    scorer = exported.Exported(export.litert(fitted.network, train.flip_at_test))
    probability = scorer.outputs(data.images, test).probabilities
    scored = scores(Cases(data.labels[test], probability, data.patients[test]), 0.5, Bootstrap(seed))
    files.write_json(metrics, as_json({"phantom_roc_auc": scored["roc_auc"]}))
    weights.parent.mkdir(parents=True, exist_ok=True)
    networks.save(fitted.network, weights)
    shutil.rmtree(state)


if __name__ == "__main__":
    stage.run(main, reads_scores=True)
