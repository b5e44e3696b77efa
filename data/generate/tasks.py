"""Draw the bundled tasks: `python -m data.generate.tasks --seed S --rows N --out DIR`.

Rows have the hub's columns and layout (README.md with configs, data/test-*.parquet), plus
`boxes`: what the question is about and where it is, in pixels. No seed's pictures were trained on:
test colours and sign numbers are held out (draw.py, scenes.py). The same seed gives the same
bytes under constraints.txt.
"""

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value
from tqdm.auto import tqdm

from data.generate.world import draw, questions
from data.generate.world.scenes import Scene, Studio, Thing, food_chain, still_life

OUT = Path(__file__).parents[1] / "tasks"
ROWS = 500
TEXT, LONG, REAL = Value("string"), Value("int32"), Value("float32")
WORDS = List(TEXT)
BOXES = List({"label": TEXT, "x0": REAL, "y0": REAL, "x1": REAL, "y1": REAL})
STUDIO = Studio("test")


def encoded(scene: Scene, name: str) -> dict:
    """Return a picture as the hub stores it: encoded, here without loss."""
    out = io.BytesIO()
    scene.picture.save(out, "WEBP", lossless=True, quality=100, method=4)
    return {"bytes": out.getvalue(), "path": f"{name}.webp"}


def boxes_of(things: tuple[Thing, ...]) -> list[dict]:
    return [{"label": t.name} | dict(zip(("x0", "y0", "x1", "y1"), t.box)) for t in things]  # noqa: B905


def _scene(task: str, seed: int, i: int, draw_scene: Callable[[Random], Scene]) -> Scene:
    return draw_scene(Random(f"test/{task}/{seed}/{i}"))


POPE = Features(
    id=TEXT, question_id=TEXT, question=TEXT, answer=TEXT, image_source=TEXT, image=Image(),
    category=TEXT, boxes=BOXES,
)  # fmt: skip
CATEGORIES = ("random", "popular", "adversarial")


def pope(seed: int, rows: int) -> dict[str, list[dict]]:
    """Return rows by category: of each of `rows // 2` pictures three questions to say yes to, and
    three no.

    What is there is asked for in every category alike. As in POPE, what is absent is picked at
    random, by how common it is, or by how often it is seen together with what is there.
    """
    count = rows // 2
    scenes = [
        _scene("pope", seed, i, lambda rng: still_life(rng, STUDIO, signs=0, objects=(3, 5)))
        for i in tqdm(range(count), desc="pope")
    ]
    names = [[t.name for t in s.things] for s in scenes]
    common = Counter(n for here in names for n in here)
    together = Counter((a, b) for here in names for a in here for b in here if a != b)
    made = {category: [] for category in CATEGORIES}
    for i, (scene, here) in enumerate(zip(scenes, names, strict=True)):
        rng = Random(f"test/pope questions/{seed}/{i}")
        absent = [n for n in draw.SPRITES if n not in here]
        rng.shuffle(absent)
        picks = {
            "random": absent,
            "popular": sorted(absent, key=lambda n: -common[n]),
            "adversarial": sorted(absent, key=lambda n: -sum(together[n, h] for h in here)),
        }
        yes = rng.sample(here, 3)
        source = f"WORLD_test_{i:012d}"
        image = encoded(scene, source)
        for category in CATEGORIES:
            for name in (n for pair in zip(yes, picks[category], strict=False) for n in pair):
                question = questions.presence(rng, scene, name)
                number = len(made[category])
                made[category].append(
                    {
                        "id": str(number),
                        "question_id": str(number + 1),
                        "question": question.text,
                        "answer": question.answer.lower(),
                        "image_source": source,
                        "image": image,
                        "category": category,
                        "boxes": boxes_of(question.about),
                    }
                )
    return made


TEXTVQA = Features(
    image_id=TEXT, question_id=LONG, question=TEXT, question_tokens=WORDS, image=Image(),
    image_width=LONG, image_height=LONG, flickr_original_url=TEXT, flickr_300k_url=TEXT,
    answers=WORDS, image_classes=WORDS, set_name=TEXT, ocr_tokens=WORDS, boxes=BOXES,
)  # fmt: skip


def textvqa(seed: int, rows: int) -> list[dict]:
    """Return one row a sign, with ten people's answers of whom up to two misread the question."""
    made: list[dict] = []
    progress = tqdm(total=rows, desc="textvqa")
    i = 0
    while len(made) < rows:
        scene = _scene(
            "textvqa", seed, i, lambda rng: still_life(rng, STUDIO, signs=rng.randint(1, 2))
        )
        rng = Random(f"test/textvqa answers/{seed}/{i}")
        name = f"{i:06d}"
        image = encoded(scene, name)
        for board in scene.signs[: rows - len(made)]:
            question = questions.reading(scene, board)
            asked = question.text.lower()
            answers = [board.name.lower()] * 10
            for place in rng.sample(range(10), rng.randint(0, 2)):
                answers[place] = rng.choice(("sign", "unanswerable"))
            made.append(
                {
                    "image_id": name,
                    "question_id": len(made) + 1,
                    "question": asked,
                    "question_tokens": asked.replace("?", "").split(),
                    "image": image,
                    "image_width": draw.SIZE,
                    "image_height": draw.SIZE,
                    "flickr_original_url": "",
                    "flickr_300k_url": "",
                    "answers": answers,
                    "image_classes": ["number" if board.name.isdigit() else "word"],
                    "set_name": "test",
                    "ocr_tokens": [b.name for b in scene.signs],
                    "boxes": boxes_of(question.about),
                }
            )
            progress.update()
        i += 1
    progress.close()
    return made


SCIENCEQA = Features(
    image=Image(), question=TEXT, choices=WORDS, answer=Value("int8"), hint=TEXT, task=TEXT,
    grade=TEXT, subject=TEXT, topic=TEXT, category=TEXT, skill=TEXT, lecture=TEXT, solution=TEXT,
    boxes=BOXES,
)  # fmt: skip


def scienceqa(seed: int, rows: int) -> tuple[list[dict], list[dict]]:
    """Return the rows with a picture and those without one.

    Of `rows` that need their picture half are food chains and half ask which object is there;
    three fifths as many are facts beside a picture that does not matter, a fifth have none.
    """
    shares = {"food chain": rows // 2, "objects": rows - rows // 2, "facts": 3 * rows // 5}
    made: list[dict] = []
    for topic, count in shares.items():
        for i in tqdm(range(count), desc=f"scienceqa, {topic}"):
            scene = _scene(f"scienceqa {topic}", seed, i, _picture_for(topic))
            made.append(
                _science(topic, seed, i, scene) | {"image": encoded(scene, f"{topic}{i:05d}")}
            )
    bare = [_science("facts", seed, shares["facts"] + i, None) for i in range(rows // 5)]
    Random(f"test/scienceqa order/{seed}").shuffle(made)
    return made, bare


def _picture_for(topic: str) -> Callable[[Random], Scene]:
    def drawn(rng: Random) -> Scene:
        chain = rng.random() < {"food chain": 1.0, "objects": 0.0, "facts": 0.4}[topic]
        return food_chain(rng, STUDIO) if chain else still_life(rng, STUDIO)

    return drawn


def _science(topic: str, seed: int, i: int, scene: Scene | None) -> dict:
    rng = Random(f"test/scienceqa {topic} question/{seed}/{i}")
    if topic == "food chain":
        question = questions.eats(rng, scene, lettered=True)
        while not question.choices:
            question = questions.eats(rng, scene, lettered=True)
    elif topic == "objects":
        question = questions.pick(rng, scene)
    else:
        question = questions.fact(rng, form=rng.choice(("capital", "kind", "copy")))
    return {
        "image": None,
        "question": question.text,
        "choices": list(question.choices),
        "answer": ord(question.answer) - ord("A"),
        "hint": question.hint,
        "task": "closed choice",
        "grade": "grade1",
        "subject": "language science" if topic == "facts" else "natural science",
        "topic": topic,
        "category": topic,
        "skill": "Remember a fact" if topic == "facts" else "Look at the picture",
        "lecture": "",
        "solution": "",
        "boxes": boxes_of(question.about),
    }


CHAIR = Features(
    image=Image(), question_id=TEXT, gt_object=WORDS, captions=WORDS, boxes=BOXES
)  # fmt: skip


def chair(seed: int, rows: int) -> list[dict]:
    """Return one row a still life: what is there, and two captions."""
    made = []
    for i in tqdm(range(rows), desc="chair"):
        scene = _scene("chair", seed, i, lambda rng: still_life(rng, STUDIO))
        caption = questions.caption(scene)
        there = [t.name for t in scene.things] + (["sign"] if scene.signs else [])
        made.append(
            {
                "image": encoded(scene, f"{i:06d}"),
                "question_id": str(i),
                "gt_object": there,
                "captions": [caption.answer, caption.answer.replace("The image shows", "Here is")],
                "boxes": boxes_of((*scene.things, *scene.signs)),
            }
        )
    return made


def write_table(path: Path, features: Features, rows: list[dict]) -> None:
    """Write one parquet file; equal pictures of a row group are kept once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = Dataset.from_list(rows, features=features).data.table
    table = table.cast(features.arrow_schema)
    options = {"compression": "zstd", "dictionary_pagesize_limit": 2**26}
    pq.write_table(table, path, row_group_size=max(1, len(rows)), **options)


CARD = """---
license: mit
configs:
{configs}
---
# {title}

{text}

Drawn by `python -m data.generate.tasks --seed {seed} --rows {rows}`; pictures are 288 by 288
pixels. Columns are those of {hub}, plus `boxes`: what the question is about, and where it is, in
pixels. {count} rows.
"""


def _card(out: Path, title: str, hub: str, text: str, count: int, configs: dict, **drawn) -> None:
    lines: list[str] = []
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, files in splits.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {f}" for f in files)]
    card = CARD.format(
        configs="\n".join(lines), title=title, hub=hub, text=text, count=count, **drawn
    )
    (out / "README.md").write_text(card)


def _pope_folder(out: Path, seed: int, rows: int) -> None:
    made = pope(seed, rows)
    for category in CATEGORIES:
        write_table(out / f"Full/{category}-00000-of-00001.parquet", POPE, made[category])
    files = {c: [f"Full/{c}-00000-of-00001.parquet"] for c in CATEGORIES}
    configs = {"default": {"test": [f for part in files.values() for f in part]}, "Full": files}
    count = sum(map(len, made.values()))
    text = (
        f"Is something in the picture? {count // 18} pictures; of each six questions a category,\n"
        "half of them yes. What is there is asked for in all three categories alike, and what is\n"
        "not may be in several of them: count pictures, not questions."
    )
    _card(out, "POPE", "lmms-lab-encoder/POPE", text, count, configs, seed=seed, rows=rows)


def _textvqa_folder(out: Path, seed: int, rows: int) -> None:
    made = textvqa(seed, rows)
    file = "data/test-00000-of-00001.parquet"
    write_table(out / file, TEXTVQA, made)
    text = "What is on the sign? Ten answers a question; no number was on a sign in training."
    configs = {"default": {"test": [file]}}
    _card(
        out, "TextVQA", "lmms-lab-encoder/textvqa", text, len(made), configs, seed=seed, rows=rows
    )


def _scienceqa_folder(out: Path, seed: int, rows: int) -> None:
    pictured, bare = scienceqa(seed, rows)
    files = [f"data/test-{i:05d}-of-00002.parquet" for i in range(2)]
    write_table(out / files[0], SCIENCEQA, pictured)
    write_table(out / files[1], SCIENCEQA, bare)
    configs = {"ScienceQA-FULL": {"test": files}, "ScienceQA-IMG": {"test": files[:1]}}
    text = (
        "Lettered questions: food chains and objects need the picture; facts do not, though most "
        "stand beside one. The chains are invented picture by picture."
    )
    count = len(pictured) + len(bare)
    _card(
        out, "ScienceQA", "lmms-lab-encoder/ScienceQA", text, count, configs, seed=seed, rows=rows
    )


def _chair_folder(out: Path, seed: int, rows: int) -> None:
    made = chair(seed, rows)
    file = "data/test-00000-of-00001.parquet"
    write_table(out / file, CHAIR, made)
    many = {"fish": "fishes"}
    table = [f"{name}, {many.get(name, name + 's')}" for name in (*draw.SPRITES, "sign")]
    (out / "synonyms.txt").write_text("\n".join(["# forms: listed", *table]) + "\n")
    text = (
        "Pictures to describe, with the list of what is there. `synonyms.txt` is CHAIR's table; it "
        "lists every form of a word."
    )
    configs = {"default": {"test": [file]}}
    _card(out, "CHAIR", "tsunghanwu/mscoco_chair", text, len(made), configs, seed=seed, rows=rows)


FOLDERS = {
    "pope": _pope_folder,
    "textvqa": _textvqa_folder,
    "scienceqa": _scienceqa_folder,
    "chair": _chair_folder,
}


def write(out: Path, *, seed: int = 0, rows: int = ROWS) -> Iterator[Path]:
    """Write the four task folders below `out` and yield each when it is there.

    Raises ValueError for fewer than ten rows.
    """
    if rows < 10:
        raise ValueError(f"{rows} rows were asked for; a task needs all its kinds; ask for 10.")
    for name, folder in FOLDERS.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        folder(out / name, seed, rows)
        yield out / name


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.generate.tasks", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", type=int, default=ROWS, help="rows a task, 9 times as many of POPE"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    for folder in write(given.out, seed=given.seed, rows=given.rows):
        print(folder)


if __name__ == "__main__":
    main()
