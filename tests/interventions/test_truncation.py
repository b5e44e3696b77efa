from dataclasses import replace

import families
import pytest
import torch
from conftest import eager_attention, hooks_on, make_sample, noise_picture

from irlib.attention import attention_flow, attention_map
from irlib.cam.cam import llava_cam
from irlib.inputs.records import Answer
from irlib.interventions.edges import knockout
from irlib.interventions.staircase import logits_by_layer
from irlib.interventions.truncation import rank, truncate
from irlib.models.loading import load
from irlib.scores import score
from irlib.sweeps.table import sweep

# The mask gives sdpa another kernel than plain causal attention has: float32 rounding, on logits
# of standard deviation 1.5.
CLOSE = {"atol": 2e-5, "rtol": 0}


@torch.no_grad()
def logits(vlm, inputs):
    return vlm.forward(inputs)


@torch.no_grad()
def drop_from(vlm, inputs, layer, hidden):
    """Oracle: the hidden tokens leave the sequence at `layer`; the others keep their positions."""
    decoder, model = vlm.decoder, vlm.model
    batch = inputs.batch
    states = decoder.get_input_embeddings()(batch["input_ids"])
    if "pixel_values" in batch:
        image = model.get_image_features(batch["pixel_values"]).pooler_output
        states[inputs.spans.image] = torch.cat(list(image)).to(states)
    positions = torch.arange(inputs.length)[None]
    for index in range(vlm.n_layers):
        if index == layer:
            states, positions = states[:, ~hidden[0]], positions[:, ~hidden[0]]
        length = states.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        states = decoder.layers[index](
            states,
            attention_mask=mask,
            position_embeddings=decoder.rotary_emb(states, positions),
        )
    return model.lm_head(decoder.norm(states))


def best(vlm, inputs, *, layer, keep, row=-1):
    """Oracle: hidden tokens when the `keep` best by eager attention of `row` stay."""
    scores = eager_attention(vlm, inputs)[layer - 1, 0, :, row].mean(0)
    order = scores.masked_fill(~inputs.spans.image[0], -1).argsort(descending=True)
    hidden = inputs.spans.image.clone()
    hidden[0, order[:keep]] = False
    return hidden


@pytest.fixture
def inputs(tiny_llava, sample):
    return tiny_llava.prepare(sample)


def test_attention_without_masks_of_ones_own_is_refused(tiny_llava, flash, sample):
    vlm, _ = flash(tiny_llava)
    inputs = vlm.prepare(sample)
    with pytest.raises(ValueError, match="takes no mask of one's own"):
        logits_by_layer(vlm, inputs, layers=[0])
    for block in (truncate(vlm, inputs, layer=0), knockout(vlm, inputs, layers=0)):
        with pytest.raises(ValueError, match="takes no mask of one's own"), block:
            pass


def test_layer_n_gives_the_untouched_logits(tiny_llava, inputs):
    untouched = logits(tiny_llava, inputs)
    with truncate(tiny_llava, inputs, layer=4):
        assert torch.equal(logits(tiny_llava, inputs), untouched)


def test_hiding_from_layer_0_equals_the_text_alone_at_its_own_positions(tiny_llava, inputs):
    text = ~inputs.spans.image
    embedded = tiny_llava.decoder.get_input_embeddings()(inputs.batch["input_ids"][text])[None]
    mask = torch.ones(1, 1, text.sum(), text.sum(), dtype=torch.bool).tril()
    with torch.no_grad():
        states = tiny_llava.decoder(
            inputs_embeds=embedded,
            attention_mask=mask,  # without it a gap in the positions reads as packed sequences
            position_ids=torch.arange(inputs.length)[None][text][None],
        ).last_hidden_state
        alone = tiny_llava.model.lm_head(states)
        with truncate(tiny_llava, inputs, layer=0):
            hidden = tiny_llava.forward(inputs)
    assert torch.allclose(hidden[text], alone[0], **CLOSE)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, 4])
def test_hiding_equals_dropping_the_image_tokens(tiny_llava, inputs, layer):
    image = inputs.spans.image
    dropped = drop_from(tiny_llava, inputs, layer, image)
    with truncate(tiny_llava, inputs, layer=layer):
        hidden = logits(tiny_llava, inputs)
    rows = ~image[0] if layer < 4 else slice(None)
    assert torch.allclose(hidden[:, rows], dropped, **CLOSE)


def test_hidden_image_tokens_keep_their_own_view(tiny_llava, inputs):
    image = inputs.spans.image
    untouched = logits(tiny_llava, inputs)[image]
    with truncate(tiny_llava, inputs, layer=0):
        assert torch.allclose(logits(tiny_llava, inputs)[image], untouched, **CLOSE)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_hiding_moves_the_logits_and_one_token_matters(tiny_llava, inputs, layer):
    with truncate(tiny_llava, inputs, layer=layer):
        hidden = logits(tiny_llava, inputs)[:, -1]
    ranking = [torch.arange(16)]
    with truncate(tiny_llava, inputs, layer=layer, keep=1, ranking=ranking):
        nearly = logits(tiny_llava, inputs)[:, -1]
    assert (hidden - logits(tiny_llava, inputs)[:, -1]).abs().max() > 0.1
    assert (hidden - nearly).abs().max() > 0.01


def test_keep_all_equals_untouched_logits(tiny_llava, inputs):
    with truncate(tiny_llava, inputs, layer=1, keep=16):
        kept = logits(tiny_llava, inputs)
    assert torch.equal(kept, logits(tiny_llava, inputs))


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("keep", [1, 5])
def test_keep_top_k_equals_dropping_the_others(tiny_llava, inputs, layer, keep):
    hidden = best(tiny_llava, inputs, layer=layer, keep=keep)
    dropped = drop_from(tiny_llava, inputs, layer, hidden)
    with truncate(tiny_llava, inputs, layer=layer, keep=keep):
        kept = logits(tiny_llava, inputs)
    assert torch.allclose(kept[:, ~hidden[0]], dropped, **CLOSE)


def test_rank_row_last_image_ranks_by_the_last_image_token(tiny_llava, inputs):
    row = inputs.spans.image[0].nonzero().max()
    hidden = best(tiny_llava, inputs, layer=2, keep=4, row=row)
    assert not torch.equal(hidden, best(tiny_llava, inputs, layer=2, keep=4))
    dropped = drop_from(tiny_llava, inputs, 2, hidden)
    with truncate(tiny_llava, inputs, layer=2, keep=4, rank_row="last_image"):
        kept = logits(tiny_llava, inputs)
    assert torch.allclose(kept[:, ~hidden[0]], dropped, **CLOSE)


def test_own_ranking_keeps_its_best_token_even_from_layer_0(tiny_llava, inputs):
    hidden = inputs.spans.image.clone()
    hidden[0, hidden[0].nonzero()[7]] = False
    dropped = drop_from(tiny_llava, inputs, 0, hidden)
    ranking = [[float(token == 7) for token in range(16)]]
    with truncate(tiny_llava, inputs, layer=0, keep=1, ranking=ranking):
        kept = logits(tiny_llava, inputs)
    assert torch.allclose(kept[:, ~hidden[0]], dropped, **CLOSE)


def test_offset_1_keeps_the_first_image_token_and_hides_the_first_word(tiny_llava, inputs):
    hidden = inputs.spans.image.roll(1, 1)
    dropped = drop_from(tiny_llava, inputs, 1, hidden)
    with truncate(tiny_llava, inputs, layer=1, offset=1):
        shifted = logits(tiny_llava, inputs)
    assert torch.allclose(shifted[:, ~hidden[0]], dropped, **CLOSE)


def test_rank_is_the_eager_attention_of_the_last_prompt_row(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    eager = eager_attention(tiny_llava, inputs)[:, :, :, -1].mean(2)
    assert torch.allclose(rank(tiny_llava, inputs), eager, atol=3e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, 4])
def test_generation_equals_a_naive_loop_with_full_recomputation(tiny_llava, inputs, layer):
    said = []
    for _ in range(6):
        grown = inputs.followed_by(Answer((torch.tensor(said),), ("",))) if said else inputs
        with truncate(tiny_llava, inputs, layer=layer):
            scores = logits(tiny_llava, grown)[0, -1]
        scores[tiny_llava.image_token_id] = -torch.inf
        said.append(int(scores.argmax()))
    with truncate(tiny_llava, inputs, layer=layer):
        answer = tiny_llava.answer(inputs, max_new_tokens=6)
    special = set(tiny_llava.processor.tokenizer.all_special_ids)
    assert not special & set(said)
    assert answer.ids[0].tolist() == said


def test_answers_depend_on_the_layer(tiny_llava, inputs):
    texts = set()
    for layer in range(5):
        with truncate(tiny_llava, inputs, layer=layer):
            texts.add(tiny_llava.answer(inputs, max_new_tokens=6).text)
    assert len(texts) > 2


def test_padded_batch_with_a_layer_a_row_equals_single_runs(tiny_llava, samples, text_sample):
    batch = [*samples, text_sample]
    inputs = tiny_llava.prepare(batch)
    with truncate(tiny_llava, inputs, layer=[3, 1, 0], keep=0):
        together = logits(tiny_llava, inputs)
        answers = tiny_llava.answer(inputs, max_new_tokens=5)
    for row, (sample, layer) in enumerate(zip(batch, [3, 1, 0], strict=True)):
        one = tiny_llava.prepare(sample)
        with truncate(tiny_llava, one, layer=layer):
            alone = logits(tiny_llava, one)
            answer = tiny_llava.answer(one, max_new_tokens=5)
        visible = ~one.spans.image[0]
        assert torch.allclose(together[row, -one.length :][visible], alone[0, visible], **CLOSE)
        assert torch.equal(answers.ids[row], answer.ids[0])


def test_top_k_of_a_padded_batch_equals_single_runs(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    with truncate(tiny_llava, inputs, layer=[3, 1], keep=3):
        together = logits(tiny_llava, inputs)[:, -1]
    for row, (sample, layer) in enumerate(zip(samples, [3, 1], strict=True)):
        one = tiny_llava.prepare(sample)
        with truncate(tiny_llava, one, layer=layer, keep=3):
            assert torch.allclose(together[row], logits(tiny_llava, one)[0, -1], **CLOSE)


@pytest.mark.parametrize("keep", [0, 5])
def test_sample_without_picture_is_left_as_it_is(tiny_llava, text_sample, keep):
    inputs = tiny_llava.prepare(text_sample)
    untouched = logits(tiny_llava, inputs)
    with truncate(tiny_llava, inputs, layer=0, keep=keep):
        assert torch.equal(logits(tiny_llava, inputs), untouched)


def test_eager_attention_is_truncated_alike(tiny_llava, inputs):
    with truncate(tiny_llava, inputs, layer=2):
        sdpa = logits(tiny_llava, inputs)
        tiny_llava.decoder.set_attn_implementation("eager")
        try:
            eager = logits(tiny_llava, inputs)
        finally:
            tiny_llava.decoder.set_attn_implementation("sdpa")
    assert torch.allclose(sdpa, eager, **CLOSE)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error_inside(tiny_llava, inputs, error):
    during = []
    with pytest.raises(error), truncate(tiny_llava, inputs, layer=0):  # noqa: PT012
        during.append(hooks_on(tiny_llava.decoder))
        raise error
    assert during == [4]
    assert hooks_on(tiny_llava.decoder) == 0


def test_nested_truncation_hides_from_the_lower_layer(tiny_llava, inputs):
    with truncate(tiny_llava, inputs, layer=1):
        expected = logits(tiny_llava, inputs)
        with truncate(tiny_llava, inputs, layer=3):
            assert torch.equal(logits(tiny_llava, inputs), expected)
    assert hooks_on(tiny_llava.decoder) == 0


@pytest.mark.parametrize("layer", [-1, 5, [0, 1], 1.0, [1.5], True, "1", None, []])
def test_layer_out_of_range_is_refused(tiny_llava, inputs, layer):
    with (
        pytest.raises(ValueError, match=r"asked to hide.*found 4 layers and 1 rows.*0..4"),
        truncate(tiny_llava, inputs, layer=layer),
    ):
        pass


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (17, r"asked to keep 17 .*found \[16\] a picture"),
        (-1, r"keep=-1, found it out of range; give a whole number of at least 0"),
        (2.0, r"keep=2.0, found a float"),
        (True, r"keep=True, found a bool"),
        (None, r"keep=None, found a NoneType"),
    ],
)
def test_keeping_what_is_no_number_of_image_tokens_is_refused(tiny_llava, inputs, keep, message):
    with pytest.raises(ValueError, match=message), truncate(tiny_llava, inputs, layer=1, keep=keep):
        pass


def test_keep_from_layer_0_without_a_ranking_is_refused(tiny_llava, inputs):
    with (
        pytest.raises(ValueError, match=r"from layer 0 on.*no layer before it.*give ranking="),
        truncate(tiny_llava, inputs, layer=0, keep=2),
    ):
        pass


@pytest.mark.parametrize(
    "ranking",
    [3, [3], [["a"] * 16], [[[1.0]] * 16], [[float("nan")] * 16], [[0.0] * 15 + [float("nan")]]],
)
def test_ranking_that_ranks_nothing_is_refused(tiny_llava, inputs, ranking):
    with (
        pytest.raises(ValueError, match=r"asked to rank the image tokens, found .*; give ranking"),
        truncate(tiny_llava, inputs, layer=1, keep=2, ranking=ranking),
    ):
        pass


def test_ranking_of_another_length_is_refused(tiny_llava, inputs):
    with (
        pytest.raises(ValueError, match=r"found scores of shape \[\[3\]\] for \[16\] tokens"),
        truncate(tiny_llava, inputs, layer=1, keep=2, ranking=[[1, 2, 3]]),
    ):
        pass


def test_unknown_rank_row_is_refused(tiny_llava, inputs):
    with (
        pytest.raises(ValueError, match=r"by the row 'first'.*use 'last' or 'last_image'"),
        truncate(tiny_llava, inputs, layer=1, keep=2, rank_row="first"),
    ):
        pass


def twins():
    """Two samples whose prompts have the same tokens and whose pictures have the same size."""
    return [make_sample(noise_picture(60, 40, seed=seed), key=str(seed)) for seed in (2, 3)]


def ways(vlm, inputs):
    """Every way in: each runs the model on inputs, as they are or followed by an answer."""
    answer = Answer(tuple(torch.tensor([9, 8]) for _ in range(len(inputs))), ("",) * len(inputs))
    batch = inputs.batch
    yield "forward", lambda: logits(vlm, inputs)
    yield "encoded", lambda: logits(vlm, vlm.encode(inputs))
    yield "answer", lambda: vlm.answer(inputs, max_new_tokens=2)
    yield "teacher", lambda: logits(vlm, inputs.followed_by(answer))
    yield "raw", lambda: vlm.model(**batch)
    yield "beams", lambda: vlm.model.generate(**batch, num_beams=3, max_new_tokens=2)
    yield "flow", lambda: attention_flow(vlm, inputs, answer)
    yield "rank", lambda: rank(vlm, inputs)
    if all(inputs.spans.image.any(1)):
        yield "cam", lambda: llava_cam(vlm, inputs, answer)
    if len(inputs) == 1:
        yield "map", lambda: attention_map(vlm, inputs, answer)


WAYS = ["forward", "encoded", "answer", "teacher", "raw", "beams", "flow", "rank", "cam", "map"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_run_on_other_inputs_is_refused_on_every_way_in(tiny_llava, samples, layer, way):
    one, other = twins()
    inputs = tiny_llava.prepare(one)
    words = replace(one, prompt="What is on the picture? yes or no.")
    longer = replace(one, prompt=one.prompt + " Describe it.")
    shorter = replace(one, prompt="What?")
    for asked in (other, words, longer, shorter, replace(one, image=None), samples):
        others = tiny_llava.prepare(asked)
        run = dict(ways(tiny_llava, others)).get(way)
        if run is None:
            continue
        with (
            pytest.raises(ValueError, match=r"use the inputs it was given"),
            truncate(tiny_llava, inputs, layer=layer),
        ):
            run()
    with truncate(tiny_llava, inputs, layer=layer):
        dict(ways(tiny_llava, inputs))[way]()
    with truncate(tiny_llava, tiny_llava.encode(inputs), layer=layer):
        dict(ways(tiny_llava, inputs))[way]()
    assert hooks_on(tiny_llava.decoder) == 0


def test_a_picture_inside_the_block_of_a_question_without_one_is_refused(tiny_llava, sample):
    alone = tiny_llava.prepare(replace(sample, image=None))
    with (
        pytest.raises(ValueError, match=r"use the inputs it was given"),
        truncate(tiny_llava, alone, layer=0),
    ):
        tiny_llava.answer(tiny_llava.prepare(sample))


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_no_familys_picture_runs_inside_the_block_of_another(family, name):
    vlm = family(name)
    one, other = (vlm.prepare(make_sample(noise_picture(60, 40, seed=i))) for i in (0, 1))
    assert torch.equal(one.text["input_ids"], other.text["input_ids"])
    for start in (vlm.encode(one), one):
        with truncate(vlm, start, layer=1):
            kept = logits(vlm, vlm.encode(one))[0, -1]
            said = vlm.answer(one, max_new_tokens=2)
            for run in (logits, type(vlm).answer):
                with pytest.raises(ValueError, match=r"another picture"):
                    run(vlm, other)
    assert said.ids[0][0] == kept.index_fill(0, torch.tensor(vlm.image_token_id), -9).argmax()


def test_pictures_whose_tokens_even_out_do_not_run_inside_each_others_block():
    vlm = load("mini-qwen2vl")
    square, wide = noise_picture(96, 96, seed=0), noise_picture(300, 100, seed=1)
    short, long = (vlm.prepare(image=x, question="What is this?") for x in (square, wide))
    missing = short.length - long.length
    assert missing
    few, many = (wide, square) if missing > 0 else (square, wide)
    fill = "What is this?" + " this" * abs(missing)
    one = vlm.prepare(image=few, question=fill)
    other = vlm.prepare(image=many, question="What is this?")
    assert one.length == other.length
    answer = vlm.answer(other, max_new_tokens=3)
    with truncate(vlm, one, layer=0), pytest.raises(ValueError, match=r"other tokens"):
        attention_flow(vlm, other, answer)


def test_rows_taken_from_the_inputs_are_hidden_as_they_were_in_the_batch(
    tiny_llava, samples, text_sample
):
    inputs, layers = tiny_llava.prepare([*samples, text_sample, *twins()]), [3, 0, 0, 1, 2]
    with truncate(tiny_llava, inputs, layer=layers):
        whole = logits(tiny_llava, inputs)
        for rows in ([1], [1, 0], [4, 3, 2, 1, 0], [3, 3, 1], [2, 2], [4]):
            for mine in (inputs.take(rows), tiny_llava.encode(inputs).take(rows)):
                taken = logits(tiny_llava, mine)
                real = mine.text["attention_mask"].bool() & ~mine.spans.image
                assert torch.allclose(taken[real], whole[rows][real], **CLOSE)
            said = tiny_llava.answer(inputs.take(rows), max_new_tokens=3)
            for row, ids in zip(rows, said.ids, strict=True):
                only = tiny_llava.answer(inputs.take([row]), max_new_tokens=3)
                assert ids.equal(only.ids[0])


def test_beams_are_hidden_as_the_row_they_come_from(tiny_llava, samples):
    inputs, settings = tiny_llava.prepare(samples), {"num_beams": 3, "max_new_tokens": 4}
    with truncate(tiny_llava, inputs, layer=[0, 3]):
        together = tiny_llava.model.generate(**inputs.batch, **settings)
        alone = [
            tiny_llava.model.generate(**inputs.take([row]).batch, **settings) for row in (0, 1)
        ]
    untouched = tiny_llava.model.generate(**inputs.batch, **settings)
    for row, one in enumerate(alone):
        assert together[row].tolist()[: one.shape[1]] == one[0].tolist()
    assert not torch.equal(together, untouched)


def test_equal_rows_hidden_from_different_layers_cannot_be_taken_one_by_one(tiny_llava, sample):
    inputs = tiny_llava.prepare([sample, sample])
    with truncate(tiny_llava, inputs, layer=[0, 3]):
        both = logits(tiny_llava, inputs)[:, -1]
        with pytest.raises(ValueError, match=r"rows \[0, 1\], which are equal but hidden diff"):
            logits(tiny_llava, inputs.take([1]))
    assert not torch.allclose(both[0], both[1], atol=0.01)
    with truncate(tiny_llava, inputs, layer=3):
        assert torch.allclose(logits(tiny_llava, inputs.take([1]))[0, -1], both[1], **CLOSE)


@torch.no_grad()
def test_a_generation_that_goes_on_from_a_cache_filled_outside_is_refused(tiny_llava, inputs):
    model = tiny_llava.model
    outside = model(**inputs.batch, use_cache=True).past_key_values
    mask = torch.ones(1, inputs.length + 1, dtype=torch.long)
    step = {"input_ids": torch.tensor([[9]]), "attention_mask": mask}
    with truncate(tiny_llava, inputs, layer=1):
        inside = model(**inputs.batch, use_cache=True).past_key_values
        found = model(**step, past_key_values=inside).logits
        with pytest.raises(ValueError, match=r"goes on from a cache filled outside of the block"):
            model(**step, past_key_values=outside)
        grown = inputs.followed_by(Answer((torch.tensor([9]),), ("",)))
        assert torch.allclose(found[0, -1], logits(tiny_llava, grown)[0, -1], **CLOSE)


def test_sweep_equals_one_truncated_answer_at_a_time(tiny_llava, samples, text_sample):
    batch = [*samples, text_sample]
    table = sweep(tiny_llava, batch, batch_size=2, progress=False)
    assert table.groupby("sample").layer.agg(list).tolist() == [[0, 1, 2, 3, 4]] * 3
    for sample in batch:
        inputs = tiny_llava.prepare(sample)
        for layer in range(5):
            with truncate(tiny_llava, inputs, layer=layer):
                text = tiny_llava.answer(inputs).text
            row = table[(table["sample"] == sample.key) & (table.layer == layer)].iloc[0]
            assert row.answer == text
            assert row.score == score(sample, text)["score"]


def test_sweep_with_keep_starts_at_layer_1_and_equals_truncate(tiny_llava, samples):
    table = sweep(tiny_llava, samples, keep=3, progress=False)
    assert sorted(table.layer.unique()) == [1, 2, 3, 4]
    for sample in samples:
        inputs = tiny_llava.prepare(sample)
        for layer in range(1, 5):
            with truncate(tiny_llava, inputs, layer=layer, keep=3):
                text = tiny_llava.answer(inputs).text
            row = table[(table["sample"] == sample.key) & (table.layer == layer)].iloc[0]
            assert row.answer == text


def test_sweep_always_holds_the_untouched_model(tiny_llava, samples):
    table = sweep(tiny_llava, samples, layers=[0, 1], progress=False)
    assert sorted(table.layer.unique()) == [0, 1, 4]


def test_sweep_over_no_samples_is_refused(tiny_llava):
    with pytest.raises(ValueError, match=r"found none; give at least one"):
        sweep(tiny_llava, [], progress=False)
