"""Draw twins: `python -m data.generate.pairs --seed S --rows N --out DIR`.

Two pictures that differ in one thing alone, and a question that it decides: an object is there or
not, a sign says another word, the arrows of a food chain point the other way. Who is right is known
for both. A table a kind, `<kind>.parquet`, as rows of one's own (`load_task` reads it): `image`,
`question`, `answer`, `options` of a chain, `boxes`; keys end in -a and -b. The two answers begin
with different letters. The same seed gives the same bytes under constraints.txt.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from datasets import Features, Image
from PIL import Image as Pictures
from tqdm.auto import tqdm

from data.generate.tasks import BOXES, TEXT, WORDS, boxes_of, encoded, write_table
from data.generate.world import draw, questions, scenes
from data.generate.world.scenes import Scene, Studio, Thing, food_chain, still_life

OUT = Path(__file__).parents[1] / "pairs"
ROWS = 40
COLUMNS = {
    "id": TEXT, "image": Image(), "question": TEXT, "answer": TEXT, "boxes": BOXES, "kind": TEXT,
}  # fmt: skip


class Altered(Studio):
    """Hands out the test split's drawings but one, which `change(draw, kind, name)` draws.

    It is as large and takes as many numbers from the generator: all else stays where it is.
    """

    def __init__(self, change: Callable[[Callable, str, object], Pictures.Image | None]):
        super().__init__("test")
        self.change = change

    def __call__(self, rng: Random, kind: str, name=None, size=None) -> Pictures.Image:
        drawn = super().__call__
        other = self.change(lambda other: drawn(rng, kind, other, size), kind, name)
        return drawn(rng, kind, name, size) if other is None else other


def presence(seed: str) -> Iterator[tuple[Scene, str, str, tuple[Thing, ...], list[str]]]:
    """Yield a still life and its twin without one of its objects: is it there?"""
    first = still_life(Random(seed), Studio("test"), signs=0, objects=(3, 5))
    gone = Random(f"{seed}/gone").choice(first.things)

    def clear(drawn, kind, name):
        if (kind, name) == ("sprite", gone.name):
            return Pictures.new("RGBA", drawn(name).size)

    second = still_life(Random(seed), Altered(clear), signs=0, objects=(3, 5))
    text = f"Is there {questions.article(gone.name)} in the image?"
    for scene, answer in ((first, "yes"), (second, "no")):
        yield scene, text, answer, (gone,), []


def reading(seed: str) -> Iterator[tuple[Scene, str, str, tuple[Thing, ...], list[str]]]:
    """Yield a still life with a sign and its twin with another word or number on it."""
    first = still_life(Random(seed), Studio("test"), signs=1)
    if not first.signs:  # there was no room: another
        yield from reading(f"{seed}+")
        return
    (board,) = first.signs
    pool = scenes.TEST_NUMBERS if board.name.isdigit() else [w.upper() for w in scenes.WORDS]
    other = Random(f"{seed}/other").choice([word for word in pool if word[0] != board.name[0]])

    def say(drawn, kind, name):
        return drawn(other) if kind == "sign" else None

    second = still_life(Random(seed), Altered(say), signs=1)
    question = questions.reading(first, board)
    for scene, answer in ((first, board.name), (second, other)):
        yield scene, question.text.lower(), answer.lower(), (board,), []


def chains(seed: str) -> Iterator[tuple[Scene, str, str, tuple[Thing, ...], list[str]]]:
    """Yield a food chain and its twin with the arrows turned round: what eats the middle one?"""
    first = food_chain(Random(seed), Studio("test"), rows=1)

    def turn(drawn, kind, name):
        return drawn(not name) if kind == "arrow" else None

    second = food_chain(Random(seed), Altered(turn), rows=1)
    rng = Random(f"{seed}/options")
    eaten, middle, eater = (first.things[i] for i in first.chains[0])
    here = {thing.name for thing in first.things}
    other = rng.choice([name for name in draw.CREATURES if name not in here])
    options = [eaten.name, eater.name, other]
    rng.shuffle(options)
    text = f"Context: {questions.CHAIN_HINT}\nWhat eats the {middle.name}?"
    for scene, right in ((first, eater), (second, eaten)):
        yield scene, text, right.name, (right, middle), options


KINDS = {"presence": presence, "reading": reading, "chains": chains}
CARD = """# Twins

Pictures that differ in one thing, two and two, and a question that it decides: an object is there
or not (`presence.parquet`), a sign says another word or number (`reading.parquet`), the arrows of a
food chain point the other way (`chains.parquet`). {rows} pairs each; keys end in -a and -b. The
columns are those of rows of your own: `load_task("data/pairs/reading.parquet")`.

Drawn by `python -m data.generate.pairs --seed {seed} --rows {rows}`; 288 by 288 pixels, in colours
and with numbers that no model of this project was trained on. MIT.
"""


def write(out: Path, *, seed: int = 0, rows: int = ROWS) -> Iterator[Path]:
    """Write a table a kind below `out` and yield each when it is there."""
    for kind, pair in KINDS.items():
        made = []
        for i in tqdm(range(rows), desc=kind):
            pair_of = zip("ab", pair(f"pairs/{kind}/{seed}/{i}"), strict=True)
            for side, (scene, text, answer, about, options) in pair_of:
                key = f"{kind}-{i:03d}-{side}"
                row = {"id": key, "image": encoded(scene, key), "question": text, "answer": answer}
                row |= {"boxes": boxes_of(about), "kind": kind}
                made.append(row | ({"options": options} if options else {}))
        more = {"options": WORDS} if "options" in made[0] else {}
        path = out / f"{kind}.parquet"
        write_table(path, Features(COLUMNS | more), made)
        yield path
    (out / "README.md").write_text(CARD.format(seed=seed, rows=rows))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.pairs", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=ROWS, help="pairs a kind")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    for path in write(given.out, seed=given.seed, rows=given.rows):
        print(path)


if __name__ == "__main__":
    main()
