from itertools import count

import pytest
import torch
from torch import nn

from data.generate.fitting import fit


def trained(work, *, stop_at=None):
    """A small network after eight steps, killed once at `stop_at` on the way."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optims = fit.optimisers([net], [], muon=0.02, adam=0.01)

    def loss_of(step):
        if step == stop_at:
            raise KeyboardInterrupt
        draw = torch.Generator().manual_seed(step)
        return net(torch.randn(16, 4, generator=draw)).square().mean(), {}

    fit.fit("stage", {"net": net}, optims, 8, loss_of, work)
    return [p.detach().clone() for p in net.parameters()]


def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    clock = count(step=1000.0)
    monkeypatch.setattr(fit.time, "time", lambda: next(clock))  # a checkpoint at every step
    expected = trained(whole)
    with pytest.raises(KeyboardInterrupt):
        trained(cut, stop_at=5)
    assert '"step": 5' in (cut / "stage.json").read_text()
    assert all(map(torch.equal, trained(cut), expected))


def test_a_finished_stage_is_not_run_again(tmp_path):
    first = trained(tmp_path)
    assert all(map(torch.equal, trained(tmp_path, stop_at=0), first))
