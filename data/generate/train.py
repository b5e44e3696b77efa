"""Train mini-llava on a CPU: `python -m data.generate.train`; it goes on where it was stopped.

1. Pictures are drawn (pool.py).
2. The vision tower learns what stands in each patch (object, character, arrow), where the patch
   is, and, in food chains, who eats the creature and whom it eats. This stands in for CLIP's
   pretraining; afterwards the tower is frozen, as in LLaVA.
3. The projector and the decoder learn from packed questions (pack.py), first captions, presence
   and open food chains, then everything.

One process a core, gradients averaged; every step's data comes from (seed, stage, step, rank), so
a resumed run sees what an undisturbed one would have seen.
"""

import argparse
import json
import math
import os
import platform
import time
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from irlib import load

from . import card, pack
from .mini import TOKENS, model, tokenizer
from .muon import Muon
from .pool import CHARACTERS, CLASSES, GRID, Pool, render

WORK = Path(__file__).parent / "training"
NAMES = len(CLASSES) - len(CHARACTERS) - 2  # nothing and the sprites


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights, on one machine."""

    seed: int = 0
    pictures: int = 64_000
    tower_steps: int = 1000
    tower_batch: int = 48  # a rank
    steps: int = 2000
    start: float = 0.35  # share of the steps in the first stage
    batch: int = 16  # rows a rank
    texts: tuple[int, int] = (4, 2)  # rows without a picture, early and late
    tower_muon: float = 0.02
    muon: float = 0.01
    adam: float = 2e-3
    align: float = 0.3  # weight of the projector's alignment with the words' embeddings
    hint: float = 0.2  # weight of each hint at single words (pack.HINTS)


def features(net, pixels: Tensor) -> Tensor:
    """Return what LLaVA takes from the tower, `[picture, token, channel]`.

    The second last layer without CLS; the last layer, which nobody reads, is not run.
    """
    tower = getattr(net.model.vision_tower, "vision_model", net.model.vision_tower)
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    return hidden[:, 1:]


def normalised(pixels: np.ndarray) -> Tensor:
    """Return the processor's `pixel_values` of pool pixels."""
    return (torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255 - 0.75) / 0.25


class SharedPrefix:
    """A cache that lends the keys and values of one common prefix to every row of a batch."""

    def __init__(self):
        self.kept, self.recording = {}, True

    def update(self, keys, values, layer, *args, **kwargs):
        if self.recording:
            self.kept[layer] = keys, values
            return keys, values
        first = (t.expand(keys.shape[0], -1, -1, -1) for t in self.kept[layer])
        return tuple(torch.cat([a, b], 2) for a, b in zip(first, (keys, values), strict=True))


def decode(net, embedded: Tensor, position: Tensor, segment: Tensor, bare: Tensor) -> Tensor:
    """Return the decoder's last states, `[row, position, channel]`, of packed rows.

    `segment` is 0 where a position is common to the row (the picture) or padding; `bare` rows have
    no picture, and do not see the space that stands before one.
    """
    lm, prefix = net.model.language_model, torch.tensor([pack.PREFIX])
    common, n = lm.embed_tokens(prefix), prefix.shape[1]
    rows, length = segment.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segment[:, :, None] == segment[:, None, :]
    seen = causal & (same | ((segment == 0) & (position > 0))[:, None, :])
    seen |= torch.eye(length, dtype=torch.bool)
    before = torch.ones(rows, length, n, dtype=torch.bool)
    before[bare, :, -1] = False
    mask = torch.zeros(rows, 1, length, n + length)
    mask.masked_fill_(~torch.cat([before, seen], 2)[:, None], -1e9)
    first = torch.full((n, n), -1e9).triu(1)[None, None]
    cache, where = SharedPrefix(), torch.arange(n)[None]
    turn_a, turn_b = lm.rotary_emb(common, where), lm.rotary_emb(embedded, position)
    for layer in lm.layers:
        cache.recording = True
        common = layer(
            common, attention_mask=first, position_embeddings=turn_a, past_key_values=cache
        )
        cache.recording = False
        embedded = layer(
            embedded, attention_mask=mask, position_embeddings=turn_b, past_key_values=cache
        )
    return lm.norm(embedded)


def rows(net, image: Tensor, pictures: dict, texts: dict | None):
    """Return states, targets, kinds and hints of a batch of pictures with the projected `image`."""
    embed, start = net.model.language_model.embed_tokens, len(pack.PREFIX)
    p = {k: torch.from_numpy(v) for k, v in pictures.items()}
    n = len(image)

    def led(x, value):
        return torch.cat([torch.full((n, TOKENS, *x.shape[2:]), value), x], 1)

    hidden = torch.cat([image, embed(p["tokens"])], 1)
    where = torch.arange(start, start + TOKENS).expand(n, -1)
    position = torch.cat([where, p["position"]], 1)
    segment, target = led(p["segment"], 0), led(p["target"], pack.IGNORE)
    kind, hints = led(p["kind"], 0), led(p["hints"], pack.IGNORE)
    bare = torch.zeros(n, dtype=torch.bool)
    if texts is not None:
        t = {k: torch.from_numpy(v) for k, v in texts.items()}
        hidden = torch.cat([hidden, embed(t["tokens"])])
        position = torch.cat([position, t["position"]])
        segment, target = torch.cat([segment, t["segment"]]), torch.cat([target, t["target"]])
        kind, hints = torch.cat([kind, t["kind"]]), torch.cat([hints, t["hints"]])
        bare = torch.cat([bare, torch.ones(len(t["tokens"]), dtype=torch.bool)])
    return decode(net, hidden, position, segment, bare), target, kind, hints


class TowerHeads(nn.Module):
    """Reads class, eater, eaten, row and column off every patch."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.sizes = (len(CLASSES), NAMES, NAMES, GRID, GRID)
        self.read = nn.Linear(width, sum(self.sizes))
        weight = torch.ones(len(CLASSES))
        weight[0], weight[NAMES : NAMES + len(CHARACTERS)] = 0.15, 2.0
        self.register_buffer("weight", weight)

    def forward(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the accuracies; `labels` is `[picture, patch, 3]`."""
        name, eater, eaten, row, column = self.read(hidden).flatten(0, 1).split(self.sizes, -1)
        patch = torch.arange(GRID * GRID).repeat(len(hidden))
        labels = labels.flatten(0, 1).long()
        loss = F.cross_entropy(name, labels[:, 0], weight=self.weight)
        loss = loss + 0.1 * F.cross_entropy(row, patch // GRID)
        loss = loss + 0.1 * F.cross_entropy(column, patch % GRID)
        for guess, right in ((eater, labels[:, 1]), (eaten, labels[:, 2])):
            loss = loss + 0.5 * F.cross_entropy(guess, right, ignore_index=-1)
        truth = labels[:, 0]
        character = (truth >= NAMES) & (truth < len(CLASSES) - 2)
        shown = {
            "object": (truth > 0) & (truth < NAMES),
            "character": character,
            "arrow": truth >= len(CLASSES) - 2,
        }
        hit = name.argmax(-1) == truth
        accuracy = {k: hit[m].float().mean().item() for k, m in shown.items()}
        m = labels[:, 1] > 0
        accuracy["eater"] = (eater.argmax(-1) == labels[:, 1])[m].float().mean().item()
        return loss, accuracy


def optimisers(modules: list[nn.Module], tables: set[int], *, muon: float, adam: float) -> list:
    """Return Muon for the matrices and AdamW for the rest; `tables` are ids of embeddings."""
    matrices, rest = [], []
    for p in (p for m in modules for p in m.parameters()):
        (matrices if p.ndim == 2 and id(p) not in tables else rest).append(p)
    return [
        Muon(matrices, lr=muon, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=adam, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate(step: int, steps: int, warm: int = 80, floor: float = 0.02) -> float:
    """Return the learning rate's factor: a warm-up, then one cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warm) * (floor + (1 - floor) * cosine)


def _state(modules: dict[str, nn.Module], optims: list) -> dict[str, Tensor]:
    state = {f"{k}.{n}": v for k, m in modules.items() for n, v in m.state_dict().items()}
    for i, optim in enumerate(optims):
        for j, kept in optim.state_dict()["state"].items():
            state |= {f"optim.{i}.{j}.{n}": torch.as_tensor(v) for n, v in kept.items()}
    return {k: v.detach().clone().contiguous() for k, v in state.items()}


def _restore(path: Path, modules: dict[str, nn.Module], optims: list) -> None:
    state = load_file(path)
    for k, m in modules.items():
        m.load_state_dict({n: state[f"{k}.{n}"] for n in m.state_dict()})
    for i, optim in enumerate(optims):
        now = optim.state_dict()
        kept: dict[int, dict] = {}
        for name, v in state.items():
            if name.startswith(f"optim.{i}."):
                _, _, j, n = name.split(".", 3)
                kept.setdefault(int(j), {})[n] = v
        optim.load_state_dict({"state": kept, "param_groups": now["param_groups"]})


def fit(name, modules: dict[str, nn.Module], optims, steps: int, loss_of, work: Path) -> None:
    """Run `steps` steps of `loss_of(step) -> loss, log`, resuming from and writing checkpoints."""
    rank, world = dist.get_rank(), dist.get_world_size()
    path, note = work / f"{name}.safetensors", work / f"{name}.json"
    first, spent = 0, 0.0
    if path.exists():
        told = json.loads(note.read_text())
        first, spent = told["step"], told["seconds"]
        _restore(path, modules, optims)
    base = [[g["lr"] for g in o.param_groups] for o in optims]
    params = [p for o in optims for g in o.param_groups for p in g["params"]]
    sums: dict[str, list[float]] = {}
    began = saved = time.time()
    for step in range(first, steps):
        for optim, rates in zip(optims, base, strict=True):
            for group, lr in zip(optim.param_groups, rates, strict=True):
                group["lr"] = lr * rate(step, steps)
        loss, log = loss_of(step)
        loss.backward()
        flat = torch.cat(
            [p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel()) for p in params]
        )
        dist.all_reduce(flat)
        flat /= world
        flat *= min(1.0, 1.0 / (flat.norm().item() + 1e-6))
        for p, g in zip(params, flat.split([p.numel() for p in params]), strict=True):
            p.grad = g.view_as(p)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        for k, v in (log | {"loss": loss.item()}).items():
            if v == v:
                sums.setdefault(k, []).append(v)
        if rank == 0 and ((step + 1) % 50 == 0 or step + 1 == steps):
            means = "  ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in sums.items())
            speed = (step + 1 - first) / (time.time() - began)
            print(f"{name} {step + 1}/{steps}  {speed:.2f} steps/s  {means}", flush=True)
            sums = {}
        last = step + 1 == steps
        if rank == 0 and (time.time() - saved > 120 or last):
            part = work / f"{name}.part"
            save_file(_state(modules, optims), part)
            part.replace(path)
            saved = time.time()
            note.write_text(json.dumps({"step": step + 1, "seconds": spent + saved - began}))
    dist.barrier()


def train_tower(net, pool: Pool, recipe: Recipe, work: Path) -> None:
    """Teach the tower what stands in every patch."""
    torch.manual_seed(recipe.seed + 1)
    heads, tower = TowerHeads(), net.model.vision_tower
    tables = {id(p) for m in tower.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    tables |= {id(p) for p in heads.parameters()}

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/tower/{step}/{dist.get_rank()}")
        at = np.array(sorted(rng.sample(range(len(pool)), recipe.tower_batch)))
        labels = torch.from_numpy(pool.labels[at]).flatten(1, 2)
        return heads(features(net, normalised(pool.pixels[at])), labels)

    modules = {"tower": tower, "heads": heads}
    optims = optimisers([tower, heads], tables, muon=recipe.tower_muon, adam=recipe.adam)
    fit("tower", modules, optims, recipe.tower_steps, loss_of, work)


def keep_features(net, pool: Pool, work: Path) -> np.ndarray:
    """Return the frozen tower's features of the whole pool, `[picture, token, channel]` float16."""
    path, rank, world = work / "features.npy", dist.get_rank(), dist.get_world_size()
    shape = (len(pool), TOKENS, 128)
    if not path.exists():
        part = work / "features.part"
        if rank == 0:
            np.lib.format.open_memmap(part, "w+", np.float16, shape).flush()
        dist.barrier()
        out = np.lib.format.open_memmap(part, "r+")
        with torch.no_grad():
            for start in range(rank * 100, len(pool), 100 * world):
                at = slice(start, start + 100)
                out[at] = features(net, normalised(pool.pixels[at])).half().numpy()
        out.flush()
        dist.barrier()
        if rank == 0:
            part.rename(path)
        dist.barrier()
    return np.load(path, mmap_mode="r")


def train_decoder(net, pool: Pool, kept: np.ndarray, recipe: Recipe, work: Path) -> None:
    """Teach the projector and the decoder from packed questions."""
    lm, projector = net.model.language_model, net.model.multi_modal_projector
    scale = nn.ParameterList([nn.Parameter(torch.tensor(8.0))])
    torch.manual_seed(recipe.seed + 2)
    reader = nn.Linear(lm.config.hidden_size, sum(pack.HINTS.values()))
    tables = {id(lm.embed_tokens.weight), id(net.lm_head.weight), id(reader.weight)}
    tok = tokenizer()
    names = CLASSES[1:NAMES] + CHARACTERS
    ids = torch.tensor(
        [tok.convert_tokens_to_ids(("▁" if i < NAMES - 1 else "") + n) for i, n in enumerate(names)]
    )

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/decoder/{step}/{dist.get_rank()}")
        stage = "start" if step < recipe.start * recipe.steps else "all"
        texts = recipe.texts[step > recipe.steps * 0.55]
        at = sorted(rng.sample(range(len(pool)), recipe.batch - texts))
        pictures, bare = pack.batch(rng, [pool.scene(i) for i in at], texts, stage)
        image = projector(torch.from_numpy(kept[at].astype(np.float32)))
        hidden, target, kind, hints = rows(net, image, pictures, bare)
        m = target != pack.IGNORE
        logits = net.lm_head(hidden[m])
        loss = F.cross_entropy(logits, target[m])
        label = torch.from_numpy(pool.labels[at][..., 0].astype(np.int64)).flatten(1)
        known = (label > 0) & (label <= len(names))
        words = F.normalize(lm.embed_tokens.weight[ids], dim=-1)
        near = scale[0] * F.normalize(image[known], dim=-1) @ words.T
        loss = loss + recipe.align * F.cross_entropy(near, label[known] - 1)
        told = (hints != pack.IGNORE).any(-1)
        guesses = reader(hidden[told]).split(tuple(pack.HINTS.values()), -1)
        for guess, hint in zip(guesses, hints[told].unbind(-1), strict=True):
            if (hint != pack.IGNORE).any():
                loss = loss + recipe.hint * F.cross_entropy(guess, hint)
        right, of = logits.argmax(-1) == target[m], kind[m]
        log = {k: right[of == i].float().mean().item() for i, k in enumerate(pack.KINDS)}
        for name, guess, hint in zip(pack.HINTS, guesses, hints[told].unbind(-1), strict=True):
            m = hint != pack.IGNORE
            log[name] = (guess.argmax(-1) == hint)[m].float().mean().item()
        return loss, log

    modules = {"projector": projector, "decoder": lm, "head": net.lm_head, "scale": scale}
    modules["reader"] = reader
    optims = optimisers([*modules.values()], tables, muon=recipe.muon, adam=recipe.adam)
    fit("decoder", modules, optims, recipe.steps, loss_of, work)


def _worker(rank: int, world: int, recipe: Recipe, work: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(f"{work}/rendezvous", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    work = Path(work)
    pool, net = Pool(work / "pool"), model(recipe.seed)
    train_tower(net, pool, recipe, work)
    net.model.vision_tower.requires_grad_(False)
    train_decoder(net, pool, keep_features(net, pool, work), recipe, work)
    dist.destroy_process_group()


def train(recipe: Recipe, work: Path = WORK, *, ranks: int = 2):
    """Draw, train and return the model, resuming whatever `work` holds."""
    render(work / "pool", recipe.pictures, seed=recipe.seed, workers=ranks)
    (work / "rendezvous").unlink(missing_ok=True)
    torch.multiprocessing.spawn(_worker, (ranks, recipe, str(work)), nprocs=ranks)
    net = model(recipe.seed)
    tower, decoder = load_file(work / "tower.safetensors"), load_file(work / "decoder.safetensors")
    parts = {
        "tower": (net.model.vision_tower, tower),
        "projector": (net.model.multi_modal_projector, decoder),
        "decoder": (net.model.language_model, decoder),
        "head": (net.lm_head, decoder),
    }
    for name, (module, state) in parts.items():
        module.load_state_dict({k: state[f"{name}.{k}"] for k in module.state_dict()})
    return net


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="checkpoints and pictures")
    parser.add_argument("--out", type=Path, default=card.MINIS / "mini-llava")
    parser.add_argument("--ranks", type=int, default=2, help="processes, one a core")
    for field in fields(Recipe):
        if field.type in (int, float):
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(name, type=field.type, default=field.default)
    given = parser.parse_args(arguments)
    told = {f.name: getattr(given, f.name, f.default) for f in fields(Recipe)}
    net = train(Recipe(**told), given.work, ranks=given.ranks)
    seconds = sum(
        json.loads((given.work / f"{stage}.json").read_text())["seconds"]
        for stage in ("pool", "tower", "decoder")
    )
    story = {
        "command": "python -m data.generate.train",
        "minutes": round(seconds / 60),
        "hardware": f"{given.ranks} processes of one thread ({platform.machine()} CPU)",
        "recipe": told,
        "history": "",
    }
    card.save(net, given.out)
    card.write(given.out, card.measure(load(str(given.out))), story)


if __name__ == "__main__":
    main()
