"""Rows that find and rows that judge share no picture, whatever it is called and stored as."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from datasets import disable_progress_bars
from PIL import Image, ImageOps
from rows import lay, pope_rows, scienceqa_rows, textvqa_rows
from test_bad_pictures import saved

from irlib.tasks import picking, pictures, reader
from irlib.tasks.loading import load_task
from irlib.tasks.protocols import TASKS

disable_progress_bars()


def noise(seed: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    """Grey noise: the same picture in colour, in grey and turned is told apart by no reader."""
    values = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    return Image.fromarray(values)


def turned(picture: Image.Image) -> bytes:
    """The picture stored on its side, and a note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


STORED = (
    lambda picture: saved(picture, "PNG"),
    lambda picture: saved(picture, "PNG", compress_level=0),
    lambda picture: saved(picture.convert("RGB"), "WEBP", lossless=True),
    lambda picture: saved(picture.convert("RGBA"), "TIFF"),
    turned,
)


def pixels(image) -> tuple:
    """A picture as anybody sees it: the oracle, which knows no hash."""
    if isinstance(image, pictures.Embedded):
        image = io.BytesIO(image.encoded)
    picture = image if isinstance(image, Image.Image) else Image.open(image)
    shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    return shown.shape, shown.tobytes()


@pytest.fixture(params=["embedded", "named"])
def many(tmp_path, request):
    """A folder of POPE's: twenty pictures, each stored in five ways; and where the files are."""
    rows = pope_rows(100)
    for i, row in enumerate(rows):
        data = STORED[i % 5](noise(i // 5))
        (tmp_path / f"{i}.png").write_bytes(data)
        row["image"] = {"bytes": data, "path": None} if request.param == "embedded" else f"{i}.png"
    return lay(tmp_path / "pope", "pope", rows), tmp_path


def both(source, images, **options):
    return [load_task("pope", source=source, images=images, part=p, **options) for p in TOLD]


TOLD = ("find", "judge")


def test_the_parts_share_no_picture_and_leave_out_no_row(many):
    found, judged = both(*many)
    assert {pixels(s.image) for s in found}.isdisjoint(pixels(s.image) for s in judged)
    assert len({pixels(s.image) for s in [*found, *judged]}) == 20
    keys = [s.key for s in load_task("pope", source=many[0], images=many[1])]
    assert sorted(s.key for s in [*found, *judged]) == keys
    assert Counter(pixels(s.image) for s in [*found, *judged]) == dict.fromkeys(
        {pixels(s.image) for s in [*found, *judged]}, 5
    )


@pytest.mark.parametrize("options", [{"n": 9}, {"n": 9, "seed": 3}, {"kind": "random"}])
def test_no_draw_puts_a_row_into_the_other_part(many, options):
    for whole, some in zip(both(*many), both(*many, **options), strict=True):
        assert {s.key for s in some} <= {s.key for s in whole}
        assert len(some) == options.get("n", len(some)) > 0


def test_a_picture_is_in_the_same_part_in_every_task(tmp_path):
    places = {
        task: lay(tmp_path / task, task, [rows[i % len(rows)] | {"image": noise(i)} | name(i)
                                          for i in range(8)])
        for task, rows, name in (
            ("pope", pope_rows(1), lambda i: {"question_id": str(i)}),
            ("textvqa", textvqa_rows(), lambda i: {"question_id": i}),
        )
    }  # fmt: skip
    pope, textvqa = (
        [{pixels(s.image) for s in load_task(task, source=place, part=p)} for p in TOLD]
        for task, place in places.items()
    )
    assert pope == textvqa
    assert all(pope)


def test_rows_without_a_picture_are_parted_by_their_words(tmp_path):
    bare = scienceqa_rows()[-1]
    rows = [bare | {"question": f"What is {i // 2}?"} for i in range(40)]
    place = lay(tmp_path / "scienceqa", "scienceqa", rows)
    for style in ("llava", "bare"):
        found, judged = (load_task("scienceqa", source=place, part=p, style=style) for p in TOLD)
        assert {s.question for s in found}.isdisjoint(s.question for s in judged)
        assert len(found) + len(judged) == 40
        assert min(len(found), len(judged)) > 4
    assert len({s.key for s in load_task("scienceqa", source=place, part="find")}) == len(found)


@pytest.mark.parametrize("task", TASKS)
def test_each_part_of_the_bundle_has_about_half_of_its_pictures(task):
    shown = [{pixels(s.image) for s in load_task(task, part=p) if s.image} for p in TOLD]
    assert not shown[0] & shown[1]
    total = sum(map(len, shown))
    assert abs(len(shown[0]) - total / 2) < 4 * np.sqrt(total) / 2  # of fair throws


def test_fewer_rows_of_a_seed_are_among_more_of_them():
    few, more = (load_task("pope", part="judge", n=n, seed=2) for n in (30, 60))
    assert {s.key for s in few} < {s.key for s in more}
    assert few != load_task("pope", part="judge", n=30, seed=3)


@pytest.mark.parametrize("per_picture", [1, 2])
def test_of_one_picture_no_more_rows_are_taken_than_asked_for(many, per_picture):
    """Against counting them: as many as there are, and no picture more often."""
    source, images = many
    options = {"source": source, "images": images, "seed": 3}
    every = Counter(pixels(sample.image) for sample in load_task("pope", **options))
    options["per_picture"] = per_picture
    taken = load_task("pope", **options)
    counts = Counter(pixels(sample.image) for sample in taken)
    assert counts == {picture: min(n, per_picture) for picture, n in every.items()}
    fewer = load_task("pope", n=2, **options)
    assert {sample.key for sample in fewer} <= {sample.key for sample in taken}
    with pytest.raises(ValueError, match=f"{per_picture} a picture at most"):
        load_task("pope", n=len(taken) + 1, **options)


def test_no_more_pictures_are_read_than_are_needed(monkeypatch, many):
    asked, real = [], reader.Rows.identify

    def count(rows, row, *, whose):
        asked.append(row)
        return real(rows, row, whose=whose)

    monkeypatch.setattr(reader.Rows, "identify", count)
    (sample,) = load_task("pope", source=many[0], images=many[1], part="find", n=1)
    parts = [picking.part_of(pictures.identify(noise(row // 5))) for row in asked]
    assert parts == ["judge"] * (len(asked) - 1) + ["find"]
    assert pixels(sample.image) == pixels(noise(asked[-1] // 5))
    load_task("pope", source=many[0], images=many[1], n=1)
    assert len(asked) == len(parts)


def test_parts_come_apart_for_named_rows_too(many):
    found, _ = both(*many)
    keys = [s.key for s in load_task("pope", source=many[0], images=many[1], n=50)]
    some = load_task("pope", source=many[0], images=many[1], part="find", keys=keys)
    assert [s.key for s in some] == sorted({s.key for s in found} & {*keys})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "test"}, "the part 'test' of 'pope'; its parts are find and judge; take one"),
        ({"part": ""}, "the part '' of 'pope'"),
        ({"part": 1}, "the part 1 of 'pope'"),
        (
            {"part": "find", "n": 90},
            r"90 rows of 'pope', of the part 'find'; .* has \d\d such rows",
        ),
        ({"part": "find", "n": 0}, "0 rows of 'pope'"),
    ],
)
def test_a_part_that_is_not_there_is_refused(many, options, message):
    with pytest.raises(ValueError, match=message):
        load_task("pope", source=many[0], images=many[1], **options)


def test_a_row_that_cannot_be_parted_is_named(tmp_path):
    rows = [scienceqa_rows()[-1] | {"choices": None, "question": f"{i}?"} for i in range(2)]
    place = lay(tmp_path / "scienceqa", "scienceqa", rows)
    with pytest.raises(ValueError, match=r"row '0000\d' of .*, cannot be asked or scored: "):
        load_task("scienceqa", source=place, part="find")
    row = pope_rows(1)[0] | {"image": {"bytes": b"no picture", "path": "p.png"}}
    with pytest.raises(ValueError, match=r"row 'random/0' of .*: asked for the picture of 10 byt"):
        load_task("pope", source=lay(tmp_path / "pope", "pope", [row]), part="judge")


def test_a_picture_is_known_by_what_is_seen_of_it(tmp_path):
    names = {}
    for seed in range(5):
        image = noise(seed)
        (tmp_path / "p").write_bytes(turned(image))
        shown = [image, tmp_path / "p", str(tmp_path / "p"), *(form(image) for form in STORED)]
        names[seed] = {pictures.identify(one) for one in shown}
        assert len(names[seed]) == 1
    assert len(set.union(*names.values())) == 5
    flat = Image.new("RGB", (6, 4))  # as many pixels, all alike
    others = [Image.new("RGB", (4, 6)), Image.new("RGB", (8, 3)), Image.new("RGB", (6, 4), "#001")]
    assert len({pictures.identify(one) for one in [flat, *others]}) == 4
    assert pictures.identify(None) == ""
    assert json.dumps(pictures.identify(flat)).strip('"').isalnum()


@pytest.mark.parametrize("keys", [3, b"ab", 0.5])
def test_names_that_are_no_list_are_refused(keys):
    with pytest.raises(TypeError, match="give a list of names, or a file of them"):
        load_task("pope", keys=keys)


@pytest.mark.parametrize("name", ["keys", "source", "images"])
def test_a_home_of_nobody_is_told(name):
    with pytest.raises(ValueError, match="found no home of that name"):
        load_task("pope", **{name: "~nobody-here/rows"})
