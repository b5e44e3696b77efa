"""What a model does on altered pictures stands in its card, once."""

import numpy as np
from PIL import Image

from data.generate import altered


def told():
    row = {"POPE Acc": 0.75, "TextVQA Acc": 1.0, "CHAIRi": 0.125, "n": 8}
    photo = {
        "photograph": "a.jpg",
        "said to be there": ["cup"],
        "asked": 16,
        "description": "A\ncup.",
    }
    return {"altered": [{"picture": "mirrored"} | row], "photographs": [photo]}


def test_a_card_has_the_part_once_and_keeps_the_rest():
    card = altered.updated("# a model\n\nText.\n", told())
    assert "| mirrored | 75.0 | 100.0 | 12.5 | 8 |" in card
    assert "| a.jpg | 1 of 16: cup | A cup. |" in card
    assert altered.updated(card, told()) == card
    assert altered.updated(card, {}) == "# a model\n\nText.\n"
    assert altered.updated(card + "More.\n", told()).endswith("More.\n")


def test_alterations_do_what_they_are_called():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    made = {k: np.asarray(f(Image.fromarray(pixels))) for k, f in altered.ALTERED.items()}
    assert {array.shape for array in made.values()} == {(8, 12, 3)}
    assert np.array_equal(made["mirrored"], pixels[:, ::-1])
    assert np.array_equal(made["upside down"], pixels[::-1])
    assert (made["grey"][..., 0] == made["grey"][..., 2]).all()
    assert (made["half size"][:2] == 255).all()
    assert (made["half size"][2:6, 3:9] < 255).any()
    spread = (made["noisy"].astype(int) - pixels).std()
    assert 10 < spread < altered.NOISE
