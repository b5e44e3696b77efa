"""What differs between model families: one row of `FAMILIES` each, and nowhere else a branch."""

from irlib.models import (
    bridges,
    layouts,
    pixels,
    processors,
    refusals,
    resampled,
    several,
    substitutes,
    tilings,
)
from irlib.models.family import (
    CLIP,
    SIGLIP,
    Family,
    TokenTypes,
    class_and_patches,
    downsampled,
    embedded,
    merged,
    tokens_of_a_square,
    tokens_of_a_view,
)

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
VIP = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)

LLAVA = {
    "system": VICUNA,
    "turn": "ASSISTANT:",
    "towers": (CLIP, SIGLIP),
    "facts": class_and_patches,
}
GOT = (  # its folders have no chat template
    "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in "
    "detail.<|im_end|><|im_start|>user\n%s{prompt}<|im_end|><|im_start|>assistant\n"
)

MROPE = TokenTypes("mm_token_type_ids", image=1, answer=0)
QWEN = {"layout": layouts.own_resolution, "types": MROPE, "noise": pixels.on_patches}
COHERE = {
    "towers": (SIGLIP,),
    "lacks": "Cohere's layers have no norm between attention and MLP, so that maps are at another"
    " site than the paper's",
}
IDEFICS = {"layout": tilings.tiles_and_global}

FAMILIES = {  # by the model_type of config.json
    "llava": Family("LLaVA-1.5", layouts.cropped, **LLAVA),
    "llava_next": Family("LLaVA-1.6", tilings.base_and_tiles, **LLAVA),
    "llava_next_video": Family(
        "LLaVA-NeXT-Video", tilings.base_and_tiles, processors.LlavaNextVideoProcessor, **LLAVA
    ),
    "vipllava": Family(
        "VipLLaVA",
        layouts.cropped,
        system=VIP,
        turn="###Assistant:",
        towers=(CLIP,),  # whatever stands first is left out, and must be a class
        facts=class_and_patches,
    ),
    "llava_onevision": Family(
        "LLaVA-OneVision",
        tilings.base_and_tiles,
        processors.LlavaOnevisionProcessor,
        towers=(SIGLIP,),
        facts=tokens_of_a_view,
        several=several.together,
    ),
    "instructblip": Family(
        "InstructBLIP",
        layouts.queries,  # they stand before the first word: system is empty, user all the text
        prompt="{prompt}",
        bare="{prompt}",
        placeholders=0,  # the processor puts them there by itself
        decoders=("llama",),
        because="an encoder-decoder has no one sequence of prompt and answer, and OPT's layers have"
        " none of the paper's sites",
        call=embedded,
        bridge=bridges.q_former,
        several=None,
    ),
    "internvl": Family("InternVL", tilings.tiles_and_thumbnail, processors.InternVLProcessor),
    "qwen2_vl": Family("Qwen2-VL", processor=processors.Qwen2VLProcessor, **QWEN),
    "qwen2_5_vl": Family("Qwen2.5-VL", processor=processors.Qwen25VLProcessor, **QWEN),
    "qwen3_vl": Family("Qwen3-VL", processor=processors.Qwen3VLProcessor, **QWEN),
    "qwen3_vl_moe": Family("Qwen3-VL MoE", processor=processors.Qwen3VLProcessor, **QWEN),
    "glm4v": Family("GLM-4.1V", processor=processors.Glm4vProcessor, **QWEN),
    "glm4v_moe": Family("GLM-4.5V", processor=processors.Glm4vProcessor, **QWEN),
    "glm46v": Family("GLM-4.6V", processor=processors.Glm46VProcessor, **QWEN),
    "mistral3": Family(
        "Mistral 3",
        layouts.broken_rows,
        substitutes.PixtralProcessor,
        towers=("pixtral",),
        facts=merged,
    ),
    "aya_vision": Family("Aya Vision", tilings.tiles_and_thumbnail, facts=downsampled, **COHERE),
    "cohere2_vision": Family("Command A Vision", tilings.covering_tiles, **COHERE),
    "idefics3": Family("Idefics3", **IDEFICS),
    "smolvlm": Family("SmolVLM", processor=processors.SmolVLMProcessor, **IDEFICS),
    "gemma3": Family(
        "Gemma 3",
        layouts.pooled,
        types=TokenTypes("token_type_ids", image=1, answer=0),
    ),
    "paligemma": Family(
        "PaliGemma",
        layouts.squashed,
        prompt="{image}{prompt}",
        bare="{bos}{prompt}\n",
        types=TokenTypes("token_type_ids", image=0, answer=1),
        decoders=("gemma",),
        because="Gemma 2 caps its attention scores, which no attention here but the slow one does",
        capped=True,
    ),
    "got_ocr2": Family(
        "GOT-OCR 2",
        tilings.convolved,
        prompt=GOT % "<img>{image}</img>\n",
        bare=GOT % "",
        facts=tokens_of_a_square,
        several=None,  # its pages are one picture
    ),
    "ovis2": Family(
        "Ovis2",
        tilings.thumbnail_and_tiles,
        refuse=refusals.ovis2,
        lacks="no visual words that are drawn at random",
    ),
    "deepseek_vl": Family("DeepSeek-VL", layouts.padded, towers=(SIGLIP,)),
    "idefics2": Family("Idefics2", resampled.quarters_and_whole, bridge=bridges.perceiver),
    "gemma4": Family(
        "Gemma 4",
        layouts.averaged,
        processors.Gemma4Processor,
        types=MROPE,
        noise=pixels.on_rows,
        capped=True,
        refuse=refusals.gemma4,
        lacks="no small models, whose layers share keys and add to each token; no image_means where"
        " values are keys; with experts no map at the paper's site",
    ),
    "aria": Family(
        "Aria",
        resampled.queries_of_a_square,
        bridge=bridges.projector,
        lacks="no pictures split into crops",
    ),
}
