import pytest
import torch
from conftest import FLASH, eager_attention, hooks_on, randomise, with_eager
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from irlib.hooks.hooks import attend, edit, hooked, rows, trace
from irlib.hooks.probe import weigh


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


class Pair(nn.Module):
    def forward(self, x):
        return x, "beside"


def test_trace_records_each_output_under_its_key(net):
    x = torch.randn(5, 2)
    with trace({"first": net[0], "second": net[1]}) as seen:
        y = net(x)
    assert torch.equal(seen["first"], net[0](x))
    assert torch.equal(seen["second"], y)


def test_edit_of_the_output_equals_editing_by_hand(net):
    x = torch.randn(5, 2)
    with edit({0: net[0]}, lambda key, output: output + 1):
        edited = net(x)
    assert torch.equal(edited, net[1](net[0](x) + 1))


def test_edit_of_the_input_equals_another_input(net):
    x = torch.randn(5, 2)
    with edit({0: net}, lambda key, args, kwargs: ((args[0] * 2,), kwargs), at="input"):
        edited = net(x)
    assert torch.equal(edited, net(x * 2))


def test_edit_of_a_tuple_changes_its_first_element_only():
    pair = Pair()
    with edit({0: pair}, lambda key, output: output + 1):
        assert pair(1) == (2, "beside")


def test_no_hook_is_left_after_success(net):
    with trace({0: net[0]}):
        net(torch.ones(1, 2))
    assert hooks_on(net) == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_exception_or_interrupt(net, error):
    with pytest.raises(error), trace({0: net[0]}), edit({1: net[1]}, lambda key, output: output):
        raise error
    assert hooks_on(net) == 0


def test_no_hook_is_left_when_a_target_is_no_module(net):
    with (
        pytest.raises(TypeError, match=r"asked to hook.*found a str.*give"),
        trace({0: net[0], 1: "1"}),
    ):
        pass
    assert hooks_on(net) == 0


def test_inner_block_leaves_the_outer_hooks_in_place(net):
    with edit({0: net[0]}, lambda key, output: output):
        with trace({0: net[0]}):
            net(torch.ones(1, 2))
        assert hooks_on(net) == 1
    assert hooks_on(net) == 0


def test_module_that_did_not_run_is_refused(net):
    with (
        pytest.raises(RuntimeError, match=r"\['second'\].*did not run"),
        trace({"first": net[0], "second": net[1]}),
    ):
        net[0](torch.ones(1, 2))


def test_module_that_ran_twice_is_refused(net):
    with pytest.raises(RuntimeError, match=r"'first'.*ran twice"), trace({"first": net[0]}):
        net(net[0](torch.ones(1, 2))[:, :2])
    assert hooks_on(net) == 0


def test_unknown_place_to_edit_is_refused(net):
    with (
        pytest.raises(ValueError, match=r"asked to edit at 'weights'"),
        edit({0: net}, lambda key, output: output, at="weights"),
    ):
        pass


def test_a_model_is_hooked_by_a_hook_or_a_pre_hook_alone_and_not_by_transformers_own(net):
    assert not hooked(net)
    with edit({0: net[0]}, lambda key, output: output):
        assert hooked(net)
    with edit({0: net[1]}, lambda key, args, kwargs: (args, kwargs), at="input"):
        assert hooked(net)
    handle = net.register_forward_pre_hook(lambda module, args: None)
    assert hooked(net)
    handle.remove()

    def of_theirs(module, args):
        return None

    of_theirs.__module__ = "transformers.utils"
    handle = net[0].register_forward_pre_hook(of_theirs)
    assert not hooked(net)
    handle.remove()


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("new", [1, 2])
def test_rows_of_tokens_behind_a_cache_are_those_of_one_whole_pass(
    tiny_llava, samples, attention, new
):
    """A token behind a cache sees the whole of it: its row is no first row of a causal mask."""
    vlm = with_eager(tiny_llava) if attention == "eager" else tiny_llava
    for asked in (samples, samples[:1]):
        inputs = vlm.prepare(asked)
        ids, mask = inputs.text["input_ids"], inputs.text["attention_mask"]
        tail = torch.full((len(asked), new), 9)
        ids, mask = (torch.cat(pair, 1) for pair in ((ids, tail), (mask, tail * 0 + 1)))
        whole = vlm.model(**inputs.batch | {"input_ids": ids, "attention_mask": mask})
        last = torch.arange(ids.shape[1] - new, ids.shape[1]).expand(len(asked), -1)
        with rows(vlm.decoder, last) as expected:
            vlm.model(**inputs.batch | {"input_ids": ids, "attention_mask": mask})
        cache = vlm.model(**inputs.batch, use_cache=True).past_key_values
        with rows(vlm.decoder, torch.arange(new).expand(len(asked), -1)) as seen:
            step = vlm.model(input_ids=tail, attention_mask=mask, past_key_values=cache)
        assert torch.allclose(step.logits, whole.logits[:, -new:], atol=1e-4)
        for layer, weights in expected.items():
            assert weights.shape == seen[layer].shape
            assert torch.allclose(seen[layer], weights, atol=3e-6)
            assert (weights[..., 0, -1] > 0).all() == (new == 1)


def test_rows_equal_the_maps_of_eager_attention(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    everywhere = torch.arange(inputs.length)[None]
    with rows(tiny_llava.decoder, everywhere) as seen, torch.no_grad():
        tiny_llava.forward(inputs)
    eager = eager_attention(tiny_llava, inputs)
    # other kernel, other order of sums in float32
    assert torch.allclose(torch.stack([seen[i] for i in range(4)]), eager, atol=3e-6)


def test_rows_of_a_padded_batch_equal_eager_attention(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    last = torch.full((2, 1), inputs.length - 1)
    with rows(tiny_llava.decoder, last) as seen, torch.no_grad():
        tiny_llava.forward(inputs)
    eager = eager_attention(tiny_llava, inputs)[:, :, :, -1:]
    assert torch.allclose(torch.stack([seen[i] for i in range(4)]), eager, atol=3e-6)
    assert not inputs.batch["attention_mask"].all()  # there is padding


def test_rows_see_a_sliding_window_as_eager_attention_does():
    """Fails if the mask function is not registered beside the attention."""
    config = MistralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, sliding_window=4,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    ids = torch.randint(50, (2, 12))
    model.set_attn_implementation("eager")
    eager = model(ids, output_attentions=True)
    model.set_attn_implementation("sdpa")
    with rows(model.get_decoder(), torch.tensor([[11, 3], [0, 7]])) as seen:
        logits = model(ids).logits
    assert torch.allclose(logits, eager.logits, atol=1e-6)
    for layer, weights in enumerate(eager.attentions):
        for row, positions in enumerate([[11, 3], [0, 7]]):
            assert torch.allclose(seen[layer][row], weights[row][:, positions], atol=1e-6)


def test_rows_see_a_sliding_window_as_flash_attention_does(flash):
    """Padded on both sides: flash counts the window over a row's own tokens."""
    config = MistralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, sliding_window=4,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    ids, mask = torch.randint(50, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    mask[1, :3] = mask[1, 10:] = 0
    model.set_attn_implementation("eager")
    eager = model(ids, attention_mask=mask, output_attentions=True)
    model.config._attn_implementation_internal = FLASH  # set_... would look for it on the hub
    with rows(model.get_decoder(), torch.tensor([[11, 3], [9, 4]])) as seen:
        model(ids, attention_mask=mask)
    for layer, weights in enumerate(eager.attentions):
        for row, positions in enumerate([[11, 3], [9, 4]]):
            assert torch.allclose(seen[layer][row], weights[row][:, positions], atol=1e-6)
        assert (seen[layer][0, :, 0, :8] == 0).all()


def test_rows_of_capped_scores_equal_eager_attention():
    """Gemma 2, whose eager attention bounds its scores and whose every other layer has a window."""
    config = Gemma2Config(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, head_dim=8,
        sliding_window=4, num_attention_heads=4, num_key_value_heads=2, query_pre_attn_scalar=8,
        attn_logit_softcapping=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = randomise(Gemma2ForCausalLM(config).eval())
    model.set_attn_implementation("eager")
    ids = torch.randint(50, (2, 12))
    with rows(model.get_decoder(), None) as seen:
        eager = model(ids, output_attentions=True)
    for layer, weights in enumerate(eager.attentions):
        assert torch.allclose(seen[layer], weights, atol=1e-6)


@pytest.mark.parametrize("memory", [1e-9, 2 * 3 * 4 * 4 * 51 * 2 / 2**30, 1.0])
def test_rows_in_parts_equal_rows_at_once(tiny_llava, samples, memory):
    inputs = tiny_llava.prepare(samples)
    sizes = []

    def reduce(weights, visible):
        sizes.append(weights.shape[2])
        return weights.transpose(1, 2)

    with rows(tiny_llava.decoder, None) as whole:
        tiny_llava.forward(inputs)
    with rows(tiny_llava.decoder, None, reduce=reduce, memory=memory) as parts:
        tiny_llava.forward(inputs)
    each = 3 * 4 * 2 * 4 * inputs.length  # rows, heads, keys; three copies of four bytes
    assert max(sizes) == min(max(1, int(memory * 2**30) // each), inputs.length)
    assert sum(sizes) == 4 * inputs.length
    for layer, weights in whole.items():
        mine = parts[layer].transpose(1, 2)
        assert torch.allclose(mine, weights, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(("queries", "sizes"), [(3, [3, 3, 1]), (7, [7]), (2.99, [2, 2, 2, 1])])
def test_parts_of_a_known_memory_are_counted_to_the_query(queries, sizes):
    """A query of 2 rows, 4 heads and 7 keys is 3 copies of 2 x 4 x 7 numbers of 4 bytes."""
    query, key = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8)
    memory = queries * 3 * 2 * 4 * 7 * 4 / 2**30
    parts = [weights for weights, _ in weigh(query, key, None, None, scaling=1.0, memory=memory)]
    assert [part.shape[2] for part in parts] == sizes
    ((whole, _),) = weigh(query, key, None, None, scaling=1.0)
    assert torch.allclose(torch.cat(parts, 2), whole, atol=1e-6)


class Shapes(TorchDispatchMode):
    """The shape of every tensor that is made inside the block."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        leaves = made if isinstance(made, (tuple, list)) else [made]
        self.seen |= {tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)}
        return made


@pytest.mark.parametrize("name", ["sdpa", FLASH])
def test_rows_make_no_tensor_of_all_positions_by_all(tiny_llava, sample, samples, flash, name):
    vlm = tiny_llava if name == "sdpa" else flash(tiny_llava)[0]
    for asked in ([sample], samples):
        inputs = vlm.prepare(asked)
        last = torch.full((len(asked), 2), inputs.length - 1)
        with torch.no_grad(), Shapes() as before:
            vlm.forward(inputs)
        with torch.no_grad(), Shapes() as inside, rows(vlm.decoder, last):
            vlm.forward(inputs)
        square = (inputs.length, inputs.length)
        assert not {shape for shape in inside.seen - before.seen if shape[-2:] == square}
        assert (len(asked), 4, 2, inputs.length) in inside.seen


def test_rows_keep_the_attention_that_a_decoder_has(tiny_llava, sample):
    vlm, registered = with_eager(tiny_llava), AttentionInterface().valid_keys()
    inputs, kept = vlm.prepare(sample), []
    handle = vlm.decoder.layers[2].self_attn.register_forward_hook(
        lambda module, args, output: kept.append(output[1])
    )
    with torch.no_grad():
        before = vlm.forward(inputs)
        with rows(vlm.decoder, None) as seen:
            inside = vlm.forward(inputs)
    handle.remove()
    assert torch.equal(before, inside)
    assert torch.equal(kept[0], kept[1])  # eager's own weights, which sdpa would not give
    assert torch.allclose(seen[2], kept[1], atol=3e-6)
    assert AttentionInterface().valid_keys() == registered


def test_rows_refuse_attention_with_sinks_and_attention_beside_the_registry(tiny_llava, sample):
    inputs, layers = tiny_llava.prepare(sample), tiny_llava.decoder.layers

    def sink(key, args, kwargs):
        return args, kwargs | {"s_aux": torch.zeros(4)}

    with (
        pytest.raises(ValueError, match=r"found \['s_aux'\] in it"),
        rows(tiny_llava.decoder, None),
        edit({0: layers[0].self_attn}, sink, at="input"),
    ):
        tiny_llava.forward(inputs)
    with pytest.raises(RuntimeError, match=r"\['mlp'\], found that it is not computed by way"):
        run_probing(tiny_llava, inputs, layers[0].mlp)
    assert hooks_on(tiny_llava.decoder) == 0


def run_probing(vlm, inputs, module):
    module.forward, before = lambda x, irlib_probes: before(x), module.forward
    try:
        with rows(vlm.decoder, None, attentions={"mlp": module}):
            vlm.forward(inputs)
    finally:
        del module.forward


def test_rows_leave_logits_and_attention_as_they_were(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    with torch.no_grad():
        before = tiny_llava.forward(inputs)
        with rows(tiny_llava.decoder, torch.zeros(2, 1, dtype=torch.long)):
            vision = tiny_llava.model.config.vision_config._attn_implementation
            inside = tiny_llava.forward(inputs)
    assert torch.equal(before, inside)
    assert vision == "sdpa"  # the probe stays out of the vision tower
    assert tiny_llava.decoder.config._attn_implementation == "sdpa"
    assert hooks_on(tiny_llava.decoder) == 0


def test_rows_restore_the_attention_after_an_interrupt(tiny_llava):
    with pytest.raises(KeyboardInterrupt), rows(tiny_llava.decoder, torch.zeros(1, 1).long()):
        raise KeyboardInterrupt
    assert tiny_llava.decoder.config._attn_implementation == "sdpa"
    assert hooks_on(tiny_llava.decoder) == 0


def test_rows_can_be_nested(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    first, last = torch.tensor([[3]]), torch.tensor([[inputs.length - 1]])
    with rows(tiny_llava.decoder, first) as outer, rows(tiny_llava.decoder, last) as inner:
        tiny_llava.forward(inputs)
    eager = eager_attention(tiny_llava, inputs)[2]
    assert torch.allclose(outer[2], eager[:, :, 3:4], atol=3e-6)
    assert torch.allclose(inner[2], eager[:, :, -1:], atol=3e-6)


def test_rows_refuse_a_decoder_that_did_not_run(tiny_llava):
    with (
        pytest.raises(RuntimeError, match=r"did not run"),
        rows(tiny_llava.decoder, torch.zeros(1, 1).long()),
    ):
        pass


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_own_attention_stands_in_for_the_decoders(tiny_llava, samples, error):
    inputs, seen = tiny_llava.prepare(samples), []

    def by_hand(layer, query, key, value, mask, scaling):
        seen.append(layer)
        key, value = (x.repeat_interleave(2, 1) for x in (key, value))  # two heads a group
        scores = (query @ key.mT * scaling).masked_fill(~mask, torch.finfo(query.dtype).min)
        return scores.softmax(-1) @ value

    with torch.no_grad():
        expected = tiny_llava.forward(inputs)[:, -1]
        try:
            with attend(tiny_llava.decoder, by_hand):
                found = tiny_llava.forward(inputs)[:, -1]
                if error:
                    raise error
        except KeyboardInterrupt:
            pass
    assert torch.allclose(found, expected, atol=2e-5, rtol=0)  # rounding of another kernel
    assert seen == [0, 1, 2, 3]
    assert torch.equal(tiny_llava.forward(inputs)[:, -1], expected)
    assert hooks_on(tiny_llava.decoder) == 0


def test_own_attention_is_refused_where_scores_are_capped(tiny_llava):
    with (
        attend(tiny_llava.decoder, lambda *given: given[1]),
        pytest.raises(ValueError, match=r"caps its attention scores"),
    ):
        tiny_llava.decoder(input_ids=torch.tensor([[5]]), softcap=30.0)


def test_probes_of_two_models_may_overlap_in_any_order(tiny_llava, sample):
    from transformers import AttentionInterface

    before = dict(AttentionInterface._global_mapping)
    inputs = tiny_llava.prepare(sample)
    last = torch.tensor([[inputs.length - 1]])
    first, second = (rows(tiny_llava.decoder, last) for _ in range(2))
    first.__enter__()
    seen = second.__enter__()
    tiny_llava.forward(inputs)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert sorted(seen) == list(range(tiny_llava.n_layers))
    assert AttentionInterface._global_mapping == before
