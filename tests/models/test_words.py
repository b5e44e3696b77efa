"""What people report of folders elsewhere: taken where it is plain, else refused in a sentence."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import families
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from safetensors.torch import load_file, save_file

from irlib.models.families import FAMILIES
from irlib.models.family import Family
from irlib.models.loading import load, minis

UNASKED = {  # settings of a generation_config.json that would answer in another way than greedily
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "temperature": 5.0, "top_k": 3},
    "bad words": {"bad_words_ids": [[300], [301]]},
    "forced end": {"forced_eos_token_id": 2},
    "forced begin": {"forced_bos_token_id": 300},
    "suppressed": {"suppress_tokens": list(range(300, 330))},
    "suppressed begin": {"begin_suppress_tokens": list(range(3, 330))},
    "repetition": {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1},
    "length": {"max_length": 3, "min_length": 90, "min_new_tokens": 40, "max_new_tokens": 1},
    "bias": {"sequence_bias": [[[300], 50.0]]},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "guidance": {"guidance_scale": 4.0},
    "stop words": {"stop_strings": ["a", "e"]},
}


@pytest.fixture
def sample():
    return make_sample(noise_picture(60, 40, seed=0))


@pytest.fixture
def changed(family_folder, tmp_path):
    """A copy of a family's folder with a json file of it changed by a function."""

    def make(name, file, change):
        folder = tmp_path / name
        if not folder.is_dir():
            shutil.copytree(family_folder(name), folder)
        path = folder / file
        found = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(change(found)))
        return folder

    return make


def without(*keys):
    return lambda found: {key: value for key, value in found.items() if key not in keys}


def inside(part, **entries):
    return lambda found: found | {part: found[part] | entries}


@pytest.mark.parametrize("setting", UNASKED)
def test_no_setting_of_generation_changes_a_greedy_answer(changed, family, sample, setting):
    folder = changed("llava", "generation_config.json", lambda found: found | UNASKED[setting])
    vlm = load(folder, device="cpu")
    said, greedy = (m.answer(m.prepare(sample), max_new_tokens=8) for m in (vlm, family("llava")))
    assert torch.equal(said.ids[0], greedy.ids[0])
    assert vlm.plain


TOLD = [n for n, (kind, _) in families.FAMILIES.items() if FAMILIES[kind].facts is not Family.facts]


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("how", ["absent", "null", "no file"])
def test_what_a_processor_does_not_tell_is_taken_from_the_config(
    changed, family, sample, name, how
):
    if (how, name) == ("null", "aya_vision"):
        pytest.skip("its processor cannot be made of nothing")
    facts = family(name).family.facts(family(name).model.config)
    assert facts
    folder = changed(
        name,
        "processor_config.json",
        (lambda found: found | dict.fromkeys(facts)) if how == "null" else without(*facts),
    )
    if how == "no file":
        told = json.loads((folder / "processor_config.json").read_text())
        kept = {"processor_class": told["processor_class"]}
        (folder / "processor_config.json").write_text(json.dumps(kept))
    one, other = (model.prepare(sample) for model in (load(folder, device="cpu"), family(name)))
    assert all(torch.equal(one.batch[key], other.batch[key]) for key in other.batch)


def test_siglip_has_no_class_to_count(tmp_path, sample):
    tiny = families.llava()
    tiny.processor.num_additional_image_tokens = 0
    config = tiny.config | {
        "vision_config": families.SIGLIP | {"image_size": 28},
        "vision_feature_select_strategy": "full",
    }
    families.save("llava", tmp_path / "s", randomise=randomise, tiny=replace(tiny, config=config))
    path = tmp_path / "s/processor_config.json"
    path.write_text(json.dumps({"processor_class": "LlavaProcessor"}))
    assert load(tmp_path / "s", device="cpu").prepare(sample).spans.image.sum() == 16


def with_template(vlm, template, own=True):
    processor = copy.copy(vlm.processor)
    processor.chat_template = template
    return replace(vlm, processor=processor)


def test_of_several_chat_templates_the_default_is_taken(tiny_llava, sample):
    template = tiny_llava.processor.chat_template
    vlm = with_template(tiny_llava, {"rag": "{{ nothing }}", "default": template})
    ids = [model.prepare(sample).text["input_ids"] for model in (vlm, tiny_llava)]
    assert torch.equal(*ids)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json"])
def test_several_chat_templates_in_a_folder_are_read(changed, family, sample, file):
    template = family("llava").processor.chat_template
    pairs = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
    folder = changed("llava", file, lambda f: f | {"chat_template": pairs})
    (folder / "chat_template.jinja").unlink()
    ids = [
        m.prepare(sample).text["input_ids"] for m in (load(folder, device="cpu"), family("llava"))
    ]
    assert torch.equal(*ids)


def test_of_two_chat_templates_the_processors_file_is_taken_as_transformers_does(
    changed, family, sample
):
    other = "{{ 'other <image>' + messages[-1]['content'][-1]['text'] }}"
    folder = changed("llava", "tokenizer_config.json", lambda f: f | {"chat_template": other})
    ids = [
        m.prepare(sample).text["input_ids"] for m in (load(folder, device="cpu"), family("llava"))
    ]
    assert torch.equal(*ids)


def test_chat_templates_without_a_default_are_refused_by_their_names(tiny_llava, sample):
    vlm = with_template(tiny_llava, {"rag": "x", "tool_use": "y"})
    with pytest.raises(ValueError, match=r"chat templates \['rag', 'tool_use'\] .* give that name"):
        vlm.prepare(sample)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 // 0 }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ messages[5]['content'] }}",
        "{{ messages | map('nothing') | list }}",
        "{{ undefined.attribute }}",
        "{% include 'other.jinja' %}",
        "{{ 'a' * 'b' }}",
        "{{ messages[0].content.append(1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_fails_when_it_is_filled_is_refused(tiny_llava, sample, template):
    with pytest.raises(
        ValueError, match=r"chat template of .* cannot be filled in .*; repair chat"
    ):
        with_template(tiny_llava, template).prepare(sample)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "preprocessor_config.json", "config.json"]
)
def test_link_to_nothing_in_a_folder_is_named(changed, tmp_path, file):
    folder = changed("llava", "config.json", dict)
    (folder / file).unlink()
    (folder / file).symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match=rf"its {file} is a link to .*gone, which is not there"):
        load(folder, device="cpu")


def test_link_to_no_folder_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"found a link to .*gone', which is not there; mend"):
        load(tmp_path / "link")


def test_link_to_a_folder_is_a_folder(changed, tmp_path):
    folder = changed("llava", "config.json", dict)
    (tmp_path / "link").symlink_to(folder)
    assert load(tmp_path / "link", device="cpu").n_layers == 4


def test_folder_may_be_a_path_or_stand_at_home(changed, monkeypatch):
    folder = changed("llava", "config.json", dict)
    monkeypatch.setenv("HOME", str(folder.parent))
    named = [
        load(name, device="cpu").name for name in (folder, str(folder), "~/llava", Path("~/llava"))
    ]
    assert named == ["llava"] * 4
    assert load(Path("mini-llava"), device="cpu").name == "mini-llava"


@pytest.mark.parametrize(
    "name",
    [Path("owner/name"), "~/owner", Path("/nowhere/at/all"), "./rows", "../rows", "owner/name."],
)
def test_a_path_is_never_a_hub_id(name):
    with pytest.raises(ValueError, match=r"found no bundled model, no local folder and no hub id"):
        load(name)


@pytest.mark.parametrize("name", [None, "", 3, b"mini-llava", ["mini-llava"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=r"asked for the model .*; give the name of a bundled"):
        load(name)


@pytest.mark.parametrize("kind", ["siglip2_vision_model", "pixtral", "dinov2", "mystery"])
def test_a_tower_whose_patches_have_no_known_place_is_refused_as_that(changed, kind):
    folder = changed("llava", "config.json", inside("vision_config", model_type=kind))
    with pytest.raises(
        ValueError, match=rf"LLaVA-1.5 with the vision tower '{kind}'.*; use a check"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vipllava", "siglip_vision_model"),  # whose first patch it would leave out
        ("mistral3", "clip_vision_model"),
        ("aya_vision", "clip_vision_model"),
        ("cohere2_vision", "siglip2_vision_model"),
        ("llava_next_video", "pixtral"),
    ],
)
def test_another_tower_than_the_familys_is_refused_as_that(changed, name, kind):
    folder = changed(name, "config.json", inside("vision_config", model_type=kind))
    with pytest.raises(ValueError, match=rf"asked .* found .* tower '{kind}'.*; use a checkpoint"):
        load(folder)


def test_a_language_model_that_transformers_does_not_know_is_refused_as_that(changed):
    folder = changed("llava", "config.json", inside("text_config", model_type="mystery"))
    with pytest.raises(ValueError, match=r"the language model 'mystery', which .* does not know"):
        load(folder)


def test_a_language_model_that_cannot_be_watched_is_refused_as_that(tmp_path):
    tiny = replace(families.llava(), kind="gpt_neox")
    families.save("llava", tmp_path / "neox", randomise=randomise, tiny=tiny)
    with pytest.raises(
        ValueError, match=r"language model 'gpt_neox' with layers without attention"
    ):
        load(tmp_path / "neox", device="cpu")


def test_weights_of_more_layers_than_the_config_has_are_refused(changed):
    folder = changed("llava", "config.json", inside("text_config", num_hidden_layers=3))
    with pytest.raises(ValueError, match=r"found weights of 4 decoder layers and 3 of them in its"):
        load(folder, device="cpu")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "null", "\x00"])
def test_json_that_holds_no_object_is_named(changed, file, text):
    folder = changed("llava", "config.json", dict)
    (folder / file).write_text(text)
    with pytest.raises(OSError, match=rf"its {file} holds no JSON object"):
        load(folder, device="cpu")


def test_setting_of_a_tokenizer_that_is_none_is_refused(changed):
    folder = changed("llava", "tokenizer_config.json", lambda f: f | {"add_special_tokens": False})
    with pytest.raises(ValueError, match=r"files do not fit together .*add_special_tokens.*; take"):
        load(folder, device="cpu")


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_floating_point_numbers_are_refused(changed, kind):
    folder = changed("llava", "config.json", dict)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "language" in name and "up_proj" in name)
    weights[name] = weights[name].to(kind)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"found .*up_proj.* as (I8|I32|BOOL|F8\w+) .*; "):
        load(folder, device="cpu")


def test_tied_words_that_are_two_are_not_taken_for_one(tmp_path, sample):
    """A config that ties words to embeddings, and weights that hold two different ones."""
    families.save("llava", tmp_path / "two", randomise=randomise)
    vlm = load(tmp_path / "two", device="cpu")
    expected = vlm.forward(vlm.prepare(sample))
    path = tmp_path / "two/config.json"
    found = json.loads(path.read_text())
    found["tie_word_embeddings"] = found["text_config"]["tie_word_embeddings"] = True
    path.write_text(json.dumps(found))
    tied = load(tmp_path / "two", device="cpu")
    assert torch.equal(tied.forward(tied.prepare(sample)), expected)


def test_bundled_models_are_read_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load("mini-llava", device="cpu").model.name_or_path == str(minis() / "mini-llava")
