"""From states to logits, as the model's own last step makes them."""

from torch import Tensor

from irlib.models.scaling import CAP, capped


def unembed(vlm, states: Tensor) -> Tensor:
    """Logits `[..., vocabulary]` of states `[..., channel]` that went through the last norm."""
    logits = vlm.model.get_output_embeddings()(states)
    text = vlm.model.config.get_text_config()
    return capped(logits, getattr(text, CAP, None) if vlm.family.capped else None)
