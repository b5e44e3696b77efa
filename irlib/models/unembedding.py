"""From states to logits, as the model's own last step makes them."""

from torch import Tensor


def unembed(vlm, states: Tensor) -> Tensor:
    """Logits `[..., vocabulary]` of states `[..., channel]` that went through the last norm."""
    return vlm.model.get_output_embeddings()(states)
