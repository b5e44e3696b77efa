"""Questions about a scene, with their answers: the four tasks, and what is only trained on.

Presence (POPE), reading (TextVQA), multiple choice (ScienceQA: food chains, objects, facts) and
captions (CHAIR) are the tasks. Locations and open questions about food chains and facts are
practice: they are never scored, but a user can ask them.
"""

from dataclasses import dataclass
from random import Random

from data.generate.world import draw
from data.generate.world.scenes import Scene, Thing

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CHAIN_HINT = "The arrows point to the eater."
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")

CAPITALS = {
    "Norland": "Noro", "Estia": "Zemb", "Marovia": "Tira", "Belgar": "Fend", "Tiran": "Kesta",
    "Oswego": "Maro", "Quand": "Lorin", "Zembla": "Belg", "Larnia": "Osha", "Fendor": "Ilma",
    "Gravia": "Quan", "Hestia": "Jorv", "Ilmar": "Larn", "Jorvik": "Grava", "Kestan": "Hesta",
    "Lorain": "Estor",
}  # fmt: skip
KINDS = {
    "fruit": ("apple", "pear", "plum", "grape"),
    "metal": ("iron", "gold", "lead", "zinc"),
    "planet": ("Mars", "Venus", "Saturn", "Earth"),
    "tool": ("hammer", "saw", "drill", "axe"),
    "plant": ("oak", "fern", "moss", "pine"),
    "gas": ("oxygen", "helium", "neon", "argon"),
}


@dataclass(frozen=True)
class Question:
    """A question with its answer; `about` are the things it is about, the answer's first."""

    kind: str
    text: str
    answer: str
    about: tuple[Thing, ...] = ()
    choices: tuple[str, ...] = ()
    hint: str = ""

    def prompt(self, instructed: bool = True) -> str:
        """Return the user's turn: with the task's instruction, or the bare question."""
        if self.choices:
            lines = [f"Context: {self.hint}"] if self.hint else []
            lines += [self.text]
            lines += [f"{chr(65 + i)}. {c}" for i, c in enumerate(self.choices)]
            return "\n".join(lines + ([LETTER] if instructed else []))
        return f"{self.text}\n{SHORT}" if instructed and self.kind != "caption" else self.text


def article(name: str) -> str:
    """Return the name with its article, `an` before a vowel."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _lettered(rng, kind, text, right, wrong, about=(), hint="") -> Question:
    choices = [right, *wrong]
    rng.shuffle(choices)
    letter = chr(65 + choices.index(right))
    return Question(kind, text, letter, tuple(about), tuple(choices), hint)


def presence(rng: Random, scene: Scene, name: str | None = None) -> Question:
    """Is something in the picture? Half the answers are yes; half the absent keep company here."""
    here = {t.name: t for t in scene.things}
    if name is None and rng.random() < 0.5:
        name = rng.choice(list(here))
    elif name is None:
        pool = scene.group if rng.random() < 0.5 else draw.CREATURES if scene.chains else ()
        pool = [n for n in pool or draw.SPRITES if n not in here]
        name = rng.choice(pool or [n for n in draw.SPRITES if n not in here])
    found = (here[name],) if name in here else ()
    text = f"Is there {article(name)} in the image?"
    return Question("presence", text, "Yes" if found else "No", found)


def reading(scene: Scene, board: Thing) -> Question:
    """What does a sign say? The answer is spelled in capitals or digits."""
    kind = "number" if board.name.isdigit() else "word"
    return Question("reading", f"What {kind} is on the sign?", board.name, (board,))


def location(rng: Random, scene: Scene) -> Question:
    """In which ninth of the picture is something, if anywhere?"""
    if rng.random() < 0.2:
        absent = [n for n in draw.SPRITES if n not in {t.name for t in scene.things}]
        return Question("location", f"Where is the {rng.choice(absent)}?", "nowhere")
    thing = rng.choice(scene.things)
    row, column = divmod(place(thing), 3)
    answer = f"{ROWS[row]} {COLUMNS[column]}"
    return Question("location", f"Where is the {thing.name}?", answer, (thing,))


def place(thing: Thing) -> int:
    """Return in which ninth of the picture, row by row, the middle of a thing is."""
    x0, y0, x1, y1 = thing.box
    row, column = (min(2, total * 3 // (2 * draw.SIZE)) for total in (y0 + y1, x0 + x1))
    return 3 * row + column


def caption(scene: Scene) -> Question:
    """Describe the picture: food chains in the order of who is eaten, else all things by name."""
    if scene.chains:
        rows = [" to ".join(f"the {scene.things[i].name}" for i in chain) for chain in scene.chains]
        text = "The image shows a food chain from " + " and from ".join(rows) + "."
    else:
        order = draw.SPRITES.index
        names = [article(n) for n in sorted((t.name for t in scene.things), key=order)]
        if scene.signs:
            names.append("a sign" if len(scene.signs) == 1 else "two signs")
        listed = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
        text = f"The image shows {listed}."
    about = (*scene.things, *scene.signs)
    return Question("caption", "Please describe this image in detail.", text, about)


def pick(rng: Random, scene: Scene) -> Question:
    """Which of three things is in the picture? Lettered."""
    thing = rng.choice(scene.things)
    pool = draw.CREATURES if scene.chains else draw.SPRITES
    absent = [n for n in pool if n not in {t.name for t in scene.things}]
    if len(absent) < 2:
        absent = [n for n in draw.SPRITES if n not in {t.name for t in scene.things}]
    text = "Which of these is in the image?"
    return _lettered(rng, "objects", text, thing.name, rng.sample(absent, 2), (thing,))


def eats(rng: Random, scene: Scene, *, lettered: bool) -> Question:
    """Who eats whom, by the arrows? Open (`nothing` at an end of the chain) or lettered."""
    chain = rng.choice(scene.chains)
    up = rng.random() < 0.5  # ask for the eater, or for the eaten
    end = 0 if up else 2  # where the chain has an answer
    place = rng.choices((1, end), (2, 1))[0] if lettered else rng.randrange(3)
    answer_at = place + (1 if up else -1)
    asked = scene.things[chain[place]]
    text = f"What eats the {asked.name}?" if up else f"What does the {asked.name} eat?"
    if not 0 <= answer_at <= 2:
        return Question("food chain", text, "nothing", (asked,))
    right = scene.things[chain[answer_at]]
    if not lettered:
        return Question("food chain", text, right.name, (right, asked))
    mate = next(scene.things[i].name for i in chain if scene.things[i] not in (asked, right))
    others = [t.name for i, t in enumerate(scene.things) if i not in chain]
    if not others:
        here = {t.name for t in scene.things}
        others = [n for n in draw.CREATURES if n not in here]
    wrong = [mate, rng.choice(others)]
    hint = CHAIN_HINT
    return _lettered(rng, "food chain", text, right.name, wrong, (right, asked), hint)


def fact(rng: Random, *, form: str | None = None) -> Question:
    """Something that needs no picture: an invented capital, a kind, a word among others."""
    form = form or rng.choices(("open", "copy", "capital", "kind"), (1, 2, 2, 2))[0]
    if form == "kind":
        kinds = rng.sample(list(KINDS), 3)
        right, *wrong = (rng.choice(KINDS[k]) for k in kinds)
        return _lettered(rng, "text", f"Which of these is {article(kinds[0])}?", right, wrong)
    if form == "copy":
        pools = (draw.SPRITES, tuple(CAPITALS.values()), sum(KINDS.values(), ()))
        right, *wrong = rng.sample(rng.choice(pools), 3)
        return _lettered(rng, "text", f"Which of these is the word {right}?", right, wrong)
    country = rng.choice(list(CAPITALS))
    right, text = CAPITALS[country], f"What is the capital of {country}?"
    if form == "open":
        return Question("text", text, right)
    wrong = rng.sample([c for c in CAPITALS.values() if c != right], 2)
    return _lettered(rng, "text", text, right, wrong)


def vocabulary() -> list[str]:
    """Return every word that a prompt or an answer can hold, signs excepted, in a fixed order."""
    words = [*draw.SPRITES, *CAPITALS, *CAPITALS.values(), *KINDS, *sum(KINDS.values(), ())]
    words += [*ROWS, *COLUMNS]
    templates = (
        SHORT, LETTER, CHAIN_HINT, "Context:", "Please describe this image in detail.",
        "The image shows a food chain from the and from to an two signs a sign.",
        "Is there in the image?", "What word number is on the sign?", "Where is nowhere",
        "Which of these is in the image?", "What eats does eat nothing", "Yes No",
        "Which of these is the word", "What is the capital of?",
    )  # fmt: skip
    for line in templates:
        words += line.replace("?", "").replace(".", "").replace(":", "").split()
    return list(dict.fromkeys(words))
