"""From states to logits, as the model's own last step makes them."""

import torch
from torch import Tensor


def unembed(vlm, states: Tensor) -> Tensor:
    """Logits `[..., vocabulary]` of states `[..., channel]` that went through the last norm."""
    logits = vlm.model.get_output_embeddings()(states)
    text = vlm.model.config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None) if vlm.family.capped else None
    return logits if cap is None else torch.tanh(logits / cap) * cap
