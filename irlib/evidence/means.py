"""The mean of one effect a picture, with the interval that its kind of number asks for."""

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from irlib.evidence.bounds import Estimate, estimate


def mean_effect(effects: pd.Series, *, step: float = 0, confidence: float = 0.95) -> Estimate:
    """Return the mean of one effect a picture: exact for answers (`step`), else Student's t.

    Fewer than two pictures have no interval: low and high are NaN.

    >>> print(mean_effect(pd.Series([0.1, 0.2, 0.3])))
    0.2 [-0.0484, 0.448], n = 3
    """
    effects = effects.dropna()
    units = len(effects)
    if units < 2:
        return Estimate(effects.mean(), np.nan, np.nan, units, units)
    if step:
        return estimate(effects.to_numpy(float), step=step, confidence=confidence)
    found = ttest_1samp(effects.to_numpy(float), 0.0).confidence_interval(confidence)
    return Estimate(float(effects.mean()), float(found.low), float(found.high), units, units)
