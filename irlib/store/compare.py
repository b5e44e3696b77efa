"""Do two runs tell the same figures? The numbers of one machine against another's."""

import numpy as np
import pandas as pd

TOLERANCE = 0.02
SHARE = 0.05


def differences(fresh: pd.DataFrame, committed: pd.DataFrame) -> list[str]:
    """Return what differs between two tables of one figure beyond the tolerance, column by column.

    Processors sum floats in different orders, so last digits differ; and a row whose two best
    answers are nearly tied may then flip, which moves an answer, a figure pooled over n rows by
    1/n, or a cliff by a layer. So floats agree within 0.02 plus 2 %, all else when equal, and one
    cell of a column in twenty (at least one) may be off.

    >>> one, two = pd.DataFrame({"share": [0.5] * 9}), pd.DataFrame({"share": [0.51] * 9})
    >>> differences(one, two), differences(one, two + 1)
    ([], ['share: 9 of 9 cells differ, by 1.01 at the most'])
    """
    if list(fresh) != list(committed) or len(fresh) != len(committed):
        return [
            f"{len(fresh)} rows of {', '.join(fresh)}; committed are {len(committed)} of "
            f"{', '.join(committed)}"
        ]
    found = []
    allowed = max(1, int(SHARE * len(fresh)))
    for name in fresh:
        one, two = fresh[name], committed[name]
        if pd.api.types.is_float_dtype(one) and pd.api.types.is_numeric_dtype(two):
            gap = np.abs(one.to_numpy(float) - two.to_numpy(float))
            off = gap > TOLERANCE * (1 + np.abs(two.to_numpy(float)))
            off |= one.isna().to_numpy() != two.isna().to_numpy()
            most = f", by {np.nanmax(gap, initial=0):.3g} at the most"
        else:
            off, most = ((one != two) & ~(one.isna() & two.isna())).to_numpy(), ""
        if off.sum() > allowed:
            found.append(f"{name}: {off.sum()} of {len(off)} cells differ{most}")
    return found
