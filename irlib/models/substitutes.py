"""Processors that transformers has for torchvision alone, the same without it.

What they make is what transformers' own make, but for the rounding of PIL's resizing.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from transformers import Cohere2VisionConfig, ProcessorMixin
from transformers.image_utils import SizeDict
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil


class PixtralProcessor(ProcessorMixin):
    """Pixtral's processor: every row of image tokens ends in a break, the last one in an end."""

    text_kwargs: ClassVar = {"return_tensors": "pt"}
    images_kwargs: ClassVar = {"return_tensors": "pt"}

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        patch_size=16,
        spatial_merge_size=1,
        chat_template=None,
        image_token="[IMG]",
        image_break_token="[IMG_BREAK]",
        image_end_token="[IMG_END]",
    ):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.patch_size, self.spatial_merge_size = patch_size, spatial_merge_size
        self.image_token = image_token
        self.image_break_token, self.image_end_token = image_break_token, image_end_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)

    @property
    def image_token_ids(self) -> list[int]:
        """The ids that stand for a picture: of its tokens, its breaks and its end."""
        told = [self.image_token, self.image_break_token, self.image_end_token]
        return self.tokenizer.convert_tokens_to_ids(told)

    def _process_images(self, images, **settings):
        settings["patch_size"] = self.patch_size * self.spatial_merge_size
        return super()._process_images(images, **settings)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **_) -> str:
        """The text that stands for a picture, as many tokens as it has squares of patches."""
        step = self.patch_size * self.spatial_merge_size
        rows, cols = (int(length) // step for length in image_inputs["image_sizes"][image_idx])
        row = self.image_token * cols
        return self.image_break_token.join([row] * rows) + self.image_end_token


class Cohere2VisionImageProcessorPil(GotOcr2ImageProcessorPil):
    """Command A Vision's pictures: squashed onto the tiles that enlarge them least."""

    size: ClassVar = {"height": 512, "width": 512}
    crop_to_patches = True
    patch_size = 16

    def crop_image_to_patches(
        self,
        image: np.ndarray,
        min_patches: int,
        max_patches: int,
        use_thumbnail: bool = True,
        patch_size: SizeDict | None = None,
        resample=None,
    ) -> list[np.ndarray]:
        """The tiles `[channel, y, x]` in reading order, then the whole picture on one."""
        high, wide = patch_size.height, patch_size.width
        cols, rows = covering(image.shape[:0:-1], (wide, high), max_patches)
        canvas = SizeDict(height=rows * high, width=cols * wide)
        large = self.resize(image, canvas, resample=resample)
        tiles = [one for strip in np.split(large, rows, 1) for one in np.split(strip, cols, 2)]
        thumbnail = use_thumbnail and len(tiles) > 1
        return tiles + [self.resize(image, patch_size, resample=resample)] * thumbnail


def covering(size: Sequence[int], tile: Sequence[int], most: int) -> tuple[int, int]:
    """Columns and rows of at most `most` tiles for a picture, both `(width, height)`.

    The picture, its proportions kept, is enlarged as little as may be to fill one side of them; and
    shrunk as little as may be where all of them are too small.

    >>> covering((1000, 500), (512, 512), 12), covering((60, 50), (512, 512), 12)
    ((2, 1), (1, 1))
    """
    sides = range(1, most + 1)
    grids = sorted(((x, y) for x in sides for y in sides if x * y <= most), key=np.prod)
    scale = (np.array(grids) * tile[1] / size).min(1)
    fits = scale >= 1
    best = np.where(fits, scale, np.inf).argmin() if fits.any() else scale.argmax()
    return grids[best]


IMAGE_PROCESSOR_MAPPING.register(  # where transformers looks for the class that a folder names
    Cohere2VisionConfig,
    {"torchvision": "Cohere2VisionImageProcessor", "pil": Cohere2VisionImageProcessorPil},
    exist_ok=True,
)
