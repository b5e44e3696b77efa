"""What cannot be had, and why: of a known family some checkpoints, of other families all."""

from torch import nn

MIXED = (
    "layers that bring the picture to the text without attention (linear attention, convolutions), "
    "from which no mask of image tokens keeps it: truncation and knockout would be wrong in silence"
)
APART = (
    "pictures that are no tokens of the sequence: its layers read them by cross-attention, so that "
    "there is nothing to hide, to rank or to share attention with"
)
BORROWED = "what is hidden or cut in them and what is changed below could not be told apart"
BY_TOKEN = "a layer that is run on some tokens alone would lack it"
BOTH = "an encoder-decoder, which has no one sequence of picture, prompt and answer"
REFUSED = {  # families of transformers that cannot be had, by model_type
    "qwen3_5": MIXED,
    "qwen3_5_moe": MIXED,
    "lfm2_vl": MIXED,
    "mllama": APART,
    "gemma3n": (
        "layers that hand on several versions of their states at once (AltUp) and borrow the keys "
        "of others: what enters and leaves a layer is no one state a token, which every "
        "instrument here reads"
    ),
    "florence2": BOTH,
    "pix2struct": BOTH,
    "udop": BOTH,
    "t5gemma2": BOTH,
    "vision-encoder-decoder": BOTH,
}
MASKED = ("full_attention", "sliding_attention", "chunked_attention")


def unreadable(decoder: nn.Module) -> str | None:
    """What of a language model's layers no instrument here reads rightly, in words; or None.

    Whatever its family says: any language model may stand in a checkpoint of a known one.
    """
    config, layers = decoder.config, list(decoder.layers)
    odd = set(getattr(config, "layer_types", None) or ()) - set(MASKED)
    filters = {
        type(part).__name__
        for layer in layers
        for part in layer.modules()
        if isinstance(part, nn.Conv1d | nn.RNNBase)
    }
    if found := sorted(odd | filters):
        return f"{MIXED} ({', '.join(found)})"
    borrow = [i for i, x in enumerate(layers) if getattr(x.self_attn, "is_kv_shared_layer", False)]
    if borrow:
        return f"layers that borrow the keys of a layer below ({borrow}): {BORROWED}"
    if getattr(config, "hidden_size_per_layer_input", None):
        return f"what each layer adds by token (hidden_size_per_layer_input): {BY_TOKEN}"
    return None


def ovis2(config) -> str | None:
    """Ovis2 may draw the words of a picture at random, another picture in each run."""
    kind = config.vision_config.tokenize_function
    if kind != "gumbel_argmax":
        return None
    return (
        f"that draws the visual words of a picture at random (tokenize_function {kind!r}), so that "
        "no two runs see the same; set it to 'softmax' or 'st_argmax' in vision_config"
    )


def gemma4(config) -> str | None:
    """Gemma 4's small models share keys between layers and add to each of them by token."""
    text, large = config.get_text_config(), "use one of its larger models, which have none"
    if text.num_kv_shared_layers:
        return (
            f"whose last {text.num_kv_shared_layers} layers borrow the keys of a layer below "
            f"(num_kv_shared_layers): {BORROWED}; {large}"
        )
    if text.hidden_size_per_layer_input:
        return (
            "that adds to each layer what it knows of every token (hidden_size_per_layer_input "
            f"{text.hidden_size_per_layer_input}): {BY_TOKEN}; {large}"
        )
    if text.use_bidirectional_attention == "all":
        return (
            "whose tokens all see each other (use_bidirectional_attention 'all'), also those of an "
            "answer that are still to come; use a checkpoint that generates"
        )
    return None
