"""Packed training rows: one picture (or none) and many single-turn questions about it.

Every question sees the system prompt, the picture and itself, never another question, at the
positions it would have alone, so each is exactly a single-turn prompt of the finished model.
"""

from functools import lru_cache
from random import Random

import numpy as np

from . import draw
from . import questions as q
from .mini import SYSTEM, TOKENS, tokenizer
from .scenes import Scene

ROOM = 144  # question tokens in a row with a picture
INSTRUCTED = 0.35  # share of questions that carry their task's instruction
IGNORE = -100
KINDS = ("presence", "reading", "location", "caption", "objects", "food chain", "text")
_TOKENIZER = tokenizer()
PREFIX = _TOKENIZER.encode(f"{SYSTEM} USER: <image>")[:-1]  # ends in the space before the picture
NAMES = {_TOKENIZER.convert_tokens_to_ids(f"▁{name}"): name for name in draw.SPRITES}
_DOT, _BREAK = _TOKENIZER.convert_tokens_to_ids([".", "\n"])
# What the decoder is asked of single words of the question, beside its answers: where the thing of
# that name is (9 places, or nowhere), who eats it, whom it eats, whether the option is right
HINTS = {"place": 10, "eater": len(draw.SPRITES) + 1, "eaten": len(draw.SPRITES) + 1, "right": 2}


@lru_cache(maxsize=500_000)
def _encode(prompt: str, answer: str, picture: bool) -> tuple[list[int], int]:
    """Return the tokens after the picture (or after `USER:`) and how many of them are prompt."""
    head = f"USER: {'<image>' if picture else ''}"
    turn = f"{head}{chr(10) if picture else ''}{prompt} ASSISTANT:"
    plain = {"add_special_tokens": False}
    skip = len(_TOKENIZER.encode(head, **plain)) if picture else 1
    asked = _TOKENIZER.encode(turn, **plain)[skip:]
    said = _TOKENIZER.encode(f"{turn} {answer}", **plain)[skip + len(asked) :]
    return asked + said + [_TOKENIZER.eos_token_id], len(asked)


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


def _hints(ids: list[int], question: q.Question, things: dict | None) -> np.ndarray:
    """Return `[position, hint]` for the prompt `ids` of a question."""
    out = np.full((len(ids), len(HINTS)), IGNORE)
    option = 0
    for at, token in enumerate(ids):
        if things and token in NAMES:
            out[at, :3] = things[NAMES[token]]
        lettered = at > 2 and ids[at - 1] == _DOT and ids[at - 3] == _BREAK
        if lettered and option < len(question.choices):
            out[at, 3] = chr(65 + option) == question.answer
            option += 1
    return out


def _row(rng, asked, room: int, start: int, things: dict | None) -> dict[str, np.ndarray]:
    row = {k: np.zeros(room, np.int64) for k in ("tokens", "segment", "position", "kind")}
    row["target"] = np.full(room, IGNORE)
    row["hints"] = np.full((room, len(HINTS)), IGNORE)
    at = 0
    for segment, question in enumerate(asked, 1):
        prompt = question.prompt(rng.random() < INSTRUCTED)
        ids, n = _encode(prompt, question.answer, things is not None)
        if at + len(ids) > room:
            continue
        here = slice(at, at + len(ids))
        row["tokens"][here], row["segment"][here] = ids, segment
        row["position"][here] = np.arange(start, start + len(ids))
        row["hints"][at : at + n] = _hints(ids[:n], question, things)
        row["kind"][here] = KINDS.index(question.kind)
        row["target"][at + n - 1 : at + len(ids) - 1] = ids[n:]  # the row before predicts a token
        at += len(ids)
    return row


def batch(rng: Random, scenes: list[Scene], texts: int, stage: str) -> dict[str, np.ndarray]:
    """Return `[row, position]` arrays: rows with a picture, then `texts` rows without one.

    `segment` is 0 for padding; pictures stand before position 0 of their rows.
    """
    after = len(PREFIX) + TOKENS
    rows = [_row(rng, about(rng, s, stage), ROOM, after, _things(s)) for s in scenes]
    bare = [
        _row(rng, (q.fact(rng) for _ in range(30)), ROOM + TOKENS, len(PREFIX) - 1, None)
        for _ in range(texts)
    ]
    pictures = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
    return pictures, {k: np.stack([r[k] for r in bare]) for k in bare[0]} if bare else None
