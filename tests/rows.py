"""Rows of the four tasks with the hub's columns, and what lays them out as the hub does."""

import json
from pathlib import Path

from datasets import Dataset, Image
from PIL import Image as Picture

COCO = ("# forms: listed",), ("person", "man"), ("dog", "puppies"), ("dining table", "table")
BOX = {"label": "dog", "x0": 1.0, "y0": 2.0, "x1": 30.0, "y1": 40.0}


def picture(shade: int = 0) -> Picture.Image:
    return Picture.new("RGB", (48, 32), (shade, 90, 200))


def pope_rows(n: int = 6) -> list[dict]:
    return [
        {
            "id": str(i),
            "question_id": str(i // 2),  # it starts again in every category, as on the hub
            "question": "Is there a dog in the image?",
            "answer": "yes" if i % 3 else "no",
            "image_source": "p",
            "category": ("random", "popular")[i % 2],
            "image": picture(i),
            "boxes": [BOX],
        }
        for i in range(n)
    ]


def textvqa_rows() -> list[dict]:
    return [
        {
            "image_id": "p",
            "question_id": 7,
            "question": "what word is on the sign?",
            "image": picture(),
            "image_classes": ["word"],
            "answers": ["stop"] * 10,
            "ocr_tokens": ["STOP", "GO"],
        }
    ]


def scienceqa_rows() -> list[dict]:
    row = {"question": "What eats the fox?", "choices": ["owl", "cat"], "answer": 0, "hint": ""}
    return [
        row | {"topic": "food chain", "hint": "Arrows point to the eater.", "image": picture()},
        row | {"topic": "objects", "image": picture()},
        row | {"topic": "facts", "image": picture()},
        row | {"topic": "facts", "image": None},
    ]


def chair_rows() -> list[dict]:
    row = {"image": picture(), "question_id": 3, "gt_object": ["dog"], "captions": ["A big cat."]}
    return [row | {"boxes": [BOX]}]


ROWS = {
    "pope": pope_rows,
    "textvqa": textvqa_rows,
    "scienceqa": scienceqa_rows,
    "chair": chair_rows,
}


def lay(
    place: Path,
    task: str,
    rows: list[dict] | None = None,
    *,
    drop: str | None = None,
    pictures: tuple[str, ...] | None = None,
) -> Path:
    """Lay rows out in a folder as the hub does, a column dropped, and return the folder.

    `pictures` are the columns of that type: the image, where it is no name of a file.
    """
    table = Dataset.from_list(ROWS[task]() if rows is None else rows)
    if pictures is None:
        named = any(isinstance(row.get("image"), str | int) for row in table.to_list())
        pictures = () if named else ("image",)
    for name in pictures:
        table = table.cast_column(name, Image())
    if drop:
        table = table.remove_columns(drop)
    (place / "data").mkdir(parents=True, exist_ok=True)
    table.to_parquet(place / "data/test-00000-of-00001.parquet")
    config = "ScienceQA-FULL" if task == "scienceqa" else "default"
    (place / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n  data_files:\n"
        "  - split: test\n    path: data/test-*\n---\n"
    )
    if task == "chair":
        (place / "synonyms.txt").write_text("# forms: listed\ndog, puppy\ncat\n")
    return place


def coco_folder(place, *, captions: dict, instances: dict, year: str = "val2014"):
    """COCO's two annotation files and its pictures; images, annotations in no order at all."""
    (place / "annotations").mkdir(parents=True, exist_ok=True)
    (place / year).mkdir(exist_ok=True)
    images = [{"id": i, "file_name": f"COCO_{year}_{i:012d}.jpg"} for i in captions]
    for image in images:
        Picture.new("RGB", (4, 4)).save(place / year / image["file_name"])
    said = [{"image_id": i, "caption": text} for i, told in captions.items() for text in told]
    names = sorted({name for told in instances.values() for name in told})
    there = [
        {"image_id": i, "category_id": 7 + names.index(name)}
        for i, told in instances.items()
        for name in told
    ]
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(names)]
    whole = {"images": images, "annotations": there, "categories": categories}
    (place / f"annotations/instances_{year}.json").write_text(json.dumps(whole))
    whole = {"images": images, "annotations": said}
    (place / f"annotations/captions_{year}.json").write_text(json.dumps(whole))
    (place / "synonyms.txt").write_text("\n".join(", ".join(line) for line in COCO))
    return place
