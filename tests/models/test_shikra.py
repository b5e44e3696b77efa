"""The converter, on a tiny random Shikra that is published as the real one is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    LlavaForConditionalGeneration,
)

from irlib import cli
from irlib.models.families import VICUNA
from irlib.models.loading import load
from irlib.models.shards import Weights
from irlib.models.shikra import convert

WORDS = "What is in the picture? Is there a red cat? Describe it. USER: ASSISTANT: yes no ."
PROCESSING = {  # as CLIP's folder on the hub has it, at 28 instead of 224 pixels
    "crop_size": 28, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 28,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip


def exact(model, seed):
    """Weights that are multiples of 1/256, so that sums and differences of them are exact."""
    weights = randomise(model, seed).state_dict()
    return {key: (value * 256).round() / 256 for key, value in weights.items()}


def llama(rows):
    """A tiny LLaMA with that vocabulary."""
    config = LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=512, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def rotary(values):
    """What checkpoints of 2023 held besides weights: a buffer a layer."""
    return {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": values.clone() for i in range(2)}


def write_base(folder):
    """LLaMA: tokenizer.json and weights in one file; the config does not tell `legacy`."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    tokenizer.train_from_iterator([VICUNA, WORDS] * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    LlamaTokenizer(vocab=model["vocab"], merges=merges).save_pretrained(folder)
    base = llama(len(model["vocab"]))
    base.config.save_pretrained(folder)
    weights = exact(base, 1)
    save_file(weights | rotary(torch.arange(4.0)), folder / "model.safetensors")
    return weights


def write_delta(folder, base, target):
    """Shikra minus LLaMA where LLaMA has a row, Shikra's own else; two shards with an index."""
    folder.mkdir()
    delta = {key: value.clone() for key, value in target.items()}
    for key, value in base.items():
        delta[key][: len(value)] -= value
    delta |= rotary(torch.zeros(4))
    keys = sorted(delta)
    places = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(keys)}
    for name in set(places.values()):
        save_file({key: delta[key] for key in keys if places[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    rows = len(base["lm_head.weight"])
    added = {"<im_patch>": rows, "<im_start>": rows + 1, "<im_end>": rows + 2}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "shikra", "mm_vision_select_layer": -2})
    )


def write_vision(folder):
    """CLIP whole, text tower and all, as the hub has it."""
    vision = {
        "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 28, "patch_size": 7,
    }  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 9}
    clip = CLIPModel(
        CLIPConfig(vision_config=vision, text_config=text | {"num_attention_heads": 2})
    )
    randomise(clip, 3).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(weights, folder / "model.safetensors")
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSING))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Base, delta and vision as folders, the target's weights, and the converted folder."""
    root = tmp_path_factory.mktemp("shikra")
    base = write_base(root / "base")
    target = exact(llama(len(base["lm_head.weight"]) + 3), 2)
    generator = torch.Generator().manual_seed(4)
    target["model.mm_projector.weight"] = torch.randn(32, 24, generator=generator)
    target["model.mm_projector.bias"] = torch.randn(32, generator=generator)
    write_delta(root / "delta", base, target)
    write_vision(root / "vision")
    convert(
        root / "base", root / "delta", vision=root / "vision", out=root / "out", shard_size=40_000
    )
    return root, target


@pytest.fixture(scope="module")
def converted(published):
    """What stock transformers make of the folder."""
    folder = published[0] / "out"
    model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True).eval()
    return model, AutoProcessor.from_pretrained(folder)


def written(folder):
    """Every tensor of a folder of shards."""
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def converting(published, tmp_path, spoil=None, **changed):
    """A call of `convert` on copies of the folders, spoilt before."""
    root, _ = published
    for name in ("base", "delta", "vision"):
        shutil.copytree(root / name, tmp_path / name)
    if spoil:
        spoil(tmp_path)
    folders = {name: tmp_path / name for name in ("base", "delta", "vision", "out")} | changed
    return lambda: convert(
        folders["base"], folders["delta"], vision=folders["vision"], out=folders["out"]
    )


def change(file: Path, edit):
    """Rewrite a file of tensors."""
    weights = load_file(file)
    edit(weights)
    save_file(weights, file)


@torch.no_grad()
def shikra_logits(root, target, ids, pixels):
    """Oracle: Shikra's forward. Features of layer -2 without CLS go behind <im_start>."""
    tower = CLIPVisionModel.from_pretrained(root / "vision").eval()
    features = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    weight, bias = (target[f"model.mm_projector.{name}"] for name in ("weight", "bias"))
    features = torch.nn.functional.linear(features, weight, bias)[0]
    model = llama(len(target["lm_head.weight"])).eval()
    model.load_state_dict({k: v for k, v in target.items() if "mm_projector" not in k})
    rows = len(target["lm_head.weight"]) - 3
    embedded = model.get_input_embeddings()(ids)
    start = ids[0].tolist().index(rows + 1)
    assert ids[0, start + 1 + len(features)] == rows + 2
    embedded[0, start + 1 : start + 1 + len(features)] = features
    return model(inputs_embeds=embedded).logits


def prompt(processor, picture):
    """The processor's inputs for one question, without a system message."""
    parts = [{"type": "image"}, {"type": "text", "text": "Is there a red cat?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )
    return processor(text=text, images=picture, return_tensors="pt")


def test_logits_of_the_folder_are_exactly_those_of_shikra(published, converted, picture):
    model, processor = converted
    assert isinstance(model, LlavaForConditionalGeneration)
    inputs = prompt(processor, picture)
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = shikra_logits(*published, inputs["input_ids"], inputs["pixel_values"])
    assert torch.equal(logits, expected)


def test_every_tensor_is_base_plus_delta(published):
    root, target = published
    found = written(root / "out")
    base, delta = written(root / "base"), written(root / "delta")
    for key, value in target.items():
        if "mm_projector" in key:
            name = key.replace("model.mm_projector", "multi_modal_projector.linear_1")
            assert torch.equal(found.pop(name), delta[key])
            continue
        grown = torch.zeros_like(value)
        grown[: len(base[key])] = base[key]
        tensor = found.pop(f"language_model.{key}")
        assert torch.equal(tensor, grown + delta[key])
        assert torch.equal(tensor, value)
    assert torch.equal(found.pop("multi_modal_projector.linear_2.weight"), torch.eye(32))
    assert torch.equal(found.pop("multi_modal_projector.linear_2.bias"), torch.zeros(32))
    vision = written(root / "vision")
    assert all(torch.equal(v, vision[k.removeprefix("vision_tower.")]) for k, v in found.items())


def test_half_precision_is_added_in_half_precision(published, tmp_path):
    def halve(root):
        for name in ("base", "delta"):
            for file in (root / name).glob("*.safetensors"):
                change(file, lambda w: w.update({k: v.half() for k, v in w.items()}))
        for name in ("base", "vision"):
            config = json.loads((root / name / "config.json").read_text()) | {"dtype": "float32"}
            (root / name / "config.json").write_text(json.dumps(config))

    converting(published, tmp_path, halve)()
    key = "model.layers.0.mlp.up_proj.weight"
    base, delta = (written(tmp_path / name)[key] for name in ("base", "delta"))
    found = written(tmp_path / "out")[f"language_model.{key}"]
    assert found.dtype == torch.float16
    assert torch.equal(found, base + delta)
    model = load(str(tmp_path / "out"), device="cpu").model
    assert {weight.dtype for weight in model.parameters()} == {torch.float16}


def test_shards_hold_no_more_than_their_limit_and_the_index_finds_every_tensor(published):
    folder = published[0] / "out"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = written(folder)
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in tensors.values())
    names = set(index["weight_map"].values())
    assert len(names) > 2
    for name in names:
        held = load_file(folder / name)
        assert sum(v.nbytes for v in held.values()) <= 40_000 or len(held) == 1
        assert all(index["weight_map"][key] == name for key in held)


def test_prompt_is_vicunas_with_the_patches_between_their_marks(published, converted, picture):
    processor = converted[1]
    ids = prompt(processor, picture)["input_ids"][0].tolist()
    plain = LlamaTokenizer.from_pretrained(published[0] / "base")
    rows = len(plain)
    before, after = (
        plain(text, add_special_tokens=False)["input_ids"]
        for text in (VICUNA + " USER:", "Is there a red cat? ASSISTANT:")
    )
    assert ids == [1, *before, rows + 1, *[rows] * 16, rows + 2, *after]
    assert plain.convert_ids_to_tokens(after[0]).startswith("▁")
    spaced = processor.tokenizer("USER: \n<im_start> <image>\n<im_end>\n  Is there")["input_ids"]
    assert spaced == processor.tokenizer("USER:<im_start><image><im_end>Is there")["input_ids"]
    assert processor.tokenizer.pad_token_id == converted[0].generation_config.pad_token_id == 0


def test_real_size_gives_256_patches(converted):
    processor = converted[1]
    real = type(processor)(
        type(processor.image_processor)(do_pad=True), processor.tokenizer, patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    inputs = real(images=noise_picture(300, 200, seed=0), text="<image>", return_tensors="pt")
    assert (inputs["input_ids"] == real.image_token_id).sum() == 256
    assert inputs["pixel_values"].shape[-2:] == (224, 224)


@pytest.mark.parametrize("size", [(60, 40), (41, 70), (50, 50)])
def test_picture_is_padded_to_a_square_in_clips_mean_colour(converted, size):
    picture = noise_picture(*size, seed=2)
    side = max(size)
    colour = tuple(int(255 * mean) for mean in PROCESSING["image_mean"])
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    clip = CLIPImageProcessorPil(**PROCESSING)
    expected = clip(square, return_tensors="pt")["pixel_values"]
    found = converted[1].image_processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(60, 40), (40, 70)])
def test_grid_reaches_beyond_the_shorter_side_as_the_padding_does(published, size):
    vlm = load(str(published[0] / "out"), device="cpu")
    grid = vlm.prepare(make_sample(noise_picture(*size, seed=2))).grid
    side = max(size)
    left, top = (side - size[0]) / 2, (side - size[1]) / 2
    edges = np.linspace(0, side, 5)
    expected = [
        [edges[c] - left, edges[r] - top, edges[c + 1] - left, edges[r + 1] - top]
        for r in range(4)
        for c in range(4)
    ]
    assert np.allclose(grid.boxes, expected)
    assert grid.size == size


def test_irlib_loads_the_folder_and_answers(published, sample, text_sample):
    vlm = load(str(published[0] / "out"), device="cpu")
    inputs = vlm.prepare(sample)
    assert int(inputs.spans.image.sum()) == 16
    assert inputs.batch["input_ids"][0, 0] == 1
    assert len(vlm.answer(inputs).ids[0]) > 0
    without = vlm.prepare(text_sample)
    assert int(without.spans.image.sum()) == 0
    assert int(without.spans.user.sum()) > 0


def without_safetensors(root):
    (root / "delta/model.safetensors.index.json").unlink()
    for i, file in enumerate((root / "delta").glob("*.safetensors")):
        file.rename(root / f"delta/pytorch_model-0000{i + 1}-of-00002.bin")


def without_shard(root):
    (root / "delta/model-00002-of-00002.safetensors").unlink()


def without_tokenizer(root):
    (root / "base/tokenizer.json").unlink()


def without_norm(root):
    change(root / "base/model.safetensors", lambda w: w.pop("model.norm.weight"))


def without_patches(root):
    change(
        root / "vision/model.safetensors",
        lambda w: w.pop("vision_model.embeddings.patch_embedding.weight"),
    )


def without_projector(root):
    for file in (root / "delta").glob("*.safetensors"):
        change(file, lambda w: w.pop("model.mm_projector.weight", None))


def with_padding_row(root):
    def grow(weights):
        for key in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[key] = torch.cat([weights[key], torch.zeros(1, 32)])

    change(root / "base/model.safetensors", grow)


def with_padding_token(root):
    tokenizer = LlamaTokenizer.from_pretrained(root / "base")
    tokenizer.add_tokens(["[PAD]"])
    tokenizer.save_pretrained(root / "base")


def with_other_ids(root):
    told = json.loads((root / "delta/added_tokens.json").read_text())
    (root / "delta/added_tokens.json").write_text(json.dumps(told | {"<im_patch>": 5}))


def with_fewer_rows(root):
    grew = ("model.embed_tokens.weight", "lm_head.weight")
    for file in (root / "delta").glob("*.safetensors"):
        change(
            file,
            lambda w: w.update({k: v[:-2].clone() for k, v in w.items() if k in grew}),
        )


def of_another_size(root):
    for file in (root / "delta").glob("*.safetensors"):
        change(
            file,
            lambda w: w.update({k: torch.zeros(40) for k in w if k.endswith("layernorm.weight")}),
        )


def with_a_stranger(root):
    change(
        root / "delta/model-00001-of-00002.safetensors",
        lambda w: w.update({"model.vision_tower.weight": torch.ones(1)}),
    )


def damaged(root):
    file = root / "delta/model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def occupied(root):
    (root / "out").mkdir()
    (root / "out/notes.txt").write_text("mine")


def quantised(root):
    for file in (root / "delta").glob("*.safetensors"):
        change(file, lambda w: w.update({k: v.to(torch.int8) for k, v in w.items()}))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (
            without_safetensors,
            FileNotFoundError,
            r"delta in .*found no .*\(2 .bin.*; .*safetensors/convert",
        ),
        (without_shard, FileNotFoundError, "found no model-00002-of-00002.safetensors"),
        (without_tokenizer, FileNotFoundError, "found no tokenizer.json"),
        (without_norm, ValueError, "model.norm.weight of the base, found 22 other tensors"),
        (without_patches, ValueError, "patch_embedding.weight of the vision tower, found"),
        (without_projector, ValueError, "model.mm_projector.weight of the delta, found"),
        (with_padding_row, ValueError, "to the vocabulary, found .* tokens"),
        (with_padding_token, ValueError, "to the vocabulary, found .* tokens"),
        (with_other_ids, ValueError, "to the vocabulary, found .*'<im_patch>': 5"),
        (with_fewer_rows, ValueError, r"weight of the delta as \[\d+, 32\], found \[\d+, 32\]"),
        (of_another_size, ValueError, r"layernorm.weight of the delta as \[32\], found \[40\]"),
        (with_a_stranger, ValueError, "no place in it .*model.vision_tower.weight"),
        (damaged, ValueError, "delta in .*found a damaged file"),
        (occupied, FileExistsError, "found it in use"),
        (quantised, ValueError, "of the delta, found it as I8"),
    ],
)
def test_what_does_not_belong_together_is_told_before_anything_is_written(
    published, tmp_path, spoil, kind, words
):
    run = converting(published, tmp_path, spoil)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=f"(?s)asked .*{words}"):
        run()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_delta_of_weights_alone_converts_to_the_same(published, tmp_path):
    def undress(root):
        (root / "delta/added_tokens.json").unlink()
        (root / "delta/config.json").unlink()

    converting(published, tmp_path, undress)()
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_text() == (published[0] / "out" / name).read_text()


def test_an_empty_output_folder_is_filled(published, tmp_path):
    converting(published, tmp_path, lambda root: (root / "out").mkdir())()
    assert (tmp_path / "out/config.json").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_stops_leaves_no_folder(published, tmp_path, monkeypatch, error):
    run = converting(published, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    read, seen = Weights.read, []

    def stop(weights, key):
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == 30:
            raise error
        return read(weights, key)

    monkeypatch.setattr(Weights, "read", stop)
    with pytest.raises(error):
        run()
    assert all("out" not in names for names in seen)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_one_shard_is_held_at_a_time(published, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        "irlib.models.shards.save_file",
        lambda tensors, *a, **k: held.append(sum(v.nbytes for v in tensors.values())),
    )
    root, _ = published
    convert(root / "base", root / "delta", vision=root / "vision", out=tmp_path / "out",
            shard_size=40_000)  # fmt: skip
    assert max(held) <= 40_000


def test_the_command_converts_and_tells_errors_in_a_sentence(published, tmp_path, capsys):
    root, _ = published
    arguments = ["shikra", *(f"--{n}={root / n}" for n in ("base", "delta", "vision"))]
    assert cli.main([*arguments, f"--out={tmp_path / 'out'}"]) == 0
    assert "irlib.load(" in capsys.readouterr().out
    assert written(tmp_path / "out").keys() == written(root / "out").keys()
    assert cli.main([*arguments, f"--out={tmp_path / 'out'}"]) == 1
    assert "found it in use" in capsys.readouterr().err
