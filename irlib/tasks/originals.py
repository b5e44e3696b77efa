"""Rows of a task from the files that its authors publish, beside a folder of pictures.

Found by their names in a folder: POPE's question files (coco_pope_*.json, either edition), COCO's
annotations for CHAIR, TextVQA's TextVQA_0.5.1_*.json and ScienceQA's problems.json. Rows come out
with the hub's columns; `image` is a file's name, looked for in the folders of `PICTURES`.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from types import MappingProxyType

PICTURES = ("", "images", "val2014", "train2014", "val2017", "train_images", "images/test", "test")


def published(task: str, folder: Path) -> bool:
    """Return whether a folder holds a task's published files.

    >>> published("pope", Path(__file__).parent)
    False
    """
    return any(folder.glob(_FILES[task][0]))


def rows(task: str, folder: Path, *, split: str | None = None) -> list[dict]:
    """Return the rows of a task's published files, of one split where they have several.

    Splits are "val" (default) or "train" for COCO and TextVQA; "test" (default), "val", "minival",
    "minitrain" or "train" for ScienceQA. Raises ValueError for a file that does not read, naming
    it, FileNotFoundError for a split whose files are not there.
    """
    return list(_FILES[task][1](folder, split))


def _pope(folder: Path, split: str | None) -> Iterator[dict]:
    for path in sorted(folder.glob(_FILES["pope"][0])):
        category = path.stem.removeprefix("coco_pope_")
        for number, line in enumerate(_text(path).split("\n"), 1):
            if not line.strip():
                continue
            row = _parsed(line, f"{path}, line {number}", "question_id image text label".split())
            if split in (None, category):
                yield {
                    "question_id": row["question_id"],
                    "question": row["text"],
                    "answer": row["label"],
                    "category": category,
                    "image": row["image"],
                    "image_source": Path(row["image"] or "").stem,
                }


def _textvqa(folder: Path, split: str | None) -> Iterator[dict]:
    told = _read(folder / f"TextVQA_0.5.1_{split or 'val'}.json", ["data"])
    for row in _named(told["data"], ["image_id"], folder):
        yield row | {"image": f"{row['image_id']}.jpg"}


def _scienceqa(folder: Path, split: str | None) -> Iterator[dict]:
    problems = _read(folder / "problems.json", [])
    _named(problems.values(), ["split", "image"], folder)
    for pid, row in sorted(problems.items(), key=lambda named: (len(named[0]), named[0])):
        if row["split"] == (split or "test"):
            picture = f"{pid}/{row['image']}" if row["image"] else None
            yield row | {"pid": pid, "image": picture}


def _coco(folder: Path, split: str | None) -> Iterator[dict]:
    year = f"{split or 'val'}2014"
    said, there = defaultdict(list), defaultdict(set)
    wanted = ["images", "annotations"]
    captions = _read(folder / f"annotations/captions_{year}.json", wanted)
    instances = _read(folder / f"annotations/instances_{year}.json", [*wanted, "categories"])
    for told, needed in (
        (captions["annotations"], ["image_id", "caption"]),
        (captions["images"], ["id", "file_name"]),
        (instances["annotations"], ["image_id", "category_id"]),
        (instances["categories"], ["id", "name"]),
    ):
        _named(told, needed, folder)
    names = {category["id"]: category["name"] for category in instances["categories"]}
    for one in captions["annotations"]:
        said[one["image_id"]].append(one["caption"])
    unknown = {one["category_id"] for one in instances["annotations"]} - names.keys()
    if unknown:
        raise ValueError(
            f"rows were asked for from {folder}; its instances are of categories {sorted(unknown)} "
            "that it does not name; take captions and instances of one release."
        )
    for one in instances["annotations"]:
        there[one["image_id"]].add(names[one["category_id"]])
    for image in sorted(captions["images"], key=lambda image: image["id"]):
        yield {
            "question_id": image["id"],
            "image": image["file_name"],
            "gt_object": sorted(there[image["id"]]),
            "captions": said[image["id"]],
        }


_FILES = MappingProxyType(
    {
        "pope": ("coco_pope_*.json", _pope),
        "textvqa": ("TextVQA_0.5.1_*.json", _textvqa),
        "scienceqa": ("problems.json", _scienceqa),
        "chair": ("annotations/captions_*2014.json", _coco),
    }
)


def _named(rows: Collection, names: list[str], folder: Path) -> Collection:
    """The rows, each of which has these names."""
    for number, row in enumerate(rows, 1):
        if missing := [name for name in names if not isinstance(row, dict) or name not in row]:
            raise ValueError(
                f"rows were asked for from {folder}; row {number} has no {', '.join(missing)}; "
                "take the file as its authors publish it."
            )
    return rows


def _read(path: Path, names: list[str]) -> dict:
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.json")))
        raise FileNotFoundError(
            f"rows were asked for from {path}; there are {there or 'no such files'}; put it there, "
            "or name another split="
        )
    return _parsed(_text(path), str(path), names)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"rows were asked for from {path}; it is no text in UTF-8 ({error.reason}); fetch the "
            "file again."
        ) from error


def _parsed(text: str, where: str, names: list[str]) -> dict:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"rows were asked for from {where}; it is no JSON ({error}); fetch the file again."
        ) from error
    missing = [name for name in names if not isinstance(told, dict) or name not in told]
    if missing or not isinstance(told, dict):
        raise ValueError(
            f"rows were asked for from {where}; it has no {', '.join(missing) or 'names'}; take "
            "the file as its authors publish it."
        )
    return told
