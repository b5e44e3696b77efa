"""First-token logits with the image hidden from every layer: irlib against one prefill a layer."""

import sys

from benchmarks import alternatives, command, counts
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.interventions.staircase import logits_by_layer

TITLE = "Truncation at every layer, the first token's logits"


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way and the loop over layers, on one model."""
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    layers, n = range(vlm.n_layers + 1), vlm.n_layers

    def agrees(ours, theirs):
        ours, theirs = (logits.float().cpu() for logits in (ours, theirs))
        moved = float((theirs[0] - theirs[-1]).abs().max() / theirs.abs().max())
        told = agreement("logits", ours, theirs, **closeness(vlm))
        return told | {"hiding_moves": round(moved, 4)}  # what would be missed if nothing were hid

    return [
        Contender(
            "irlib, every layer at once",
            lambda: logits_by_layer(vlm, inputs, layers=layers),
            count=counts.sweep(inputs, n)["shared"],
        ),
        Contender(
            "one prefill a layer, columns masked (FastV, the authors)",
            lambda: alternatives.naive_sweep(vlm, inputs, layers),
            count=counts.sweep(inputs, n)["naive"],
            agrees=agrees,
            target=14 if subject.aimed else None,
        ),
    ]


def memory(subject: Subject, told: dict) -> dict:
    """What the sweep is expected to hold, beside the peak of one prefill."""
    vlm, inputs, n = subject.vlm, subject.inputs, subject.vlm.n_layers
    user = int(inputs.spans.user.sum())
    config, size = vlm.model.config.get_text_config(), vlm.dtype.itemsize / 1e6
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = 2 * n * inputs.length * config.num_key_value_heads * width * size
    states = (n + 1) * user * config.hidden_size * size
    one_pass = told["rows"][1]["whole_once"]["peak_mb"]
    return {
        "keys_and_values_of_the_prompt_mb": round(keys, 2),
        "states_of_all_variants_mb": round(states, 2),
        "expected_peak_mb": one_pass and round(one_pass + keys + n * states, 1),
        "bound": "the peak of one prefill, the prompt's keys and values, and the states behind the "
        "image of all variants at each layer",
    }


if __name__ == "__main__":
    command.main({"sweep": sys.modules[__name__]})
