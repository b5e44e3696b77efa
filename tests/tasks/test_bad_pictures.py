"""Pictures as they should not be: what can be read is read rightly, the rest names its row."""

import io
import struct
import zlib

import numpy as np
import pytest
from datasets import disable_progress_bars
from PIL import Image, ImageOps
from rows import lay, pope_rows

from irlib.tasks.loading import load_task
from irlib.tasks.pictures import open_picture

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


READABLE = {  # the file, and what it must look like, by PIL
    "CMYK": (saved(NOISE.convert("CMYK"), "JPEG"), lambda p: p.convert("RGB")),
    "turned by EXIF": (turned(), lambda p: ImageOps.exif_transpose(p).convert("RGB")),
    "RGBA": (saved(clear(), "PNG"), lambda _: NOISE),
    "palette, one colour transparent": (see_through(), lambda p: p.convert("RGB")),
    "grey with alpha": (saved(clear().convert("LA"), "PNG"), lambda p: p.convert("RGB")),
    "black and white": (saved(NOISE.convert("1"), "PNG"), lambda p: p.convert("RGB")),
    "animated": (moving(), lambda p: p.convert("RGB")),
    "one pixel": (saved(NOISE.crop((0, 0, 1, 1)), "PNG"), lambda p: p.convert("RGB")),
    "16 bits of grey": (
        saved(deep_grey(), "PNG"),
        lambda p: Image.fromarray((np.asarray(p) // 256).astype(np.uint8)).convert("RGB"),
    ),
    "16 bits of grey, TIFF": (
        saved(deep_grey(), "TIFF"),
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
def test_a_broken_picture_in_a_row_is_refused_with_the_row(tmp_path, name):
    data, message = BROKEN[name]
    place = embedded(tmp_path / "pope", data)
    with pytest.raises(ValueError, match=rf"task 'pope', row 'random/0'.*{place}(?s:.*){message}"):
        load_task("pope", source=place)


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


def test_a_picture_that_is_not_there_is_named_with_its_row_and_where_it_was_sought(tmp_path):
    place = lay(tmp_path / "pope", "pope", [pope_rows(1)[0] | {"image": "gone.jpg"}])
    with pytest.raises(FileNotFoundError, match=r"row 'random/0'.*'gone.jpg'.*images="):
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
