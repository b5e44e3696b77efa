"""Shikra's published weights as a folder that transformers' own LLaVA classes load: `convert`.

Shikra is LLaMA-7B, CLIP ViT-L/14 (224 px, 256 patches) and one linear layer between them, published
as the difference to LLaMA. Three folders are read, all of safetensors, none is downloaded here:

    hf download huggyllama/llama-7b --exclude "*.bin" --local-dir llama-7b
    hf download openai/clip-vit-large-patch14 --exclude "*.bin" --local-dir clip
    hf download shikras/shikra-7b-delta-v1 --revision refs/pr/N --local-dir delta
    irlib shikra --base llama-7b --delta delta --vision clip --out shikra-7b

The delta was published as pickles (.bin), which are not read; N is the pull request with which
https://huggingface.co/spaces/safetensors/convert offers the same tensors as safetensors.
This has only been run on tiny random weights of the published layout, never on the real ones:
compare a few answers with those of Shikra's own code before you trust its figures.

What Shikra does is read from mllm/models/{shikra/apply_delta,shikra/shikra,builder/build_shikra}.py
and mllm/dataset/{single_image_interactive,utils/transform}.py of github.com/shikras/shikra:
- Every tensor is base + delta in the delta's float16. Three rows are new and whole in the delta, as
  its projector is: <im_patch>, <im_start>, <im_end>, 32000 to 32002. <im_patch> is <image> here.
- Vicuna v1.1's prompt, with <im_start>, the patches and <im_end> before the question. White space
  beside these tokens is dropped and a word begins after them, as in the tokenizer of its time.
- A picture is padded to a square and resized. One difference: Shikra pads with white, transformers'
  processor with CLIP's mean colour. A picture that already is a square is read as Shikra reads it.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AddedToken,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from irlib.models.families import VICUNA
from irlib.models.shards import Planned, Weights, write_shards

ADDED = {"<im_patch>": "<image>", "<im_start>": "<im_start>", "<im_end>": "<im_end>"}
EMBEDDING = "model.embed_tokens.weight"
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '" + VICUNA.replace("'", "\\'") + " ' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}"
    "{{ '<im_start><image><im_end> ' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ '</s>' if message['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def convert(
    base: Path, delta: Path, *, vision: Path, out: Path, shard_size: int = 2 * 1024**3
) -> Path:
    """The folder `out`, written from LLaMA's, the delta's and CLIP's: `irlib.load(out)` reads it.

    Shards hold at most `shard_size` bytes, one at a time in memory. `out` appears whole or not at
    all; a killed run leaves `.<out>.*.part`. Raises `FileNotFoundError` for a folder without its
    safetensors or tokenizer.json, `FileExistsError` where `out` is not empty, and `ValueError` for
    folders that do not belong together, all before anything is written.
    """
    base, delta, vision, out = map(Path, (base, delta, vision, out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"asked to write Shikra to {out}, found it in use; move it or choose another folder"
        )
    weights = Weights(base, "base"), Weights(delta, "delta"), Weights(vision, "vision tower")
    rows = weights[0].shape(EMBEDDING)[0]
    config = _config(base, delta, vision, rows)
    processor = _processor(base, delta, vision, config, rows)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, key, getattr(processor.tokenizer, key))
    plan = _plan(*weights, config, rows)
    for part in (config, config.text_config, config.vision_config):
        part.dtype = weights[1].dtype(EMBEDDING)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.", suffix=".part", dir=out.parent, ignore_cleanup_errors=True
    ) as part:
        folder = Path(part) / out.name
        config.save_pretrained(folder)
        processor.save_pretrained(folder)
        GenerationConfig.from_model_config(config.text_config).save_pretrained(folder)
        write_shards(folder, plan, limit=shard_size)
        folder.rename(out)
    return out


def _config(base, delta, vision, rows):
    """LLaVA's config around LLaMA's and CLIP's; the activation `linear` is none at all."""
    text = LlamaConfig.from_pretrained(base, trust_remote_code=False)
    tower = CLIPVisionConfig.from_pretrained(vision, trust_remote_code=False)
    text.vocab_size = rows + len(ADDED)
    return LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=rows,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        projector_hidden_act="linear",
        vision_feature_layer=_told(delta / "config.json").get("mm_vision_select_layer", -2),
        architectures=["LlavaForConditionalGeneration"],
    )


def _processor(base, delta, vision, config, rows):
    """LLaMA's tokenizer with the three tokens, and CLIP's preprocessing behind a square."""
    if not (base / "tokenizer.json").is_file():
        raise FileNotFoundError(
            f"asked for the tokenizer of {base}, found no tokenizer.json; take a base folder that "
            "has one, such as huggyllama/llama-7b"
        )
    llama = LlamaTokenizer.from_pretrained(  # legacy: a word begins after special tokens
        base, legacy=True, trust_remote_code=False
    )
    told = _told(delta / "added_tokens.json")
    found = {name: told.get(name, len(llama) + i) for i, name in enumerate(ADDED)}
    wanted = {name: rows + i for i, name in enumerate(ADDED)}
    if found != wanted or len(llama) != rows:
        raise ValueError(
            f"asked to add {wanted} to the vocabulary, found {len(llama)} tokens in {base} for "
            f"{rows} rows of weights and the ids {found}; take plain LLaMA and its own delta"
        )
    tight = {"lstrip": True, "rstrip": True, "normalized": False}
    added = [AddedToken(name, special=True, **tight) for name in ADDED.values()]
    llama.add_tokens(added, special_tokens=True)
    backend, bos = llama.backend_tokenizer, (llama.bos_token, llama.bos_token_id)
    backend.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    tokenizer = PreTrainedTokenizerFast(  # LlamaTokenizer forgets `legacy` when it is saved
        tokenizer_object=backend,
        bos_token=llama.bos_token,
        eos_token=llama.eos_token,
        unk_token=llama.unk_token,
        pad_token=llama.unk_token,
        padding_side="left",
        model_max_length=config.text_config.max_position_embeddings,
        extra_special_tokens={"image_token": added[0]},
    )
    return LlavaProcessor(
        LlavaImageProcessorPil.from_pretrained(vision, do_pad=True, trust_remote_code=False),
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def _told(path):
    """What a json file of the delta's folder tells, nothing where it was not downloaded."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _plan(base, delta, vision, config, rows):
    """Every tensor of the model, by its published LLaVA name, checked against LLaVA's classes."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    plan, used = {}, set()
    for key, meta in model.state_dict().items():
        part, name = key.removeprefix("model.").split(".", 1)
        shape = list(meta.shape)
        if part == "vision_tower":
            plan[f"vision_tower.vision_model.{name}"] = vision.plan(f"vision_model.{name}", shape)
        elif name.startswith("linear_2"):  # LLaVA's second layer does nothing here
            dtype = delta.dtype(EMBEDDING)
            make = partial(torch.eye if len(shape) == 2 else torch.zeros, shape[0], dtype=dtype)
            plan[f"{part}.{name}"] = Planned(shape, dtype, make)
        elif part == "multi_modal_projector":
            source = name.replace("linear_1", "model.mm_projector")
            plan[f"{part}.{name}"] = delta.plan(source, shape)
            used.add(source)
        else:
            source = key.replace("model.language_model.", "model.")
            grew = len(ADDED) if source in (EMBEDDING, "lm_head.weight") else 0
            base.plan(source, [shape[0] - grew, *shape[1:]])
            dtype = delta.plan(source, shape).dtype
            make = partial(_sum, base, delta, source)
            plan[f"language_model.{source}"] = Planned(shape, dtype, make)
            used.add(source)
    if rest := sorted(k for k in delta.files if k not in used and not k.endswith(".inv_freq")):
        raise ValueError(
            f"asked for Shikra's delta, found tensors in {delta.folder} that have no place in it "
            f"({rest[:3]}, {len(rest)} in all); take the delta of Shikra-7B"
        )
    return plan


def _sum(base, delta, key):
    """Base + delta, in the delta's dtype; rows that the base lacks are the delta's alone."""
    total, part = delta.read(key).clone(), base.read(key)
    total[: len(part)] += part.to(total.dtype)
    return total
