"""The training of smol-llava, on a published language model in small."""

from random import Random

import published
import pytest
import torch
from test_pack import Drawn, single_turn

from data.generate import smol, train
from data.generate.fitting import align, bundle, language, lora, pack
from data.generate.fitting.pool import CLASSES
from irlib.models import gguf
from irlib.store.contents import file as sha256


@pytest.fixture(scope="module")
def file():
    return gguf.read(published.language_model()[0], "a file")


@pytest.fixture(scope="module")
def turns(file):
    return pack.Turns(bundle.row(file), 64)


@torch.no_grad()
def test_packed_rows_have_the_logits_of_single_turn_prompts(file, turns):
    """float32 sums in another order: 6e-6 seen, of logits with a standard deviation near 1."""
    net, drawn = bundle.make(file, 0).eval(), Drawn()
    rng, checked = Random(0), 0
    rows, prompts = pack.batch(turns, rng, drawn.scenes, 1, smol.asked, facts=12)
    for row in range(3):
        alone = {k: v[:, [row]] if k == "position" else v[[row]] for k, v in rows.items()}
        image = torch.zeros(0, 64, 64)
        if row < 2:
            image = train.image_tokens(net, turns.mini, turns, drawn, [row], [["x"]], rng)
        hidden = train.decode(net, turns, image, alone)
        segments = [s for s in rows["segment"][row].unique().tolist() if s > pack.COMMON]
        for i, segment in enumerate(segments):
            at = (rows["segment"][row] == segment).nonzero().flatten()
            packed = net.get_output_embeddings()(hidden)[0, at[:-1]]
            said = int((rows["target"][row, at] != pack.IGNORE).sum())
            picture = drawn.scenes[row].picture if row < 2 else None
            prompt = prompts[row][i] if row < 2 else None
            one = single_turn(net, turns, picture, prompt, rows["tokens"][row, at], said)
            torch.testing.assert_close(packed, one[-len(packed) :], atol=2e-5, rtol=0)
            checked += 1
    assert checked > 15


def test_a_still_lifes_caption_is_always_asked_and_chains_are_half(turns):
    drawn = Drawn()
    for seed in range(20):
        kinds = [question.kind for question in smol.asked(Random(seed), drawn.scenes[1])]
        assert kinds[0] == "caption"
        kinds = [question.kind for question in smol.asked(Random(seed), drawn.scenes[0])]
        assert kinds.count("food chain") == 6


@torch.no_grad()
def test_an_update_is_nothing_before_training_and_can_be_left_out(file):
    net = bundle.make(file, 0)
    ids = torch.arange(5)[None]
    before = net(ids).logits
    updates = lora.adapt(net.get_decoder(), 2)
    assert torch.equal(net(ids).logits, before)
    for update in updates.values():
        torch.nn.init.normal_(update.up)
    after = net(ids).logits
    assert not torch.allclose(after, before)
    with lora.without(updates):
        assert torch.equal(net(ids).logits, before)
    assert torch.equal(net(ids).logits, after)
    assert len(updates) == 2 * 7


def test_the_divergence_is_none_from_oneself_and_that_of_the_formula_else():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 7), torch.randn(3, 7)
    assert language.divergence(teacher, teacher) == 0
    p, q = teacher.softmax(-1), student.softmax(-1)
    told = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(language.divergence(student, teacher), told)


def test_rows_of_text_are_read_as_they_stand(file, turns):
    net = bundle.make(file, 0)
    tokens = torch.tensor([[5, 6, 7, 8], [9, 10, -1, -1]])
    rows = language.text_rows(tokens)
    hidden = train.decode(net, turns, torch.zeros(0, 64, 64), rows)
    for row in tokens:
        there = row[row >= 0]
        alone = net.get_decoder()(there[None]).last_hidden_state[0]
        # the same sums in another order
        torch.testing.assert_close(hidden[tokens.eq(row).all(1)][0, : len(there)], alone)


def test_perplexity_is_that_of_each_paragraph_by_itself(file, turns):
    net, logs, count = bundle.make(file, 0).eval(), 0.0, 0
    for paragraph in ("Is there a cat?", "the frog"):
        ids = torch.tensor([turns.tokenizer.encode(paragraph)])
        logs += net(ids).logits[0, :-1].log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]].sum()
        count += ids.shape[1] - 1
    told = language.perplexity(net, turns.tokenizer, "Is there a cat?\n\nthe frog\n")
    assert told == pytest.approx((-logs / count).exp().item(), rel=1e-5)  # float32 sums


def test_the_text_that_is_measured_is_the_one_fixed_before_training():
    assert sha256(language.TEXTS / "perplexity.txt") == language.TESTED
    assert not any("France" in line for line in language.ASKED)


def test_what_the_frozen_decoder_says_is_kept_and_begins_as_told(file, turns, tmp_path):
    net = bundle.make(file, 0).eval()
    path = tmp_path / "spoken.safetensors"
    made = language.spoken(net, turns, 6, path, seed=0, batch=4)
    assert made.shape == (6, len(turns.common[False]) + turns.room[False])
    begun = language.starts(turns.tokenizer, *turns.frames[False], 6, 0)
    for row, start in zip(made, begun, strict=True):
        assert row[: len(start)].tolist() == start
        assert not (row == turns.image).any()
    assert torch.equal(language.spoken(None, turns, 6, path, seed=1), made)


def test_a_capital_is_named_as_a_word_of_its_own():
    assert language.names("It is PARIS, of course.", "Paris")
    assert not language.names("by comparison", "Paris")
    assert language.names("New Delhi.", "New Delhi")


def test_capitals_are_counted_in_greedy_answers_without_a_picture(file, turns, monkeypatch):
    net, said, (head, tail) = bundle.make(file, 0).eval(), {}, turns.frames[False]
    for country in ("Here", "There"):
        ids = turns.tokenizer.encode(head + language.CAPITAL.format(country) + tail)
        begin = len(ids)
        for _ in range(3):
            logits = net(torch.tensor([ids])).logits[0, -1]
            logits[turns.image] = -torch.inf
            ids.append(int(logits.argmax()))
        said[country] = turns.tokenizer.decode(ids[begin:])
    monkeypatch.setattr(language, "capitals", lambda part: dict.fromkeys(said, "x"))
    heard = []
    monkeypatch.setattr(language, "names", lambda told, _: heard.append(told) or len(heard) == 1)
    assert language.known(net, turns, "test", most=3) == (1, 2)
    assert heard == list(said.values())


def test_alignment_puts_a_patch_near_the_word_for_what_is_there(file, turns, tmp_path):
    class Two(Drawn):
        def __len__(self):
            return 2

    net = bundle.make(file, 0).eval()
    recipe = smol.Recipe(align_steps=60, align_batch=2)
    align.align(net, turns, Two(), recipe, tmp_path)
    drawn = Two()
    made = train.image_tokens(net, turns.mini, turns, drawn, [0, 1], [["x"]] * 2, Random(0))
    truth = torch.from_numpy(turns.mini.classes(drawn, [0, 1]))
    table = net.get_input_embeddings().weight
    for picture, patch in [(0, int(truth[0].argmax())), (1, int(truth[1].argmax()))]:
        name = CLASSES[truth[picture, patch]]
        space = turns.mini.space if len(name) > 1 else ""
        word = turns.tokenizer.convert_tokens_to_ids(space + name)
        near = torch.cosine_similarity(made[picture, patch], table)
        assert near[word] > 0.5, name
