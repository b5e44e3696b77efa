"""A projector that puts each patch near the embedding of the word for what stands there."""

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F

from data.generate.fitting.fit import fit
from data.generate.fitting.pool import CHARACTERS, CLASSES, Pool


def align(net, turns, pool: Pool, recipe, work: Path) -> None:
    """Teach the projector of `net`, whose decoder takes no part, from pictures of the pool."""
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
