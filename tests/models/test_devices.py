"""One model in several places, or packed in few bits: the instruments find the same."""

import functools
import importlib.util

import numpy as np
import pretend
import pytest
import torch
from accelerate import dispatch_model
from conftest import make_sample, noise_picture
from torch.nn.attention import SDPBackend, sdpa_kernel

from irlib.attention import attention_flow, attention_map
from irlib.cam.cam import llava_cam
from irlib.interventions.staircase import answers_by_layer
from irlib.interventions.truncation import rank, truncate
from irlib.models.loading import load
from irlib.tasks.loading import load_task

NAMES = ["llava", "qwen2_vl", "internvl", "instructblip"]
MINIS = ["mini-llava", "mini-qwen2vl", "mini-internvl", "mini-instructblip"]
packed = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes, which packs weights, is not installed (the extra quantised)",
)


@pytest.fixture
def samples():
    other = noise_picture(40, 50, seed=1)
    return [
        make_sample(noise_picture(60, 40, seed=0)),
        make_sample(other, "Is there a red cat in the picture?", "b"),
    ]


def placed(vlm, *, begin, end, tower):
    """A device map: the tower, embeddings and the first layers, then the other layers and head."""
    names = {id(module): name for name, module in vlm.model.named_modules()}
    later = [*vlm.decoder.layers[vlm.n_layers // 2 :], vlm.decoder.norm]
    later = [names[id(module)] for module in [*later, vlm.model.get_output_embeddings()]]
    decoder, places = names[id(vlm.decoder)], {}

    def walk(module, name):
        if name in later:
            places[name] = end
        elif any(f"{one}.".startswith(f"{name}." if name else "") for one in later):
            for key, _ in module.named_parameters(recurse=False):
                places[f"{name}.{key}".strip(".")] = begin
            for key, child in module.named_children():
                walk(child, f"{name}.{key}".strip("."))
        else:
            places[name] = begin if name.startswith(f"{decoder}.") else tower

    walk(vlm.model, "")
    return places


def everything(vlm, samples):
    """Numbers and words of every instrument, by its name."""
    inputs, one = vlm.prepare(samples), vlm.prepare(samples[0])
    answer, short = vlm.answer(inputs), vlm.answer(one)
    found = {
        "answer": answer.texts,
        "encoded": vlm.answer(vlm.encode(inputs)).texts,
        "logits": vlm.forward(inputs).detach().cpu().numpy(),
        "flow": attention_flow(vlm, inputs, answer, queries=["answer", "image"]).share.to_numpy(),
        "map": attention_map(vlm, one, short, layers=[0, 3]).weights,
        "rank": rank(vlm, inputs).cpu().numpy(),
        "rank of an image": rank(vlm, inputs, rank_row="last_image").cpu().numpy(),
        "layers": {k: v.texts for k, v in answers_by_layer(vlm, inputs, layers=[2, 4]).items()},
    }
    maps = llava_cam(vlm, inputs, answer, site="input_norm", noise=0.1)
    found |= {f"cam {row}": each.heat for row, each in enumerate(maps)}
    found["cam of words"] = llava_cam(vlm, one, short, target=short.text).heat
    for key, how in {"all": {"layer": 1}, "some": {"layer": [1, 3], "keep": 2}}.items():
        with truncate(vlm, inputs, **how):
            found[f"{key} hidden"] = vlm.forward(inputs).detach().cpu().numpy()
            found[f"{key} hidden, said"] = vlm.answer(inputs, max_new_tokens=2).texts
    return found


def assert_same(found, expected, *, cam=0.0):
    """The same bits; maps within `cam` of their maximum."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.startswith("cam"):
            np.testing.assert_allclose(
                found[key], value, rtol=0, atol=cam * value.max(), err_msg=key
            )
        else:
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def on_pretended(folder, samples, **where):
    """What the instruments find with the model's parts on such devices, accelerate's way."""
    with pretend.devices():
        vlm = load(str(folder), device="cpu")
        parts, skipped = placed(vlm, **where), vlm.model._skip_keys_device_placement
        dispatch_model(
            vlm.model, parts, main_device=where["end"], skip_keys=skipped, force_hooks=True
        )
        assert {str(weight.device) for weight in vlm.model.parameters()} == set(where.values())
        assert str(vlm.device) == where["begin"]
        return everything(vlm, samples)


@pytest.mark.parametrize("name", NAMES)
def test_layers_on_two_devices_find_what_one_device_finds(family, family_folder, samples, name):
    found = on_pretended(family_folder(name), samples, begin="lazy:0", end="lazy:1", tower="lazy:1")
    with sdpa_kernel(SDPBackend.MATH):  # the CPU has one kernel for attention more
        expected = everything(family(name), samples)
    assert_same(found, expected, cam=1e-5)  # and others for slopes: float32 rounding


@pytest.mark.parametrize(
    "meet",
    [
        lambda a, b: a + b,
        lambda a, b: torch.stack([a, b]),
        lambda a, b: a[b.long()],
        lambda a, b: a + b.cpu(),
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: a.index_put((a.long(),), b),
        lambda a, b: torch.arange(3) + a,
        lambda a, b: a.numpy(),
        lambda a, b: torch.nn.functional.linear(a, b[None]),
        lambda a, b: a.add_(b),
    ],
)
def test_pretended_devices_refuse_tensors_of_two_places(meet):
    with pretend.devices():
        a, b = torch.zeros(3, device="lazy:0"), torch.zeros(3, device="lazy:1")
        assert (a + b.to("lazy:0")).device == a.device
        with pytest.raises((RuntimeError, TypeError), match=r"found tensors on|to numpy"):
            meet(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_wait_on_the_disk_find_what_those_in_memory_find(
    family, family_folder, samples, name
):
    plain = family(name)
    parts = placed(plain, begin="cpu", end="disk", tower="disk")
    table = next(key for key in parts if key.endswith("embed_tokens"))
    vlm = load(str(family_folder(name)), device_map=parts | {table: "disk"}, dtype="float32")
    assert "meta" in {weight.device.type for weight in vlm.model.parameters()}
    assert (str(vlm.device), vlm.dtype) == ("cpu", torch.float32)
    assert_same(everything(vlm, samples), everything(plain, samples))


def test_a_model_spread_over_all_there_is_lies_on_the_cpu_here(tiny_folder, sample, tiny_llava):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, where the numbers may differ")
    vlm = load(str(tiny_folder), device_map="auto")
    assert torch.equal(vlm.forward(vlm.prepare(sample)), tiny_llava.forward(vlm.prepare(sample)))


@pytest.fixture(scope="module")
def mini():
    """A bundled model by its name and quantization; each is loaded once."""
    return functools.cache(lambda name, bits: load(name, device="cpu", quantization=bits))


@pytest.fixture(scope="module")
def asked():
    return load_task("pope", n=4)


@packed
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("name", MINIS)
def test_packed_weights_change_the_logits_by_what_rounding_them_does(mini, asked, name, bits):
    plain, vlm = mini(name, None), mini(name, bits)
    kind = {"4bit": torch.uint8, "8bit": torch.int8}[bits]
    assert vlm.decoder.layers[0].self_attn.q_proj.weight.dtype == kind
    assert (vlm.quantization, vlm.dtype) == (bits, torch.float32)
    assert (plain.quantization, plain.dtype) == (None, torch.float32)
    inputs = vlm.prepare(asked)
    found, exact = vlm.forward(inputs)[:, -1], plain.forward(inputs)[:, -1]
    # nf4 keeps one of 16 levels, about 10 % of a weight; int8 one of 255, under 1 %
    off = (found - exact).norm() / exact.norm()
    assert 0 < off < {"4bit": 0.5, "8bit": 0.1}[bits]


@packed
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("name", MINIS)
def test_instruments_work_on_packed_weights(mini, asked, name, bits):
    plain, vlm = mini(name, None), mini(name, bits)
    inputs = vlm.prepare(asked[:1])
    answer, logits = plain.answer(inputs), vlm.forward(inputs)
    with truncate(vlm, inputs, layer=vlm.n_layers):
        assert torch.equal(vlm.forward(inputs), logits)
    with truncate(vlm, inputs, layer=0):
        assert not torch.equal(vlm.forward(inputs)[:, -1], logits[:, -1])
    shares = attention_flow(vlm, inputs, answer).groupby("layer").share.sum()
    np.testing.assert_allclose(shares, 1, atol=1e-5)  # float32 sums
    heats = [llava_cam(each, inputs, answer).heat[:-1].ravel() for each in (plain, vlm)]
    assert np.isfinite(heats).all()
    assert np.corrcoef(heats)[0, 1] > {"4bit": 0.5, "8bit": 0.9}[bits]


@packed
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_slopes_of_packed_weights_are_those_of_the_weights_unpacked(mini, asked, bits):
    vlm = mini("mini-llava", bits)
    inputs = vlm.prepare(asked[:1])
    _ = vlm.forward(inputs)  # on some CPUs the first run would pack the weights anew
    linear = vlm.decoder.layers[0].mlp.up_proj
    states = torch.randn(3, linear.in_features, generator=torch.Generator().manual_seed(0))
    states.requires_grad_(True)
    slope = torch.autograd.grad(linear(states).sum(), states)[0]
    unpacked = linear(torch.eye(linear.in_features)).T  # its columns, one by one
    # activations of 8 bits are rounded too, and some CPUs compute in bfloat16
    off = (slope - unpacked.sum(0)).norm() / slope.norm()
    assert off < 0.05


@packed
def test_packed_weights_compute_in_the_dtype_asked_for(asked):
    vlm = load("mini-llava", device="cpu", quantization="4bit", dtype="bfloat16")
    assert vlm.dtype == torch.bfloat16
    assert vlm.decoder.layers[0].mlp.up_proj.compute_dtype == torch.bfloat16
    assert vlm.forward(vlm.prepare(asked[:1])).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_that_vanish_in_few_bits_are_told_of(family_folder, sample, dtype):
    vlm = load(str(family_folder("llava")), device="cpu", dtype=dtype)
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    with pytest.warns(UserWarning, match=rf"gradients are zero, .*{dtype}.*dtype=float32"):
        llava_cam(vlm, inputs, answer, target=lambda logits: logits.sum() * 0)


def test_gradients_that_are_no_numbers_are_refused(family, sample):
    vlm = family("llava")
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    with pytest.raises(ValueError, match=r"gradients .* not finite.*float32; load it"):
        llava_cam(vlm, inputs, answer, target=lambda logits: (logits.sum() * 0).sqrt())
