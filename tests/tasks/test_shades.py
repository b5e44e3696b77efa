"""What a model sees of a picture: what its own processor makes of the file, whatever the mode."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from transformers.image_transforms import convert_to_rgb

from irlib import load
from irlib.tasks.pictures import open_picture

MINIS = "instructblip internvl llava llava-next qwen2vl shikra".split()
NOISE = np.random.default_rng(1).integers(0, 256, (24, 40, 4), dtype=np.uint8)
RGBA = Image.fromarray(NOISE)
RGB = RGBA.convert("RGB")
DEEP = NOISE[..., 0].astype(np.uint16) * 257  # 16 bits of the same greys


def written(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    made = io.BytesIO()
    picture.save(made, form, **options)
    return made.getvalue()


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def turned(mode: str, form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 5
    return written(RGBA.convert(mode), form, exif=exif)


FILES = {  # those whose modes a processor knows
    "RGBA": written(RGBA),
    "all clear": written(Image.new("RGBA", (40, 24), (0, 0, 0, 0))),
    "LA": written(RGBA.convert("LA")),
    "PA": written(RGBA.quantize(16), transparency=bytes(range(0, 256, 16))),
    "P, one colour clear": written(RGB.quantize(16), transparency=3),
    "P": written(RGB.quantize(16)),
    "L, one grey clear": written(RGB.convert("L"), transparency=7),
    "RGB, one colour clear": written(RGB, transparency=tuple(map(int, NOISE[0, 0, :3]))),
    "1": written(RGB.convert("1")),
    "1, white clear": written(RGB.convert("1"), transparency=255),
    "CMYK": written(RGB.convert("CMYK"), "TIFF"),
    "CMYK, JPEG": written(RGB.convert("CMYK"), "JPEG"),
    "YCbCr": written(RGB.convert("YCbCr"), "TIFF"),
    "WebP, clear": written(RGBA, "WEBP", lossless=True),
    "WebP, moving": written(RGBA, "WEBP", save_all=True, append_images=[RGBA.rotate(180)]),
    "GIF, moving and clear": written(
        RGB.quantize(8), "GIF", transparency=2, save_all=True, append_images=[RGB.rotate(180)]
    ),
    "TIFF, two pages": written(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)]),
    "a colour profile": written(RGB, icc_profile=profile()),
    "turned": turned("RGB", "JPEG"),
    "turned and clear": turned("RGBA", "PNG"),
    "with a text": written(RGB, pnginfo=PngInfo()),
}


@pytest.mark.parametrize("name", MINIS)
def test_a_miniature_gets_what_its_own_processor_makes_of_the_file(name, tmp_path):
    vlm = load(f"mini-{name}", device="cpu")
    for case, data in FILES.items():
        path = tmp_path / f"{case}.img"
        path.write_bytes(data)
        with Image.open(path) as opened:
            wanted = vlm.processor.image_processor(
                images=[ImageOps.exif_transpose(opened)], return_tensors="pt"
            )["pixel_values"]
        inputs = vlm.prepare(image=path, question="What is it?")
        assert torch.equal(inputs.visual[0]["pixel_values"].cpu(), wanted), case
        assert inputs.pictures[0].mode == "RGB"  # what figures draw
        drawn = vlm.processor.image_processor(images=[inputs.pictures[0]], return_tensors="pt")
        assert torch.equal(drawn["pixel_values"], wanted), case


@pytest.mark.parametrize("case", FILES)
def test_a_files_bytes_are_seen_as_transformers_converts_them(case):
    with Image.open(io.BytesIO(FILES[case])) as opened:
        wanted = convert_to_rgb(ImageOps.exif_transpose(opened), return_numpy=True)
    assert np.array_equal(np.asarray(open_picture(FILES[case])), wanted)


def test_what_is_clear_is_white_and_what_is_half_clear_is_half_white():
    for mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        assert open_picture(Image.new(mode, (2, 2))).getpixel((1, 1)) == (255, 255, 255), mode
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert open_picture(half).getpixel((0, 0)) == (127, 127, 127)
    assert open_picture(half.convert("RGBa")).getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (1, 1))
    palette.putpalette([0, 0, 0, 128], "RGBA")  # as of convert("P"), which no file holds
    assert open_picture(palette).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["L", "RGBX", "CMYK", "YCbCr", "HSV", "1", "P"])
def test_opaque_modes_are_seen_as_pil_converts_them(mode):
    picture = RGB.convert(mode)
    assert open_picture(picture).tobytes() == picture.convert("RGB").tobytes()


GREY = RGB.convert("RGB").getchannel(0).convert("RGB")  # the greys of NOISE[..., 0]
SCALED = {  # the same greys in more than 8 bits
    "uint16": DEEP,
    "I;16": Image.fromarray(DEEP),
    "I;16B": Image.fromarray(DEEP.astype(">u2")),
    "PNG": written(Image.fromarray(DEEP)),
    "TIFF": written(Image.fromarray(DEEP), "TIFF"),
    "PGM": b"P5 40 24 65535\n" + DEEP.astype(">u2").tobytes(),
    "I": Image.fromarray(NOISE[..., 0].astype(np.int32)),
    "int64": NOISE[..., 0].astype(np.int64),
    "F to 255": Image.fromarray(NOISE[..., 0].astype(np.float32)),
    "F to 1": Image.fromarray((NOISE[..., 0] / 255).astype(np.float32)),
    "F to 1, TIFF": written(Image.fromarray((NOISE[..., 0] / 255).astype(np.float32)), "TIFF"),
    "float64": NOISE[..., 0] / 255,
    "float64 to 255": NOISE[..., 0].astype(float),
    "tensor": torch.tensor(NOISE[..., 0] / 255, requires_grad=True),
    "tensor of bytes": torch.from_numpy(NOISE[None, ..., 0]),
    "half": torch.tensor(NOISE[..., 0]).half() / 255,
}


@pytest.mark.parametrize("name", SCALED)
def test_grey_of_any_depth_is_the_grey_of_8_bits(name):
    seen = open_picture(SCALED[name])
    assert seen.size == (40, 24)
    assert seen.tobytes() == GREY.tobytes()


def test_a_clear_grey_of_16_bits_is_white():
    values = DEEP.copy()
    values[0, 0], values[0, 1] = 4000, 4001  # of one byte, but not one grey
    made = written(Image.fromarray(values), transparency=4000)
    seen = np.asarray(open_picture(made))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[0, 1].tolist() == [15, 15, 15]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (NOISE[..., :3], RGB),
        (NOISE[..., :3].transpose(2, 0, 1), RGB),
        (NOISE[..., :3].astype(np.uint16) * 257, RGB),
        (NOISE[..., :3] / 255, RGB),
        (NOISE, open_picture(RGBA)),
        (NOISE.transpose(2, 0, 1) / 255, open_picture(RGBA)),
        (NOISE[..., :1], GREY),
        (NOISE[..., 0], GREY),
        (NOISE[..., 0] > 127, Image.fromarray(NOISE[..., 0] > 127).convert("RGB")),
        (torch.from_numpy(NOISE[..., :3].transpose(2, 0, 1).copy()), RGB),
        (torch.from_numpy(NOISE[..., :3] / 255).float(), RGB),
        (np.zeros((2, 2)), Image.new("RGB", (2, 2))),
        (np.full((2, 2), 0.01), Image.new("RGB", (2, 2), (3, 3, 3))),
        (np.ones((2, 2), np.float16), Image.new("RGB", (2, 2), "white")),
        (torch.ones(2, 2).bfloat16(), Image.new("RGB", (2, 2), "white")),
    ],
)
def test_arrays_and_tensors_are_pictures_by_their_dtype_and_shape(values, wanted):
    seen = open_picture(values)
    assert seen.mode == "RGB"
    assert seen.size == wanted.size
    assert seen.tobytes() == wanted.tobytes()


UNKNOWN = {
    "12 bits in 16": np.full((2, 2), 4095, np.uint16),
    "15 bits in 16": np.full((2, 2), 2**15 - 1, np.uint16),
    "12 bits in 16, PNG": written(Image.fromarray(DEEP >> 4)),
    "12 bits in 16, big": Image.fromarray((DEEP >> 4).astype(">u2")),
    "8 bits in 16, PGM": b"P5 40 24 65535\n" + NOISE[..., 0].astype(">u2").tobytes(),
    "8 bits in 16": NOISE[..., 0].astype(np.uint16),
    "32 bits": Image.fromarray(np.full((2, 2), 70000, np.int32)),
    "16 bits in 32": Image.fromarray(DEEP.astype(np.int32)),
    "9 bits in 64": np.full((2, 2), 256),
    "whole numbers of 0 and 1": np.ones((2, 2), np.int64),
    "7 bits in 64": np.full((2, 2), 127),
    "below black": np.array([[-1, 200]]),
    "below black, as the processor leaves them": np.array([[-3.0, 1.0]]),
    "a little above 1": Image.fromarray(np.full((2, 2), 1.02, np.float32)),
    "not a number": np.array([[np.nan, 0.5]]),
    "infinite": np.array([[np.inf, 0.5]]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_picture_whose_white_is_unknown_is_refused_in_three_parts(name, tiny_llava):
    with pytest.raises(ValueError, match=r"values go from .* to .* white is unknown; give 8 bits"):
        open_picture(UNKNOWN[name])
    if not isinstance(UNKNOWN[name], bytes):
        with pytest.raises(ValueError, match=r"row 'picture': asked for the picture .*, found tha"):
            tiny_llava.prepare(image=UNKNOWN[name], question="What is it?")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RGB.convert("LAB"), r"its mode is LAB; give its picture.convert\('RGB'\)"),
        (np.zeros((3, 5, 4)), r"shape \(3, 5, 4\) is channels first or last; give \[row, column\]"),
        (np.zeros((5, 6, 2)), r"shape \(5, 6, 2\) is no picture's; give"),
        (np.zeros((1, 3, 8, 8)), r"shape \(1, 3, 8, 8\) is no picture's"),
        (np.zeros(5), "no picture's"),
        (np.float64(1), "no picture's"),
        (np.zeros((0, 5)), "no picture's"),
        (np.zeros((5, 5), complex), "its values are complex128; give uint8"),
        (np.array([["a"]]), "its values are <U1"),
        (torch.zeros(3, 8, 8, device="meta"), r"no values to read .*; give a dense array"),
        (torch.eye(5).to_sparse(), r"no values to read .*; give a dense array"),
        (torch.zeros(2, 3, 8, 8), r"of shape \(2, 3, 8, 8\).*no picture's"),
    ],
)
def test_what_is_no_picture_is_told_shortly(image, message):
    with pytest.raises(ValueError, match=message) as told:
        open_picture(image)
    assert len(str(told.value)) < 300


def test_grey_whose_white_is_0_is_not_shown_as_its_negative():
    dark = written(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(dark)) as opened:
        assert opened.tag_v2[262] == 0
    with pytest.raises(ValueError, match="its white is 0, which PIL does not heed; invert it"):
        open_picture(dark)
    inverted = RGB.convert("L")
    eight = written(inverted, "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(eight)) as opened:
        wanted = opened.convert("RGB")
    assert open_picture(eight).tobytes() == wanted.tobytes()


def test_an_open_picture_is_seen_at_the_frame_it_stands_at():
    with Image.open(io.BytesIO(FILES["TIFF, two pages"])) as opened:
        opened.seek(1)
        assert open_picture(opened).tobytes() == RGB.rotate(180).tobytes()
    assert open_picture(FILES["TIFF, two pages"]).tobytes() == RGB.tobytes()
