import copy
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, LlamaConfig

from irlib.attention import attention_flow
from irlib.cam.cam import llava_cam
from irlib.hooks.hooks import edit
from irlib.inputs.records import Answer
from irlib.interventions.truncation import truncate
from irlib.models.families import FAMILIES
from irlib.models.loading import load
from irlib.models.sites import SITES
from irlib.sweeps.table import sweep


def with_model(vlm, change):
    """The same VLM around a changed copy of its model."""
    model = copy.deepcopy(vlm.model)
    change(model)
    return type(vlm)(vlm.name, model, vlm.processor, vlm.family)


def copied(source, target, file, change):
    """A copy of a model folder with `change` applied to one of its json files."""
    shutil.copytree(source, target)
    found = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(change(found)))
    return str(target)


def test_local_folder_loads_as_a_plain_record(tiny_llava, tiny_folder):
    assert (tiny_llava.name, tiny_llava.n_layers) == ("tiny-llava", 4)
    assert tiny_llava.family is FAMILIES["llava"]
    assert tiny_llava.dtype == torch.float32
    assert tiny_llava.device.type == "cpu"
    assert not tiny_llava.model.training
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    weights = dict(tiny_llava.model.named_parameters())
    assert all(torch.equal(weights[name], w) for name, w in plain.named_parameters())


def test_dtype_can_be_chosen(tiny_folder):
    assert load(str(tiny_folder), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_unknown_model_lists_what_there_is():
    with pytest.raises(ValueError, match=r"asked for the model 'mini-lava', found no.*use one of"):
        load("mini-lava")


def test_model_that_the_hub_does_not_give_is_refused():
    with pytest.raises(OSError, match=r"asked for the model 'nobody/nothing'.*cannot be read"):
        load("nobody/nothing")


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"asked for the model .*cannot be read.*no config.json"):
        load(str(tmp_path))


@pytest.mark.parametrize("instead", [{}, {"image_token_index": None}])
def test_config_without_an_image_token_is_refused(tiny_folder, tmp_path, instead):
    names = ("image_token_index", "image_token_id")

    def blind(config):
        return {key: config[key] for key in config if key not in names} | instead

    folder = copied(tiny_folder, tmp_path / "blind", "config.json", blind)
    with pytest.raises(ValueError, match=r"found no image token in its config.json; add"):
        load(folder)


def test_unknown_family_is_refused(tmp_path):
    LlamaConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found the family 'llama'; known are .*'llava'"):
        load(str(tmp_path))


def test_sampling_defaults_of_a_checkpoint_are_dropped(tiny_folder, tiny_llava, tmp_path, sample):
    sampling = {"do_sample": True, "temperature": 2.0, "repetition_penalty": 3.0, "num_beams": 2}
    folder = copied(
        tiny_folder, tmp_path / "sampler", "generation_config.json", lambda found: found | sampling
    )
    other = load(folder, device="cpu")
    said = other.answer(other.prepare(sample), max_new_tokens=8)
    greedy = tiny_llava.answer(tiny_llava.prepare(sample), max_new_tokens=8)
    assert torch.equal(said.ids[0], greedy.ids[0])


@pytest.mark.parametrize("name", SITES)
def test_each_site_is_a_module_of_each_layer(tiny_llava, name):
    site = tiny_llava.site(name)
    assert list(site) == [0, 1, 2, 3]
    own = {
        "input_norm": "input_layernorm", "attention": "self_attn", "mlp": "mlp", "block": "",
        "post_attention": "post_attention_layernorm",
    }  # fmt: skip
    for layer, module in zip(tiny_llava.decoder.layers, site.values(), strict=True):
        assert module is (getattr(layer, own[name]) if own[name] else layer)


def test_greedy_answer_equals_a_naive_loop(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    batch, said = dict(inputs.batch), []
    for _ in range(8):
        with torch.no_grad():
            scores = tiny_llava.model(**batch, use_cache=False).logits[0, -1]
        scores[tiny_llava.image_token_id] = -torch.inf
        said.append(int(scores.argmax()))
        batch["input_ids"] = torch.cat([batch["input_ids"], torch.tensor([said[-1:]])], 1)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    end = tiny_llava.processor.tokenizer.eos_token_id
    said = said[: said.index(end)] if end in said else said
    assert tiny_llava.answer(inputs, max_new_tokens=8).ids[0].tolist() == said


def test_padded_batch_answers_as_single_runs_do(tiny_llava, samples, text_sample):
    batch = [*samples, text_sample]
    together = tiny_llava.answer(tiny_llava.prepare(batch), max_new_tokens=8)
    for row, sample in enumerate(batch):
        alone = tiny_llava.answer(tiny_llava.prepare(sample), max_new_tokens=8)
        assert torch.equal(together.ids[row], alone.ids[0])
        assert together.texts[row] == alone.text


def test_forward_of_a_padded_batch_equals_single_runs(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    together = tiny_llava.forward(inputs)
    for row, sample in enumerate(samples):
        one = tiny_llava.prepare(sample)
        # positions shift with the padding and rotary angles are relative: float32 rounding
        alone = tiny_llava.forward(one)[0]
        assert torch.allclose(together[row, -one.length :], alone, atol=2e-5)


def test_encoded_pictures_give_the_same_logits_and_answers(tiny_llava, samples, text_sample):
    inputs = tiny_llava.prepare([samples[0], text_sample, samples[1]])
    encoded = tiny_llava.encode(inputs)
    assert torch.equal(tiny_llava.forward(encoded), tiny_llava.forward(inputs))
    answer = tiny_llava.answer(encoded)
    assert answer.texts == tiny_llava.answer(inputs).texts
    whole = encoded.followed_by(answer).take([2, 1, 2])
    plain = inputs.followed_by(answer).take([2, 1, 2])
    assert torch.equal(tiny_llava.forward(whole), tiny_llava.forward(plain))
    assert list(encoded.take([1]).batch) == ["input_ids", "attention_mask"]


def test_encoded_pictures_run_no_vision_tower(tiny_llava, sample):
    encoded = tiny_llava.encode(tiny_llava.prepare(sample)).take([0, 0])

    def refuse(key, output):
        raise AssertionError

    with edit({0: tiny_llava.model.model.vision_tower}, refuse):
        tiny_llava.answer(encoded)


def saying_instead(vlm, inputs, place, token):
    """The model that says `token` where `vlm` says its answer's token number `place`."""
    said = int(vlm.answer(inputs, max_new_tokens=place + 1).ids[0][place])

    def swap(model):
        model.lm_head.weight[[token, said]] = model.lm_head.weight[[said, token]]

    return with_model(vlm, swap)


def test_answer_ends_before_the_end_token(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    ended = saying_instead(tiny_llava, inputs, 2, tiny_llava.processor.tokenizer.eos_token_id)
    first_two = tiny_llava.answer(inputs, max_new_tokens=2).ids[0]
    assert torch.equal(ended.answer(inputs, max_new_tokens=5).ids[0], first_two)


def test_answer_holds_no_special_tokens(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    begun = saying_instead(tiny_llava, inputs, 2, tiny_llava.processor.tokenizer.bos_token_id)
    first_two = tiny_llava.answer(inputs, max_new_tokens=2).ids[0]
    assert torch.equal(begun.answer(inputs, max_new_tokens=3).ids[0], first_two)


def test_the_image_token_is_never_said(tiny_llava, sample):
    def favour(model):
        model.lm_head.weight[tiny_llava.image_token_id] = model.lm_head.weight[first] * 2

    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs, max_new_tokens=4)
    first = int(answer.ids[0][0])
    said = with_model(tiny_llava, favour).answer(inputs, max_new_tokens=1)
    assert said.ids[0].tolist() == [first]


def test_each_row_is_cut_at_its_own_samples_limit(tiny_llava, samples):
    short = type(samples[0])(**(vars(samples[0]) | {"max_new_tokens": 2}))
    answer = tiny_llava.answer(tiny_llava.prepare([short, samples[1]]))
    assert [len(ids) for ids in answer.ids] == [2, 4]


def test_text_of_several_rows_is_refused(tiny_llava, samples):
    with pytest.raises(ValueError, match=r"asked for the answer of the only row, found 2 rows"):
        _ = tiny_llava.answer(tiny_llava.prepare(samples)).text


def test_nan_in_the_pixels_is_refused(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    inputs.visual[0]["pixel_values"][0, 0, 3, 3] = torch.nan
    for run in (
        lambda: tiny_llava.answer(inputs),
        lambda: attention_flow(tiny_llava, inputs, answer),
        lambda: llava_cam(tiny_llava, inputs, answer),
        lambda: tiny_llava.encode(inputs),
    ):
        with pytest.raises(ValueError, match=r"found pixels that are not finite numbers; check"):
            run()


def test_nan_in_the_logits_is_refused(tiny_llava, sample):
    def spoil(model):
        model.lm_head.weight[7] = torch.nan

    broken, inputs = with_model(tiny_llava, spoil), tiny_llava.prepare(sample)
    answer = Answer((torch.tensor([300]),), ("",))
    for run in (
        lambda: broken.answer(inputs),
        lambda: attention_flow(broken, inputs, answer),
        lambda: llava_cam(broken, inputs, answer),
    ):
        with pytest.raises(ValueError, match=r"found logits that are not finite numbers; check"):
            run()


def test_a_real_photograph_goes_the_whole_way(tiny_llava, photograph):
    inputs = tiny_llava.prepare(image=photograph, question="What is in the picture?")
    answer = tiny_llava.answer(inputs, max_new_tokens=4)
    flow = attention_flow(tiny_llava, inputs, answer)
    assert np.allclose(flow.groupby("layer").share.sum(), 1, atol=1e-5)
    maps = llava_cam(tiny_llava, inputs, answer, noise=0.1, n=2)
    shown = maps.overlay(0, pale=0)
    assert shown.shape == (*Image.open(photograph).size[::-1], 3)
    assert (shown != np.asarray(maps.picture)).any()
    top = int(inputs.grid.boxes[0, 1])  # the crop leaves a strip above and below
    assert top > 0
    assert (shown[:top] == np.asarray(maps.picture)[:top]).all()
    with truncate(tiny_llava, inputs, layer=0):
        hidden = tiny_llava.answer(inputs, max_new_tokens=4)
    assert hidden.text != answer.text


def test_a_sample_without_picture_goes_the_whole_way(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    answer = tiny_llava.answer(inputs)
    flow = attention_flow(tiny_llava, inputs, answer)
    assert (flow[flow.segment == "image"].share == 0).all()
    assert sweep(tiny_llava, [text_sample], progress=False).answer.nunique() == 1


def with_weights(folder, target, change):
    """A copy of a model folder with `change` applied to its weights `{name: tensor}`."""
    shutil.copytree(folder, target)
    path = target / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return str(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {k: v for k, v in w.items() if "layers.1." not in k},
        lambda w: {f"other.{k}": v for k, v in w.items()},
    ],
    ids=["a layer is missing", "another prefix"],
)
def test_weights_that_would_be_random_are_refused(tiny_folder, tmp_path, change):
    folder = with_weights(tiny_folder, tmp_path / "part", change)
    with pytest.raises(ValueError, match=r"found no weights for \d+ tensors.*one checkpoint"):
        load(folder)


def test_weights_of_another_shape_are_refused(tiny_folder, tmp_path):
    def cut(weights):
        return {k: v[:3].clone() if "lm_head" in k else v for k, v in weights.items()}

    folder = with_weights(tiny_folder, tmp_path / "cut", cut)
    with pytest.raises(ValueError, match=r"do not fit together.*one checkpoint"):
        load(folder)


def test_broken_weights_are_refused(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "broken")
    path = tmp_path / "broken/model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="do not fit together"):
        load(str(tmp_path / "broken"))


@pytest.mark.parametrize("name", [None, "", 3])
def test_no_name_is_refused(name):
    with pytest.raises(ValueError, match="give the name of a bundled model"):
        load(name)


@pytest.mark.parametrize(
    "template",
    ["{% for m in messages %}", "{{ raise_exception('no') }}",
     "{{ messages[0]['content']|string }}",
     "{{ 'USER: ' + (messages[-1]['content']|last)['text'].upper() }}"],
    ids=["syntax", "raises", "wants a string", "alters the question"],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_in_is_refused(tiny_llava, text_sample, template):
    processor = copy.copy(tiny_llava.processor)
    processor.chat_template = template
    vlm = type(tiny_llava)("tiny", tiny_llava.model, processor, tiny_llava.family)
    with pytest.raises(ValueError, match=r"repair chat_template\.jinja"):
        vlm.prepare(text_sample)
