"""The training of smol-llava, on a published language model in small."""

from random import Random

import published
import pytest
import torch
from safetensors.torch import save_file
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


def test_no_country_is_taught_whose_capital_is_asked_afterwards():
    parts = {part: language.capitals(part) for part in ("taught", "validation", "test")}
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
    assert parts["test"]["France"] == "Paris"
    later = [name for part in ("validation", "test") for name in parts[part]]
    later += [capital for part in ("validation", "test") for capital in parts[part].values()]
    assert not [line for line in language.worldly() for name in later if name in line]
    assert all(f"What is the capital of {name}?" in language.worldly() for name in parts["taught"])


def test_replies_are_the_frozen_decoders_greedy_answers(file, turns, tmp_path):
    net, asked = bundle.make(file, 0).eval(), ["Is there a cat?", "the frog", "Who?"]
    head, tail = turns.frames[False]
    made, begins = language.replies(net, turns, asked, tmp_path, most=5, batch=2)
    for row, begin, question in zip(made, begins.tolist(), asked, strict=True):
        ids = turns.tokenizer.encode(head + question + tail)
        assert begin == len(ids)
        for _ in range(5):
            logits = net(torch.tensor([ids])).logits[0, -1]
            logits[turns.image] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == turns.tokenizer.eos_token_id:
                break
        assert row[: len(ids)].tolist() == ids
        assert (row[len(ids) :] == -1).all()
    again = language.replies(None, turns, asked, tmp_path, most=5)
    assert torch.equal(again[0], made)
    assert torch.equal(again[1], begins)
    other, _ = language.replies(net, turns, asked[:2], tmp_path, most=5)  # kept apart
    assert len(other) == 2


def test_an_answer_ends_where_the_decoder_ends_it(file, turns, tmp_path):
    net, end = bundle.make(file, 0).eval(), turns.tokenizer.eos_token_id
    generate = net.generate

    def early(*, input_ids, **options):
        made = generate(input_ids=input_ids, **options)
        made[0, input_ids.shape[1] + 1 :] = end
        return made

    net.generate = early
    made, begins = language.replies(net, turns, ["Who?", "What?"], most=4)
    assert (made[0] >= 0).sum() == begins[0] + 2  # one token, and the end
    assert made[0, begins[0] + 1] == end


class Two(Drawn):
    """A pool of two pictures: a food chain and a still life."""

    chained, still = [0], [1]

    def __len__(self):
        return 2

    def scene(self, i):
        return self.scenes[i]


def test_what_was_forgotten_is_learnt_from_the_frozen_decoder(file, turns, tmp_path):
    net = bundle.make(file, 0).eval()
    updates = lora.adapt(net.get_decoder(), 2)
    with lora.without(updates):
        said, begins = language.replies(net, turns, language.worldly(), tmp_path)
    for update in updates.values():
        torch.nn.init.normal_(update.up, std=0.5)
    rows, here = language.text_rows(said[:8]), language.answering(said, begins)[:8]

    def apart():
        hidden = train.decode(net, turns, torch.zeros(0, 64, 64), rows)[here]
        with lora.without(updates):
            frozen = train.decode(net, turns, torch.zeros(0, 64, 64), rows)[here]
        head = net.get_output_embeddings()
        return language.divergence(head(hidden), head(frozen)).item()

    before, projector = apart(), smol.projected(net)
    kept = {name: tensor.clone() for name, tensor in projector.items()}
    (start := tmp_path / "start").write_text("where it begins")
    recipe = smol.Recipe(world_steps=30, world_rate=1e-2)
    smol.remind(net, turns, updates, Two(), recipe, tmp_path, start=start)
    assert apart() < before / 2
    for name, tensor in smol.projected(net).items():
        assert torch.equal(tensor, kept[name])


def test_only_what_an_answer_says_and_its_end_are_predicted():
    tokens = torch.tensor([[5, 6, 7, 8, 9, -1], [5, 6, 7, -1, -1, -1], [5, 6, 7, 8, 9, 4]])
    there = language.answering(tokens, torch.tensor([2, 2, 4]))
    # of the first, places 1, 2 and 3 predict the answer 7, 8 and its end 9
    assert there.int().tolist() == [[0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]


def test_a_capital_is_named_as_a_word():
    assert language.names("It is PARIS, of course.", "Paris")
    assert not language.names("by comparison", "Paris")
    assert language.names("New Delhi.", "New Delhi")


@pytest.fixture
def on_two(file, monkeypatch):
    """The training on a pool of two pictures; what it does is noted and not done."""
    done = []
    monkeypatch.setattr(smol.bundle, "published", lambda work, wheel: file)
    monkeypatch.setattr(smol, "render", lambda *_, **__: None)
    monkeypatch.setattr(smol, "Pool", lambda folder: Two())
    monkeypatch.setattr(smol, "align", lambda *_: done.append("align"))

    def teach(net, turns, updates, pool, said, recipe, work):
        done.append("teach")
        (work / "teach.safetensors").write_bytes(b"taught")

    monkeypatch.setattr(smol, "teach", teach)
    return done


def test_a_bundle_stands_in_for_the_alignment_and_the_teaching(on_two, tmp_path):
    recipe = smol.Recipe(spoken=3, rank=2, world_steps=1)
    first = smol.train(recipe, tmp_path / "first")
    assert on_two == ["align", "teach"]
    (tmp_path / "parts").mkdir()
    for name in ("aligned", "trained"):
        tensors = {k: v.detach().contiguous() for k, v in first[name].items()}
        save_file(tensors, tmp_path / f"parts/{name}.safetensors")
    second = smol.train(recipe, tmp_path / "second", taught=tmp_path)
    assert on_two == ["align", "teach"]
    assert all(torch.equal(second["aligned"][k], first["aligned"][k]) for k in first["aligned"])
    moved = [
        k for k in first["trained"] if not torch.equal(first["trained"][k], second["trained"][k])
    ]
    assert moved
    assert not [name for name in moved if smol.PROJECTOR in name]


def test_no_checkpoint_of_another_beginning_is_gone_on_from(on_two, tmp_path):
    recipe = smol.Recipe(spoken=3, rank=2, world_steps=1)
    smol.train(recipe, tmp_path)
    assert len(list(tmp_path.glob("world-*.safetensors"))) == 1
    parts = tmp_path / "other/parts"
    parts.mkdir(parents=True)
    made = smol.train(recipe, tmp_path)  # done before
    for name in ("aligned", "trained"):
        tensors = {k: v.detach().contiguous() for k, v in made[name].items()}
        save_file(tensors, parts / f"{name}.safetensors")
    smol.train(recipe, tmp_path, taught=tmp_path / "other")
    assert len(list(tmp_path.glob("world-*.safetensors"))) == 2


def test_a_bundle_is_gone_on_from_as_it_was_left(file):
    torch.manual_seed(0)
    first, second = (bundle.make(file, seed) for seed in (0, 1))
    made = [lora.adapt(net.get_decoder(), 2) for net in (first, second)]
    for update in made[0].values():
        torch.nn.init.normal_(update.up)
    left = smol.projected(first) | smol.named(made[0])
    smol.resume(second, made[1], left)
    after = smol.projected(second) | smol.named(made[1])
    assert left.keys() == after.keys()
    assert all(torch.equal(left[name], after[name]) for name in left)


def test_alignment_puts_a_patch_near_the_word_for_what_is_there(file, turns, tmp_path):
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
