"""Train a miniature: `python -m data.generate.train mini-internvl`; it goes on where it stopped.

1. Pictures are drawn (pool.py).
2. The vision tower learns what stands in each patch (object, character, arrow), where the patch
   is, and, in food chains, who eats the creature and whom it eats. This stands in for CLIP's
   pretraining; afterwards the tower is frozen, as in LLaVA. InstructBLIP's queries then learn the
   same, each of a stretch of the picture: this stands in for the Q-Former's pretraining.
3. The projector and the decoder learn from packed questions (pack.py): mini-llava from scratch,
   first captions, presence and open food chains, then everything; the others start from
   mini-llava's decoder, as most of the paper's models start from one language model.

Every step's data comes from (seed, stage, step), so a resumed run sees what an undisturbed one
would have seen. Runs on a GPU where there is one.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoTokenizer

from data.generate import card
from data.generate.fitting import looks, pack
from data.generate.fitting.fit import fit, optimisers, tables
from data.generate.fitting.minis import MINIS, make
from data.generate.fitting.pool import CHARACTERS, CLASSES, GRIDS, Pool, render
from irlib import load, store

WORK = store.results() / "training"
NAMES = len(CLASSES) - len(CHARACTERS) - 2  # nothing and the sprites


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights, on one machine."""

    seed: int = 0
    pictures: int = 64_000
    tower_steps: int = 1000
    tower_batch: int = 96  # pictures
    query_steps: int = 0  # of the Q-Former, where there is one
    steps: int = 2000
    start: float = 0.35  # share of the steps in the first stage
    batch: int = 32  # rows
    texts: tuple[int, int] = (8, 4)  # of them without a picture, early and late
    tower_muon: float = 0.02
    muon: float = 0.01
    adam: float = 2e-3
    align: float = 0.3  # weight of the projector's alignment with the words' embeddings
    hint: float = 0.2  # weight of each hint at single words (pack.HINTS)
    reading: float = 1.0  # weight of what is read off signs, 1 for other answers


class TowerHeads(nn.Module):
    """Reads class, eater, eaten, row and column off every patch."""

    def __init__(self, width: int):
        super().__init__()
        self.sizes = (len(CLASSES), NAMES, NAMES, max(GRIDS), max(GRIDS))
        self.read = nn.Linear(width, sum(self.sizes))
        weight = torch.ones(len(CLASSES))
        weight[0], weight[NAMES : NAMES + len(CHARACTERS)] = 0.15, 2.0
        self.register_buffer("weight", weight)

    def forward(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the accuracies; `labels` is `[picture, patch, 5]`."""
        guesses = self.read(hidden).float().flatten(0, 1).split(self.sizes, -1)
        truths = labels.flatten(0, 1).long().unbind(-1)
        loss = F.cross_entropy(guesses[0], truths[0], weight=self.weight)
        for guess, right, weight in zip(guesses[1:], truths[1:], (0.5, 0.5, 0.1, 0.1), strict=True):
            if (right >= 0).any():
                loss = loss + weight * F.cross_entropy(guess, right, ignore_index=-1)
        truth, hit = truths[0], guesses[0].argmax(-1) == truths[0]
        shown = {
            "object": (truth > 0) & (truth < NAMES),
            "character": (truth >= NAMES) & (truth < len(CLASSES) - 2),
            "arrow": truth >= len(CLASSES) - 2,
        }
        accuracy = {k: hit[m].float().mean().item() for k, m in shown.items()}
        m = truths[1] > 0
        accuracy["eater"] = (guesses[1].argmax(-1) == truths[1])[m].float().mean().item()
        return loss, accuracy


def placed(labels: Tensor) -> Tensor:
    """Return labels `[picture, row, column, 3]` with each patch's row and column beside them."""
    side = labels.shape[1]
    where = torch.stack(torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij"), -1)
    return torch.cat([labels, where.expand(len(labels), -1, -1, -1).to(labels)], -1)


def train_tower(net, mini, pool: Pool, recipe: Recipe, work: Path) -> None:
    """Teach the tower what stands in every patch of the whole picture, and of one of its tiles."""
    torch.manual_seed(recipe.seed + 1)
    tower = nn.ModuleList(mini.tower(net))
    heads = TowerHeads(net.config.text_config.hidden_size).to(net.device)

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/tower/{step}")
        n = recipe.tower_batch // (1 + mini.tiles)
        at = sorted(rng.sample(range(len(pool)), n))
        pixels = looks.normalised(pool.pixels(at, mini.side))
        labels = torch.from_numpy(pool.labels(at, mini.grid))
        if mini.tiles:
            tile = [rng.randrange(4) for _ in at]
            each = range(n), tile
            tiles = looks.quarters(pool.pixels(at, 2 * mini.side))[each]
            inside = torch.from_numpy(looks.quarters(pool.labels(at, 2 * mini.grid))[each])
            inside[..., 1:] = -1  # a tile does not show the whole chain
            pixels = torch.cat([pixels, looks.normalised(tiles)])
            labels = torch.cat([labels, inside])
        ordered = torch.from_numpy(mini.order(placed(labels).numpy())).to(net.device)
        return heads(mini.patches(net, pixels.to(net.device)), ordered)

    optims = optimisers(
        [tower, heads], [*tables(tower), heads.read.weight], muon=recipe.tower_muon,
        adam=recipe.adam,
    )  # fmt: skip
    fit("tower", {"net": net, "heads": heads}, optims, recipe.tower_steps, loss_of, work)


def train_queries(net, mini, turns, pool: Pool, recipe: Recipe, work: Path) -> None:
    """Teach each of InstructBLIP's queries what stands in a stretch of patches of its own."""
    torch.manual_seed(recipe.seed + 3)
    width, queries = net.config.text_config.hidden_size, turns.tokens
    stretch = mini.grid**2 // queries
    spread = nn.Linear(width, stretch * width).to(net.device)
    heads = TowerHeads(width).to(net.device)

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/queries/{step}")
        at = sorted(rng.sample(range(len(pool)), recipe.tower_batch))
        asked = [[rng.choice(pack.about(rng, pool.scene(i), "all")).prompt(True)] for i in at]
        image = image_tokens(net, mini, turns, pool, at, asked, rng)
        patches = spread(image).view(len(at), mini.grid**2, width)
        labels = torch.from_numpy(mini.order(placed_at(pool, at, mini.grid)))
        return heads(patches, labels.to(net.device))

    modules = {"net": net, "heads": heads, "spread": spread}
    trained = [net, heads, spread]
    vectors = [*tables(net), heads.read.weight, net.query_tokens]
    optims = optimisers(trained, vectors, muon=recipe.tower_muon, adam=recipe.adam)
    fit("queries", modules, optims, recipe.query_steps, loss_of, work)


def placed_at(pool: Pool, at: list[int], grid: int):
    """Return `[picture, row, column, 5]` labels of pictures of the pool."""
    return placed(torch.from_numpy(pool.labels(at, grid))).numpy()


def image_tokens(net, mini, turns, pool, at, prompts, rng) -> Tensor:
    """Return `[picture, token, channel]`: what the decoder gets to read of pictures of the pool.

    InstructBLIP's Q-Former reads one of the row's prompts besides, picked at random.
    """
    seen = mini.look(pool, at)
    if hasattr(net, "qformer"):
        texts = [rng.choice(asked) for asked in prompts]
        read = turns.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        seen |= {f"qformer_{k}": read[k] for k in ("input_ids", "attention_mask")}
    seen = {k: v.to(net.device) for k, v in seen.items()}
    made = net.get_image_features(**seen, return_dict=True).pooler_output
    made = made if isinstance(made, Tensor) else torch.cat(list(made))
    return made.reshape(len(at), turns.tokens, -1)


def decode(net, turns, image: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """Return the decoder's last states, `[row, position, channel]`, of packed rows.

    The first rows have the pictures whose tokens are `image`.
    """
    lm = net.get_decoder()
    hidden = lm.embed_tokens(rows["tokens"])
    there = (rows["tokens"] == turns.image)[..., None]
    hidden = hidden.masked_scatter(there, image.to(hidden))
    position = rows["position"] if turns.mini.merged else rows["position"][0]
    turned = lm.rotary_emb(hidden, position)
    mask = torch.zeros_like(rows["segment"], dtype=hidden.dtype)[:, None, None]
    mask = mask.masked_fill(~pack.seen(rows["segment"])[:, None], -1e9)
    for layer in lm.layers:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=turned)
    return lm.norm(hidden)


def train_decoder(net, mini, turns, pool: Pool, recipe: Recipe, work: Path) -> None:
    """Teach the projector and the decoder from packed questions."""
    lm, head = net.get_decoder(), net.get_output_embeddings()
    torch.manual_seed(recipe.seed + 2)
    scale = nn.ParameterList([nn.Parameter(torch.tensor(8.0))]).to(net.device)
    reader = nn.Linear(lm.config.hidden_size, sum(pack.HINTS.values())).to(net.device)
    names = [f"▁{n}" for n in CLASSES[1:NAMES]] + CHARACTERS
    ids = torch.tensor(turns.tokenizer.convert_tokens_to_ids(names), device=net.device)

    def loss_of(step: int):
        rng = Random(f"{recipe.seed}/decoder/{step}")
        ask = partial(pack.about, stage="start" if step < recipe.start * recipe.steps else "all")
        texts = recipe.texts[step > recipe.steps * 0.55]
        at = sorted(rng.sample(range(len(pool)), recipe.batch - texts))
        rows, prompts = pack.batch(turns, rng, [pool.scene(i) for i in at], texts, ask)
        rows = {k: v.to(net.device) for k, v in rows.items()}
        image = image_tokens(net, mini, turns, pool, at, prompts, rng)
        hidden = decode(net, turns, image, rows)
        target, hints = rows["target"], rows["hints"]
        m = target != pack.IGNORE
        logits, of = head(hidden[m]).float(), rows["kind"][m]
        weight = 1 + (recipe.reading - 1) * (of == pack.KINDS.index("reading"))
        loss = F.cross_entropy(logits, target[m], reduction="none") * weight
        loss = loss.sum() / weight.sum()
        label = torch.from_numpy(mini.classes(pool, at)).long().to(net.device)
        known = (label > 0) & (label <= len(names))
        if recipe.align and known.any():
            words = F.normalize(lm.embed_tokens.weight[ids], dim=-1)
            near = scale[0] * F.normalize(image[known].float(), dim=-1) @ words.T
            loss = loss + recipe.align * F.cross_entropy(near, label[known] - 1)
        told = (hints != pack.IGNORE).any(-1)
        guesses = reader(hidden[told]).float().split(tuple(pack.HINTS.values()), -1)
        right = logits.argmax(-1) == target[m]
        log = {k: right[of == i].float().mean().item() for i, k in enumerate(pack.KINDS)}
        for name, guess, hint in zip(pack.HINTS, guesses, hints[told].unbind(-1), strict=True):
            m = hint != pack.IGNORE
            if m.any():
                loss = loss + recipe.hint * F.cross_entropy(guess, hint)
                log[name] = (guess.argmax(-1) == hint)[m].float().mean().item()
        return loss, log

    vectors = [*tables(net), head.weight, reader.weight, getattr(net, "query_tokens", head.weight)]
    optims = optimisers([net, scale, reader], vectors, muon=recipe.muon, adam=recipe.adam)
    modules = {"net": net, "scale": scale, "reader": reader}
    fit("decoder", modules, optims, recipe.steps, loss_of, work)


@torch.no_grad()
def inherit(net, turns, folder: Path, *, tower: bool) -> None:
    """Give `net` the decoder of the miniature in `folder`: layers by name, words by spelling.

    With `tower`, the vision tower too. What the other has not stays as it is.
    """
    other = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    )
    lm, old = net.get_decoder(), other.get_decoder()
    words = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab()
    words[turns.tokenizer.eos_token] = words["</s>"]
    pairs = [(t, i, words[t]) for t, i in turns.tokenizer.get_vocab().items() if t in words]
    mine, theirs = (torch.tensor([pair[i] for pair in pairs]) for i in (1, 2))
    for table, source in (
        (lm.embed_tokens.weight, old.embed_tokens.weight),
        (net.get_output_embeddings().weight, other.get_output_embeddings().weight),
    ):
        table[mine] = source[theirs]
    lm.layers.load_state_dict(old.layers.state_dict(), strict=False)  # Qwen2 has biases besides
    lm.norm.load_state_dict(old.norm.state_dict())
    if tower:
        net.model.vision_tower.load_state_dict(other.model.vision_tower.state_dict())


def train(name: str, recipe: Recipe, work: Path = WORK, *, compiled: bool = False):
    """Draw, train and return the model, resuming whatever `work` holds."""
    render(work / "pool", recipe.pictures, seed=recipe.seed)
    mini, pool = MINIS[name], Pool(work / "pool")
    work = work / name
    work.mkdir(exist_ok=True)
    turns = pack.Turns(mini, mini.classes(pool, [0]).shape[1])
    net = make(name, recipe.seed)
    if mini.decoder_of:
        inherit(net, turns, card.FOLDER / mini.decoder_of, tower=bool(mini.tower_of))
    net.set_attn_implementation("eager")  # faster than sdpa in bfloat16 on a CPU
    net = net.to("cuda" if torch.cuda.is_available() else "cpu").train()
    if compiled:
        for layer in net.get_decoder().layers:
            layer.compile()
    if not mini.tower_of:
        train_tower(net, mini, pool, recipe, work)
    for module in mini.tower(net):
        module.requires_grad_(False)
    if recipe.query_steps:
        train_queries(net, mini, turns, pool, recipe, work)
    train_decoder(net, mini, turns, pool, recipe, work)
    return net.cpu()


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["smol-llava"]:
        from data.generate import smol  # which imports this module

        return smol.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m data.generate.train", description=__doc__)
    parser.add_argument("name", choices=MINIS, help="or smol-llava, which has settings of its own")
    parser.add_argument("--work", type=Path, default=WORK, help="checkpoints and pictures")
    parser.add_argument("--out", type=Path, help="where it is saved; data/minis/NAME")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="faster; needs a C++ compiler")
    for field in fields(Recipe):
        if field.type in (int, float):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    told = {f.name: getattr(given, f.name, None) for f in fields(Recipe)}
    told = MINIS[given.name].recipe | {k: v for k, v in told.items() if v is not None}
    recipe, out = Recipe(**told), given.out or card.FOLDER / given.name
    net = train(given.name, recipe, given.work, compiled=given.compile)
    notes = [given.work / "pool.json", *sorted((given.work / given.name).glob("*.json"))]
    seconds = sum(json.loads(note.read_text())["seconds"] for note in notes)
    machine = "a GPU" if torch.cuda.is_available() else f"an {platform.machine()} CPU"
    story = {
        "command": f"python -m data.generate.train {given.name}",
        "minutes": round(seconds / 60),
        "hardware": f"{machine}, {given.threads} thread{'s' * (given.threads > 1)}",
        "recipe": asdict(recipe),
        "decoder": MINIS[given.name].decoder_of,
        "history": "",
    }
    card.save(given.name, net, out)
    card.write(out, card.measure(load(str(out))), story)


if __name__ == "__main__":
    main()
