from random import Random

import numpy as np
import torch

from data.generate import mini, pack, train
from data.generate.scenes import Studio, food_chain, still_life


def test_packed_rows_have_the_logits_of_single_turn_prompts():
    net, processor = mini.model().eval(), mini.processor()
    rng, studio = Random(0), Studio("train", variants=2)
    scenes = [food_chain(rng, studio), still_life(rng, studio, signs=1)]
    images = processor.image_processor([s.picture for s in scenes], return_tensors="pt")
    with torch.no_grad():
        features = train.features(net, images["pixel_values"])
        image = net.model.multi_modal_projector(features)
        pictures, texts = pack.batch(rng, scenes, 1, "all")
        hidden, *_ = train.rows(net, image, pictures, texts)
        packed = net.lm_head(hidden)
    tokenizer, checked = processor.tokenizer, 0
    for row, arrays in enumerate([*_rows(pictures), *_rows(texts)]):
        shift = mini.TOKENS if row < len(scenes) else 0
        for segment in set(arrays["segment"]) - {0}:
            at = np.flatnonzero(arrays["segment"] == segment)
            ids = arrays["tokens"][at]
            last = at[-1] - 1  # predicts the end
            if row < len(scenes):
                text = f"{mini.SYSTEM} USER: <image>" + tokenizer.decode(ids[:-1])
                batch = processor(images=scenes[row].picture, text=text, return_tensors="pt")
            else:
                text = f"{mini.SYSTEM} USER: " + tokenizer.decode(ids[:-1])
                batch = processor(text=text, return_tensors="pt")
            assert batch["input_ids"][0, -len(ids) + 1 :].tolist() == ids[:-1].tolist()
            with torch.no_grad():
                alone = net(**batch).logits[0, -1]
            # float32 sums in another order
            torch.testing.assert_close(packed[row, shift + last], alone, atol=2e-5, rtol=0)
            checked += 1
    assert checked > 15


def _rows(arrays):
    return [{k: v[i] for k, v in arrays.items()} for i in range(len(arrays["tokens"]))]
