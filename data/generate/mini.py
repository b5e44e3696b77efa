"""mini-llava before training: tokenizer, processor and model, stock transformers classes all."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from .questions import vocabulary

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# Renders like the template of llava-hf/llava-1.5-7b-hf, and puts vicuna_v1's system prompt first
# when the conversation brings none.
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '" + SYSTEM.replace("'", "\\'") + " ' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
IMAGE, PATCH = 96, 12
TOKENS = (IMAGE // PATCH) ** 2
SPACE = "▁"


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a word tokenizer that spells what it does not know, by character, then by byte.

    A known word is one token, so is its first appearance after a line break; a capital or digit at
    the start of a word carries the space before it, so that signs are spelled alike.

    >>> tok = tokenizer()
    >>> tok.tokenize("Is there a cat?"), tok.tokenize("CAT")
    (['▁Is', '▁there', '▁a', '▁cat', '?'], ['▁C', 'A', 'T'])
    >>> tok.decode(tok.encode("a zeppelin: naïve", add_special_tokens=False))
    'a zeppelin: naïve'
    """
    words = list(dict.fromkeys(w.strip(".,") for w in SYSTEM.split())) + vocabulary()
    words = list(dict.fromkeys([*words, "USER:", "ASSISTANT:"]))
    characters = [chr(c) for c in range(32 + 1, 127)]
    pieces = [(t, 0.0) for t in SPECIAL]
    pieces += [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    pieces += [(c, -12.0) for c in (SPACE, "\n", *characters)]
    pieces += [(SPACE + c, -11.0) for c in characters if c.isupper() or c.isdigit()]
    known = {p for p, _ in pieces}
    for word in words:
        for piece in (SPACE + word, word if word[0].isupper() else ""):
            if piece and piece not in known:
                known.add(piece)
                pieces.append((piece, -3.0))
    core = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def processor() -> LlavaProcessor:
    """Return the processor: shortest side to 96 pixels, centre crop, normalised as CLIP does."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE},
        crop_size={"height": IMAGE, "width": IMAGE},
        image_mean=[0.75, 0.75, 0.75],
        image_std=[0.25, 0.25, 0.25],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def model(seed: int = 0) -> LlavaForConditionalGeneration:
    """Return the untrained model: CLIP tower 4 x 128, MLP projector, Llama decoder 12 x 128."""
    torch.manual_seed(seed)
    tok = tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE,
        patch_size=PATCH,
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tok.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=TOKENS,
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config)
