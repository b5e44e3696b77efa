import pytest
import torch
from torch import nn

from irlib.cam.saving import kept, recompute, share_out
from irlib.hooks.hooks import edit


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))


def slope(net, x, blocks):
    x = x.clone().requires_grad_(True)
    runs = []
    inner = {index: block[0] for index, block in enumerate(net)}
    with recompute(blocks), edit(inner, lambda key, output: runs.append(key) or output):
        return torch.autograd.grad(net(x).sum(), x)[0], runs


def test_recomputed_slopes_are_the_same_and_each_module_runs_twice(net):
    x = torch.randn(5, 4)
    plain, once = slope(net, x, [])
    again, twice = slope(net, x, net)
    assert torch.equal(plain, again)
    assert once == [0, 1, 2]
    assert twice == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_forward_is_as_it_was_after_an_error_and_where_it_was_wrapped_before(net, error):
    def wrapped(x):
        return x

    net[0].forward = wrapped
    with pytest.raises(error), recompute(net):
        raise error
    assert net[0].forward is wrapped
    assert "forward" not in vars(net[1])


def test_forward_that_another_library_wrapped_is_run_inside(net):
    x = torch.randn(5, 4)
    net[0].forward = lambda x, inner=net[0].forward: 2 * inner(x)
    assert torch.equal(slope(net, x, net)[0], slope(net, x, [])[0])


def test_rows_share_the_budget_and_layers_are_recomputed_where_one_does_not_fit(tiny_llava):
    decoder, gib = tiny_llava.decoder, 2**30
    # hidden 64, 4 heads of 16, 96 within the MLP, two norms, 50 positions, 4 bytes each
    each = 50 * 4 * (4 * 64 + 3 * 96 + 2 * (64 + 1) + 50)
    assert kept(decoder, 50) == 4 * each
    assert kept(decoder, 50, first=3) == each
    assert kept(decoder, 50, again=True) == each + 4 * 50 * 64 * 4
    row = 4 * each + 1000
    assert share_out(decoder, 50, 3.5 * row / gib, results=1000) == (3, False)
    assert share_out(decoder, 50, row / gib, results=1000) == (1, False)
    small = each + 4 * 50 * 64 * 4 + 1000
    assert share_out(decoder, 50, 2 * small / gib, results=1000) == (2, True)
    assert share_out(decoder, 50, 1 / gib) == (1, True)
