"""An answer given as a text, spelled in the tokens that the model itself would have said."""

from collections.abc import Sequence

import torch

from irlib import doors
from irlib.inputs.records import Answer, Inputs


@torch.no_grad()
def spelled(vlm, inputs: Inputs, answer: Answer | str | Sequence[str]) -> Answer:
    """The `Answer` to these inputs: itself, or a text (a list of one a row) in the model's tokens.

    A text is tokenised behind the end of its prompt, begun with a space and without one: a Llama
    says "▁Yes" and a Qwen "Yes" where a person reads the same. Where the two differ, the one whose
    first token the model finds likelier is taken, which costs one forward of the prompts. Raises
    `ValueError` for another number of texts than rows, special tokens in one, and words that the
    tokenizer does not know.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="Is there a cat?")
    >>> spelled(vlm, inputs, "Yes").ids[0].tolist() == spelled(vlm, inputs, " Yes ").ids[0].tolist()
    True
    """
    give = "what vlm.answer(inputs) returns, or the text of an answer for each row"
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    doors.kind("answer", answer, Answer, str, list, tuple, give=give)
    if isinstance(answer, Answer):
        return answer
    texts = [answer] if isinstance(answer, str) else list(answer)
    for place, text in enumerate(texts):
        doors.kind(f"answer[{place}]", text, str, give=give)
    if len(texts) != len(inputs):
        raise ValueError(
            f"asked for the answers {texts!r} to {len(inputs)} prompts, found {len(texts)}; give "
            "one text a prompt, in a list"
        )
    prompts = inputs.text["input_ids"].cpu()
    found = [vlm.reader.spellings(*one) for one in zip(prompts, texts, strict=True)]
    if any(len(ways) > 1 for ways in found):
        scores = vlm.forward(inputs, logits_to_keep=1)[:, -1].cpu()
        found = [
            sorted(ways, key=lambda ids, row=row: -float(row[ids[:1]].sum()))
            for ways, row in zip(found, scores, strict=True)
        ]
    ids = tuple(ways[0] for ways in found)
    decode = vlm.processor.tokenizer.decode
    said = tuple(decode(row, skip_special_tokens=True).strip() for row in ids)
    return Answer(ids, said, reader=vlm.reader)
