"""Rows of one's own as samples: which columns mean what, and every fault of them told at once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase as LETTERS
from types import MappingProxyType

from irlib import doors
from irlib.tasks import cells, picking, reader, tables, wording
from irlib.tasks.samples import Sample

COLUMNS = MappingProxyType({  # by meaning, the names that a column may have
    "image": tables.IMAGE,
    "question": ("question",),
    "answer": ("answer",),
    "answers": ("answers",),
    "options": ("options", "choices"),
    "boxes": ("boxes",),
    "key": ("key", "id", "question_id"),
    "kind": ("kind", "category"),
})  # fmt: skip
NEW_TOKENS = (32, 128)  # of an answer that is compared, and of one that is not
SHOWN = 20


def load_own(
    source,
    *,
    columns: Mapping[str, str | Sequence[str] | None] | None = None,
    question: str | None = None,
    n: int | None = None,
    kind: str | None = None,
    part: str | None = None,
    per_picture: int | None = None,
    keys: Sequence | str | Path | None = None,
    config: str | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    style: str = "llava",
    max_new_tokens: int | None = None,
    seed: int = 0,
    revision: str | None = None,
) -> list[Sample]:
    """Return the samples of one's own table, task "own"; all that is wrong with it is told at once.

    Raises ValueError that names table, rows (from 1, without the header) and columns.
    """
    names, rows = tables.read(
        source, image=(columns or {}).get("image"), images=images, config=config, split=split,
        revision=revision,
    )  # fmt: skip
    found, lettered = _columns(rows.place, names, columns or {}, question)
    wording.check_style("own", style)
    length = NEW_TOKENS[not {"answer", "answers"} & found.keys()]
    length = doors.count("max_new_tokens", max_new_tokens or length, least=1)
    samples, faults, seen = {}, [], {}
    for i, row in enumerate(rows.plain):
        made, wrong = _meaning(rows, i, dict.fromkeys(names) | row, found, lettered, question)
        key = made.pop("key", f"{i + 1:05d}")
        if key in seen:
            wrong.append(
                f"row {i + 1}, column {found['key']!r}: {key!r} is the name of row {seen[key]} "
                "too; name each once, or number them with columns={'key': None}"
            )
        seen.setdefault(key, i + 1)
        faults += wrong
        if not wrong:
            samples[key] = _sample(key, made, style, length)
    if faults:
        many = len(rows.plain)
        told = "\n".join(f"  {fault}" for fault in faults[:SHOWN])
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(
            f"rows of your own were asked for from {rows.place}; {many - len(samples)} of {many} "
            f"cannot be asked or scored:\n{told}{more}\nmend these cells, or leave the rows out"
        )
    places = {key: seen[key] - 1 for key in samples}
    chosen = picking.pick(
        {key: [sample.kind] for key, sample in samples.items()}, "your own", rows.place,
        unit=lambda key: rows.identify(places[key], whose=f"row {key}"),
        kind=kind, part=part, per_picture=per_picture, keys=keys, n=n, seed=seed,
    )  # fmt: skip
    return [samples[key] for key in chosen]


def _columns(
    place: str, names: Sequence[str], given: Mapping, question: str | None
) -> tuple[dict[str, str], list[str]]:
    """The column of each meaning that there is, and those named A, B, C, ... in order."""
    doors.kind("columns", given, Mapping, give="a dict such as {'image': 'photo'}")
    asked = f"rows of your own were asked for from {place}; it has the columns {', '.join(names)}"
    if strange := [name for name in given if name not in COLUMNS]:
        raise ValueError(
            f"{asked}; found no meaning {', '.join(map(repr, strange))}; columns= names those of "
            f"{', '.join(COLUMNS)}"
        )
    many = {name: place for name, place in given.items() if isinstance(place, list | tuple)}
    if wrong := [name for name in many if name != "image"]:
        raise ValueError(
            f"{asked}; found several columns for {wrong[0]}; name one: only pictures may be several"
        )
    several = list(many.get("image", ()))
    if many and (not several or None in several):
        raise ValueError(f"{asked}; columns= gives {several} for image; name each column")
    places = [place for name, place in given.items() if name not in many and place is not None]
    if gone := [place for place in [*several, *places] if place not in names]:
        raise ValueError(f"{asked} but no {', '.join(map(repr, gone))}; correct columns=")
    found = {name: given[name] if name in given else tables.named(ways, names)
             for name, ways in COLUMNS.items()}  # fmt: skip
    found = {name: place for name, place in found.items() if place is not None}
    lettered = [letter for letter in LETTERS if letter in names] if "A" in names else []
    if lettered != list(LETTERS[: len(lettered)]) or len(lettered) < 2:
        lettered = []
    if question is not None:
        found.pop("question", None)
    wanted = ["image", *["question"] * (question is None)]
    wanted += ["answer"] * bool("options" in found or lettered)
    if lost := [name for name in wanted if name not in found]:
        hint = "; one question for all rows is question=" * ("question" in lost)
        raise ValueError(
            f"{asked} but none for {' and '.join(lost)}; name it so, or say which it is with "
            f"columns={{{lost[0]!r}: ...}}{hint}"
        )
    both = [name for name in ("answer", "answers", "options") if name in found]
    if {"answer", "answers"} <= {*both} or ("answers" in both and (lettered or "options" in both)):
        raise ValueError(
            f"{asked}; {' and '.join(both)} are too many to tell what is right; leave some out "
            "with columns={'answers': None}"
        )
    return found, lettered


def _meaning(
    rows: reader.Rows,
    i: int,
    row: Mapping,
    found: Mapping,
    lettered: Sequence,
    question: str | None,
) -> tuple[dict, list[str]]:
    """What a row's cells mean, and what is wrong with those that mean nothing."""
    made, wrong = {"question": question, "boxes": (), "kind": ""}, []

    def take(name: str, mean: Callable, *told, **more) -> None:
        try:
            made[name] = mean(*told, **more)
        except (ValueError, FileNotFoundError) as error:
            column = found.get(name) or "".join(lettered)
            wrong.append(f"row {i + 1}, column {column!r}: {error}")

    known = {name: row[column] for name, column in found.items() if name != "image"}
    take("image", _picture, rows, i)
    for name, mean in (("question", cells.text), ("boxes", cells.boxes), ("key", cells.answer)):
        if name in known:
            take(name, mean, known[name])
    count = len(made["image"]) if isinstance(made.get("image"), tuple) else 1
    lost = [box.picture for box in made["boxes"] if box.picture >= count]
    if "image" in made and lost:
        wrong.append(
            f"row {i + 1}, column {found['boxes']!r}: has a box on picture {lost[0]}, found "
            f"{count}, which count from 0"
        )
    if "kind" in known and not cells.missing(known["kind"]):
        made["kind"] = str(known["kind"])
    if "options" in found or lettered:
        take("options", cells.options, row, lettered, found.get("options"))
        if "options" in made:
            take("answer", cells.right, known["answer"], made["options"])
    else:
        for name in {"answer", "answers"} & known.keys():
            take(name, cells.answers, known[name], divided=name == "answers")
    return made, wrong


def _picture(rows: reader.Rows, i: int):
    """A row's picture or pictures, whose files begin as one does."""
    cell = rows.cell(i)
    several = cell if isinstance(cell, list) and cell else [cell]
    for number, one in enumerate(several):
        where = f" at picture {number}" if len(several) > 1 else ""
        nothing = (isinstance(one, dict) and not any(one.values())) or one == []
        if nothing or cells.missing(one):
            raise ValueError(f"is empty{where}; name a picture")
        if not isinstance(one, str | bytes | dict):
            raise ValueError(
                f"is a {type(one).__name__}{where}; name a file, or give a file's bytes"
            )
    return rows.image(i, whose="", checked=True)


def _sample(key: str, made: dict, style: str, length: int) -> Sample:
    reference = {}
    if "options" in made:
        reference = {"choices": made["options"], "answer": made["answer"]}
    elif said := made.get("answers") or made.get("answer"):
        reference = {"answers": said}
    words = {"question": made["question"], **reference}
    return Sample(
        task="own", key=key, question=made["question"],
        prompt=wording.prompt("own", words, style=style), image=made["image"],
        reference=reference, boxes=made["boxes"], kind=made["kind"], max_new_tokens=length,
    )  # fmt: skip
