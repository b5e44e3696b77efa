"""Drawing: sprites, arrows, sign boards and backgrounds as smooth RGBA pictures.

Everything is drawn with Pillow at three times its size and reduced, so edges are smooth.
Colours are drawn at random; a sixth of the colour circle, in six narrow bands, is kept for the
test rows, so that no test picture has a colour that was trained on.
"""

import colorsys
import math
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont

SIZE = 288  # side of every picture, in pixels
SMOOTH = 3  # supersampling factor
FONT = Path(__file__).parent / "fonts" / "DejaVuSans-Bold.ttf"
INK = (43, 45, 66)
OBJECTS = ("ball", "star", "house", "tree", "cup", "car", "boat", "key")
CREATURES = ("cat", "fish", "bird", "frog", "snake", "snail", "rabbit", "bee")
SPRITES = OBJECTS + CREATURES
BANDS, HELD_OUT = 6, 1 / 6  # colour bands, and the share of each that only test rows use


def hue(rng: Random, split: str) -> float:
    """Return a hue in [0, 1): from the bands' last sixth for `test`, from the rest for `train`."""
    inside = rng.uniform(1 - HELD_OUT, 1) if split == "test" else rng.uniform(0, 1 - HELD_OUT)
    return (rng.randrange(BANDS) + inside) / BANDS


def vivid(rng: Random, split: str, value: tuple[float, float] = (0.5, 0.92)) -> tuple[int, ...]:
    """Return a saturated RGB colour, bytes."""
    return _rgb(hue(rng, split), rng.uniform(0.5, 0.92), rng.uniform(*value))


def _rgb(h: float, s: float, v: float) -> tuple[int, ...]:
    return tuple(round(255 * x) for x in colorsys.hsv_to_rgb(h, s, v))


def _mix(a: tuple, b: tuple, t: float) -> tuple[int, ...]:
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))


class _Pen:
    """Draws in the unit square, which fills a transparent canvas but for a margin for the tilt."""

    def __init__(self, size: int):
        self.size = size
        self.image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def _xy(self, points):
        return [(self._at(x), self._at(y)) for x, y in points]

    def _at(self, v):
        return (0.05 + 0.9 * v) * self.size

    def _outline(self, fill):
        return _mix(fill, INK, 0.55), max(2, round(0.022 * self.size))

    def ellipse(self, x0, y0, x1, y1, fill, edge=True):
        colour, width = self._outline(fill) if edge else (None, 0)
        box = [self._at(v) for v in (x0, y0, x1, y1)]
        self._draw.ellipse(box, fill=fill, outline=colour, width=width)

    def polygon(self, points, fill, edge=True):
        colour, width = self._outline(fill) if edge else (None, 1)
        self._draw.polygon(self._xy(points), fill=fill, outline=colour, width=width)

    def box(self, x0, y0, x1, y1, fill, radius=0.0, edge=True):
        colour, width = self._outline(fill) if edge else (None, 0)
        box = [self._at(v) for v in (x0, y0, x1, y1)]
        r = radius * self.size
        self._draw.rounded_rectangle(box, r, fill=fill, outline=colour, width=width)

    def line(self, points, fill, width):
        w = max(1, round(width * self.size))
        self._draw.line(self._xy(points), fill=fill, width=w, joint="curve")

    def arc(self, x0, y0, x1, y1, start, end, fill, width):
        box = [self._at(v) for v in (x0, y0, x1, y1)]
        self._draw.arc(box, start, end, fill=fill, width=max(1, round(width * self.size)))

    def eye(self, x, y, r=0.05):
        self.ellipse(x - r, y - r, x + r, y + r, (255, 255, 255), edge=False)
        self.ellipse(x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6, INK, edge=False)


def _ball(p, a, b):
    p.ellipse(0.06, 0.06, 0.94, 0.94, a)
    p.polygon([(0.075, 0.4), (0.925, 0.4), (0.925, 0.6), (0.075, 0.6)], b, edge=False)
    p.ellipse(0.22, 0.14, 0.42, 0.3, _mix(a, (255, 255, 255), 0.6), edge=False)


def _star(p, a, b):
    tips = [
        (r * math.sin(i * math.pi / 5), r * math.cos(i * math.pi / 5))
        for i, r in enumerate([0.49, 0.21] * 5)
    ]
    p.polygon([(0.5 + x, 0.52 - y) for x, y in tips], a)
    p.ellipse(0.42, 0.42, 0.58, 0.58, _mix(a, (255, 255, 255), 0.5), edge=False)


def _house(p, a, b):
    p.box(0.15, 0.44, 0.85, 0.96, a)
    p.polygon([(0.03, 0.48), (0.5, 0.05), (0.97, 0.48)], b)
    p.box(0.43, 0.64, 0.62, 0.95, _mix(a, INK, 0.7))
    p.box(0.22, 0.56, 0.36, 0.7, (236, 242, 250))


def _tree(p, a, b):
    p.box(0.42, 0.58, 0.58, 0.97, (122, 84, 52))
    p.ellipse(0.1, 0.3, 0.56, 0.72, a)
    p.ellipse(0.44, 0.3, 0.9, 0.72, a)
    p.ellipse(0.22, 0.04, 0.78, 0.56, a)
    p.ellipse(0.3, 0.3, 0.7, 0.66, a, edge=False)


def _cup(p, a, b):
    p.arc(0.56, 0.34, 0.94, 0.7, -110, 110, _mix(a, INK, 0.3), 0.08)
    p.polygon([(0.1, 0.22), (0.72, 0.22), (0.63, 0.92), (0.19, 0.92)], a)
    p.ellipse(0.1, 0.13, 0.72, 0.31, b)


def _car(p, a, b):
    p.polygon([(0.2, 0.5), (0.33, 0.22), (0.68, 0.22), (0.82, 0.5)], b)
    p.polygon([(0.3, 0.46), (0.38, 0.28), (0.48, 0.28), (0.48, 0.46)], (232, 242, 250))
    p.polygon([(0.53, 0.46), (0.53, 0.28), (0.64, 0.28), (0.72, 0.46)], (232, 242, 250))
    p.box(0.02, 0.45, 0.98, 0.74, a, radius=0.08)
    for x in (0.26, 0.74):
        p.ellipse(x - 0.13, 0.6, x + 0.13, 0.86, INK)
        p.ellipse(x - 0.05, 0.68, x + 0.05, 0.78, (220, 220, 226), edge=False)


def _boat(p, a, b):
    p.line([(0.5, 0.68), (0.5, 0.04)], INK, 0.05)
    p.polygon([(0.54, 0.06), (0.9, 0.58), (0.54, 0.58)], b)
    p.polygon([(0.46, 0.16), (0.16, 0.58), (0.46, 0.58)], _mix(b, (255, 255, 255), 0.4))
    p.polygon([(0.03, 0.65), (0.97, 0.65), (0.8, 0.93), (0.2, 0.93)], a)


def _key(p, a, b):
    p.box(0.36, 0.43, 0.97, 0.57, a)
    p.box(0.68, 0.5, 0.77, 0.76, a)
    p.box(0.86, 0.5, 0.95, 0.72, a)
    p.ellipse(0.02, 0.27, 0.46, 0.73, a)
    p.ellipse(0.15, 0.4, 0.33, 0.6, (250, 250, 250))


def _cat(p, a, b):
    p.polygon([(0.14, 0.52), (0.12, 0.05), (0.46, 0.3)], a)
    p.polygon([(0.86, 0.52), (0.88, 0.05), (0.54, 0.3)], a)
    p.ellipse(0.1, 0.22, 0.9, 0.94, a)
    p.eye(0.36, 0.52, 0.08)
    p.eye(0.64, 0.52, 0.08)
    p.polygon([(0.45, 0.66), (0.55, 0.66), (0.5, 0.73)], b)
    for y in (0.68, 0.77):
        p.line([(0.02, y - 0.03), (0.34, y)], INK, 0.022)
        p.line([(0.98, y - 0.03), (0.66, y)], INK, 0.022)


def _fish(p, a, b):
    p.polygon([(0.62, 0.5), (0.98, 0.2), (0.9, 0.5), (0.98, 0.8)], b)
    p.polygon([(0.3, 0.3), (0.55, 0.1), (0.6, 0.32)], b)
    p.ellipse(0.02, 0.24, 0.76, 0.78, a)
    p.arc(0.16, 0.3, 0.42, 0.72, -70, 70, _mix(a, INK, 0.45), 0.03)
    p.eye(0.19, 0.44, 0.06)


def _bird(p, a, b):
    p.line([(0.5, 0.78), (0.47, 0.98)], INK, 0.04)
    p.line([(0.62, 0.78), (0.61, 0.98)], INK, 0.04)
    p.polygon([(0.16, 0.3), (-0.01, 0.41), (0.17, 0.47)], (244, 162, 40))
    p.polygon([(0.78, 0.55), (0.99, 0.36), (0.97, 0.66)], a)
    p.ellipse(0.24, 0.4, 0.86, 0.84, a)
    p.ellipse(0.1, 0.16, 0.5, 0.58, a)
    p.polygon([(0.4, 0.52), (0.92, 0.14), (0.76, 0.66)], b)
    p.eye(0.25, 0.33, 0.055)


def _frog(p, a, b):
    p.ellipse(0.02, 0.62, 0.34, 0.95, a)
    p.ellipse(0.66, 0.62, 0.98, 0.95, a)
    p.ellipse(0.14, 0.1, 0.44, 0.46, a)
    p.ellipse(0.56, 0.1, 0.86, 0.46, a)
    p.ellipse(0.08, 0.3, 0.92, 0.9, a)
    p.ellipse(0.26, 0.62, 0.74, 0.88, _mix(a, (255, 255, 255), 0.5), edge=False)
    p.eye(0.29, 0.26, 0.1)
    p.eye(0.71, 0.26, 0.1)
    p.arc(0.26, 0.4, 0.74, 0.64, 10, 170, INK, 0.035)


def _snake(p, a, b):
    wave = [
        (0.04 + 0.84 * t / 40, 0.55 + 0.27 * math.sin(t / 40 * 2.3 * math.pi)) for t in range(41)
    ]
    p.line(wave, _mix(a, INK, 0.5), 0.2)
    p.line(wave, a, 0.15)
    for x, y in wave[4:36:5]:
        p.ellipse(x - 0.035, y - 0.035, x + 0.035, y + 0.035, b, edge=False)
    x, y = wave[-1]
    p.line([(x + 0.05, y), (0.99, y - 0.04)], (214, 60, 70), 0.03)
    p.ellipse(x - 0.14, y - 0.13, x + 0.1, y + 0.11, a)
    p.eye(x, y - 0.04, 0.05)


def _snail(p, a, b):
    p.line([(0.9, 0.56), (0.84, 0.32)], _mix(b, INK, 0.4), 0.04)
    p.line([(0.93, 0.56), (0.98, 0.34)], _mix(b, INK, 0.4), 0.04)
    p.polygon([(0.02, 0.92), (0.1, 0.74), (0.76, 0.74), (0.82, 0.5), (0.98, 0.5), (0.96, 0.92)], b)
    p.ellipse(0.14, 0.12, 0.78, 0.8, a)
    p.ellipse(0.26, 0.26, 0.66, 0.7, _mix(a, (255, 255, 255), 0.35))
    p.ellipse(0.37, 0.38, 0.56, 0.59, a)
    p.eye(0.91, 0.61, 0.04)


def _rabbit(p, a, b):
    for x in (0.33, 0.67):
        p.ellipse(x - 0.11, 0.01, x + 0.11, 0.58, a)
        p.ellipse(x - 0.05, 0.08, x + 0.05, 0.46, _mix(a, (255, 200, 210), 0.7), edge=False)
    p.ellipse(0.17, 0.42, 0.83, 0.98, a)
    p.eye(0.37, 0.64, 0.07)
    p.eye(0.63, 0.64, 0.07)
    p.polygon([(0.45, 0.76), (0.55, 0.76), (0.5, 0.82)], INK, edge=False)


def _bee(p, a, b):
    p.ellipse(0.26, 0.06, 0.52, 0.5, (222, 236, 248))
    p.ellipse(0.46, 0.06, 0.72, 0.5, (222, 236, 248))
    p.ellipse(0.1, 0.38, 0.9, 0.88, a)
    for x in (0.38, 0.56, 0.73):
        d = 0.235 * math.sqrt(max(0.0, 1 - ((x - 0.5) / 0.4) ** 2))
        p.box(x - 0.045, 0.63 - d, x + 0.045, 0.63 + d, INK, edge=False)
    p.eye(0.22, 0.58, 0.05)


_SHAPES = {name: globals()[f"_{name}"] for name in SPRITES}


def sprite(name: str, rng: Random, split: str, size: int) -> Image.Image:
    """Return one drawing of `name` in random colours, mirrored or not, tilted by up to 14 degrees.

    The picture is RGBA, `size` by `size` pixels.

    >>> from random import Random
    >>> sprite("cat", Random(0), "train", 72).size
    (72, 72)
    """
    pen = _Pen(size * SMOOTH)
    first, second = vivid(rng, split), vivid(rng, split)
    _SHAPES[name](pen, first, second)
    image = pen.image
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(rng.uniform(-14, 14), resample=Image.Resampling.BILINEAR)
    return image.reduce(SMOOTH)


def arrow(rng: Random, split: str, right: bool, length: int = 40, height: int = 36) -> Image.Image:
    """Return an arrow that points right or left, RGBA, `length` by `height` pixels."""
    w, h = length * SMOOTH, height * SMOOTH
    image = Image.new("RGBA", (w, h), (0, 0, 0, 0))
    colour = INK if rng.random() < 0.5 else vivid(rng, split, (0.35, 0.6))
    shaft, head = 0.2 * h, 0.55 * w
    points = [(0, h / 2 - shaft / 2), (w - head, h / 2 - shaft / 2), (w - head, 0.06 * h)]
    points += [(w - 1, h / 2), (w - head, 0.94 * h), (w - head, h / 2 + shaft / 2)]
    points += [(0, h / 2 + shaft / 2)]
    ImageDraw.Draw(image).polygon(points, fill=colour)
    if not right:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.reduce(SMOOTH)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size, layout_engine=ImageFont.Layout.BASIC)


PITCH, BOARD = 52, 80  # distance of two letters on a sign and the board's height, in pixels


def sign(text: str, rng: Random, split: str) -> Image.Image:
    """Return a sign board with `text` in capitals, RGBA, 52 pixels a letter plus 28 by 80."""
    width = PITCH * len(text) + 28
    image = Image.new("RGBA", (width * SMOOTH, BOARD * SMOOTH), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    dark = rng.random() < 0.6
    board = vivid(rng, split, (0.35, 0.6)) if dark else _rgb(hue(rng, split), 0.35, 0.95)
    letter = (252, 252, 252) if dark else INK
    box = [0, 0, width * SMOOTH - 1, BOARD * SMOOTH - 1]
    draw.rounded_rectangle(box, 10 * SMOOTH, fill=board, outline=letter, width=2 * SMOOTH)
    font = _font(SMOOTH * rng.choice((60, 62, 64)))
    for i, character in enumerate(text.upper()):
        x = width / 2 + (i - (len(text) - 1) / 2) * PITCH
        at = (x * SMOOTH, BOARD * SMOOTH / 2)
        draw.text(at, character, fill=letter, font=font, anchor="mm")
    return image.reduce(SMOOTH)


def background(rng: Random, split: str) -> Image.Image:
    """Return a pale sky over pale ground, RGB, 288 by 288 pixels."""
    sky = _rgb(hue(rng, split), rng.uniform(0.06, 0.22), rng.uniform(0.9, 0.99))
    ground = _rgb(hue(rng, split), rng.uniform(0.1, 0.28), rng.uniform(0.82, 0.95))
    ramp = Image.new("RGB", (1, 4))
    for y, t in enumerate((0.0, 0.15, 0.35, 0.6)):
        ramp.putpixel((0, y), _mix(sky, (255, 255, 255), t))
    image = ramp.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    top = rng.uniform(0.5, 0.85) * SIZE
    swell, phase = rng.uniform(4, 16), rng.uniform(0, 2 * math.pi)
    hill = [(x, top + swell * math.sin(phase + x / SIZE * math.pi)) for x in range(0, SIZE + 9, 8)]
    outline = [(2 * x, 2 * y) for x, y in [(0, SIZE), *hill, (SIZE + 8, SIZE)]]
    mask = Image.new("L", (2 * SIZE, 2 * SIZE), 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    image.paste(ground, mask=mask.reduce(2))
    return image
