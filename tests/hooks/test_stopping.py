"""A run that nobody waits for ends between two modules, in its thread alone."""

import threading

import pytest
import torch
from torch import nn

from irlib.hooks.hooks import hooked
from irlib.hooks.stopping import Stopped, stopping


def counting(ran):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for place, layer in enumerate(net):
        layer.register_forward_hook(lambda *_, place=place: ran.append(place))
    return net


def test_a_run_ends_before_the_next_module_once_it_is_over():
    ran = []
    with stopping(lambda: len(ran) >= 2), pytest.raises(Stopped):
        counting(ran)(torch.ones(2))
    assert ran == [0, 1]


def test_nothing_changes_while_it_is_not_over_and_nothing_stays():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = net(torch.ones(2))
    with stopping(lambda: False):
        assert not hooked(net)
        assert torch.equal(net(torch.ones(2)), before)
    with pytest.raises(KeyError), stopping(lambda: True):
        raise KeyError
    assert torch.equal(net(torch.ones(2)), before)
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_other_threads_go_on():
    ran = []
    with stopping(lambda: True):
        other = threading.Thread(target=lambda: counting(ran)(torch.ones(2)))
        other.start()
        other.join()
    assert ran == [0, 1, 2]
