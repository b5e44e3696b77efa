"""Numbers of two machines: near is equal, nothing else is."""

import pandas as pd
import pytest

from irlib.store.compare import differences

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("one", "two", "agree"),
    [
        ([0.5] * 9, [0.515] * 9, True),
        ([0.5] * 9, [0.54] * 9, False),
        ([100.0] * 9, [101.5] * 9, True),  # 2 % besides
        ([1] * 9, [1.000001] * 9, True),  # written, a whole float looks like an integer
        ([1] * 9, [2] * 9, False),
        ([INF] * 9, [0.5] * 9, False),
        ([0.5] * 9, [INF] * 9, False),
        ([INF] * 9, [-INF] * 9, False),
        ([INF] * 9, [INF] * 9, True),
        ([NAN] * 9, [0.5] * 9, False),
        ([0.5] * 9, [NAN] * 9, False),
        ([NAN] * 9, [NAN] * 9, True),
        ([True] * 9, [0.99] * 9, False),
        (["a"] * 9, [0.5] * 9, False),
        (["a"] * 9, [None] * 9, False),
        ([None] * 9, [None] * 9, True),
        ([0.5] * 40, [0.9] * 2 + [0.5] * 38, True),  # one cell in twenty
        ([0.5] * 40, [0.9] * 3 + [0.5] * 37, False),
        ([0.5] * 39, [0.9] * 2 + [0.5] * 37, False),
    ],
)
def test_cells_agree_within_the_tolerance_and_only_then(one, two, agree):
    found = differences(pd.DataFrame({"a": one}), pd.DataFrame({"a": two}))
    assert (not found) == agree
