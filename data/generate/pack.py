"""Packed training rows: one picture (or none) and many single-turn questions about it.

Every question sees the system prompt, the picture and itself, never another question, at the
positions it would have alone, so each is exactly a single-turn prompt of the finished model.
"""

from functools import lru_cache
from random import Random

import numpy as np

from . import questions as q
from .mini import SYSTEM, TOKENS, tokenizer
from .scenes import Scene

ROOM = 144  # question tokens in a row with a picture
INSTRUCTED = 0.35  # share of questions that carry their task's instruction
IGNORE = -100
KINDS = ("presence", "reading", "location", "caption", "objects", "food chain", "text")
_TOKENIZER = tokenizer()
PREFIX = _TOKENIZER.encode(f"{SYSTEM} USER: <image>")[:-1]  # ends in the space before the picture


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


def _row(rng, asked, room: int, start: int, picture: bool) -> dict[str, np.ndarray]:
    row = {k: np.zeros(room, np.int64) for k in ("tokens", "segment", "position", "kind")}
    row["target"] = np.full(room, IGNORE)
    at = 0
    for segment, question in enumerate(asked, 1):
        prompt = question.prompt(rng.random() < INSTRUCTED)
        ids, n = _encode(prompt, question.answer, picture)
        if at + len(ids) > room:
            continue
        here = slice(at, at + len(ids))
        row["tokens"][here], row["segment"][here] = ids, segment
        row["position"][here] = np.arange(start, start + len(ids))
        row["kind"][here] = KINDS.index(question.kind)
        row["target"][at + n - 1 : at + len(ids) - 1] = ids[n:]  # the row before predicts a token
        at += len(ids)
    return row


def batch(rng: Random, scenes: list[Scene], texts: int, stage: str) -> dict[str, np.ndarray]:
    """Return `[row, position]` arrays: rows with a picture, then `texts` rows without one.

    `segment` is 0 for padding; pictures stand before position 0 of their rows.
    """
    after = len(PREFIX) + TOKENS
    rows = [_row(rng, about(rng, s, stage), ROOM, after, True) for s in scenes]
    bare = [
        _row(rng, (q.fact(rng) for _ in range(30)), ROOM + TOKENS, len(PREFIX) - 1, False)
        for _ in range(texts)
    ]
    pictures = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
    return pictures, {k: np.stack([r[k] for r in bare]) for k in bare[0]} if bare else None
