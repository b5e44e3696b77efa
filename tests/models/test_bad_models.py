"""What cannot work is refused in a sentence: what was asked, what was found, what to do."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import families
import families_two
import pytest
import torch
from conftest import make_sample, noise_picture
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from irlib.models import loading, memory, placement
from irlib.models.loading import load

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
    "qwen3_vl_moe": ("preprocessor_config.json", {"merge_size": 1}),
    "vipllava": ("processor_config.json", {"num_additional_image_tokens": 0}),
    "llava_next_video": ("processor_config.json", {"num_additional_image_tokens": 0}),
    "aya_vision": ("processor_config.json", {"img_size": 70}),
    "cohere2_vision": ("preprocessor_config.json", {"patch_size": 5}),
    "mistral3": ("processor_config.json", {"spatial_merge_size": 1}),
    "glm4v": ("preprocessor_config.json", {"merge_size": 1}),
    "glm4v_moe": ("preprocessor_config.json", {"patch_size": 14}),
    "glm46v": ("preprocessor_config.json", {"temporal_patch_size": 1}),
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
    "aya_vision": {"size": {"height": 28, "width": 28}},
    "cohere2_vision": {"size": {"height": 28, "width": 28}},
}
OFF_BY_ONE |= families_two.OFF_BY_ONE
OTHER_SIZE |= families_two.OTHER_SIZE
OTHER_SIZE |= {"vipllava": OTHER_SIZE["llava"], "llava_next_video": OTHER_SIZE["llava_next"]}


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


@pytest.fixture
def copied(family_folder, tmp_path):
    """A copy of the tiny LLaVA's folder."""
    return shutil.copytree(family_folder("llava"), tmp_path / "copied")


@pytest.mark.parametrize("text", ["{", "", "[]", "null", '"llava"', "\x00\x01"])
def test_config_that_is_no_json_object_is_refused(copied, text):
    (copied / "config.json").write_text(text)
    with pytest.raises(
        OSError, match=r"asked for the model .*found .*config.json.*; check what is"
    ):
        load(str(copied))


def test_config_whose_language_model_is_no_object_is_refused(changed):
    folder = changed("llava", "config.json", {"text_config": "llama"})
    with pytest.raises(ValueError, match=r"found text_config 'llama' in its config.json; .*config"):
        load(folder)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"found that .* cannot be read \(.*no config.json\); check"):
        load(str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_at_the_first_run(copied, sample, value):
    path = copied / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "layers.1.mlp.up_proj" in name and "language" in name)
    weights[name][0, 0] = value
    save_file(weights, path, metadata={"format": "pt"})
    vlm = load(str(copied), device="cpu")
    inputs = vlm.prepare(sample)
    for run in (vlm.forward, vlm.answer):
        with pytest.raises(
            ValueError,
            match=r"found logits .*not finite numbers; check the picture and the weights",
        ):
            run(inputs)


def test_numbers_too_large_for_float16_are_refused(copied, sample):
    path = copied / "model.safetensors"
    weights = load_file(path)
    large = {k: v * 1e5 if "mlp.down_proj" in k else v for k, v in weights.items()}
    save_file(large, path, metadata={"format": "pt"})
    vlm = load(str(copied), device="cpu", dtype="float16")
    with pytest.raises(ValueError, match=r"found logits .*not finite.*try dtype=float32"):
        vlm.forward(vlm.prepare(sample))
    exact = load(str(copied), device="cpu", dtype="float32")
    assert exact.forward(exact.prepare(sample)).isfinite().all()


def test_shard_that_the_index_names_and_the_folder_lacks_is_refused(copied):
    names = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").rename(copied / "model-00001-of-00002.safetensors")
    shards = dict.fromkeys(names, "model-00001-of-00002.safetensors")
    shards[next(iter(names))] = "model-00002-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": shards}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        OSError, match=r"asked for .*model-00002-of-00002.safetensors.*; check what"
    ):
        load(str(copied))


@pytest.mark.parametrize("other", ["qwen2_vl", "instructblip"])
def test_processor_of_another_family_is_refused(family_folder, copied, sample, other):
    for path in copied.glob("*process*.json"):
        path.unlink()
    for path in family_folder(other).glob("*process*.json"):
        shutil.copy(path, copied)
    for path in family_folder(other).glob("*token*.json"):
        shutil.copy(path, copied)
    with pytest.raises(ValueError, match=r"asked .*found .*; .*"):
        load(str(copied), device="cpu").prepare(sample)


def test_tokenizer_without_the_image_token_is_refused(copied, sample):
    for path in copied.glob("*.json"):
        text = path.read_text()
        if "token" in path.name or "process" in path.name:
            path.write_text(text.replace("<image>", "<figure>"))
    with pytest.raises(ValueError, match=r"asked .*found .*; .*"):
        load(str(copied), device="cpu").prepare(sample)


@pytest.mark.parametrize(("wrong", "near"), [("mini-lava", "mini-llava"), ("qwen2vl", "qwen2vl")])
def test_misspelt_name_of_a_bundled_model_is_told_the_near_one(wrong, near):
    with pytest.raises(ValueError, match=rf"asked .*found .*did you mean '.*{near}'\?.*; use one"):
        load(wrong)


def test_name_like_no_bundled_model_is_told_no_near_one():
    with pytest.raises(ValueError, match=r"of that name; use one of"):
        load("xyz")


def test_hub_that_does_not_answer_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # a port of this machine that nothing listens on
    monkeypatch.setattr(loading, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/config.json")
    before = time.monotonic()
    with pytest.raises(
        OSError, match=r"'nobody/nothing'.*does not answer.*; check the name, the n"
    ):
        load("nobody/nothing")
    assert time.monotonic() - before < 10  # transformers asks for 23 seconds


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "", 3.5, "cpu:x"])
def test_device_that_is_not_there_is_refused(tiny_folder, device):
    with pytest.raises(ValueError, match=r"asked for the device .*found that it cannot.*; use \"c"):
        load(str(tiny_folder), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_where_there_is_none_is_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"asked for the device 'cuda', found .*; use \"cpu\"$"):
        load(str(tiny_folder), device="cuda")


@pytest.mark.parametrize("dtype", ["float17", "int8", torch.int64, "half", "complex64", 16])
def test_unknown_dtype_is_refused(tiny_folder, dtype):
    with pytest.raises(
        ValueError, match=r"asked for the dtype .*found none .*; use one of \['float32"
    ):
        load(str(tiny_folder), dtype=dtype)


def test_model_with_code_of_its_own_is_refused(changed):
    entry = {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}
    folder = changed("llava", "config.json", entry)
    with pytest.raises(
        ValueError, match=r"found that .* code of its own \(auto_map\).*; use the ch"
    ):
        load(folder)


def test_revision_of_a_local_folder_is_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"revision 'v2' .*found a local folder.*; leave revision"):
        load(str(tiny_folder), revision="v2")


def test_device_and_device_map_together_are_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"'cpu' and the device_map 'auto', found two.*; give dev"):
        load(str(tiny_folder), device="cpu", device_map="auto")


@pytest.mark.parametrize(
    ("device_map", "match"),
    [("even", "no such way to spread"), ({"": "cuda:99"}, "cannot be used"), (3, "no such way")],
)
def test_device_map_that_cannot_be_is_refused(tiny_folder, device_map, match):
    with pytest.raises(ValueError, match=rf"asked for .*found .*{match}.*; use"):
        load(str(tiny_folder), device_map=device_map)


def test_device_map_that_leaves_weights_out_is_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"asked .*found .*; .*device_map"):
        load(str(tiny_folder), device_map={"lm_head": "cpu", "model.vision_tower": "disk"})


def test_unknown_quantization_is_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"quantization '3bit', found no such one; use one of"):
        load(str(tiny_folder), quantization="3bit")


def test_quantization_without_its_package_is_refused(tiny_folder, monkeypatch):
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"'4bit', found no bitsandbytes.*; install it: pip"):
        load(str(tiny_folder), quantization="4bit")


def test_quantization_of_packed_weights_is_refused(changed):
    packed = {"quantization_config": {"quant_method": "awq"}}
    folder = changed("llava", "config.json", packed)
    with pytest.raises(ValueError, match=r"'8bit', found weights .*already \(awq\); leave"):
        load(folder, device="cpu", quantization="8bit")


def test_quantization_with_weights_on_the_disk_is_refused(tiny_folder):
    parts = {"model": "cpu", "lm_head": "disk"}
    with pytest.raises(
        ValueError, match=r"'4bit', found a device_map with \['cpu', 'disk'\]; bits"
    ):
        load(str(tiny_folder), device_map=parts, quantization="4bit")


@pytest.fixture
def as_somebody():
    """Reading with the rights of a user who owns nothing, even where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such rights")
@pytest.mark.parametrize("closed", ["", "config.json", "model.safetensors"])
def test_folder_that_may_not_be_read_is_refused(copied, closed, request):
    for folder in [copied, *copied.parents]:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    (copied / closed).chmod(0)
    request.getfixturevalue("as_somebody")
    with pytest.raises(
        OSError, match=r"asked .*found .*[Pp]ermission.*; check what is in the fold"
    ):
        load(str(copied))


def test_weights_that_memory_has_no_room_for_are_refused_before_they_are_read(
    tiny_folder, monkeypatch
):
    size = (tiny_folder / "model.safetensors").stat().st_size

    class Little:
        available = size - 1

    monkeypatch.setattr(memory.psutil, "virtual_memory", Little)
    monkeypatch.setattr(loading, "read", None)
    with pytest.raises(MemoryError, match=r"asked to load .* on the CPU, found .* GB of memory"):
        load(tiny_folder)
    Little.available = size
    with pytest.raises(MemoryError):
        load(tiny_folder, dtype="float64")  # twice as much


def test_a_model_of_this_project_says_that_it_knows_drawings(caplog, tiny_folder):
    with caplog.at_level("INFO", logger="irlib.models.loading"):
        load("mini-llava")
        load(tiny_folder)
    (line,) = caplog.messages
    assert line.startswith("mini-llava was trained by this project, on drawings")
