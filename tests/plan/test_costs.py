"""Operations and bytes are held to torch's own counters, on one model of each family."""

import functools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from irlib import attention_flow, llava_cam, load, load_task
from irlib.plan import costs
from irlib.plan.anatomy import shape_of
from irlib.plan.skeleton import skeleton

MINIS = [f"mini-{n}" for n in "llava llava-next instructblip internvl qwen2vl shikra".split()]
# norms, activations and a class token more or less, for models of which these are a large part
CLOSE = functools.partial(pytest.approx, rel=0.02)


@functools.cache
def case(name, task="pope"):
    """A model, the inputs and answer of one sample, and what is known of both without weights."""
    vlm = load(name, device="cpu")
    sample = load_task(task, n=1)[0]
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    image = int(inputs.spans.image.sum())
    after = inputs.length - int(inputs.spans.image[0].nonzero()[-1]) - 1
    before = inputs.length - image - after
    model, _, images = skeleton(name)
    shape, tokens = shape_of(model, images, sample.image.size, words=words(inputs))
    assert tokens == image
    length = len(answer.ids[0])
    prompt = costs.Prompt(before=before, image=image, after=after, new=length)
    return vlm, inputs, answer, shape, prompt


def words(inputs):
    """Tokens that the Q-Former reads."""
    read = inputs.visual[0].get("qformer_input_ids")
    return 0 if read is None else read.shape[1]


def counted(run) -> int:
    """Operations as torch counts them; it does not know the CPU's own attention kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", MINIS)
def test_a_picture_and_its_prompt_cost_what_torch_counts(name):
    vlm, inputs, _, shape, prompt = case(name)
    found = counted(lambda: vlm.forward(inputs, logits_to_keep=1))
    told = shape.picture + costs.decoder(shape, prompt.length, prompt.length, logits=1)
    assert told == CLOSE(found)


@pytest.mark.parametrize("name", MINIS)
def test_a_picture_alone_costs_what_torch_counts(name):
    vlm, inputs, _, shape, _ = case(name)
    assert shape.picture == CLOSE(counted(lambda: vlm.encode(inputs)))


@pytest.mark.parametrize("name", MINIS)
def test_an_answer_costs_what_torch_counts(name):
    vlm, inputs, answer, shape, prompt = case(name, "chair")
    assert len(answer.ids[0]) > 3
    found = counted(lambda: vlm.answer(inputs))
    assert costs.answer(shape, prompt) == CLOSE(found)
    # the tokens behind the first are small beside the prompt: by themselves too
    alone = found - counted(lambda: vlm.answer(inputs, max_new_tokens=1))
    assert costs.decode(shape, prompt) == CLOSE(alone)


@pytest.mark.parametrize("name", MINIS)
def test_a_map_of_all_layers_costs_what_torch_counts(name):
    vlm, inputs, answer, shape, prompt = case(name)
    found = counted(lambda: llava_cam(vlm, inputs, answer))
    # the graph begins behind the first layer's attention, a twelfth of a third of the backward
    assert costs.cam(shape, prompt) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("name", MINIS)
def test_attention_flow_costs_what_torch_counts(name):
    vlm, inputs, answer, shape, prompt = case(name)
    found = counted(lambda: attention_flow(vlm, inputs, answer))
    assert costs.flow(shape, prompt) == CLOSE(found)


@torch.no_grad()
def stairs(vlm, prompt, layers):
    """Each layer's continuation of the text behind the image, run by the model's own layers."""
    config = vlm.model.config.get_text_config()
    heads, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    mask = torch.ones(1, 1, prompt.after, prompt.before + prompt.after, dtype=torch.bool)
    turn = torch.ones(1, prompt.after, size), torch.zeros(1, prompt.after, size)
    for first in layers:
        cache, states = DynamicCache(), torch.randn(1, prompt.after, config.hidden_size)
        for index, layer in enumerate(vlm.decoder.layers):
            past = torch.randn(1, heads, prompt.before, size)
            cache.update(past, past, index)
            if index >= first:
                kept = {"past_key_values": cache, "position_embeddings": turn}
                states = layer(states, attention_mask=mask, **kept)
        vlm.model.get_output_embeddings()(states[:, -1:])


@pytest.mark.parametrize("layers", [None, [5]])
@pytest.mark.parametrize("name", MINIS)
def test_a_sweep_costs_one_run_and_the_continuation_of_every_layer(name, layers):
    vlm, inputs, _, shape, prompt = case(name)
    prompt = costs.Prompt(**{**vars(prompt), "new": 0})
    hidden = range(vlm.n_layers) if layers is None else layers
    found = counted(lambda: vlm.forward(inputs, logits_to_keep=1))
    found += counted(lambda: stairs(vlm, prompt, hidden))
    assert costs.sweep(shape, prompt, layers=layers) == CLOSE(found)


def test_token_layers_are_those_of_a_loop_over_variants_layers_and_tokens():
    n_layers, before, image, after, new = 5, 3, 7, 4, 2
    for layers in ([0, 2, 5], list(range(6)), [5]):
        full = {
            ("all", layer, i) for layer in range(n_layers) for i in range(before + image + after)
        }
        hidden = [start for start in layers if start < n_layers]
        steps = {
            (start, layer, i)
            for start in hidden
            for layer in range(start, n_layers)
            for i in range(after)
        }
        said = len({*hidden, n_layers}) * n_layers * new
        told = costs.token_layers(n_layers, before, image, after, new=new, layers=layers)
        naive = len({*hidden, n_layers}) * len(full) + said
        assert told == {"naive": naive, "shared": len(full) + len(steps) + said}


def test_without_a_picture_a_sweep_is_one_answer():
    _, _, _, shape, prompt = case("mini-llava")
    bare = costs.Prompt(**{**vars(prompt), "image": 0, "new": 4})
    assert costs.sweep(shape, bare) == costs.answer(shape, bare)
    told = costs.token_layers(12, bare.before, 0, bare.after, new=4)
    assert told["shared"] == 12 * (bare.length + 4)
    assert told["naive"] == 13 * told["shared"]


def test_tokens_of_an_answer_see_the_image_below_the_layer_that_hides_it():
    _, _, _, shape, prompt = case("mini-llava")
    layers = [0, 4, 11]
    told = costs.Prompt(**{**vars(prompt), "new": 3})
    answers = costs.sweep(shape, told, layers=layers) - costs.sweep(
        shape, costs.Prompt(**{**vars(prompt), "new": 0}), layers=layers
    )
    count = 0
    for start in [*layers, 12]:
        for step in range(1, 4):
            count += 2 * shape.head
            for layer in range(12):
                seen = prompt.length + step - (prompt.image if layer >= start else 0)
                count += 2 * shape.layer + 4 * shape.queries * seen
    assert answers == count


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MINIS)
def test_a_map_keeps_the_bytes_that_torch_saves_for_its_backward(name, dtype):
    _, _, _, shape, prompt = case(name)
    vlm = load(name, device="cpu", dtype=dtype)
    inputs = vlm.prepare(load_task("pope", n=1)[0])
    answer = vlm.answer(inputs)
    weights = {weight.untyped_storage().data_ptr() for weight in vlm.model.parameters()}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        llava_cam(vlm, inputs, answer)
    found = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    told = costs.Shape(**{**vars(shape), "itemsize": vlm.dtype.itemsize})
    prompt = costs.Prompt(**{**vars(prompt), "new": len(answer.ids[0])})
    # the first layer's norm and attention lie outside the graph: a twelfth of two fifths
    assert costs.saved(told, prompt) == pytest.approx(found, rel=0.05)


def test_a_cache_holds_the_bytes_that_transformers_keeps():
    for name in MINIS:
        vlm, inputs, _, shape, prompt = case(name)
        model, batch = vlm.family.call(vlm.model, inputs.batch)
        kept = model(**batch, use_cache=True).past_key_values
        found = sum(
            t.numel() * t.itemsize for layer in kept.layers for t in (layer.keys, layer.values)
        )
        assert costs.cache(shape, prompt.length) == found


PUBLISHED = {  # billions of parameters, as the hub shows them
    "llava-hf/llava-1.5-7b-hf": 7.06,
    "llava-hf/llava-v1.6-vicuna-7b-hf": 7.06,
    "Salesforce/instructblip-vicuna-7b": 7.91,
    "OpenGVLab/InternVL3-8B-hf": 7.94,
    "Qwen/Qwen2-VL-7B-Instruct": 8.29,
}


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_the_shapes_kept_have_as_many_parameters_as_the_published_checkpoints(name, billions):
    model, _, images = skeleton(name)
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(
        billions, abs=0.006
    )
    shape, tokens = shape_of(model, images, (640, 480), words=20)
    assert shape.weights == sum(w.numel() for w in model.parameters()) * shape.itemsize
    assert tokens == {"llava": 576, "llava_next": 576 + 36 * 49, "instructblip": 32}.get(
        model.config.model_type, tokens
    )


def test_an_unknown_checkpoint_is_refused_with_what_to_download():
    with pytest.raises(ValueError, match=r"asked for the shape .*found .*download that one file"):
        skeleton("nobody/has-this")


def test_a_family_whose_pictures_are_not_counted_is_refused(family):
    model = family("gemma3").model
    with pytest.raises(ValueError, match=r"'gemma3'; counted are llava, .*; leave it out"):
        shape_of(model, {}, (64, 64), words=0)
