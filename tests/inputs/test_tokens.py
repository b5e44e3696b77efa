"""No setting of a folder cuts, pads or ends a prompt; one that is not whole is refused."""

import copy
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import make_sample, noise_picture
from tokenizers import Regex, normalizers

from irlib.inputs.tokens import positions
from irlib.models.loading import load

CUT = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
LEFT = CUT | {"direction": "Left", "max_length": 40}
PADDED = {
    "strategy": {"Fixed": 400}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
    "pad_type_id": 0, "pad_token": "<pad>",
}  # fmt: skip
ENDED = {
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in (("<s>", 1), ("</s>", 2))
        },
    }
}
SETTINGS = {  # a file of the folder and what it sets
    "truncation": ("tokenizer.json", {"truncation": CUT}),
    "truncation on the left": ("tokenizer.json", {"truncation": LEFT}),
    "padding": ("tokenizer.json", {"padding": PADDED}),
    "truncates": ("tokenizer_config.json", {"truncation": True, "max_length": 9}),
    "truncates at its length": (
        "tokenizer_config.json",
        {"truncation": True, "model_max_length": 40, "truncation_side": "left"},
    ),
    "only the first": ("tokenizer_config.json", {"truncation": "only_first", "max_length": 60}),
    "pads": ("tokenizer_config.json", {"padding": "max_length", "max_length": 400}),
    "pads on the right": ("tokenizer_config.json", {"padding": True, "padding_side": "right"}),
    "overflows": ("tokenizer_config.json", {"return_overflowing_tokens": True, "stride": 3}),
    "adds an end": ("tokenizer_config.json", {"add_eos_token": True}),
}
FAMILIES = ("llava", "instructblip", "paligemma", "qwen2_vl", "idefics3")


@pytest.fixture
def changed(family_folder, tmp_path):
    """A family's model whose folder has entries of one json file replaced."""

    def make(name, file, entries):
        folder = tmp_path / name
        shutil.copytree(family_folder(name), folder)
        found = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(found | entries))
        return load(str(folder), device="cpu")

    return make


@pytest.fixture
def asked():
    """With a picture and without."""
    return [make_sample(noise_picture(60, 40, seed=0)), make_sample(None, key="text")]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_no_setting_of_a_folder_changes_a_prompt(family, changed, asked, name, setting):
    vlm, plain = changed(name, *SETTINGS[setting]), family(name)
    for sample in asked:
        one, other = vlm.prepare(sample), plain.prepare(sample)
        assert one.batch.keys() == other.batch.keys()
        assert all(torch.equal(one.batch[key], other.batch[key]) for key in one.batch)


@pytest.mark.parametrize("set_", [{"truncation": True, "max_length": 9}, {"padding": "max_length"}])
def test_no_setting_of_a_processor_changes_a_prompt(tiny_llava, asked, set_):
    """transformers takes a processor's own `text_kwargs` for each call that does not say better."""
    processor = copy.copy(tiny_llava.processor)
    processor.text_kwargs = {"max_length": 400} | set_
    ids = [
        model.prepare(asked[0]).text["input_ids"]
        for model in (replace(tiny_llava, processor=processor), tiny_llava)
    ]
    assert torch.equal(*ids)


@pytest.mark.parametrize("name", ["llava", "instructblip"])
def test_no_tokenizer_ends_a_prompt_of_its_own_accord(family, changed, asked, name):
    vlm, plain = changed(name, "tokenizer.json", ENDED), family(name)
    for sample in asked:
        ids = vlm.prepare(sample).text["input_ids"]
        assert torch.equal(ids, plain.prepare(sample).text["input_ids"])


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("entries", [{"truncation": CUT | {"max_length": 4}}, {"padding": PADDED}])
def test_no_setting_changes_what_a_q_former_reads(family, changed, asked, file, entries):
    if file == "tokenizer_config.json":
        entries = {"truncation": True, "max_length": 4, "padding": "max_length"}
    vlm = changed("instructblip", f"qformer_tokenizer/{file}", entries)
    one, other = (model.prepare(asked[0]).batch for model in (vlm, family("instructblip")))
    assert torch.equal(one["qformer_input_ids"], other["qformer_input_ids"])


def with_tokenizer(vlm, change, name="tokenizer"):
    processor = copy.copy(vlm.processor)
    tokenizer = copy.deepcopy(getattr(processor, name))
    change(tokenizer.backend_tokenizer)
    setattr(processor, name, tokenizer)
    return replace(vlm, processor=processor)


def swallow(backend):
    """A tokenizer that drops a word of the question."""
    backend.normalizer = normalizers.Replace("picture", "")


class Cutting:
    """A processor that cuts what it gives, whatever it is asked."""

    def __init__(self, whole, keep, key="input_ids"):
        self._whole, self._keep, self._key = whole, keep, key

    def __getattr__(self, name):
        return getattr(self._whole, name)

    def __call__(self, *args, **kwargs):
        made = self._whole(*args, **kwargs)
        made[self._key] = made[self._key][:, self._keep]
        return made


@pytest.mark.parametrize("keep", [slice(None, -8), slice(None, -3)])
def test_a_prompt_without_the_whole_of_its_question_or_its_end_is_refused(tiny_llava, asked, keep):
    vlm = replace(tiny_llava, processor=Cutting(tiny_llava.processor, keep))
    with pytest.raises(
        ValueError, match=r"asked tiny-llava for the whole of .*found only .*; mend"
    ):
        vlm.prepare(asked[0])


def test_a_q_former_without_the_whole_of_the_question_is_refused(family, asked):
    vlm = family("instructblip")
    cut = Cutting(vlm.processor, slice(None, -4), "qformer_input_ids")
    vlm = replace(vlm, processor=cut)
    with pytest.raises(ValueError, match=r"asked instructblip for the whole of .*found only"):
        vlm.prepare(asked[0])


@pytest.mark.parametrize(
    ("name", "sample"), [("tokenizer", 0), ("tokenizer", 1), ("qformer_tokenizer", 0)]
)
def test_a_tokenizer_that_drops_words_is_refused(family, asked, sample, name):
    vlm = with_tokenizer(family("instructblip"), swallow, name)
    with pytest.raises(ValueError, match=r"the whole of .*found that its tokenizer drops .*; mend"):
        vlm.prepare(asked[sample])


def test_a_tokenizer_that_folds_case_and_spaces_is_taken_at_its_word(tiny_llava, asked):
    def fold(backend):
        folds = [normalizers.Lowercase(), normalizers.Replace(Regex(" +"), " ")]
        backend.normalizer = normalizers.Sequence(folds)

    vlm = with_tokenizer(tiny_llava, fold)
    said = vlm.prepare(image=asked[0].image, question="What  IS   in the PICTURE?")
    assert "what is in the picture?" in vlm.processor.tokenizer.decode(said.text["input_ids"][0])


@pytest.mark.parametrize("sample", [0, 1], ids=["with a picture", "without"])
def test_a_prompt_longer_than_the_models_positions_is_refused(tiny_llava, asked, sample):
    inputs = tiny_llava.prepare(asked[sample])
    model = copy.copy(tiny_llava.model)
    model.config = copy.deepcopy(model.config)
    vlm = replace(tiny_llava, model=model)
    model.config.text_config.max_position_embeddings = inputs.length
    assert vlm.prepare(asked[sample]).length == inputs.length
    model.config.text_config.max_position_embeddings = inputs.length - 1
    with pytest.raises(ValueError, match=rf"a prompt of {inputs.length} tokens, found .*; shorten"):
        vlm.prepare(asked[sample])


def test_an_answer_beyond_the_models_positions_is_refused(tiny_llava, asked):
    inputs = tiny_llava.prepare(asked[0])
    model = copy.copy(tiny_llava.model)
    model.config = copy.deepcopy(model.config)
    model.config.text_config.max_position_embeddings = inputs.length + 2
    vlm = replace(tiny_llava, model=model)
    assert len(vlm.answer(inputs, max_new_tokens=2).ids[0]) == 2
    with pytest.raises(ValueError, match=r"a prompt and its answer of .* tokens, found"):
        vlm.answer(inputs, max_new_tokens=3)


@pytest.mark.parametrize(
    ("rope", "reach"),
    [
        (None, 100),
        ({"rope_type": "default", "rope_theta": 1e4}, 100),
        ({"rope_type": "linear", "factor": 4.0}, 400),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 50}, 200),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 10}, 100),
        ({"full_attention": {"factor": 2.0}, "sliding_attention": {"rope_theta": 1e4}}, 200),
    ],
)
def test_positions_reach_as_far_as_their_angles_are_stretched(rope, reach):
    told = SimpleNamespace(max_position_embeddings=100, rope_parameters=rope)
    assert positions(told) == reach


def test_a_config_that_tells_no_positions_sets_no_bound():
    assert positions(SimpleNamespace()) is None


def test_a_token_beyond_the_embeddings_is_refused_by_name(tiny_llava, asked):
    def add(backend):
        backend.add_tokens(["picture"])

    vlm = with_tokenizer(tiny_llava, add)
    with pytest.raises(ValueError, match=r"token ids \[\d+\] \(\['picture'\]\).*embeddings of \d+"):
        vlm.prepare(asked[0])


def test_an_image_token_in_a_prompt_without_picture_is_refused(tiny_llava, asked):
    word = tiny_llava.processor.tokenizer("picture", add_special_tokens=False)["input_ids"][-1]
    model = copy.copy(tiny_llava.model)
    model.config = copy.deepcopy(model.config)
    model.config.image_token_id = tiny_llava.prepare(asked[1]).text["input_ids"][0, -3].item()
    assert word != model.config.image_token_id
    vlm = replace(tiny_llava, model=model)
    with pytest.raises(ValueError, match=r"without a picture, found the image token .*disagree"):
        vlm.prepare(asked[1])


@pytest.mark.parametrize("question", ["user", "a", "ASSISTANT:", "the user's questions"])
def test_a_question_whose_words_stand_elsewhere_too_is_found_where_it_is_asked(
    tiny_llava, question
):
    sample = replace(make_sample(None, question), prompt=question)
    inputs = tiny_llava.prepare(sample)
    ids, spans = inputs.text["input_ids"][0], inputs.spans
    decode = tiny_llava.processor.tokenizer.decode
    assert decode(ids[spans.user[0]]).strip() == f"{question} ASSISTANT:"
    assert decode(ids[spans.system[0]]).strip().endswith("USER:")
