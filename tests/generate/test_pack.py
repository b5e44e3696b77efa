from functools import partial
from random import Random

import numpy as np
import pytest
import torch

from data.generate import train
from data.generate.fitting import looks, pack, pool
from data.generate.fitting.minis import MINIS, make
from data.generate.world.scenes import Studio, food_chain, still_life


class Drawn:
    """A pool of two pictures that is not kept on disk."""

    def __init__(self):
        rng, studio = Random(0), Studio("train", variants=2)
        self.scenes = [food_chain(rng, studio), still_life(rng, studio, signs=1)]

    def pixels(self, at, side):
        return np.stack([pool.shrink(self.scenes[i].picture, side) for i in at])

    def labels(self, at, grid):
        return np.stack([pool.labels(self.scenes[i], grid) for i in at])


@pytest.fixture(scope="module")
def drawn():
    return Drawn()


def turns_of(name, drawn):
    return pack.Turns(MINIS[name], MINIS[name].classes(drawn, [0]).shape[1])


@pytest.mark.parametrize("name", MINIS)
def test_training_pixels_are_the_processors(name, drawn):
    mini = MINIS[name]
    images = [scene.picture for scene in drawn.scenes]
    made = mini.processor().image_processor(images, return_tensors="pt")
    for key, value in mini.look(drawn, [0, 1]).items():
        assert torch.equal(value, made[key]), key


@pytest.mark.parametrize("name", MINIS)
@torch.no_grad()
def test_packed_rows_have_the_logits_of_single_turn_prompts(name, drawn):
    """float32 sums in another order: 7e-7 seen, of logits with a standard deviation of 0.2."""
    mini, turns, net = MINIS[name], turns_of(name, drawn), make(name).eval()
    rng, checked = Random(0), 0
    rows, prompts = pack.batch(turns, rng, drawn.scenes, 1, partial(pack.about, stage="all"))
    for row in range(3):
        alone = {k: v[:, [row]] if k == "position" else v[[row]] for k, v in rows.items()}
        segments = [s for s in rows["segment"][row].unique().tolist() if s > pack.COMMON]
        for i, segment in enumerate(segments):
            at = (rows["segment"][row] == segment).nonzero().flatten()
            ids = rows["tokens"][row, at]
            if row < 2:  # InstructBLIP's picture depends on the prompt
                asked = [[prompts[row][i]]] * 2
                image = train.image_tokens(net, mini, turns, drawn, [0, 1], asked, rng)[[row]]
            else:
                image = torch.zeros(0, turns.tokens, 128)
            hidden = train.decode(net, turns, image, alone)
            packed = net.get_output_embeddings()(hidden)[0, at[:-1]]
            prompt = prompts[row][i] if row < 2 else None
            one = single_turn(net, turns, drawn.scenes[row].picture if row < 2 else None, prompt,
                              ids, int((rows["target"][row, at] != pack.IGNORE).sum()))  # fmt: skip
            torch.testing.assert_close(packed, one[-len(packed) :], atol=5e-6, rtol=0)
            checked += 1
    assert checked > 15


def single_turn(net, turns, picture, prompt, ids, said):
    """Logits of the stock model for one prompt and its answer, the end left out."""
    if picture is None:
        whole = torch.tensor(turns.common[False] + ids[:-1].tolist())[None]
        if hasattr(net, "qformer"):  # whose forward wants a picture
            return net.language_model(whole).logits[0]
        extra = {"mm_token_type_ids": whole * 0} if turns.mini.merged else {}
        return net(whole, **extra).logits[0]
    head, tail = turns.frames[True]
    text = head + prompt + tail
    if any(turns.mini.marks):  # which the processor puts there itself
        left, right = turns.mini.marks
        text = text.replace(left, "").replace(right, "")
    batch = turns.processor(images=[picture], text=[text], return_tensors="pt")
    asked = len(ids) - said
    assert batch["input_ids"][0, -asked:].tolist() == ids[:asked].tolist()
    answer = ids[asked:-1][None]
    by_token = {k for k, v in batch.items() if v.shape == batch["input_ids"].shape}
    batch = {
        k: torch.cat([v, answer if k == "input_ids" else answer * 0 + (k == "attention_mask")], 1)
        if k in by_token and not k.startswith("qformer")
        else v
        for k, v in batch.items()
    }
    return net(**batch).logits[0]


def test_a_quarter_is_where_its_tile_is():
    whole = np.arange(16).reshape(1, 4, 4)
    assert looks.quarters(whole)[0].tolist() == [
        [[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]],
    ]  # fmt: skip


def test_classes_stand_where_the_image_tokens_are(drawn):
    fine, base = drawn.labels([0], 12)[0, ..., 0], drawn.labels([0], 6)[0, ..., 0]
    seen = MINIS["mini-llava-next"].classes(drawn, [0])[0]
    assert np.array_equal(seen[:36].reshape(6, 6), base)
    assert np.array_equal(seen[36:].reshape(12, 13)[:, :12], fine)
    assert not seen[36:].reshape(12, 13)[:, 12].any()
    tiles = MINIS["mini-internvl"].classes(drawn, [0])[0][:64].reshape(2, 2, 4, 4)
    whole = drawn.labels([0], 8)[0, ..., 0]
    assert np.array_equal(tiles.transpose(0, 2, 1, 3).reshape(8, 8), whole)


def test_qwens_patches_come_four_by_four_that_are_merged():
    grid = np.arange(16).reshape(1, 4, 4)
    assert looks.merge_order(grid)[0].tolist() == [
        0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
    ]  # fmt: skip


def test_an_inherited_decoder_says_the_same_of_the_same_words(drawn):
    turns = turns_of("mini-qwen2vl", drawn)
    net = make("mini-qwen2vl").eval()
    train.inherit(net, turns, train.card.FOLDER / "mini-llava", tower=False)
    other = train.AutoModelForImageTextToText.from_pretrained(train.card.FOLDER / "mini-llava")
    old = train.AutoTokenizer.from_pretrained(train.card.FOLDER / "mini-llava")
    text = "Is there a cat in the image?"
    words = (turns.tokenizer, old)
    plain = {"add_special_tokens": False, "return_tensors": "pt"}
    mine, theirs = (tok.encode(text, **plain) for tok in words)
    assert not torch.equal(mine, theirs)
    with torch.no_grad():
        a = net(mine, mm_token_type_ids=mine * 0).logits[..., mine[0]]
        b = other(theirs).logits[..., theirs[0]]
    # biases are zero and text positions equal in all three dimensions; float32 in another order
    torch.testing.assert_close(a, b, atol=2e-4, rtol=0)
