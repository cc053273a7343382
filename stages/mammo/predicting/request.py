"""Check the arguments of `mammo predict` before a network is loaded."""

from pathlib import Path

from mammo.core import model_info
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.wording import counted, shown


def read_model(model: Path, rule: str, despite_phantoms: bool) -> ModelInfo:
    """Read MODEL/model.json.

    Raises:
        UserError: the folder holds no model of this project, the model has no threshold of that rule, or it was
            trained on phantoms and `despite_phantoms` is false.

    """
    if not (model / model_info.NAME).is_file():
        raise UserError(
            f"{model / model_info.NAME} does not exist: run `dvc repro`, `dvc pull`, or name a model with --model"
        )
    info = model_info.read(model)
    if not {"percentile_0", "percentile_100"} <= set(info.training_intensity):
        raise UserError(f"{model / model_info.NAME}: training_intensity lacks percentile_0 or percentile_100")
    if rule not in info.thresholds:
        raise UserError(f"--threshold {rule}: the model has {', '.join(info.thresholds)}")
    if info.trained_on.source == "phantom" and not despite_phantoms:
        raise UserError(
            "refused: the model was trained on phantoms (synthetic images), so its answers about scans mean nothing. "
            "Train on mammograms (data.source in params.yaml), or add --despite-phantoms to see how it works"
        )
    return info


def new_folder(path: Path) -> None:
    """Create the folder for heat maps.

    Raises:
        UserError: it cannot be created or is not empty, so that heat maps of different scans are not mixed.

    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{shown(path)} is not empty: name a new folder for the heat maps")
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be the folder for the heat maps: {error.strerror}") from error


def about(info: ModelInfo, rule: str) -> str:
    """Return the model's training data, threshold and recalibration in one line."""
    trained = info.trained_on
    data = f"Model trained on {counted(trained.images, 'image')}: {trained.in_words}"
    limit = f"Threshold {info.thresholds[rule]:.4f} of the probability ({rule}, locked on validation)"
    if not info.recalibration:
        return f"{data}. {limit}. This model has no recalibration: nothing is calibrated."
    return f"{data}. {limit}. Calibrated for the share of cancer among the validation images, which screening has not."
