"""What of a prompt's tensors is each of its several pictures, as a layout is given them."""

from irlib.inputs.tokens import see


def alone(vlm, visual: dict, pictures) -> list[dict]:
    """Read as each would be alone in a prompt: most families."""
    return [see(vlm, vlm.placeholder, [picture]) for picture in pictures]


def together(vlm, visual: dict, pictures) -> list[dict]:
    """Read otherwise than alone, an entry of each tensor a picture: LLaVA-OneVision."""
    return [{key: value[k : k + 1] for key, value in visual.items()} for k in range(len(pictures))]
