"""No speed without agreement: contenders that compute something else are no contenders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nimbed._vectors import row_cosines

if TYPE_CHECKING:
    from nimbed._types import Float32Array

# int8 against fp32: below these, something other than rounding is at work.
MIN_WORST, MIN_MEAN = 0.97, 0.99


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near a contender's vectors are to the reference's.

    Attributes:
        worst: smallest cosine over all documents.
        mean: their mean.
    """

    worst: float
    mean: float

    @property
    def held(self) -> bool:
        """Whether rounding alone can explain the distance; figures of a contender without it are not reported."""
        return self.worst >= MIN_WORST and self.mean >= MIN_MEAN


def agreement(vectors: Float32Array, reference: Float32Array) -> Agreement:
    """Cosines of the rows of two ``[n, dim]`` matrices, in float64; matrices of unequal shape do not agree at all."""
    if vectors.shape != reference.shape:
        return Agreement(worst=0.0, mean=0.0)
    cosines = row_cosines(vectors.astype(np.float64), reference.astype(np.float64))
    return Agreement(worst=float(cosines.min()), mean=float(cosines.mean()))


def why_refused(found: Agreement) -> str:
    """What a report says of a contender whose vectors do not agree."""
    return (
        f"its vectors do not agree with the reference's: cosine {found.mean:.4f} on average and {found.worst:.4f} "
        f"at worst (at least {MIN_MEAN} and {MIN_WORST} are wanted)"
    )
