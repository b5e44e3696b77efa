"""Which of the logits LLaVA-CAM differentiates: those of an answer, or of some of its words."""

import re
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from irlib import doors
from irlib.inputs.records import Answer, Inputs


def logits_of(
    vlm,
    inputs: Inputs,
    answer: Answer,
    whole: Inputs,
    target: str | int | Callable[[Tensor], Tensor],
) -> tuple[list[Tensor], Callable[[int, Tensor], Tensor]]:
    """Positions `[token]` to read each row's logits at, and `total(row, logits) -> z`.

    `inputs` are the prompts, `whole` prompts and answers; `target` as in `llava_cam`.
    """
    at = [mask.nonzero().flatten() for mask in whole.spans.predicting]
    ids = [row.clone() for row in answer.ids]  # of inference_mode they could not be differentiated
    if callable(target):
        return at, lambda row, logits: _scalar(target(logits))
    if not isinstance(target, str):
        most = min(map(len, ids)) - 1  # of each row
        try:
            place = doors.count("target", target, most=most)
        except ValueError as error:
            raise ValueError(
                f"asked for the target {target!r}, found a {type(target).__name__} that is no "
                f"position in 0..{most} of the answer's tokens; give one, "
                '"answer", "authors", words of the answer, or a callable on its logits'
            ) from error
        at, ids = [one[place : place + 1] for one in at], [one[place : place + 1] for one in ids]
    elif target == "authors":
        if max(map(len, inputs.laid)) > 1:
            raise ValueError(
                "asked for the authors' target, found several pictures in a prompt, and their code "
                'counts one as one id; use target="answer"'
            )
        at = list(map(_authors_positions, [inputs] * len(ids), range(len(ids)), map(len, ids)))
    elif target != "answer":
        chosen = [_tokens_of(vlm, mine, target) for mine in answer.ids]
        at = [positions[mine] for positions, mine in zip(at, chosen, strict=True)]
        ids = [row[mine] for row, mine in zip(ids, chosen, strict=True)]
    return at, lambda row, logits: logits.gather(1, ids[row].to(logits.device)[:, None]).sum()


def _authors_positions(inputs, row, length) -> Tensor:
    """p..p+T-1, p the prompt's length with the image counted as one id, in the prompt alone.

    These rows lie on image positions and not where the answer is predicted.
    """
    image, padding = inputs.spans.image[row], ~inputs.batch["attention_mask"][row].bool()
    p = int(inputs.length - image.sum() + 1)  # padding included: the rows shift with it
    if p + length > inputs.length:
        raise ValueError(
            f"asked for the authors' target, found its last row {p + length - 1} beyond the prompt "
            f"of {inputs.length} positions; cut the answer to {inputs.length - p} tokens, or use "
            'target="answer"'
        )
    positions = torch.arange(p, p + length, device=image.device)
    if not image[positions].all():
        on = int(image[positions].sum())
        warnings.warn(
            f"target='authors' reads {length} rows from position {p - int(padding.sum())}; "
            f"only {on} of them fall on the image",
            stacklevel=4,
        )
    return positions


def _scalar(value) -> Tensor:
    """What a callable makes of logits; refuses what has no slope in them."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        found = f"{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"asked for a target of one number, found {found}; let the callable return a scalar "
            "tensor computed from the logits it is given"
        )
    return value.reshape(())


def _tokens_of(vlm, ids, words) -> list[int]:
    """Indices of the answer's tokens that spell these words, where they first stand.

    As whole words where they do: "cat" is not the beginning of "category".
    """
    decode = vlm.processor.tokenizer.decode
    ends = [len(decode(ids[: index + 1])) for index in range(len(ids))]
    text = decode(ids)
    plain = re.escape(words)
    found = re.search(rf"(?<!\w){plain}(?!\w)", text, re.I) or re.search(plain, text, re.I)
    if found is None or not words.strip():
        raise ValueError(
            f"asked for the words {words!r} of the answer, found {text!r}; use words of the "
            'answer, "answer", "authors" or a callable on the logits'
        )
    start, stop = found.span()
    spans = zip([0, *ends], ends, strict=False)
    return [index for index, (a, b) in enumerate(spans) if a < stop and b > start]
