"""The test images and what a model says of them, as evaluate hands them on."""

from dataclasses import dataclass

import numpy as np

from mammo.core.dataset import Dataset
from mammo.core.model_info import ModelInfo


@dataclass(frozen=True)
class PredictedSplit:
    """The test images and what the model says of them."""

    data: Dataset
    positions: np.ndarray
    """(n,) of the test images in `data`."""
    probabilities: np.ndarray
    """(n,) of cancer."""
    info: ModelInfo
    threshold: float

    @property
    def labels(self) -> np.ndarray:
        """(n,) 0 healthy, 1 cancer."""
        return self.data.labels[self.positions]

    @property
    def predicted(self) -> np.ndarray:
        """(n,) the classes that the model predicts."""
        return (self.probabilities >= self.threshold).astype(int)

    @property
    def description(self) -> str:
        """What every picture says of its data, a leak before all else."""
        source = self.info.trained_on.source
        kind = "PHANTOMS (synthetic mammograms)" if source == "phantom" else f"Data: {source}"
        patients = len(set(self.data.patients[self.positions]))
        text = f"{kind} · {len(self.positions)} test images of {patients} patients"
        return f"{self.info.audit.sentence} {text}" if self.info.audit.leaking else text
