from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import eager_attention

from irlib.attention import attention_flow, attention_map
from irlib.inputs.records import Answer
from irlib.inputs.spans import SEGMENTS
from irlib.interventions.truncation import truncate
from irlib.plots.averages import average as means


def wide(table, value="share"):
    return table.pivot(index="layer", columns="segment", values=value)


@pytest.fixture
def asked(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    return inputs, tiny_llava.answer(inputs)


def test_shares_equal_those_of_eager_maps(tiny_llava, asked):
    inputs, answer = asked
    whole, length = inputs.followed_by(answer), len(answer.ids[0])
    eager = eager_attention(tiny_llava, whole)[:, 0].mean(1)  # [layer, query, key]
    # the rows that predict the answer: from the last prompt row to the last but one of all
    rows = eager[:, inputs.length - 1 : inputs.length - 1 + length].mean(1)
    shares = wide(attention_flow(tiny_llava, inputs, answer))
    for segment in SEGMENTS:
        mask = getattr(whole.spans, segment)[0]
        assert np.allclose(shares[segment], rows[:, mask].sum(-1), atol=1e-6)


def test_shares_sum_to_one(tiny_llava, asked):
    table = attention_flow(tiny_llava, *asked, queries=("answer", "user", "image", "system"))
    sums = table.groupby(["layer", "query"])[["share", "uniform"]].sum()
    assert np.allclose(sums, 1, atol=1e-5)


def test_query_segments_are_their_own_rows(tiny_llava, asked):
    inputs, answer = asked
    eager = eager_attention(tiny_llava, inputs.followed_by(answer))[:, 0].mean(1)
    for query in ("system", "image", "user"):
        mask = getattr(inputs.followed_by(answer).spans, query)[0]
        expected = eager[:, mask][:, :, inputs.followed_by(answer).spans.image[0]].sum(-1).mean(-1)
        table = attention_flow(tiny_llava, inputs, answer, queries=(query,))
        assert np.allclose(wide(table)["image"], expected, atol=1e-6)


def test_uniform_share_is_the_count_of_visible_keys(tiny_llava, asked):
    inputs, answer = asked
    length = len(answer.ids[0])
    rows = range(inputs.length - 1, inputs.length - 1 + length)
    expected = np.mean([inputs.spans.image.sum().item() / (row + 1) for row in rows])
    uniform = wide(attention_flow(tiny_llava, inputs, answer), "uniform")["image"]
    assert np.allclose(uniform, expected, atol=1e-6)


def test_renormalised_shares_follow_eq_7(tiny_llava, asked):
    inputs, answer = asked
    spans = inputs.followed_by(answer).spans
    rows = eager_attention(tiny_llava, inputs.followed_by(answer))[:, 0].mean(1)
    rows = rows[:, spans.predicting[0]]
    parts = torch.stack(
        [rows[..., getattr(spans, s)[0]].sum(-1) for s in SEGMENTS if s != "answer"]
    )
    system, image, _, user = parts
    expected = (image / (system + image + user)).mean(-1)
    table = attention_flow(tiny_llava, inputs, answer, renormalise=True)
    assert set(table.segment) == {"system", "image", "user"}
    assert np.allclose(wide(table)["image"], expected, atol=1e-6)


def test_padded_batch_equals_single_runs(tiny_llava, samples, text_sample):
    batch = [*samples, text_sample]
    inputs = tiny_llava.prepare(batch)
    answer = tiny_llava.answer(inputs)
    table = attention_flow(tiny_llava, inputs, answer, queries=("answer", "user"))
    for row, sample in enumerate(batch):
        one = Answer((answer.ids[row],), (answer.texts[row],))
        single = attention_flow(
            tiny_llava, tiny_llava.prepare(sample), one, queries=("answer", "user")
        )
        mine = table[table["sample"] == sample.key].reset_index(drop=True)
        assert (mine.segment == single.segment).all()
        # other mask, other kernel: float32 rounding
        assert np.allclose(mine[["share", "uniform"]], single[["share", "uniform"]], atol=1e-5)


def test_answers_of_different_length_share_a_batch(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    ids = tiny_llava.answer(inputs).ids
    answer = Answer((ids[0][:1], ids[1]), ("", ""))
    table = attention_flow(tiny_llava, inputs, answer)
    single = attention_flow(
        tiny_llava, tiny_llava.prepare(samples[0]), Answer((ids[0][:1],), ("",))
    )
    mine = table[table["sample"] == samples[0].key]
    assert np.allclose(mine.share, single.share, atol=1e-5)


def test_sample_without_picture_gives_nothing_to_the_image(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    table = attention_flow(tiny_llava, inputs, tiny_llava.answer(inputs))
    assert (wide(table)["image"] == 0).all()
    assert np.allclose(wide(table).sum(axis=1), 1, atol=1e-5)


def test_image_query_without_picture_is_refused(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    with pytest.raises(ValueError, match=r"asked for the attention of 'image'.*without such"):
        attention_flow(tiny_llava, inputs, tiny_llava.answer(inputs), queries=("image",))


@pytest.mark.parametrize("queries", [(), 3, None])
def test_no_query_is_refused(tiny_llava, asked, queries):
    with pytest.raises(
        ValueError, match=r"asked for the attention of .*, found no .*; use some of"
    ):
        attention_flow(tiny_llava, *asked, queries=queries)


@pytest.mark.parametrize("memory", ["1", 0, None, True])
def test_memory_that_is_none_is_refused(tiny_llava, asked, memory):
    for instrument in (attention_flow, attention_map):
        with pytest.raises(ValueError, match=r"memory=.*; give a finite number above 0"):
            instrument(tiny_llava, *asked, memory=memory)


def test_unknown_query_is_refused(tiny_llava, asked):
    with pytest.raises(ValueError, match=r"asked for the attention of 'picture'.*use some of"):
        attention_flow(tiny_llava, *asked, queries=("picture",))


def apart(naive, whole, row):
    """Each segment's attention `[layer]` in one row, the first real position told apart, by a loop
    over keys: `naive` is `[layer, row, head, query, key]`, of the rows that predict the answer."""
    found = dict.fromkeys(("first", *SEGMENTS), 0.0)
    queries = whole.spans.predicting[row]
    real = whole.batch["attention_mask"][row].tolist()
    for key in range(len(real)):
        if not real[key]:
            continue
        name = next(name for name in SEGMENTS if getattr(whole.spans, name)[row, key])
        name = "first" if key == real.index(1) else name
        found[name] += naive[:, row].mean(1)[:, queries, key].mean(-1)
    return found


def test_the_first_token_is_told_apart_as_a_loop_over_keys_does_and_padding_is_not_it(
    tiny_llava, samples, text_sample
):
    batch = [*samples, text_sample]  # of three lengths: two rows are padded on the left
    inputs = tiny_llava.prepare(batch)
    assert (inputs.batch["attention_mask"][:, 0] == 0).any()
    answer = tiny_llava.answer(inputs)
    whole = inputs.followed_by(answer)
    naive = eager_attention(tiny_llava, whole)
    table = attention_flow(tiny_llava, inputs, answer, first=True)
    sums = table.groupby(["sample", "layer"])[["share", "uniform"]].sum()
    assert np.allclose(sums, 1, atol=1e-5)
    for row, one in enumerate(batch):
        mine = table[table["sample"] == one.key]
        shares = wide(mine)
        for name, expected in apart(naive, whole, row).items():
            assert np.allclose(shares[name], expected, atol=1e-6), name
        assert (shares["first"] > 0).all()


def test_the_first_token_goes_back_to_the_segment_that_lost_it(tiny_llava, samples, text_sample):
    inputs = tiny_llava.prepare([*samples, text_sample])
    answer = tiny_llava.answer(inputs)
    keys = ["sample", "layer", "query"]
    for options in ({}, {"renormalise": True}, {"queries": ("user", "system")}):
        table = attention_flow(tiny_llava, inputs, answer, first=True, **options)
        plain = attention_flow(tiny_llava, inputs, answer, **options)
        assert set(table.columns) - set(plain.columns) == {"of"}
        back = table.groupby([*keys, "of"])[["share", "uniform"]].sum()
        want = plain.set_index([*keys, "segment"])[["share", "uniform"]].rename_axis([*keys, "of"])
        assert np.allclose(back, want.loc[back.index], atol=1e-6)
        assert len(back) == len(want)


def test_where_the_picture_comes_before_all_text_its_first_query_is_the_first_token(
    family, samples
):
    vlm = family("instructblip")
    inputs = vlm.prepare(samples)
    table = attention_flow(vlm, inputs, vlm.answer(inputs, max_new_tokens=2), first=True)
    assert set(table[table["segment"] == "first"]["of"]) == {"image"}
    count = inputs.spans.image[0].sum().item()
    uniform = table.pivot_table(index="sample", columns="segment", values="uniform")
    assert np.allclose(uniform["image"] / uniform["first"], count - 1)


def test_an_empty_answer_is_nan_and_named_and_the_others_are_as_they_would_be(
    tiny_llava, samples, caplog
):
    inputs = tiny_llava.prepare([*samples, replace(samples[0], key="c")])
    ids = tiny_llava.answer(inputs).ids
    answer = Answer((torch.tensor([]), ids[1], ids[2][:1]), ("", "", ""))
    queries, columns = ("answer", "user"), ["share", "uniform"]
    table = attention_flow(tiny_llava, inputs, answer, queries=queries)
    assert caplog.messages == ["pope a: the answer is empty and attends to nothing"]
    silent = table["share"].isna()
    assert (silent == table["uniform"].isna()).all()
    assert table[silent]["sample"].unique().tolist() == ["a"]
    assert table[silent]["query"].unique().tolist() == ["answer"]
    assert silent.sum() == 4 * 5
    # what a row without an answer tells of its question is that of the prompt alone
    for row, sample in enumerate(inputs.samples):
        said = answer.take([row]) if row else Answer((torch.tensor([9]),), ("",))
        one = attention_flow(tiny_llava, inputs.take([row]), said, queries=queries)
        mine = table[table["sample"] == sample.key].reset_index(drop=True)
        both = ~mine["share"].isna()
        assert np.allclose(mine.loc[both, columns], one.loc[both, columns], atol=1e-5)
    alone = attention_flow(tiny_llava, inputs.take([0]), answer.take([0]))
    assert alone[columns].isna().all(axis=None)
    counted = (
        means(table.assign(all=0), columns, by=["all", "query"]).groupby("query")["n"].unique()
    )
    assert (counted["answer"].tolist(), counted["user"].tolist()) == ([2], [3])


def test_one_query_may_be_named_alone_and_is_no_list_of_letters(tiny_llava, asked):
    one, listed = (attention_flow(tiny_llava, *asked, queries=x) for x in ("user", ["user"]))
    assert one.equals(listed)


def test_shares_under_autocast_sum_to_one_as_closely_as_without(tiny_llava, asked):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        table = attention_flow(tiny_llava, *asked, queries=("answer", "user"))
    sums = table.groupby(["layer", "query"])[["share", "uniform"]].sum()
    assert np.allclose(sums, 1, atol=1e-5)  # what the instrument itself computes is in float32


@pytest.mark.parametrize("layers", [[], 3, [1.5], "0"])
def test_layers_that_are_none_are_refused(tiny_llava, asked, layers):
    with pytest.raises(ValueError, match=r"asked for layers.*; give"):
        attention_map(tiny_llava, *asked, layers=layers)


def test_attention_map_equals_eager_maps(tiny_llava, asked):
    inputs, answer = asked
    maps = attention_map(tiny_llava, inputs, answer, layers=[3, 1])
    eager = eager_attention(tiny_llava, inputs.followed_by(answer))[[3, 1], 0].mean(1)
    assert np.allclose(maps.weights, eager, atol=3e-6)
    assert maps.layers == (3, 1)
    assert maps.segments.count("image") == 16 == maps.tokens.count("<image>")
    assert maps.segments[-1] == "answer"
    assert len(maps.segments) == len(maps.tokens)


def test_attention_map_inside_truncate_has_empty_image_columns(tiny_llava, asked):
    inputs, answer = asked
    with truncate(tiny_llava, inputs, layer=2):
        maps = attention_map(tiny_llava, inputs, answer)
    image = np.array(maps.segments) == "image"
    text_rows = maps.weights[:, ~image][:, :, image]
    assert (text_rows[2:] == 0).all()
    assert text_rows[:2].sum() > 0


def test_layer_out_of_range_is_refused(tiny_llava, asked):
    with pytest.raises(ValueError, match=r"layers \[4\].*4 layers.*layers 0..3"):
        attention_map(tiny_llava, *asked, layers=[4])
