"""The bootstrap over patients, from which the intervals come.

Images of one patient are correlated, so an interval that treats images as independent observations is too narrow.
Unless stated otherwise, all intervals of this package come from a bootstrap that draws whole patients with replacement,
separately from those with and those without cancer (Field & Welsh 2007, J. R. Stat. Soc. B 69:369, the cluster
bootstrap; Obuchowski 1997, Biometrics 53:567, on clustered ROC data). This keeps the number of patients with and
without cancer fixed: scores that depend on the case mix (accuracy, precision, average precision, F1, net benefit) are
valid for the case mix of the split. A resample is stored as a count per patient, so that the scores of thousands of
resamples are computed by cumulative sums and matrix products, without sorting again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mammo.core.randomness import generator

import numpy as np

RESAMPLES = 2000
# Numbers per array in a chunk of resamples: 2 MB, which fit into the cache of a processor.
CHUNK = 2**18


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap resamples of patients."""

    seed: int
    resamples: int = RESAMPLES

    def counts(self, cancer: np.ndarray, width: int) -> Iterator[np.ndarray]:
        """Yield the number of draws of each patient in chunks of shape (resamples, patients).

        Args:
            cancer: (patients,) bool, whether the patient has cancer.
            width: size of the arrays computed per resample, which sets the size of the chunks.

        """
        streams = [
            (np.flatnonzero(cancer == kind), generator(self.seed, "bootstrap", int(kind))) for kind in (False, True)
        ]
        step = max(1, CHUNK // width)
        for start in range(0, self.resamples, step):
            height = min(step, self.resamples - start)
            counts = np.zeros((height, len(cancer)))
            for members, random in streams:
                if size := len(members):
                    drawn = random.integers(0, size, (height, size)) + size * np.arange(height)[:, None]
                    counts[:, members] = np.bincount(drawn.ravel(), minlength=height * size).reshape(height, size)
            yield counts
