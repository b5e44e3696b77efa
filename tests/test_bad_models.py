"""What cannot work is refused in a sentence: what was asked, what was found, what to do."""

import json
import shutil

import families
import pytest
import torch
from conftest import make_sample, noise_picture

from irlib.models import load

NAMES = list(families.FAMILIES)
OFF_BY_ONE = {  # a file of the folder, and a change in it after which the counts disagree
    "llava": ("processor_config.json", {"num_additional_image_tokens": 0}),
    "shikra": ("processor_config.json", {"patch_size": 8}),
    "llava_next": ("processor_config.json", {"num_additional_image_tokens": 0}),
    "llava_onevision": ("processor_config.json", {"num_image_tokens": 15}),
    "instructblip": ("processor_config.json", {"num_query_tokens": 7}),
    "internvl": ("processor_config.json", {"image_seq_length": 15}),
    "qwen2_vl": ("preprocessor_config.json", {"merge_size": 1}),
    "qwen2_5_vl": ("preprocessor_config.json", {"patch_size": 14}),
    "qwen3_vl": ("preprocessor_config.json", {"temporal_patch_size": 1}),
    "smolvlm": ("processor_config.json", {"image_seq_len": 15}),
    "idefics3": ("processor_config.json", {"image_seq_len": 17}),
    "gemma3": ("processor_config.json", {"image_seq_length": 17}),
    "paligemma": ("preprocessor_config.json", {"image_seq_length": 63}),
}
OTHER_SIZE = {  # pictures of another size than the tower's
    "llava": {"crop_size": {"height": 35, "width": 35}, "size": {"shortest_edge": 35}},
    "llava_next": {"image_grid_pinpoints": [[28, 112], [112, 28]]},
    "llava_onevision": {"size": {"height": 35, "width": 35}},
    "instructblip": {"size": {"height": 28, "width": 28}},
    "internvl": {"size": {"height": 28, "width": 28}},
    "smolvlm": {"max_image_size": {"longest_edge": 28}},
    "gemma3": {"size": {"height": 28, "width": 28}},
    "paligemma": {"size": {"height": 28, "width": 28}},
}


@pytest.fixture
def sample():
    return make_sample(noise_picture(112, 60, seed=0))


@pytest.fixture
def changed(family_folder, tmp_path):
    """A copy of a family's folder with entries of one json file replaced, one level deep."""

    def make(name, file, entries):
        folder = tmp_path / f"{name}-changed"
        shutil.copytree(family_folder(name), folder)
        found = json.loads((folder / file).read_text())
        for key, value in entries.items():
            old = found.get(key)
            found[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
        (folder / file).write_text(json.dumps(found))
        return str(folder)

    return make


@pytest.mark.parametrize("name", NAMES)
def test_processor_with_another_number_of_image_tokens_is_refused(changed, sample, name):
    vlm = load(changed(name, *OFF_BY_ONE[name]), device="cpu")
    with pytest.raises(ValueError, match=r"asked .*found .*disagree: take both from one folder"):
        vlm.prepare(sample)


@pytest.mark.parametrize("name", OTHER_SIZE)
def test_processor_with_pictures_of_another_size_is_refused(changed, sample, name):
    vlm = load(changed(name, "preprocessor_config.json", OTHER_SIZE[name]), device="cpu")
    with pytest.raises(ValueError, match=r"asked .*found .*disagree: take both from one folder"):
        vlm.prepare(sample)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("instructblip",)])
@pytest.mark.parametrize("times", [0, 2])
def test_prompt_with_no_or_two_placeholders_is_refused(family, sample, name, times, monkeypatch):
    vlm = family(name)
    mark = vlm.placeholder
    template = vlm.processor.chat_template or (
        mark + "{{ messages[0]['content'][-1]['text'] }}"  # a template of its own for PaliGemma
    )
    monkeypatch.setattr(vlm.processor, "chat_template", template.replace(mark, mark * times))
    with pytest.raises(ValueError, match=rf"with 1 picture, found {times} .*where 1 .*repair"):
        vlm.prepare(sample)


def test_placeholder_in_instructblips_template_is_refused(family, sample, monkeypatch):
    vlm = family("instructblip")
    template = "<image> {{ messages[0]['content'][-1]['text'] }}"
    monkeypatch.setattr(vlm.processor, "chat_template", template)
    with pytest.raises(ValueError, match=r"found 1 '<image>' where 0 belong.*repair"):
        vlm.prepare(sample)


@pytest.mark.parametrize("name", NAMES)
def test_placeholder_in_a_question_is_refused(family, sample, name):
    vlm = family(name)
    with pytest.raises(ValueError, match=r"asked the question .*special token.*leave it out"):
        vlm.prepare(image=sample.image, question=f"What is {vlm.placeholder} this?")


def test_folder_without_a_chat_template_is_refused(family, sample, monkeypatch):
    vlm = family("internvl")
    monkeypatch.setattr(vlm.processor, "chat_template", None)
    monkeypatch.setattr(vlm.processor.tokenizer, "chat_template", None)
    with pytest.raises(ValueError, match=r"found no chat template.*add chat_template.jinja"):
        vlm.prepare(sample)


def test_chat_template_of_the_tokenizer_is_used_where_there_is_no_other(
    family, sample, monkeypatch
):
    vlm = family("qwen2_vl")
    expected, template = vlm.prepare(sample), vlm.processor.chat_template
    monkeypatch.setattr(vlm.processor, "chat_template", None)
    monkeypatch.setattr(vlm.processor.tokenizer, "chat_template", template)
    assert torch.equal(vlm.prepare(sample).text["input_ids"], expected.text["input_ids"])


@pytest.mark.parametrize("decoder", ["t5", "opt"])
def test_instructblip_with_another_language_model_is_refused(changed, decoder):
    folder = changed("instructblip", "config.json", {"text_config": {"model_type": decoder}})
    with pytest.raises(ValueError, match=rf"found InstructBLIP .*'{decoder}'.*use .* with llama"):
        load(folder)


def test_paligemma_with_gemma_2_is_refused(changed):
    folder = changed("paligemma", "config.json", {"text_config": {"model_type": "gemma2"}})
    with pytest.raises(ValueError, match=r"found PaliGemma .*'gemma2'.*caps.*use .* with gemma"):
        load(folder)


def test_folder_with_pickled_weights_alone_is_refused(family_folder, tmp_path):
    shutil.copytree(family_folder("llava"), tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"weights in \['pytorch_model.bin'\].*convert them"):
        load(str(tmp_path / "old"))


def test_folder_without_weights_is_refused(family_folder, tmp_path):
    shutil.copytree(family_folder("llava"), tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"asked for the model .*cannot be read"):
        load(str(tmp_path / "bare"))


@pytest.mark.parametrize("name", NAMES)
def test_config_without_an_image_token_is_refused(changed, name):
    folder = changed(name, "config.json", {"image_token_id": None, "image_token_index": None})
    with pytest.raises(ValueError, match=r"found no image token in its config.json; add"):
        load(folder)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_family_is_refused(changed, name):
    folder = changed(name, "config.json", {"model_type": "mystery_vl"})
    with pytest.raises(ValueError, match=r"found the family 'mystery_vl'; known are .*add a row"):
        load(folder)


def test_question_too_long_for_the_q_former_is_refused(family, sample, monkeypatch):
    vlm = family("instructblip")
    monkeypatch.setattr(vlm.model.config.qformer_config, "max_position_embeddings", 10)
    with pytest.raises(ValueError, match=r"found that it reads at most 10; shorten"):
        vlm.prepare(sample)
