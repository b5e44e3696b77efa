"""Every family loads from a folder laid out as the hub's, and prepares, answers and batches."""

import json
import re
import shutil

import families
import families_two
import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture

from irlib.hooks.hooks import edit, trace
from irlib.inputs.preparing import _prompt
from irlib.inputs.spans import SEGMENTS
from irlib.models.families import VICUNA, VIP
from irlib.models.loading import load

NAMES = list(families.FAMILIES)
# Another mask, padding and shape give other kernels: float32 rounding, on logits of standard
# deviation 1.5. The most seen over all families is 2.4e-5.
CLOSE = {"atol": 5e-5, "rtol": 0}
every_family = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def mixed():
    """Three samples: a wide picture, none, a high picture; questions of different length."""
    return [
        make_sample(noise_picture(112, 60, seed=0)),
        make_sample(None, key="text"),
        make_sample(noise_picture(60, 90, seed=1), "Is there a red cat in the picture?", "b"),
    ]


@torch.no_grad()
def logits(vlm, inputs):
    return vlm.forward(inputs)


@every_family
def test_folder_loads_as_its_family(family, name):
    vlm = family(name)
    assert vlm.model.config.model_type == families.FAMILIES[name][0]
    assert (vlm.name, vlm.n_layers, vlm.dtype) == (name, 4, torch.float32)
    assert type(vlm.processor.image_processor).__name__.endswith("Pil")
    assert vlm.processor.tokenizer.convert_tokens_to_ids("<s>") == 1
    assert not hasattr(vlm.processor, "video_processor")


@every_family
def test_processor_in_one_file_reads_the_same(family, name, mixed, tmp_path):
    folder = families.save(name, tmp_path / name, randomise=lambda model: model, combined=True)
    one, other = (vlm.prepare(mixed[0]).batch for vlm in (family(name), load(str(folder))))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@every_family
def test_folder_written_for_torchvision_reads_the_same(
    family, family_folder, name, mixed, tmp_path
):
    """As most hub folders are: the image processor's class is the one that needs torchvision."""
    shutil.copytree(family_folder(name), tmp_path / name)
    file = tmp_path / name / "preprocessor_config.json"
    found = json.loads(file.read_text())
    kind = found["image_processor_type"].removesuffix("Pil").removesuffix("Fast")
    for suffix in ("", "Fast"):
        file.write_text(json.dumps(found | {"image_processor_type": kind + suffix}))
        other = load(str(tmp_path / name), device="cpu").prepare(mixed[0]).batch
        one = family(name).prepare(mixed[0]).batch
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@every_family
def test_arguments_are_those_of_the_familys_own_processor(family, name, mixed):
    vlm = family(name)
    batch = vlm.prepare(mixed[0]).batch
    text = _prompt(vlm, mixed[0])
    own = vlm.processor(
        images=[mixed[0].image],
        text=[text],
        add_special_tokens=not text.startswith("<s>"),
        return_tensors="pt",
    )
    assert {"input_ids", "attention_mask", "pixel_values"} <= batch.keys()
    assert all(torch.equal(batch[key], own[key]) for key in batch)
    assert own.keys() - batch.keys() <= {"labels", "mm_token_type_ids"}  # of no use to the model


@every_family
def test_segments_and_padding_divide_every_row(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare(mixed)
    held = torch.stack([getattr(inputs.spans, segment) for segment in SEGMENTS]).sum(0)
    assert torch.equal(held, inputs.text["attention_mask"])
    assert (inputs.spans.user.any(1) & (held[:, -1] == 1)).all()
    asked = vlm.processor.tokenizer.decode(inputs.text["input_ids"][0][inputs.spans.user[0]])
    assert mixed[0].prompt in asked
    image = (inputs.text["input_ids"] == vlm.model.config.image_token_id) & held.bool()
    assert torch.equal(inputs.spans.image, image)
    assert inputs.spans.image.any(1).tolist() == [True, False, True]


@every_family
def test_forward_equals_the_models_own(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare([mixed[0], mixed[2]])
    with torch.no_grad():
        own = vlm.model(**inputs.batch, use_cache=False).logits
    assert torch.equal(logits(vlm, inputs), own)


@every_family
def test_padded_batch_with_a_text_row_equals_single_runs(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare(mixed)
    together, answers = logits(vlm, inputs), vlm.answer(inputs)
    for row, sample in enumerate(mixed):
        one = vlm.prepare(sample)
        alone = logits(vlm, one)[0]
        assert torch.allclose(together[row, -one.length :], alone, **CLOSE)
        assert torch.equal(vlm.answer(one).ids[0], answers.ids[row])
        whole = logits(vlm, inputs.followed_by(answers).take([row]))[0]
        own = logits(vlm, one.followed_by(vlm.answer(one)))[0]
        skip = inputs.length - one.length  # the answers of other rows may be longer: padded behind
        assert torch.allclose(whole[skip : skip + len(own)], own, **CLOSE)


@every_family
def test_generation_equals_a_naive_loop_with_full_recomputation(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare(mixed[2])
    answer = vlm.answer(inputs)
    with torch.no_grad():
        scores = vlm.forward(inputs.followed_by(answer))[0, inputs.length - 1 : -1]
    scores[:, vlm.image_token_id] = -torch.inf
    made = answer.ids[0]
    said = scores.argmax(-1)
    assert torch.equal(said, made)


@every_family
def test_encoded_pictures_give_the_same_logits_and_answers(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare(mixed)
    encoded = vlm.encode(inputs)
    assert "pixel_values" not in encoded.batch
    assert torch.equal(logits(vlm, encoded), logits(vlm, inputs))
    answer = vlm.answer(inputs)
    assert vlm.answer(encoded).texts == answer.texts
    rows = [2, 1, 2, 0]
    taken = logits(vlm, encoded.followed_by(answer).take(rows))
    other = logits(vlm, inputs.followed_by(answer).take(rows))
    if name == "mistral3":  # its tower has all pictures in one sequence: other sums, other rounding
        assert torch.allclose(taken, other, **CLOSE)
    else:
        assert torch.equal(taken, other)


@every_family
def test_hiding_the_picture_is_felt(family, name, mixed):
    vlm = family(name)
    inputs = vlm.prepare(mixed[0])
    other = vlm.prepare(make_sample(noise_picture(112, 60, seed=9)))
    assert (logits(vlm, inputs) - logits(vlm, other))[0, -1].abs().max() > 0.1


@every_family
def test_grid_places_every_token_of_the_picture_once_a_view(family, name, mixed):
    vlm = family(name)
    for sample in (mixed[0], mixed[2]):
        grid = vlm.prepare(sample).grid
        seen = np.concatenate([view.ravel() for view in grid.views] or [[]])
        assert len(set(seen)) == len(seen) == grid.placed.sum()
        assert grid.size == sample.image.size
        assert [view.size for view in grid.views] == sorted(
            (view.size for view in grid.views), reverse=True
        )


PROMPTS = {  # what each family reads, the image tokens of one run written once
    "llava": f"<s>{VICUNA} USER: <image>\n%s ASSISTANT:",
    "shikra": f"<s>{VICUNA} USER: <im_start><image><im_end> %s ASSISTANT:",
    "llava_next": f"<s>{VICUNA} USER: <image>\n%s ASSISTANT:",
    "instructblip": "<image><s>%s",
    "internvl": "{system}user\n<img><IMG_CONTEXT></img>\n%s{end}",
    "qwen2_vl": "{system}user\n<|vision_start|><|image_pad|><|vision_end|>%s{end}",
    "llava_onevision": "{system}user\n<image>\n%s{end}",
    "smolvlm": "<s>User:{tiles}%s<end_of_utterance>\nAssistant:",
    "gemma3": "<s><start_of_turn>user\n\n\n<start_of_image><image_soft_token><end_of_image>\n\n%s"
    "<end_of_turn>\n<start_of_turn>model\n",
    "paligemma": "<image><s>%s\n",
}
PROMPTS |= {"qwen2_5_vl": PROMPTS["qwen2_vl"], "qwen3_vl": PROMPTS["qwen2_vl"]}
PROMPTS |= {"qwen3_vl_moe": PROMPTS["qwen2_vl"], "llava_next_video": PROMPTS["llava_next"]}
PROMPTS |= {
    "vipllava": f"<s>{VIP}###Human: <image>\n%s###Assistant:",
    "mistral3": "<s>[INST]{rows}%s[/INST]",
    "aya_vision": "<s><|USER_TOKEN|>"
    "<|START_OF_IMG|>TILE_1<|IMG_PATCH|>TILE_2<|IMG_PATCH|>TILE_GLOBAL<|IMG_PATCH|><|END_OF_IMG|>"
    "%s<|END_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "cohere2_vision": "<s><|USER_TOKEN|><|START_OF_IMG|>{lines}<|END_OF_IMG|>%s"
    "<|END_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "glm4v": "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>%s<|assistant|>\n",
}
PROMPTS |= dict.fromkeys(["glm4v_moe", "glm46v"], PROMPTS["glm4v"])
PROMPTS["idefics3"] = PROMPTS["smolvlm"]
PROMPTS |= families_two.PROMPTS
PARTS = {
    "{rows}": "[IMG][IMG_BREAK]" * 4 + "[IMG][IMG_END]",
    "{lines}": "<|IMG_PATCH|><|IMG_LINE_BREAK|>" * 5,
    "{system}": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>",
    "{end}": "<|im_end|>\n<|im_start|>assistant\n",
    "{tiles}": "".join(
        "".join(f"<fake_token_around_image><row_{i}_col_{j}><image>" for j in (1, 2, 3)) + "\n"
        for i in (1, 2)
    )
    + "\n<fake_token_around_image><global-img><image><fake_token_around_image>",
}


@every_family
def test_prompt_to_the_letter(family, name, mixed):
    vlm, expected = family(name), PROMPTS[name] % mixed[0].prompt
    for part, text in PARTS.items():
        expected = expected.replace(part, text)
    said = vlm.processor.tokenizer.decode(vlm.prepare(mixed[0]).text["input_ids"][0])
    token = re.escape(families.FAMILIES[name][1]().image_token)
    assert re.sub(f"({token})+", r"\1", said) == expected


def test_system_prompt_is_left_to_turns_that_are_not_vicunas(family, mixed, monkeypatch):
    """LLaVA-1.6 has decoders with other turns; a template may say its system prompt by itself."""
    vlm = family("llava_next")
    mistral = "[INST] <image>\n{{ messages[-1]['content'][-1]['text'] }} [/INST]"
    monkeypatch.setattr(vlm.processor, "chat_template", mistral)
    said = vlm.processor.tokenizer.decode(vlm.prepare(mixed[0]).text["input_ids"][0])
    assert said.startswith("<s>[INST] <image>")
    own = VICUNA + " USER: <image>\n{{ messages[-1]['content'][-1]['text'] }} ASSISTANT:"
    monkeypatch.setattr(vlm.processor, "chat_template", own)
    said = vlm.processor.tokenizer.decode(vlm.prepare(mixed[0]).text["input_ids"][0])
    assert said.count(VICUNA) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in families.SIDE_BY_SIDE])
def test_post_attention_site_is_what_feeds_the_mlp(family, name, mixed):
    vlm, fed = family(name), {}
    handles = [
        module.register_forward_pre_hook(lambda m, args, i=i: fed.update({i: args[0]}))
        for i, module in vlm.site("mlp").items()
    ]
    with trace(vlm.site("post_attention")) as seen:
        logits(vlm, vlm.prepare(mixed[0]))
    for handle in handles:
        handle.remove()
    assert list(seen) == [0, 1, 2, 3]
    assert all(torch.equal(seen[layer], fed[layer]) for layer in seen)


@every_family
def test_features_of_the_vision_tower_stand_at_the_image_positions(family, name, mixed):
    """Read at the input of the first layer, in the order of the rows and of the image tokens."""
    vlm = family(name)
    inputs = vlm.prepare([mixed[0], mixed[2]])
    tokens = [one["features"].tokens for one in vlm.encode(inputs).visual]
    seen = {}

    def keep(key, args, kwargs):
        seen[key] = args[0]
        return args, kwargs

    with edit({0: vlm.decoder.layers[0]}, keep, at="input"):
        logits(vlm, inputs)
    features = torch.cat(tokens)
    assert torch.equal(seen[0][inputs.spans.image], features)


@every_family
def test_batch_without_any_picture_equals_single_runs(family, name, mixed):
    vlm = family(name)
    samples = [mixed[1], make_sample(None, "Is there a red cat in the picture?", "b")]
    inputs = vlm.prepare([*samples, mixed[0]]).take([0, 1])
    together, answers = logits(vlm, inputs), vlm.answer(inputs)
    assert vlm.encode(inputs) is inputs
    assert "pixel_values" not in inputs.batch
    for row, sample in enumerate(samples):
        one = vlm.prepare(sample)
        alone = logits(vlm, one)[0]
        assert torch.allclose(together[row, -one.length :], alone, **CLOSE)
        assert torch.equal(vlm.answer(one).ids[0], answers.ids[row])
        said = vlm.processor.tokenizer.decode(one.text["input_ids"][0][one.spans.user[0]])
        assert said.strip().startswith(sample.prompt)


def test_eager_attention_is_tried_on_each_decoder(family):
    decoders = {name: type(family(name).decoder) for name in families.FAMILIES}
    assert {decoders[name] for name in families.EAGER} == set(decoders.values())
    assert len(families.EAGER) == len(set(decoders.values()))
