"""The training pictures: drawn once, kept on disk with their ground truth and patch labels.

Kept at every side that some miniature's image processor reduces a picture to, before rescaling, and
labelled at every grid of patches that some vision tower cuts one into.
"""

import json
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from data.generate.world import draw
from data.generate.world.scenes import LETTERS, Scene, Studio, Thing, food_chain, still_life

SIDES = (72, 96, 144, 192)  # pixels
GRIDS = (6, 8, 12, 16)  # patches a side
CHARACTERS = LETTERS + list("0123456789")
CLASSES = ["nothing", *draw.SPRITES, *CHARACTERS, "right", "left"]
CHAINS = 0.4  # share of food chains
CHUNK = 500  # pictures a work item


def shrink(picture: Image.Image, side: int) -> np.ndarray:
    """Return the processor's pixels of a square picture, `[y, x, channel]` bytes."""
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def _coverage(thing: Thing, grid: int) -> np.ndarray:
    """Return how much of each patch a drawing covers, `[row, column]` in [0, 1]."""
    x0, y0, x1, y1 = thing.box
    full = np.zeros((draw.SIZE, draw.SIZE), np.float32)
    full[y0:y1, x0:x1] = np.asarray(thing.ink, np.float32) / 255
    cell = draw.SIZE // grid
    return full.reshape(grid, cell, grid, cell).mean((1, 3))


def _letter_coverage(board: Thing, i: int, grid: int) -> np.ndarray:
    x0, y0, x1, y1 = board.box
    middle = (x0 + x1) / 2 + (i - (len(board.name) - 1) / 2) * draw.PITCH
    cell = draw.SIZE // grid
    edges = np.arange(grid + 1) * cell

    def overlap(low, high):
        return (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(0) / cell

    return np.outer(
        overlap(y0 + 12, y1 - 12), overlap(middle - draw.PITCH / 2, middle + draw.PITCH / 2)
    )


def labels(scene: Scene, grid: int) -> np.ndarray:
    """Return `[row, column, 3]`: each patch's class, who eats it, whom it eats (-1: no label)."""
    out = np.full((grid, grid, 3), -1, np.int8)
    out[..., 0] = 0
    eater = {chain[i]: chain[i + 1] for chain in scene.chains for i in range(2)}
    eaten = {after: before for before, after in eater.items()}
    for i, thing in enumerate((*scene.things, *scene.arrows)):
        mask = _coverage(thing, grid) > (0.15 if i < len(scene.things) else 0.2)
        out[mask, 0] = CLASSES.index(thing.name)
        if scene.chains and i < len(scene.things):
            for column, relation in ((1, eater), (2, eaten)):
                other = relation.get(i)
                name = scene.things[other].name if other is not None else "nothing"
                out[mask, column] = CLASSES.index(name)
    for board in scene.signs:
        best = np.full((grid, grid), 0.3)
        for i, character in enumerate(board.name):
            cover = _letter_coverage(board, i, grid)
            out[cover > best, 0] = CLASSES.index(character)
            best = np.maximum(best, cover)
    return out


def _record(scene: Scene) -> dict:
    plain = {k: [(t.name, t.box) for t in getattr(scene, k)] for k in ("things", "signs")}
    return plain | {"chains": scene.chains, "group": scene.group}


def scene_of(record: dict) -> Scene:
    """Return a scene without its picture from a line of the pool."""
    made = {k: tuple(Thing(n, tuple(b), None) for n, b in record[k]) for k in ("things", "signs")}
    chains = tuple(tuple(c) for c in record["chains"])
    return Scene(None, **made, chains=chains, group=tuple(record["group"]))


_studio: Studio | None = None  # one a worker process: its cache of drawings


def _start(seed: int) -> None:
    global _studio
    _studio = Studio("train", variants=150, seed=seed)


def _chunk(start: int, *, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    made, lines = {name: [] for name, *_ in _arrays(0)}, []
    for i in range(start, start + CHUNK):
        rng = Random(f"train/{seed}/{i}")
        scene = food_chain(rng, _studio) if rng.random() < CHAINS else still_life(rng, _studio)
        for side in SIDES:
            made[f"pixels{side}"].append(shrink(scene.picture, side))
        for grid in GRIDS:
            made[f"labels{grid}"].append(labels(scene, grid))
        lines.append(json.dumps(_record(scene)))
    return {name: np.stack(values) for name, values in made.items()}, lines


def _arrays(n: int):
    yield from ((f"pixels{side}", np.uint8, (n, side, side, 3)) for side in SIDES)
    yield from ((f"labels{grid}", np.int8, (n, grid, grid, 3)) for grid in GRIDS)


def render(folder: Path, n: int, *, seed: int = 0, workers: int = 2) -> None:
    """Draw `n` training pictures into `folder`, unless they are there already."""
    if (folder / "scenes.jsonl").exists():
        return
    began = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    out = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        for name, kind, shape in _arrays(n)
    }
    starts, lines = range(0, n, CHUNK), []
    with get_context("spawn").Pool(workers, _start, (seed,)) as processes:
        done = processes.imap(partial(_chunk, seed=seed), starts)
        for start, (made, text) in zip(starts, tqdm(done, total=len(starts)), strict=True):
            for name, values in made.items():
                out[name][start : start + CHUNK] = values
            lines += text
    for array in out.values():
        array.flush()
    (folder / "scenes.part").write_text("\n".join(lines) + "\n")
    folder.with_suffix(".json").write_text(json.dumps({"seconds": time.time() - began}))
    (folder / "scenes.part").rename(folder / "scenes.jsonl")  # last: marks the pool complete


class Pool:
    """The drawn pictures: `pixels(at, side)`, `labels(at, grid)` and `scene(i)`."""

    def __init__(self, folder: Path):
        self._arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n, *_ in _arrays(0)}
        self._lines = (folder / "scenes.jsonl").read_text().splitlines()

    def __len__(self) -> int:
        return len(self._lines)

    def pixels(self, at: list[int], side: int) -> np.ndarray:
        """Return `[picture, y, x, channel]` bytes."""
        return self._arrays[f"pixels{side}"][at]

    def labels(self, at: list[int], grid: int) -> np.ndarray:
        """Return `[picture, row, column, 3]`, as the function `labels` has them."""
        return self._arrays[f"labels{grid}"][at]

    def scene(self, i: int) -> Scene:
        return scene_of(json.loads(self._lines[i]))
