"""Processors of pictures and text for families whose own class also demands one for videos.

That one needs torchvision, which irlib does without. transformers reads what a processor is made of
from the names of its parameters, hence these classes: the same processor, its videos left out.
"""

from collections.abc import Mapping

import transformers
from transformers import AutoImageProcessor, ProcessorMixin
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import TextKwargs

from irlib.models.folders import told


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


class Glm4vProcessor(transformers.Glm4vProcessor):
    """GLM-4.1V's processor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


class Glm46VProcessor(transformers.Glm46VProcessor):
    """GLM-4.6V's processor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


class LlavaNextVideoProcessor(transformers.LlavaNextProcessor):
    """LLaVA-NeXT-Video's processor without videos, which then is LLaVA-1.6's."""


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


class Gemma4Processor(transformers.Gemma4Processor):
    """Gemma 4's processor without videos and sounds.

    Its own would hand these on by name, as parameters that this class has not.
    """

    def __init__(
        self, image_processor=None, tokenizer=None, chat_template=None, image_seq_length=280
    ):
        self.image_seq_length = image_seq_length
        for kind in ("image", "audio", "video"):
            token = getattr(tokenizer, f"{kind}_token", None) or f"<|{kind}|>"
            setattr(self, f"{kind}_token", token)
            setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(token))
        for mark in ("boi", "eoi", "boa", "eoa"):
            setattr(self, f"{mark}_token", getattr(tokenizer, f"{mark}_token", None))
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def read_processor(kind: type, source: str, *, revision: str | None = None) -> ProcessorMixin:
    """The processor of a folder or hub id, its pictures handled by PIL wherever it is read.

    `kind` is a class above or transformers' AutoProcessor. No setting of its tokenizers cuts or
    pads a prompt. Raises `OSError` or `ValueError` where its files are missing or broken.
    """
    processor = kind.from_pretrained(source, revision=revision, trust_remote_code=False)
    processor.image_processor = AutoImageProcessor.from_pretrained(
        source, revision=revision, backend="pil", trust_remote_code=False
    )
    for tokenizer in (processor.tokenizer, getattr(processor, "qformer_tokenizer", None)):
        if tokenizer is not None:
            _free(tokenizer)
    return processor


def fill(
    processor: ProcessorMixin, facts: Mapping, source: str, *, revision: str | None = None
) -> None:
    """Give the processor the facts of its model on which its processor_config.json is silent."""
    said = told(source, "processor_config.json", revision=revision) or {}
    for name, value in facts.items():
        if said.get(name) is None:
            setattr(processor, name, value)


def _free(tokenizer):
    """Take from a tokenizer what its folder sets of a call: processors would call it with that.

    What tokenizer.json sets, each call of transformers takes back by itself.
    """
    for setting in TextKwargs.__annotations__:
        tokenizer.init_kwargs.pop(setting, None)
