"""Packed training rows: one picture (or none) and many single-turn questions about it.

Every question sees what stands before the picture, the picture and itself, never another question,
at the positions it would have alone, so each is exactly a single-turn prompt of the finished model.
"""

from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
import torch
from torch import Tensor

from data.generate.fitting.minis import Mini
from data.generate.world import draw
from data.generate.world import questions as q
from data.generate.world.scenes import Scene

INSTRUCTED = 0.35  # share of questions that carry their task's instruction
IGNORE, PADDING, COMMON = -100, -1, 0
KINDS = ("presence", "reading", "location", "caption", "objects", "food chain", "text")
# What the decoder is asked of single words of the question, beside its answers: where the thing of
# that name is (9 places, or nowhere), who eats it, whom it eats, whether the option is right
HINTS = {"place": 10, "eater": len(draw.SPRITES) + 1, "eaten": len(draw.SPRITES) + 1, "right": 2}


class Turns:
    """How the prompts of a miniature are cut: what all share, the picture's tokens, the question.

    `common[picture]` are the ids before the picture, or, without one, before the question;
    `tokens` how many image tokens there are, `advance` by how much they move the position on.
    """

    def __init__(self, mini: Mini, tokens: int):
        self.mini, self.tokens = mini, tokens
        self.processor = self.mini.processor()
        self.tokenizer = self.processor.tokenizer
        to_ids = self.tokenizer.convert_tokens_to_ids
        self.image = to_ids(str(self.processor.image_token))
        self.names = {to_ids(f"{mini.space}{n}"): n for n in draw.SPRITES}
        self.stops = tuple(self.tokenizer.encode(stop)[-1] for stop in (".", "A\n"))
        self.frames = {picture: self._frame(picture) for picture in (True, False)}
        first, second = (self._ids(text, False) for text in ("Is", "Which of"))
        shared = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        pictured = self._ids("Is", True)
        self.common = {True: pictured[: pictured.index(self.image)], False: first[:shared]}
        self.advance = self.mini.merged or tokens
        self.room = {
            True: mini.room,
            False: mini.room + tokens + len(self.common[True]) - len(self.common[False]),
        }
        self.encode = lru_cache(maxsize=500_000)(self._encode)

    def _frame(self, picture: bool) -> tuple[str, str]:
        if not self.processor.chat_template:
            return "", ""
        content = [{"type": "image"}] * picture + [{"type": "text", "text": "\0"}]
        said = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(said, add_generation_prompt=True)
        image, (left, right) = str(self.processor.image_token), self.mini.marks
        head, tail = text.replace(image, left + image + right).split("\0")
        return head, tail

    def _ids(self, prompt: str, picture: bool, answer: str = "") -> list[int]:
        head, tail = self.frames[picture]
        ids = self.tokenizer.encode(head + prompt + tail + answer)
        return [self.image, *ids] if picture and self.image not in ids else ids

    def _encode(self, prompt: str, answer: str, picture: bool) -> tuple[list[int], int]:
        """Return the tokens of a question and its answer, and how many of them are question."""
        skip = len(self.common[picture]) + picture
        asked = len(self._ids(prompt, picture)) - skip
        said = self._ids(prompt, picture, self.mini.gap + answer)[skip:]
        return [*said, self.tokenizer.eos_token_id], asked

    def positions(self, picture: bool) -> np.ndarray:
        """Return the positions of what all questions of a row share, `[3, position]`."""
        n = len(self.common[picture])
        if not picture:
            return np.tile(np.arange(n), (3, 1))
        side = self.mini.merged
        image = np.indices((side, side)).reshape(2, -1) if side else np.arange(self.tokens)[None]
        turn = np.stack([image[0] * (not side), image[0], image[-1]])
        return np.concatenate([np.tile(np.arange(n), (3, 1)), n + turn], 1)


def about(rng: Random, scene: Scene, stage: str) -> list[q.Question]:
    """Return a shuffled list of questions about a scene, more than fit a row in the long run."""
    asked = [q.caption(scene)]
    if scene.chains:
        lettered = 0.0 if stage == "start" else 0.45
        asked += [q.eats(rng, scene, lettered=rng.random() < lettered) for _ in range(5)]
        asked += [q.presence(rng, scene) for _ in range(4 if stage == "start" else 2)]
    else:
        asked += [q.presence(rng, scene) for _ in range(6 if stage == "start" else 4)]
        asked += [q.reading(scene, board) for board in scene.signs]
    if stage != "start":
        asked += [q.location(rng, scene) for _ in range(1 if scene.chains else 2)]
        asked += [q.pick(rng, scene), q.fact(rng)]
        if rng.random() < (0.5 if scene.chains else 0.3):
            asked.pop(0)
    rng.shuffle(asked)
    return asked


def _things(scene: Scene) -> dict[str, tuple[int, int, int]]:
    """Return place, eater and eaten of everything in a picture, as the hints count them."""
    told = dict.fromkeys(draw.SPRITES, (9, IGNORE, IGNORE))
    near = {i: (a, b) for c in scene.chains for i, a, b in zip(c, c[1:] + (-1,), (-1,) + c[:-1])}  # noqa: B905, RUF005
    for i, thing in enumerate(scene.things):
        others = near.get(i, (IGNORE, IGNORE))
        eater, eaten = (
            IGNORE if o == IGNORE else 1 + draw.SPRITES.index(scene.things[o].name) if o >= 0 else 0
            for o in others
        )
        told[thing.name] = q.place(thing), eater, eaten
    return told


def _hints(turns: Turns, ids: list[int], question: q.Question, things: dict | None) -> np.ndarray:
    """Return `[position, hint]` for the prompt `ids` of a question."""
    out = np.full((len(ids), len(HINTS)), IGNORE)
    (dot, line_break), option = turns.stops, 0
    for at, token in enumerate(ids):
        if things and token in turns.names:
            out[at, :3] = things[turns.names[token]]
        lettered = at > 2 and ids[at - 1] == dot and ids[at - 3] == line_break
        if lettered and option < len(question.choices):
            out[at, 3] = chr(65 + option) == question.answer
            option += 1
    return out


def _row(turns: Turns, rng, asked, things: dict | None) -> tuple[dict[str, np.ndarray], list[str]]:
    picture = things is not None
    shared = turns.common[picture] + [turns.image] * turns.tokens * picture
    length = len(shared) + turns.room[picture]
    row = {k: np.zeros(length, np.int64) for k in ("tokens", "kind")}
    row["segment"], row["target"] = np.full(length, PADDING), np.full(length, IGNORE)
    row["position"] = np.zeros((3, length), np.int64)
    row["hints"] = np.full((length, len(HINTS)), IGNORE)
    at, prompts = len(shared), []
    row["tokens"][:at], row["segment"][:at] = shared, COMMON
    row["position"][:, :at] = turns.positions(picture)
    start = len(turns.common[picture]) + turns.advance * picture
    for segment, question in enumerate(asked, 1):
        prompt = question.prompt(rng.random() < INSTRUCTED)
        ids, n = turns.encode(prompt, question.answer, picture)
        if at + len(ids) > length:
            continue
        here = slice(at, at + len(ids))
        row["tokens"][here], row["segment"][here] = ids, segment
        row["position"][:, here] = np.arange(start, start + len(ids))
        row["hints"][at : at + n] = _hints(turns, ids[:n], question, things)
        row["kind"][here] = KINDS.index(question.kind)
        row["target"][at + n - 1 : at + len(ids) - 1] = ids[n:]  # the row before predicts a token
        at += len(ids)
        prompts.append(prompt)
    return row, prompts


def batch(
    turns: Turns, rng: Random, scenes: list[Scene], texts: int, ask: Callable, facts: int = 30
) -> tuple[dict[str, Tensor], list[list[str]]]:
    """Return `[row, position]` tensors: rows with a picture, then `texts` rows without one.

    `ask(rng, scene)` gives the questions about a picture, in the order in which they are packed;
    `facts` is how many are tried for a row without one.
    `segment` is COMMON for what all questions of a row see, PADDING behind the last; `position` is
    `[3, row, position]`. The prompts of the rows with a picture come beside them.
    """
    made = [_row(turns, rng, ask(rng, s), _things(s)) for s in scenes]
    made += [_row(turns, rng, (q.fact(rng) for _ in range(facts)), None) for _ in range(texts)]
    rows = {k: np.stack([row[k] for row, _ in made]) for k in made[0][0]}
    rows["position"] = rows["position"].swapaxes(0, 1)
    prompts = [prompts for _, prompts in made[: len(scenes)]]
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in rows.items()}, prompts


def seen(segment: Tensor) -> Tensor:
    """Return `[row, query, key]`: what a packed row's queries may see."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    same = segment[:, :, None] == segment[:, None, :]
    eye = torch.eye(length, dtype=torch.bool, device=segment.device)
    return causal & (same | (segment == COMMON)[:, None, :]) | eye
