"""Scenes: pictures with their ground truth.

Two kinds: still lifes (objects and up to two signs, one with a word, one with a number) and food
chains (one or two rows of three creatures; arrows point from the eaten to the eater). The chains
are invented anew in every picture, so only the picture tells who eats whom.
"""

from dataclasses import dataclass, field
from functools import cache
from random import Random

from PIL import Image

from data.generate.world import draw

WORDS = (
    "cat car can cap bat bar ban bag hat ham hot hop pot pop pan pig "
    "sun sum set sea ten tea top toy red run rat ray map man mud mug"
).split()
LETTERS = sorted({c for w in WORDS for c in w.upper()})
TEST_NUMBERS = [str(n) for n in range(10, 100) if n % 7 == 3]  # never on a sign in training
TRAIN_NUMBERS = [str(n) for n in range(10, 100) if n % 7 != 3]
# Who is seen together, and how often: POPE's popular and adversarial questions need a world where
# some things are common and some keep company.
GROUPS = (
    ("ball", "cup", "key", "cat"),
    ("star", "tree", "bird", "bee"),
    ("house", "car", "rabbit", "snail"),
    ("boat", "fish", "frog", "snake"),
)
WEIGHT = {name: (1.6, 1.2, 0.9, 0.7)[group.index(name)] for group in GROUPS for name in group}


@dataclass(frozen=True)
class Thing:
    """Something in a picture: its name (or a sign's text) and its box x0, y0, x1, y1 in pixels."""

    name: str
    box: tuple[int, int, int, int]
    ink: Image.Image | None = field(
        default=None, repr=False, compare=False
    )  # alpha, as large as the box


@dataclass(frozen=True)
class Scene:
    """A picture and everything that is true about it.

    `chains` lists rows of indices into `things`, the eaten before its eater; `arrows` are drawn
    between neighbours; `group` is the company that most of a still life's objects come from.
    """

    picture: Image.Image = field(repr=False)
    things: tuple[Thing, ...]
    signs: tuple[Thing, ...] = ()
    chains: tuple[tuple[int, ...], ...] = ()
    arrows: tuple[Thing, ...] = ()
    group: tuple[str, ...] = ()


class Studio:
    """Hands out drawings: fresh ones, or, for speed in training, one of `variants` of each kind."""

    def __init__(self, split: str, variants: int | None = None, seed: int = 0):
        self.split, self.variants, self.seed = split, variants, seed
        self._kept = cache(self._drawn)

    def _drawn(self, kind: str, name, size, variant) -> Image.Image:
        return self._draw(Random(f"{self.seed}/{kind}/{name}/{size}/{variant}"), kind, name, size)

    def _draw(self, rng: Random, kind: str, name, size) -> Image.Image:
        if kind == "sprite":
            return draw.sprite(name, rng, self.split, rng.randint(*size))
        if kind == "arrow":
            return draw.arrow(rng, self.split, name)
        if kind == "sign":
            return draw.sign(name, rng, self.split)
        return draw.background(rng, self.split)

    def __call__(self, rng: Random, kind: str, name=None, size=None) -> Image.Image:
        if self.variants is None:
            return self._draw(rng, kind, name, size)
        # many different texts, so fewer drawings of each
        variants = max(1, self.variants // 12) if kind == "sign" else self.variants
        return self._kept(kind, name, size, rng.randrange(variants))


def _paste(picture: Image.Image, image: Image.Image, x: int, y: int, name: str) -> Thing:
    picture.paste(image, (x, y), image)
    return Thing(name, (x, y, x + image.width, y + image.height), image.getchannel("A"))


def _place(rng: Random, taken: list, width: int, height: int, gap: int = 3):
    """Return a free corner (x, y) for a box of that size, or None after 40 tries."""
    for _ in range(40):
        x, y = rng.randint(0, draw.SIZE - width), rng.randint(0, draw.SIZE - height)
        if all(
            x >= b[2] + gap
            or x + width <= b[0] - gap
            or y >= b[3] + gap
            or y + height <= b[1] - gap
            for b in taken
        ):
            taken.append((x, y, x + width, y + height))
            return x, y
    return None


def sign_text(rng: Random, split: str, word: bool) -> str:
    """Return what a sign says; a tenth of the training words are letters at random."""
    if not word:
        return rng.choice(TEST_NUMBERS if split == "test" else TRAIN_NUMBERS)
    if split == "train" and rng.random() < 0.1:
        return "".join(rng.choice(LETTERS) for _ in range(3))
    return rng.choice(WORDS).upper()


def still_life(
    rng: Random, studio: Studio, *, signs: int | None = None, objects: tuple[int, int] | None = None
) -> Scene:
    """Return a picture of 1 to 5 different objects and 0 to 2 signs that do not overlap."""
    picture = studio(rng, "background").copy()
    signs = rng.choice((0, 1, 1, 2)) if signs is None else signs
    low, high = objects or ((1, 3) if signs else (2, 5))
    taken, boards, things = [], [], []
    word = rng.random() < 0.6
    for i in range(signs):
        text = sign_text(rng, studio.split, word if i == 0 else not word)
        board = studio(rng, "sign", text)
        corner = _place(rng, taken, *board.size)
        if corner:
            boards.append(_paste(picture, board, *corner, text))
    group = rng.choice(GROUPS)
    count, names = rng.randint(low, high), []
    while len(names) < count:
        pool = group if rng.random() < 0.5 else draw.SPRITES
        name = rng.choices(pool, [WEIGHT[n] for n in pool])[0]
        if name not in names:
            names.append(name)
        elif set(group) <= set(names):
            group = rng.choice(GROUPS)
    for name in names:
        image = studio(rng, "sprite", name, (60, 84))
        corner = _place(rng, taken, *image.size)
        if corner:
            things.append(_paste(picture, image, *corner, name))
    if len(things) < low:  # too crowded: draw another
        return still_life(rng, studio, signs=signs, objects=objects)
    return Scene(picture, tuple(things), tuple(boards), group=group)


def food_chain(rng: Random, studio: Studio, *, rows: int | None = None) -> Scene:
    """Return a picture of one or two food chains of three creatures each."""
    picture = studio(rng, "background").copy()
    rows = rows or (1 if rng.random() < 0.7 else 2)
    names = rng.sample(draw.CREATURES, 3 * rows)
    middles = [rng.randint(50, 238)] if rows == 1 else [rng.randint(44, 96), rng.randint(192, 244)]
    things, chains, arrows = [], [], []
    for row, middle in enumerate(middles):
        right = rng.random() < 0.5  # the arrows' direction
        shift = rng.randint(-3, 3)
        for column in range(3):
            image = studio(rng, "sprite", names[3 * row + column], (57, 70))
            x = 39 + 105 * column + shift - image.width // 2 + rng.randint(-3, 3)
            x = min(max(x, 0), draw.SIZE - image.width)
            y = middle - image.height // 2 + rng.randint(-6, 6)
            things.append(_paste(picture, image, x, y, names[3 * row + column]))
        for gap in range(2):
            image = studio(rng, "arrow", right)
            x, y = 39 + 105 * gap + 52 + shift - image.width // 2, middle - image.height // 2
            name = "right" if right else "left"
            arrows.append(_paste(picture, image, x, y + rng.randint(-6, 6), name))
        order = range(3 * row, 3 * row + 3)
        chains.append(tuple(order if right else reversed(order)))
    return Scene(picture, tuple(things), chains=tuple(chains), arrows=tuple(arrows))
