"""What some language models do to the logits behind their head, done behind a picture too.

transformers does it in the class of the language model alone (Cohere's times `logit_scale`,
Granite's over `logits_scaling`, HyperCLOVA X's times it, nanochat's bounded), and its classes with
pictures go around that one. What is said greedily stays the same, but probabilities would be
another temperature's.
"""

from torch import Tensor, nn

CAP = "final_logit_softcapping"
POWERS = {  # of a setting in the scale, by the beginning of the language model's model_type
    "logit_scale": {"cohere": 1},
    "logits_scaling": {"granite": -1, "hyperclovax": 1},
    "lm_head_multiplier": {},
    "output_multiplier": {},
    "logits_mup_width_multiplier": {},
}


def scale_of(config) -> float:
    """What a language model's config says to multiply its head's logits by.

    >>> from transformers import Cohere2Config, GraniteConfig, LlamaConfig
    >>> scale_of(Cohere2Config(logit_scale=0.25)), scale_of(GraniteConfig(logits_scaling=8.0))
    (0.25, 0.125)
    >>> scale_of(LlamaConfig())
    1.0
    """
    scale = 1.0
    for name, value in _settings(config).items():
        scale *= value ** _power(config, name)
    return scale


def unscalable(config) -> str | None:
    """What a config says of its logits and nobody here knows how it is meant, in words; or None."""
    lost = [name for name in _settings(config) if _power(config, name) is None]
    if not lost:
        return None
    return (
        f"logits that its own class scales by {', '.join(lost)}, in a way that irlib does not know "
        "of it: probabilities would be another temperature's"
    )


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits brought smoothly within `cap` of 0; as they are without one."""
    return logits if cap is None else (logits / cap).tanh() * cap


def scale_head(model: nn.Module, *, caps: bool) -> nn.Module:
    """The model, its head giving logits as its language model's config says.

    `caps` is whether the model's own class bounds them behind its head, as few do.
    """
    config = model.config.get_text_config()
    scale, cap = scale_of(config), None if caps else getattr(config, CAP, None)

    def bring(head, args, logits):
        return capped(logits * scale, cap)

    if scale != 1 or cap is not None:
        model.get_output_embeddings().register_forward_hook(bring)
    return model


def _settings(config) -> dict[str, float]:
    """The settings of scale that there are and that change something."""
    told = {name: getattr(config, name, None) for name in POWERS}
    return {name: float(value) for name, value in told.items() if value not in (None, 1)}


def _power(config, name) -> int | None:
    known = POWERS[name].items()
    return next((power for kind, power in known if config.model_type.startswith(kind)), None)
