"""What keeps a trained decoder's language: text that the frozen one says itself, and measures.

The decoder learns its tasks beside rows of such text, on which its next words are to be as likely
as the frozen model has them. How far its language was moved is told by the perplexity of texts that
were fixed before the training: texts/validation.txt, by which recipes are chosen, and
texts/perplexity.txt, which is in the card. Perplexity does not see that invented facts take the
place of real ones that are asked for in the same words. So real capitals are asked for besides:
those of some countries by who chooses a recipe, of others for the card (texts/countries.csv).
"""

import csv
import re
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.generate.fitting import pack

TEXTS = Path(__file__).parent / "texts"
TESTED = "e51c29b624304b2bad5d1342caa1828cbb69d1f32fd0d6b311db20d9d015709a"  # perplexity.txt
ASKED = (Path(__file__).parent / "texts/questions.txt").read_text().splitlines()
CAPITAL = "What is the capital of {}?"
FIRST = (  # words that texts begin with
    "The In It A When This There He She We You If For On At After Many Most One Some As From To "
    "Although My However, Yesterday Today During Once What How Let First, According Every"
).split()
KINDS_OF_START = 3  # an empty user's turn, a question, a word
WARMTH = 0.8  # the temperature: at 1 a model of this size often loses the thread


def starts(tokenizer, head: str, tail: str, count: int, seed: int) -> list[list[int]]:
    """Return the ids that `count` texts begin with: the user's turn, open or filled, or a word.

    `head` and `tail` are what the chat template puts around a question.
    """
    rng, made = Random(seed), []
    for i in range(count):
        kinds = head, head + rng.choice(ASKED) + tail, rng.choice(FIRST)
        made.append(tokenizer.encode(kinds[i % KINDS_OF_START]))
    return made


@torch.no_grad()
def spoken(net, turns, count: int, path: Path, *, seed: int, batch: int = 256) -> Tensor:
    """Return `[row, position]` ids of what the frozen decoder says, -1 behind the end of a row.

    Drawn to the length of a packed row, and kept in `path`.
    """
    if path.exists():
        return load_file(path)["tokens"]
    head, tail = turns.frames[False]
    begun = starts(turns.tokenizer, head, tail, count, seed)
    length = len(turns.common[False]) + turns.room[False]
    made = torch.full((count, length), -1)
    torch.manual_seed(seed)
    for first in range(0, count, batch):
        rows = begun[first : first + batch]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, longest - len(row) :], mask[i, longest - len(row) :] = torch.tensor(row), 1
        said = net.generate(
            input_ids=ids.to(net.device), attention_mask=mask.to(net.device), do_sample=True,
            top_k=0, temperature=WARMTH, eos_token_id=None, pad_token_id=0,
            max_new_tokens=length - longest, suppress_tokens=[turns.image],
        ).cpu()  # fmt: skip
        for i, row in enumerate(rows):
            whole = said[i, longest - len(row) :]
            made[first + i, : len(whole)] = whole
    save_file({"tokens": made}, path)
    return made


def capitals(part: str) -> dict[str, str]:
    """Return the countries of a part, "validation" or "test", with their capitals."""
    with (TEXTS / "countries.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["country"]: row["capital"] for row in rows if row["part"] == part}


def names(said: str, capital: str) -> bool:
    """Return whether a capital is named, as a word of its own."""
    return bool(re.search(rf"\b{re.escape(capital)}\b", said, re.IGNORECASE))


@torch.no_grad()
def known(net, turns, part: str, *, most: int = 24) -> tuple[int, int]:
    """Return how many capitals of a part of the countries are named, and how many there are."""
    (head, tail), asked, right = turns.frames[False], capitals(part), 0
    for country, capital in asked.items():
        ids = torch.tensor([turns.tokenizer.encode(head + CAPITAL.format(country) + tail)])
        said = net.generate(
            input_ids=ids.to(net.device), attention_mask=torch.ones_like(ids).to(net.device),
            do_sample=False, max_new_tokens=most, suppress_tokens=[turns.image],
        )  # fmt: skip
        right += names(turns.tokenizer.decode(said[0, ids.shape[1] :]), capital)
    return right, len(asked)


def text_rows(tokens: Tensor) -> dict[str, Tensor]:
    """Return rows of plain text as packed rows, without targets: tensors as pack.batch's."""
    there = tokens >= 0
    rows = {"tokens": tokens.clamp(min=0), "kind": torch.zeros_like(tokens)}
    rows["segment"] = torch.where(there, 1, pack.PADDING)
    rows["target"] = torch.full_like(tokens, pack.IGNORE)
    rows["position"] = torch.arange(tokens.shape[1]).expand(3, *tokens.shape).clone()
    rows["hints"] = torch.full((*tokens.shape, len(pack.HINTS)), pack.IGNORE)
    return rows


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence from the teacher's next words, in nats.

    Both are logits `[position, word]`.
    """
    told = [F.log_softmax(logits.float(), -1) for logits in (student, teacher)]
    return F.kl_div(*told, log_target=True, reduction="batchmean")


@torch.no_grad()
def perplexity(net, tokenizer, text: str) -> float:
    """Return the perplexity of a text, each paragraph read by itself."""
    total, count = 0.0, 0
    for paragraph in filter(None, text.split("\n")):
        ids = tokenizer(paragraph, return_tensors="pt")["input_ids"].to(net.device)
        logits = net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
        total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return float(torch.tensor(total / count, dtype=torch.float64).exp())
