"""The words the miniatures know, and how their prompts look: tokenizers and chat templates.

Vicuna's turns (LLaVA-1.5, LLaVA-1.6, Shikra) and ChatML (InternVL, Qwen2-VL), each as the template
of the checkpoint on the hub renders it; InstructBLIP has no template: a prompt is the question.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from data.generate.world.questions import vocabulary

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
HELPER = "You are a helpful assistant."  # Qwen2-VL's system prompt


def vicuna(image: str = "<image>\\n") -> str:
    """Return a template like that of llava-hf/llava-1.5-7b-hf.

    vicuna_v1's system prompt comes first when the conversation brings none; `image` is what stands
    for a picture.
    """
    return (
        "{% if messages[0]['role'] != 'system' %}{{ '" + SYSTEM.replace("'", "\\'") + " ' }}"
        "{% endif %}{% for message in messages %}"
        "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
        "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
        "{% for part in message['content'] if part['type'] == 'image' %}{{ '"
        + image
        + "' }}{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}"
        "{{ part['text'] + ' ' }}{% endfor %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )


def chatml(image: str, system: str = "") -> str:
    """Return a ChatML template; `system` is said where the conversation does not begin with one."""
    first = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" + system
    return (
        (first + "<|im_end|>\\n' }}{% endif %}" if system else "")
        + "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '" + image + "' }}"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


SPACE, ROLES = "▁", ("system", "user", "assistant")


def tokenizer(
    *, system: str = SYSTEM, eos: str = "</s>", bos: str | None = "<s>", **special: str
) -> PreTrainedTokenizerFast:
    """Return a word tokenizer that spells what it does not know, by character, then by byte.

    A known word is one token, so is its first appearance after a line break; a capital or digit at
    the start of a word carries the space before it, so that signs are spelled alike. `system` is a
    prompt whose words are known too; `special` are more special tokens by name, `image_token` among
    them.

    >>> tok = tokenizer(image_token="<image>")
    >>> tok.tokenize("Is there a cat?"), tok.tokenize("CAT")
    (['▁Is', '▁there', '▁a', '▁cat', '?'], ['▁C', 'A', 'T'])
    >>> tok.decode(tok.encode("a zeppelin: naïve", add_special_tokens=False))
    'a zeppelin: naïve'
    """
    words = list(dict.fromkeys(w.strip(".,") for w in system.split())) + vocabulary()
    words = list(dict.fromkeys([*words, "USER:", "ASSISTANT:"]))
    bare = ROLES if "turn_token" in special else ()  # they stand right behind a special token
    characters = [chr(c) for c in range(32 + 1, 127)]
    specials = dict.fromkeys(t for t in ("<unk>", bos, eos, "<pad>", *special.values()) if t)
    pieces = [(t, 0.0) for t in specials]
    pieces += [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    pieces += [(c, -12.0) for c in (SPACE, "\n", *characters)]
    pieces += [(SPACE + c, -11.0) for c in characters if c.isupper() or c.isdigit()]
    known = {p for p, _ in pieces}
    for word in [*words, *bare]:
        for piece in (SPACE + word, word if word[0].isupper() or word in bare else ""):
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
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token=bos,
        eos_token=eos,
        pad_token="<pad>",
        extra_special_tokens=special,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
