"""Processors of pictures and text for families whose own class also demands one for videos.

That one needs torchvision, which irlib does without. transformers reads what a processor is made of
from the names of its parameters, hence these classes: the same processor, its videos left out.
"""

import transformers
from transformers import AutoImageProcessor, ProcessorMixin
from transformers.models.smolvlm import processing_smolvlm


class InternVLProcessor(transformers.InternVLProcessor):
    """InternVL's processor without videos."""

    def __init__(
        self, image_processor=None, tokenizer=None, image_seq_length=256, chat_template=None
    ):
        super().__init__(
            image_processor,
            tokenizer,
            None,
            image_seq_length=image_seq_length,
            chat_template=chat_template,
        )


class Qwen2VLProcessor(transformers.Qwen2VLProcessor):
    """Qwen2-VL's processor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


class Qwen25VLProcessor(transformers.Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


class Qwen3VLProcessor(transformers.Qwen3VLProcessor):
    """Qwen3-VL's processor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


class LlavaOnevisionProcessor(transformers.LlavaOnevisionProcessor):
    """LLaVA-OneVision's processor without videos."""

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        num_image_tokens=None,
        vision_feature_select_strategy=None,
        chat_template=None,
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_9",
    ):
        super().__init__(
            image_processor,
            tokenizer,
            None,
            num_image_tokens=num_image_tokens,
            vision_feature_select_strategy=vision_feature_select_strategy,
            chat_template=chat_template,
            image_token=image_token,
            video_token=video_token,
            vision_aspect_ratio=vision_aspect_ratio,
        )


class SmolVLMProcessor(transformers.SmolVLMProcessor):
    """SmolVLM's processor without videos, and without the package that spells their numbers."""

    def __init__(self, image_processor=None, tokenizer=None, image_seq_len=169, chat_template=None):
        processing_smolvlm.num2words = processing_smolvlm.num2words or str
        super().__init__(
            image_processor,
            tokenizer,
            None,
            image_seq_len=image_seq_len,
            chat_template=chat_template,
        )

    def apply_chat_template(self, conversation, chat_template=None, **kwargs):
        """The conversation as text; the class's own asks its video processor about frames."""
        return ProcessorMixin.apply_chat_template(self, conversation, chat_template, **kwargs)


def read_processor(kind: type, source: str, *, revision: str | None = None) -> ProcessorMixin:
    """The processor of a folder or hub id, its pictures handled by PIL wherever it is read.

    `kind` is a class above or transformers' AutoProcessor. Raises `OSError` or `ValueError` where
    its files are missing or broken.
    """
    processor = kind.from_pretrained(source, revision=revision)
    processor.image_processor = AutoImageProcessor.from_pretrained(
        source, revision=revision, backend="pil"
    )
    return processor
