import numpy as np
import pytest
import torch

from irlib import doors


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_any_integer_type_are_taken(value):
    found = doors.count("n", value, least=3, most=3)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [True, False, np.True_, torch.tensor(True), 2.0, 2.5, np.float64(2), "2", None, [2], b"2",
     torch.tensor([2, 3]), float("nan"), 2j],
)  # fmt: skip
def test_what_is_no_whole_number_is_refused_by_its_kind(value):
    with pytest.raises(ValueError, match=rf"asked for n=.*, found a {type(value).__name__}; give"):
        doors.count("n", value)


@pytest.mark.parametrize(("value", "least", "most"), [(0, 1, None), (-1, 0, 4), (5, 0, 4)])
def test_a_number_out_of_range_is_refused_with_the_range(value, least, most):
    span = f"of at least {least}" if most is None else rf"in {least}\.\.{most}"
    with pytest.raises(ValueError, match=rf"n={value}, found it out of range; .*{span}"):
        doors.count("n", value, least=least, most=most)


def test_lists_are_taken_whatever_they_are_and_the_wrong_place_is_named():
    assert doors.counts("layers", np.arange(3)) == [0, 1, 2]
    assert doors.counts("layers", (x for x in (1, 0))) == [1, 0]
    with pytest.raises(ValueError, match=r"layers\[1\]=1.5, found a float"):
        doors.counts("layers", [0, 1.5])
    for value in (3, "012", None, 1.5):
        with pytest.raises(ValueError, match=r"asked for layers=.*give a list of whole numbers"):
            doors.counts("layers", value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1", True, None, [1.0]])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"asked for noise=.*; give a finite number of at least 0"):
        doors.number("noise", value)


def test_a_number_above_is_not_the_bound_itself():
    assert doors.number("memory", np.float32(0.5), above=True) == 0.5
    with pytest.raises(ValueError, match="give a finite number above 0"):
        doors.number("memory", 0, above=True)


@pytest.mark.parametrize("one", [3, np.int64(3), torch.tensor(3), np.array(3)])
def test_a_number_alone_is_a_list_of_it_where_either_is_taken(one):
    assert doors.one_or_more("layer", one, most=3) == [3]
    with pytest.raises(ValueError, match="asked for layers="):
        doors.counts("layers", one)
    with pytest.raises(ValueError, match=r"give a whole number in 0\.\.2"):
        doors.one_or_more("layer", one, most=2)
