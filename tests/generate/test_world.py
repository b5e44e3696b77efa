import colorsys
import filecmp
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.generate import tasks
from data.generate.fitting import pool, words
from data.generate.fitting.minis import MINIS
from data.generate.world import draw, questions, scenes


@pytest.fixture(scope="module")
def studio():
    return scenes.Studio("train", variants=3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    list(tasks.write(out, seed=7, rows=12))
    return out


def test_the_same_seed_draws_the_same_bytes(drawn, tmp_path):
    list(tasks.write(tmp_path, seed=7, rows=12))
    files = [p.relative_to(drawn) for p in drawn.rglob("*") if p.is_file()]
    same, other, missing = filecmp.cmpfiles(drawn, tmp_path, files, shallow=False)
    assert len(same) == len(files) > 10
    assert not other + missing


def test_another_seed_draws_other_pictures(drawn, tmp_path):
    list(tasks.write(tmp_path, seed=8, rows=12))
    file = "chair/data/test-00000-of-00001.parquet"
    assert (drawn / file).read_bytes() != (tmp_path / file).read_bytes()


def test_the_bundle_is_what_the_generator_draws():
    table = pq.read_table(tasks.OUT / "chair/data/test-00000-of-00001.parquet")
    for i in (0, 1, 499):
        scene = tasks._scene("chair", 0, i, lambda rng: scenes.still_life(rng, tasks.STUDIO))
        assert tasks.encoded(scene, f"{i:06d}") == table["image"][i].as_py()


def test_the_bundled_pope_asks_six_questions_of_250_pictures_in_each_kind():
    shown = {}
    for category in tasks.CATEGORIES:
        table = pq.read_table(
            tasks.OUT / f"pope/Full/{category}-00000-of-00001.parquet"
        ).to_pylist()
        asked = {(row["image"]["bytes"], row["question"]) for row in table}
        assert len(asked) == len(table) == 1500
        shown[category] = {row["image"]["bytes"] for row in table}
    assert len(set.union(*shown.values())) == len(shown["random"]) == 250
    scene = tasks._scene(
        "pope", 0, 249, lambda rng: scenes.still_life(rng, tasks.STUDIO, signs=0, objects=(3, 5))
    )
    assert tasks.encoded(scene, "WORLD_test_000000000249") == table[-1]["image"]


def test_fewer_than_ten_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ask for 10"):
        list(tasks.write(tmp_path, rows=3))


def test_no_test_colour_is_a_training_colour():
    for split, kept in (("train", False), ("test", True)):
        rng = Random(0)
        for _ in range(500):
            place = draw.hue(rng, split) * draw.BANDS % 1
            assert (place >= 1 - draw.HELD_OUT) == kept


def test_a_drawing_has_the_hue_it_was_given(monkeypatch):
    monkeypatch.setattr(draw, "hue", lambda rng, split: 0.5)
    pixels = np.asarray(draw.sprite("ball", Random(0), "test", 80)).reshape(-1, 4) / 255
    hues = [colorsys.rgb_to_hsv(*p[:3])[0] for p in pixels if p[3] == 1]
    assert abs(np.median(hues) - 0.5) < 0.01


def test_no_test_number_is_on_a_training_sign():
    rng = Random(0)
    train = {scenes.sign_text(rng, "train", False) for _ in range(2000)}
    test = {scenes.sign_text(rng, "test", False) for _ in range(500)}
    assert not train & test
    assert (len(train), len(test)) == (77, 13)


def test_what_is_drawn_does_not_overlap(studio):
    rng = Random(1)
    for _ in range(30):
        scene = scenes.still_life(rng, studio)
        boxes = [t.box for t in (*scene.things, *scene.signs)]
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert a[0] >= b[2] or a[2] <= b[0] or a[1] >= b[3] or a[3] <= b[1]


def test_arrows_point_from_the_eaten_to_the_eater(studio):
    rng = Random(2)
    for _ in range(30):
        scene = scenes.food_chain(rng, studio)
        for chain, arrow in zip(scene.chains, scene.arrows[::2], strict=True):
            first, last = (scene.things[i].box[0] for i in (chain[0], chain[-1]))
            assert (first < last) == (arrow.name == "right")


def test_answers_about_food_chains_follow_the_arrows(studio):
    rng = Random(3)
    for _ in range(200):
        scene = scenes.food_chain(rng, studio)
        q = questions.eats(rng, scene, lettered=True)
        order = {
            scene.things[i].name: (row, n)
            for row, c in enumerate(scene.chains)
            for n, i in enumerate(c)
        }
        asked = q.text.removeprefix("What ").split(" the ")[1].rstrip("?").removesuffix(" eat")
        right = q.choices[ord(q.answer) - 65]
        step = 1 if q.text.startswith("What eats") else -1
        assert order[right] == (order[asked][0], order[asked][1] + step)
        assert len(set(q.choices)) == 3


@pytest.mark.parametrize("grid", pool.GRIDS)
def test_patch_labels_stand_where_things_are(studio, grid):
    scene = scenes.still_life(Random(4), studio, signs=1)
    labels, cell = pool.labels(scene, grid)[..., 0], draw.SIZE // grid
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        centre = labels[(y0 + y1) // 2 // cell, (x0 + x1) // 2 // cell]
        assert pool.CLASSES[centre] == thing.name


@pytest.fixture(scope="module", params=MINIS)
def processor(request):
    return MINIS[request.param].processor()


def test_every_word_of_the_world_is_one_token(processor):
    for word in questions.vocabulary():
        assert len(processor.tokenizer.tokenize(f"a {word}")) == 2, word


@pytest.mark.parametrize("text", ["CAT 47", "zeppelin", "naïve 日本 🙂", "a\nb", "x  y"])
def test_any_text_survives_the_tokenizer(text, processor):
    tok = processor.tokenizer
    ids = tok.encode(text, add_special_tokens=False)
    assert tok.unk_token_id not in ids
    assert tok.decode(ids) == text


def test_signs_are_spelled_and_come_back_joined(processor):
    tok = processor.tokenizer
    for text in ("CAT", "47"):
        assert len(tok.tokenize(text)) == len(text)
        assert tok.decode(tok.encode(text, add_special_tokens=False)) == text


USER = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi?"}]}
TURNS = {
    "mini-llava": (words.SYSTEM, "{} USER: <image>\nHi? ASSISTANT:"),
    "mini-llava-next": (words.SYSTEM, "{} USER: <image>\nHi? ASSISTANT:"),
    "mini-shikra": (words.SYSTEM, "{} USER: <im_start><image><im_end> Hi? ASSISTANT:"),
    "mini-qwen2vl": (
        words.HELPER,
        "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
        "<|vision_end|>Hi?<|im_end|>\n<|im_start|>assistant\n",
    ),
}


@pytest.mark.parametrize("name", TURNS)
def test_the_template_puts_the_system_prompt_first_with_and_without_being_told(name):
    processor, (prompt, text) = MINIS[name].processor(), TURNS[name]
    system = {"role": "system", "content": [{"type": "text", "text": prompt}]}
    bare = processor.apply_chat_template([USER], add_generation_prompt=True)
    told = processor.apply_chat_template([system, USER], add_generation_prompt=True)
    assert bare == told == text.format(prompt)


def test_internvl_has_no_system_prompt():
    text = (
        MINIS["mini-internvl"].processor().apply_chat_template([USER], add_generation_prompt=True)
    )
    assert text == ("<|im_start|>user\n<IMG_CONTEXT>\nHi?<|im_end|>\n<|im_start|>assistant\n")


def test_pope_asks_six_balanced_questions_of_a_picture(drawn):
    for category in tasks.CATEGORIES:
        table = pq.read_table(drawn / f"pope/Full/{category}-00000-of-00001.parquet").to_pylist()
        assert len(table) == 6 * 12 // 2
        by_picture = {}
        for row in table:
            by_picture.setdefault(row["image_source"], []).append(row)
        for rows in by_picture.values():
            assert [r["answer"] for r in rows] == ["yes", "no"] * 3
            assert len({r["question"] for r in rows}) == 6
            assert all(bool(r["boxes"]) == (r["answer"] == "yes") for r in rows)
