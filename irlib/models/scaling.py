"""The scale of logits that some language models are trained with, kept behind a picture too.

transformers scales them in the class of the language model alone (Cohere's times `logit_scale`,
Granite's over `logits_scaling`), and its classes with pictures go around that one. What is said
greedily stays the same, but probabilities would be another temperature's.
"""

from torch import nn


def scale_of(config) -> float:
    """What a language model's config says to multiply its head's logits by.

    >>> from transformers import Cohere2Config, GraniteConfig, LlamaConfig
    >>> scale_of(Cohere2Config(logit_scale=0.25)), scale_of(GraniteConfig(logits_scaling=8.0))
    (0.25, 0.125)
    >>> scale_of(LlamaConfig())
    1.0
    """
    times, over = (getattr(config, name, None) for name in ("logit_scale", "logits_scaling"))
    return float(1 if times is None else times) / float(1 if over is None else over)


def scale_head(model: nn.Module) -> nn.Module:
    """The model, its head giving logits at the scale that its language model's config says."""
    scale = scale_of(model.config.get_text_config())

    def bring(head, args, logits):
        return logits * scale

    if scale != 1:
        model.get_output_embeddings().register_forward_hook(bring)
    return model
