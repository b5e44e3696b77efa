"""Pictures as they should not be: what can be read is read rightly, the rest names its row."""

import io
import struct
import zlib

import numpy as np
import pytest
from datasets import disable_progress_bars
from PIL import Image, ImageOps, features
from rows import lay, pope_rows

from irlib.tasks.loading import load_task
from irlib.tasks.pictures import FORMATS, open_picture

disable_progress_bars()
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))


def saved(picture: Image.Image, form: str, **options) -> bytes:
    made = io.BytesIO()
    picture.save(made, form, **options)
    return made.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    return saved(NOISE, "JPEG", exif=exif)


def clear() -> Image.Image:
    picture = NOISE.convert("RGBA")
    picture.putalpha(NOISE.convert("L"))
    return picture


def see_through() -> bytes:
    return saved(NOISE.quantize(16), "PNG", transparency=3)


def on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture.convert("RGB"), mask=picture.convert("RGBA").getchannel("A"))
    return white


def moving() -> bytes:
    frames = [NOISE.rotate(90 * i).quantize(32) for i in range(3)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def deep_grey() -> Image.Image:
    values = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    return Image.fromarray(values)


def no_width() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


READABLE = {  # the file, and what it must look like, by PIL; test_shades has every mode
    "CMYK": (saved(NOISE.convert("CMYK"), "JPEG"), lambda p: p.convert("RGB")),
    "turned by EXIF": (turned(), lambda p: ImageOps.exif_transpose(p).convert("RGB")),
    "RGBA": (saved(clear(), "PNG"), on_white),
    "palette, one colour transparent": (see_through(), on_white),
    "grey with alpha": (saved(clear().convert("LA"), "PNG"), on_white),
    "animated": (moving(), lambda p: p.convert("RGB")),
    "one pixel": (saved(NOISE.crop((0, 0, 1, 1)), "PNG"), lambda p: p.convert("RGB")),
    "16 bits of grey": (
        saved(deep_grey(), "PNG"),
        lambda p: Image.fromarray((np.asarray(p) // 256).astype(np.uint8)).convert("RGB"),
    ),
}
BROKEN = {
    "JPEG cut short": (saved(NOISE, "JPEG")[:600], "does not open"),
    "PNG cut short": (saved(NOISE, "PNG")[:900], "does not open"),
    "GIF cut short": (moving()[:500], "does not open"),
    "empty": (b"", "does not open"),
    "text": (b"not a picture at all", "does not open"),
    "no width": (no_width(), "does not open|without content"),
    "32 bits of grey": (
        saved(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"),
        "white is unknown",
    ),
}


def embedded(place, data: bytes):
    return lay(place, "pope", [pope_rows(1)[0] | {"image": {"bytes": data, "path": "p.jpg"}}])


def by_path(place, data: bytes):
    folder = lay(place, "pope", [pope_rows(1)[0] | {"image": "images/p.jpg"}])
    (folder / "images").mkdir()
    (folder / "images/p.jpg").write_bytes(data)
    return folder


@pytest.mark.parametrize("how", [embedded, by_path])
@pytest.mark.parametrize("name", READABLE)
def test_an_unusual_picture_is_read_as_pil_reads_it(tmp_path, how, name):
    data, oracle = READABLE[name]
    (sample,) = load_task("pope", source=how(tmp_path / "pope", data))
    seen, meant = open_picture(sample.image), oracle(Image.open(io.BytesIO(data)))
    assert seen.mode == "RGB"
    assert seen.size == meant.size
    assert seen.tobytes() == meant.tobytes()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_in_a_row_is_refused_with_the_row(tmp_path, tiny_llava, name):
    data, message = BROKEN[name]
    place = embedded(tmp_path / "pope", data)
    with pytest.raises(ValueError, match=rf"task 'pope', row 'random/0'(?s:.*){message}"):
        tiny_llava.prepare(load_task("pope", source=place))


@pytest.mark.parametrize("name", ["empty", "text", "no width"])
def test_what_is_no_picture_at_all_is_refused_when_its_row_is_read(tmp_path, name):
    data, message = BROKEN[name]
    place = embedded(tmp_path / "pope", data)
    with pytest.raises(ValueError, match=rf"row 'random/0' of {place}.*{message}"):
        load_task("pope", source=place)


@pytest.mark.parametrize("how", [embedded, by_path])
@pytest.mark.parametrize("form", ["EPS", "PDF"])
def test_nothing_but_raster_formats_is_opened_whatever_the_name(
    tmp_path, tiny_llava, monkeypatch, how, form
):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", start)
    data = saved(NOISE, form)
    with pytest.raises(ValueError, match=r"row 'random/0'.*does not open as one \(cannot identify"):
        tiny_llava.prepare(load_task("pope", source=how(tmp_path / "pope", data)))
    if form == "EPS":  # PIL would open it, and so would another column of pictures
        foreign = Image.open(io.BytesIO(data))
        with pytest.raises(ValueError, match=r"its format is EPS; give its picture.copy\(\)"):
            tiny_llava.prepare(image=foreign, question="What is it?")
        other = pope_rows(1)[0] | {"thumbnail": {"bytes": data, "path": None}}
        place = lay(tmp_path / "two", "pope", [other], pictures=("image", "thumbnail"))
        assert len(load_task("pope", source=place)) == 1


def test_every_format_is_one_that_pil_opens():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
    for form in FORMATS:
        if form in Image.SAVE and (form != "AVIF" or features.check("avif")):
            assert open_picture(saved(NOISE, form)).size == NOISE.size


@pytest.mark.parametrize(
    "fault",
    [
        struct.error("unpack requires 4 bytes"),
        SyntaxError("not a TIFF file"),
        ValueError("bad window"),
        RuntimeError("codec"),
        EOFError(),
        IndexError("tile"),
        OverflowError("size"),
        MemoryError(),
        NotImplementedError("colour space"),
    ],
)
def test_whatever_a_decoder_raises_is_told_as_the_rows(tmp_path, monkeypatch, fault):
    def fail(*_):
        raise fault

    (sample,) = load_task("pope", source=embedded(tmp_path / "pope", saved(NOISE, "PNG")))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match=r"row 'r': asked for .* does not open as one .*; give a"):
        open_picture(sample.image, whose="row 'r'")


LONG = "aGVsbG8" * 3000


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        (LONG, FileNotFoundError),
        (f"data:image/png;base64,{LONG}", FileNotFoundError),
        ({"bytes": None, "path": LONG}, FileNotFoundError),
        (LONG.encode(), ValueError),
        ([LONG], FileNotFoundError),
        (5, ValueError),
    ],
)
def test_a_cell_that_is_no_picture_is_told_shortly(tmp_path, cell, error):
    place = lay(tmp_path / "pope", "pope", [pope_rows(1)[0] | {"image": cell}], pictures=())
    with pytest.raises(error, match="row 'random/0' of") as told:
        load_task("pope", source=place)
    assert len(str(told.value)) < 2500  # the folders that were searched are long, too
    assert LONG not in str(told.value)
    assert LONG[:1000] not in str(told.value)


def test_a_name_of_20000_letters_is_told_shortly(tiny_llava):
    with pytest.raises(ValueError, match=r"\.\.\. \(21000 letters\)'") as told:
        tiny_llava.prepare(image=LONG, question="What is it?")
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_the_row_when_the_model_is_to_read_it(
    tmp_path, tiny_llava, name
):
    data, message = BROKEN[name]
    (sample,) = load_task("pope", source=by_path(tmp_path / "pope", data))
    with pytest.raises(
        ValueError, match=rf"task 'pope', row 'random/0'.*p\.jpg(?s:.*)({message})(?s:.*)give"
    ):
        tiny_llava.prepare(sample)


@pytest.mark.parametrize("side", [12, 40])  # PIL warns of the one and refuses the other
def test_a_picture_too_large_is_refused_and_not_warned_of(tmp_path, monkeypatch, recwarn, side):
    place = embedded(tmp_path / "pope", saved(NOISE.resize((side, side)), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"row 'random/0'.*too large .*pixels.*MAX_IMAGE_PIXELS"):
        load_task("pope", source=place)
    assert not [warning for warning in recwarn if "bomb" in str(warning.message)]


def test_a_picture_that_is_not_there_is_named_with_its_row_and_where_it_was_sought(
    tmp_path, tiny_llava, monkeypatch
):
    place = lay(tmp_path / "pope", "pope", [pope_rows(1)[0] | {"image": "gone.jpg"}])
    (place / "val2014").mkdir()
    with pytest.raises(
        FileNotFoundError, match=rf"row 'random/0'.*'gone.jpg'.* {place}, {place}/val2014.*images="
    ):
        load_task("pope", source=place)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"'gone.jpg', found no such file in {tmp_path};"):
        tiny_llava.prepare(image="gone.jpg", question="What is it?")


def escaping(place, how: str) -> tuple[str, str]:
    """What a row may say to reach p.png in a folder beside its own, and where it leads."""
    (place.parent / "beside").mkdir(exist_ok=True)
    NOISE.save(place.parent / "beside/p.png")
    if how == "link":
        (place / "p.png").symlink_to(place.parent / "beside/p.png")
    if how == "linked folder":
        (place / "images").symlink_to(place.parent / "beside")
    absolute = str(place.parent / "beside/p.png")
    told = {"up": "../beside/p.png", "absolute": absolute, "in and out": "data/../../beside/p.png"}
    return told.get(how, "p.png")


@pytest.mark.parametrize("how", ["up", "absolute", "in and out", "link", "linked folder"])
def test_a_row_that_leads_out_of_its_folder_is_refused_unless_images_names_where(tmp_path, how):
    place = tmp_path / "pope"
    place.mkdir()
    lay(place, "pope", [pope_rows(1)[0] | {"image": escaping(place, how)}])
    beside = tmp_path / "beside"
    with pytest.raises(
        ValueError,
        match=rf"row 'random/0'.* leads out of {place} to {beside}/p.png; .*{beside} with images=",
    ):
        load_task("pope", source=place)
    (sample,) = load_task("pope", source=place, images=beside)
    assert sample.image.resolve() == beside / "p.png"
    (tmp_path / "else").mkdir()
    with pytest.raises(ValueError, match=rf"leads out of {tmp_path}/else to {beside}/p.png"):
        load_task("pope", source=place, images=tmp_path / "else")


@pytest.mark.parametrize("how", ["whole", "round about", "link"])
def test_a_row_may_name_its_picture_in_any_way_that_stays_in_the_folder(tmp_path, how):
    place = tmp_path / "pope"
    (place / "own").mkdir(parents=True)
    NOISE.save(place / "own/p.png")
    (place / "linked.png").symlink_to("own/p.png")
    told = {"whole": f"{place}/own/p.png", "round about": "data/../own/p.png", "link": "linked.png"}
    lay(place, "pope", [pope_rows(1)[0] | {"image": told[how]}])
    (sample,) = load_task("pope", source=place)
    assert sample.image.resolve() == place / "own/p.png"


def test_a_snapshot_in_the_hubs_cache_is_made_of_links_to_beside_it(tmp_path):
    cache = tmp_path / "datasets--a--b"
    place = lay(cache / "snapshots/abc", "pope", [pope_rows(1)[0] | {"image": "p.png"}])
    (cache / "blobs").mkdir()
    NOISE.save(cache / "blobs/123", "PNG")
    (place / "p.png").symlink_to("../../blobs/123")
    rows = place / "data/test-00000-of-00001.parquet"
    rows.rename(cache / "blobs/456")
    rows.symlink_to("../../../blobs/456")
    assert load_task("pope", source=place)[0].image == place / "p.png"
    NOISE.save(tmp_path / "p.png")
    (place / "p.png").unlink()
    (place / "p.png").symlink_to(tmp_path / "p.png")
    with pytest.raises(ValueError, match=f"leads out of {cache}"):
        load_task("pope", source=place)


@pytest.mark.parametrize("how", ["card", "link"])
def test_a_card_or_a_link_that_leads_out_of_the_folder_is_refused(tmp_path, how):
    other = lay(tmp_path / "other", "pope") / "data"
    place = lay(tmp_path / "pope", "pope")
    if how == "card":
        card = (place / "README.md").read_text().replace("data/", "../other/data/")
        (place / "README.md").write_text(card)
    else:
        (place / "data/test-00000-of-00001.parquet").unlink()
        (place / "data/test-00000-of-00001.parquet").symlink_to(
            other / "test-00000-of-00001.parquet"
        )
    with pytest.raises(ValueError, match=rf"its card or a link leads out of it, to {other}/test-0"):
        load_task("pope", source=place)


def test_a_folder_in_place_of_a_picture_is_no_picture(tmp_path):
    place = lay(tmp_path / "pope", "pope", [pope_rows(1)[0] | {"image": "images"}])
    (place / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"row 'random/0'.*'images'"):
        load_task("pope", source=place)


def test_pictures_are_found_in_a_folder_of_their_own(tmp_path):
    place = lay(tmp_path / "pope", "pope", [pope_rows(1)[0] | {"image": "p.png"}])
    (tmp_path / "elsewhere").mkdir()
    NOISE.save(tmp_path / "elsewhere/p.png")
    (sample,) = load_task("pope", source=place, images=tmp_path / "elsewhere")
    assert sample.image == tmp_path / "elsewhere/p.png"
    with pytest.raises(FileNotFoundError, match="nowhere; there is no such folder"):
        load_task("pope", source=place, images=tmp_path / "nowhere")


def test_a_picture_without_pixels_is_refused(tiny_llava):
    with pytest.raises(ValueError, match=r"row 'picture'.*0 by 5 pixels"):
        tiny_llava.prepare(image=Image.new("RGB", (0, 5)), question="What is it?")


@pytest.mark.parametrize("nothing", [None, {"bytes": None, "path": None}])
def test_only_scienceqa_may_do_without_a_picture(tmp_path, nothing):
    rows = [row | {"image": {"bytes": turned(), "path": None}} for row in pope_rows(2)]
    place = lay(tmp_path / "pope", "pope", [rows[0], rows[1] | {"image": nothing}])
    with pytest.raises(ValueError, match=r"row 'popular/0' .*it has no picture"):
        load_task("pope", source=place)


@pytest.mark.parametrize("name", [None, "p.jpg"])
def test_bytes_are_a_picture_with_a_name_and_without(tmp_path, name):
    row = pope_rows(1)[0] | {"image": {"bytes": turned(), "path": name}}
    (sample,) = load_task("pope", source=lay(tmp_path / "pope", "pope", [row]))
    assert sample.image.size == (24, 40)


def test_one_pixel_goes_through_the_model(tiny_llava):
    answer = tiny_llava.answer(
        tiny_llava.prepare(image=Image.new("RGB", (1, 1)), question="What is it?"),
        max_new_tokens=2,
    )
    assert len(answer.texts) == 1
