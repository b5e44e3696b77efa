"""An adapter in a folder is applied and named, or refused in a sentence; never left out."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from conftest import make_sample, noise_picture
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from irlib.attention import attention_flow
from irlib.cam.cam import llava_cam
from irlib.interventions.truncation import truncate
from irlib.models import adapters
from irlib.models.loading import load
from irlib.store import provenance

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra: irlib[peft]")
CONFIG = {"base_model_name_or_path": None, "peft_type": "LORA", "r": 4}


@pytest.fixture
def sample():
    return make_sample(noise_picture(60, 40, seed=0))


def bare(folder, **more):
    """An adapter_config.json, which is all that tells of an adapter."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | more))
    return folder


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A LoRA of the tiny LLaVA in a folder of its own, and peft's own model of it."""
    peft = pytest.importorskip("peft")
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    wanted = r".*language_model.*(q_proj|v_proj|up_proj)"
    model = peft.get_peft_model(plain, peft.LoraConfig(r=4, target_modules=wanted))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("adapters") / "tuned"
    model.save_pretrained(folder)
    return folder, model.eval()


def beside(trained, tiny_folder, target):
    """Whole weights and an adapter in one folder."""
    shutil.copytree(tiny_folder, target)
    for path in trained[0].glob("adapter_*"):
        shutil.copy(path, target)
    return target


@needs_peft
@pytest.mark.parametrize("apart", [True, False], ids=["of its own", "beside whole weights"])
def test_adapter_answers_as_pefts_own_model_does(
    trained, tiny_folder, tiny_llava, tmp_path, sample, apart
):
    folder = trained[0] if apart else beside(trained, tiny_folder, tmp_path / "both")
    vlm = load(folder, device="cpu")
    inputs = vlm.prepare(sample)
    with torch.no_grad():
        expected = trained[1](**inputs.batch, use_cache=False).logits
        assert torch.equal(vlm.forward(inputs), expected)
        assert (tiny_llava.forward(inputs) - expected).abs().max() > 0.1


@needs_peft
def test_adapter_is_named_in_the_record_and_in_provenance(
    trained, tiny_folder, tiny_llava, tmp_path
):
    own, both = load(trained[0]), load(beside(trained, tiny_folder, tmp_path / "both"))
    assert own.base == str(tiny_folder)
    assert f"adapter on {tiny_folder}" in repr(own)
    assert "adapter" not in repr(tiny_llava)
    told = [provenance.model(vlm) for vlm in (own, both, tiny_llava)]
    assert len(set(told)) == 3
    assert told[0].startswith("adapter ")
    assert told[0].endswith(f"on {told[2]}")
    assert told[1].startswith("adapter and base ")


@needs_peft
def test_another_base_is_another_model(trained, tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file(
        {key: value + 0.01 for key, value in weights.items()}, other / "model.safetensors",
        metadata={"format": "pt"},
    )  # fmt: skip
    again = shutil.copytree(trained[0], tmp_path / "again")
    config = json.loads((again / "adapter_config.json").read_text())
    first = provenance.model(load(again))
    (again / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(other)})
    )
    assert provenance.model(load(again)) != first


@needs_peft
def test_instruments_work_with_an_adapter(trained, sample):
    vlm = load(trained[0], device="cpu")
    inputs = vlm.prepare(sample)
    answer = vlm.answer(inputs)
    flow = attention_flow(vlm, inputs, answer)
    assert flow.groupby("layer").share.sum().sub(1).abs().max() < 1e-5
    assert llava_cam(vlm, inputs, answer).heat.max() > 0
    with truncate(vlm, inputs, layer=0):
        assert not torch.equal(vlm.forward(inputs), trained[1](**inputs.batch).logits)


@needs_peft
def test_processor_saved_with_an_adapter_is_the_one_that_reads(
    trained, tiny_folder, tmp_path, sample
):
    folder = shutil.copytree(trained[0], tmp_path / "own")
    for path in [*tiny_folder.glob("*token*"), *tiny_folder.glob("*process*")]:
        shutil.copy(path, folder)
    (folder / "chat_template.jinja").write_text(
        "{{ 'Mine: <image>' + messages[-1]['content'][-1]['text'] }}"
    )
    vlm = load(folder, device="cpu")
    said = vlm.processor.tokenizer.decode(vlm.prepare(sample).text["input_ids"][0])
    assert said.startswith("<s>Mine: <image>")


@needs_peft
def test_part_of_a_processor_beside_an_adapter_is_refused(trained, tiny_folder, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "own")
    shutil.copy(tiny_folder / "tokenizer.json", folder)
    assert load(folder, device="cpu").base == str(tiny_folder)  # it is the base's own
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(
        ValueError, match=r"found a chat_template.jinja .* not that of .*; save the"
    ):
        load(folder, device="cpu")


@needs_peft
@pytest.mark.parametrize("change", ["less", "more", "other"])
def test_adapter_that_does_not_fit_its_base_is_refused(trained, tmp_path, change):
    folder = shutil.copytree(trained[0], tmp_path / "own")
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    if change == "more":
        weights[name.replace("layers.0", "layers.9")] = weights[name].clone()
    elif change == "less":
        del weights[name]
    else:
        weights[name] = weights[name][:, :-1].contiguous()
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"found an adapter .*; take the base that it was made for"
    ):
        load(folder, device="cpu")


@needs_peft
def test_base_of_an_adapter_must_have_all_its_weights(trained, tiny_folder, tmp_path):
    folder = beside(trained, tiny_folder, tmp_path / "both")
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "layers.1.mlp" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"found no weights for \d+ tensors"):
        load(folder, device="cpu")


@needs_peft
def test_pickled_adapter_is_refused(tiny_folder, tmp_path):
    folder = bare(shutil.copytree(tiny_folder, tmp_path / "both"))
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter in it without its adapter_model.safetensors"):
        load(folder)


@needs_peft
@pytest.mark.parametrize("base", [None, "", 3])
def test_adapter_without_a_base_is_refused(tmp_path, base):
    folder = bare(tmp_path / "own", base_model_name_or_path=base)
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"adapter in it for the base .*; write the folder or hub"):
        load(folder)


@needs_peft
def test_base_of_an_adapter_that_is_not_there_is_named(tmp_path):
    folder = bare(tmp_path / "own", base_model_name_or_path=str(tmp_path / "nowhere"))
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"found the base .*nowhere.*no folder.*; "):
        load(folder)


@needs_peft
def test_base_of_an_adapter_with_an_adapter_is_refused(trained, tiny_folder, tmp_path):
    base = beside(trained, tiny_folder, tmp_path / "both")
    folder = shutil.copytree(trained[0], tmp_path / "own")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(base)})
    )
    with pytest.raises(ValueError, match=r"which has an adapter itself; merge that one"):
        load(folder)


@needs_peft
def test_code_of_a_bases_own_is_refused(trained, tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    path = base / "tokenizer_config.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    folder = shutil.copytree(trained[0], tmp_path / "own")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(base)})
    )
    with pytest.raises(ValueError, match=r"tokenizer_config.json names code of its own"):
        load(folder)


@pytest.mark.parametrize("whole", [True, False], ids=["beside whole weights", "alone"])
def test_adapter_without_peft_is_refused(tiny_folder, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    folder = tmp_path / "own"
    if whole:
        shutil.copytree(tiny_folder, folder)
    bare(folder)
    with pytest.raises(ImportError, match=r"found an adapter in it .* no peft.*; install it: pip"):
        load(folder)
