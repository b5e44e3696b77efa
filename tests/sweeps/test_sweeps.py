"""A sweep goes on where it was: nothing lost, nothing twice, the same table whoever computes."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_sample, noise_picture
from pandas.testing import assert_frame_equal

from irlib import store
from irlib.interventions import staircase
from irlib.interventions.truncation import truncate
from irlib.models.loading import load
from irlib.models.vlm import VLM
from irlib.store import provenance, sources
from irlib.sweeps import blocks, describing, filling, scoring
from irlib.sweeps.answers import Answers
from irlib.sweeps.table import sweep
from irlib.tasks import pictures

QUESTIONS = ("What is in the picture?", "Is there a red cat?", "Describe it.")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("IRLIB_FRESH", raising=False)
    monkeypatch.delenv("IRLIB_SCHEDULER", raising=False)
    return tmp_path / "results"


@pytest.fixture
def many():
    """Seven samples with pictures of their own."""
    return [
        make_sample(noise_picture(40 + i, 50, seed=i), QUESTIONS[i % 3], f"s{i}") for i in range(7)
    ]


@pytest.fixture
def computed(monkeypatch):
    """The keys of the samples of every batch that is computed, filled as it happens."""
    batches, real = [], blocks.answers_by_layer

    def count(vlm, inputs, *, layers, **options):
        batches.append(([sample.key for sample in inputs.samples], list(layers)))
        return real(vlm, inputs, layers=layers, **options)

    monkeypatch.setattr(blocks, "answers_by_layer", count)
    return batches


def run(vlm, samples, **options) -> pd.DataFrame:
    return sweep(vlm, samples, **{"batch_size": 2, "progress": False} | options)


def same(found, wanted):
    assert_frame_equal(found, wanted, check_exact=True)


def alike(found, wanted):
    """The same but for the rounding of another batch, or of weights at another address."""
    same(found.drop(columns="kl"), wanted.drop(columns="kl"))
    assert np.allclose(found["kl"], wanted["kl"], atol=1e-4)


def test_a_table_from_the_store_is_the_one_that_was_computed(tiny_llava, many, computed):
    wanted = run(tiny_llava, many, store=False)
    assert len(wanted) == 7 * 5
    same(run(tiny_llava, many), wanted)
    assert len(computed) == 8  # four batches, twice
    same(run(tiny_llava, many), wanted)
    same(run(tiny_llava, many[::-1], layers=[2]), run(tiny_llava, many[::-1], layers=[2]))
    assert len(computed) == 8


def test_more_samples_and_more_layers_compute_only_what_is_missing(tiny_llava, many, computed):
    run(tiny_llava, many[1:4], layers=[1])
    computed.clear()
    run(tiny_llava, many[:5], layers=[1])
    assert sorted(key for keys, _ in computed for key in keys) == ["s0", "s4"]
    computed.clear()
    run(tiny_llava, many[:5], layers=[0, 1, 3])
    assert [layers for _, layers in computed] == [[0, 3]] * 3


def test_the_same_question_about_the_same_picture_is_asked_once(tiny_llava, many, computed):
    double = [many[0], many[1], make_sample(many[0].image, many[0].question, "other")]
    table = run(tiny_llava, double)
    assert [keys for keys, _ in computed] == [["s0", "s1"]]
    assert table["sample"].unique().tolist() == ["s0", "s1", "other"]
    answers = table.pivot(index="layer", columns="sample", values="answer")
    assert (answers["s0"] == answers["other"]).all()


def test_the_table_tells_the_picture_of_every_row_kept_or_computed(
    tiny_llava, many, computed, tmp_path, text_sample
):
    many[1].image.save(tmp_path / "another name.png")
    path = make_sample(tmp_path / "another name.png", QUESTIONS[2], "path")
    asked = [*many[:3], make_sample(many[0].image.copy(), QUESTIONS[2], "copy"), path, text_sample]
    first = run(tiny_llava, asked)
    computed.clear()
    kept = run(tiny_llava, asked)
    assert not computed
    for found in (first, kept, run(tiny_llava, asked, store=False)):
        shown = found.groupby("sample", sort=False)["picture"].unique()
        s0, s1, s2, copied, path, text = (names.item() for names in shown)  # one in every layer
        assert (copied, path, text) == (s0, s1, "")
        assert len({s0, s1, s2, ""}) == 4
        assert s0 == pictures.identify(many[0].image)


def test_a_batch_that_is_lost_is_computed_with_the_same_neighbours(
    tiny_llava, many, computed, folder, caplog
):
    wanted = run(tiny_llava, many)
    before = list(computed)
    for path in sorted(folder.rglob("*.parquet"))[:2]:
        path.write_bytes(path.read_bytes()[:-5])
    computed.clear()
    same(run(tiny_llava, many), wanted)
    assert len(computed) == 2
    assert all(batch in before for batch in computed)
    assert "is damaged" in caplog.text


def weigh(vlm):
    vlm.model.lm_head.weight[5, 5] += 1


def swap(vlm):
    weight = vlm.decoder.layers[0].self_attn.q_proj.weight
    weight.copy_(weight[torch.arange(len(weight)).roll(16)])  # heads in another order


def eager(vlm):
    vlm.model.set_attn_implementation({"text_config": "eager"})


def silence(vlm):
    vlm.model.generation_config.repetition_penalty = 1.5


@pytest.mark.parametrize("change", [weigh, swap, eager, silence])
def test_a_model_changed_in_memory_is_another_model(tiny_llava, samples, computed, change):
    run(tiny_llava, samples)
    other = VLM(
        tiny_llava.name, copy.deepcopy(tiny_llava.model), tiny_llava.processor, tiny_llava.family
    )
    run(other, samples)
    assert len(computed) == 1
    with torch.no_grad():
        change(other)
    run(other, samples)
    assert len(computed) == 2


def test_length_instrument_versions_and_kept_tokens_are_in_the_key(
    tiny_llava, samples, computed, monkeypatch
):
    run(tiny_llava, samples)
    run(tiny_llava, samples, max_new_tokens=samples[0].max_new_tokens)  # said in other words
    assert len(computed) == 1
    run(tiny_llava, samples, max_new_tokens=2)
    run(tiny_llava, samples, keep=2)
    assert len(computed) == 3
    monkeypatch.setattr(sources, "instrument", lambda: "edited")
    monkeypatch.setattr(describing, "SOURCES", "edited")
    run(tiny_llava, samples)
    assert len(computed) == 4
    told = provenance.surroundings()
    told["versions"]["matplotlib"] = "0"
    monkeypatch.setattr(provenance, "surroundings", lambda: told)
    run(tiny_llava, samples)
    assert len(computed) == 4  # it draws, and answers nothing
    told["versions"]["torch"] = "0"
    run(tiny_llava, samples)
    assert len(computed) == 5


def test_sources_edited_since_they_were_imported_are_no_key(
    tiny_llava, samples, computed, monkeypatch, caplog
):
    wanted = run(tiny_llava, samples)
    monkeypatch.setattr(sources, "instrument", lambda: "edited")
    same(run(tiny_llava, samples), wanted)
    same(run(tiny_llava, samples), wanted)
    assert len(computed) == 3
    assert "edited since it was imported" in caplog.text


def test_scores_are_made_with_the_table_and_not_kept(tiny_llava, samples, computed, monkeypatch):
    run(tiny_llava, samples)
    monkeypatch.setattr(scoring, "score", lambda sample, text: {"score": 0.25})
    assert (run(tiny_llava, samples)["score"] == 0.25).all()
    other = [copy.replace(s, reference={"label": "no"}) if sys.version_info >= (3, 13)
             else type(s)(**vars(s) | {"reference": {"label": "no"}}) for s in samples]  # fmt: skip
    run(tiny_llava, other)
    assert len(computed) == 1


def test_fresh_computes_anew_and_leaves_nothing_twice(tiny_llava, samples, computed, monkeypatch):
    wanted = run(tiny_llava, samples)
    monkeypatch.setenv("IRLIB_FRESH", "1")
    same(run(tiny_llava, samples), wanted)
    monkeypatch.delenv("IRLIB_FRESH")
    same(run(tiny_llava, samples), wanted)
    assert len(computed) == 2


def test_a_model_with_hooks_neither_keeps_nor_takes_answers(tiny_llava, samples, computed, caplog):
    wanted = run(tiny_llava, samples)
    handle = tiny_llava.decoder.layers[1].register_forward_hook(lambda m, args, output: output * 0)
    try:
        hooked = run(tiny_llava, samples)
        with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="found hooks on it"):
            run(tiny_llava, samples, executor=pool)
    finally:
        handle.remove()
    assert not hooked.equals(wanted)
    assert "neither kept nor taken" in caplog.text
    same(run(tiny_llava, samples), wanted)
    assert len(computed) == 2


def test_rows_that_fail_are_named_and_all_others_kept(tiny_llava, many, computed, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    bad = {1: broken, 4: tmp_path / "missing.png"}
    images = [bad.get(i, sample.image) for i, sample in enumerate(many)]
    damaged = [make_sample(image, s.question, s.key) for image, s in zip(images, many, strict=True)]
    with pytest.raises(ValueError, match="found 2 that could not be had") as told:
        run(tiny_llava, damaged)
    lines = str(told.value).splitlines()
    assert "5 are kept in " in lines[0]
    assert lines[1].startswith("  pope s1: ValueError: task 'pope', row 's1': asked for the pic")
    assert lines[2].startswith("  pope s4: FileNotFoundError: ")
    assert "run again: only what is missing is computed" in lines[3]
    computed.clear()
    run(tiny_llava, many)
    assert sorted(key for keys, _ in computed for key in keys) == ["s1", "s4"]


def test_numbers_that_are_not_finite_are_the_fault_of_their_row_alone(tiny_llava, samples):
    vlm = VLM("sick", copy.deepcopy(tiny_llava.model), tiny_llava.processor, tiny_llava.family)
    first, second = (set(vlm.prepare(s).text["input_ids"].flatten().tolist()) for s in samples)
    with torch.no_grad():
        vlm.model.get_input_embeddings().weight[min(second - first)] = torch.nan
    with pytest.raises(ValueError, match="found 1 that could not be had") as told:
        run(vlm, samples)
    assert "pope b: ValueError: asked the model for an answer, found logits" in str(told.value)
    alike(run(vlm, samples[:1]), run(tiny_llava, samples[:1]).assign(model="sick"))


def test_a_batch_without_memory_is_tried_row_by_row(tiny_llava, many, monkeypatch):
    wanted, real = run(tiny_llava, many, batch_size=1, store=False), blocks.answers_by_layer

    def short(vlm, inputs, **options):
        if len(inputs) > 1 or inputs.samples[0].key == "s3":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(vlm, inputs, **options)

    monkeypatch.setattr(blocks, "answers_by_layer", short)
    with pytest.raises(
        ValueError, match=r"found 1 that could not(.|\n)*s3: OutOfMemoryError: CUDA"
    ):
        run(tiny_llava, many)
    others = many[:3] + many[4:]
    same(run(tiny_llava, others), wanted[wanted["sample"] != "s3"].reset_index(drop=True))


def test_a_fault_of_the_program_ends_the_sweep_and_what_was_finished_is_kept(
    tiny_llava, many, monkeypatch, computed
):
    count, calls = blocks.answers_by_layer, []

    def fail_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("shapes do not fit")
        return count(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "answers_by_layer", fail_third)
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            run(tiny_llava, many)
    computed.clear()
    run(tiny_llava, many)
    assert [keys for keys, _ in computed] == [["s4", "s5"], ["s6"]]


def test_a_disk_that_fills_up_loses_nothing_that_was_finished(
    tiny_llava, many, monkeypatch, computed, folder
):
    real, calls = store.write, []

    def full(path, data):
        if path.suffix == ".parquet":
            calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(OSError, match="No space left"):
            run(tiny_llava, many)
    computed.clear()
    run(tiny_llava, many)
    assert [keys for keys, _ in computed] == [["s4", "s5"], ["s6"]]
    assert not [*folder.glob("answers/*/locks/*")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 5]}, r"layers\[1\]=5, found it out of range; .* in 0\.\.4"),
        ({"layers": [-1]}, r"layers\[0\]=-1, .* in 0\.\.4"),
        ({"layers": [0], "keep": 2}, r"found no layer before the first.*give layers in 1\.\.4"),
        ({"layers": 3}, r"layers=3, found a int; give a list"),
        ({"layers": [1.5]}, r"layers\[0\]=1.5, found a float"),
        ({"keep": -1}, "keep=-1"),
        ({"keep": 1.5}, "keep=1.5, found a float"),
        ({"batch_size": 0}, "batch_size=0, found it out of range; .*at least 1"),
        ({"batch_size": 2.0}, "batch_size=2.0, found a float"),
        ({"max_new_tokens": 0}, "max_new_tokens=0, found it out of range; .*at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5, found a float"),
        ({"max_new_tokens": True}, "max_new_tokens=True, found a bool"),
        ({"logprob": 1}, "asked for logprob=1, found a int; give True or False"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    tiny_llava, samples, computed, options, message
):
    with pytest.raises((ValueError, TypeError), match=message):
        run(tiny_llava, samples, **options)
    assert computed == []


class Inline(Executor):
    """Computes in this process when it is asked; from the `breaks`th block on it has no worker."""

    def __init__(self, breaks: int = 1000):
        self.left = breaks

    def submit(self, run, *args):
        future, self.left = Future(), self.left - (run is blocks.answer_there)
        if self.left < 0:
            future.set_exception(BrokenProcessPool("a process was killed"))
        else:
            future.set_result(run(*args))
        return future


@pytest.fixture
def loaded(monkeypatch):
    """The models that workers load in this process."""
    names = []
    monkeypatch.setattr(blocks, "load", lambda name, **o: names.append(name) or load(name, **o))
    monkeypatch.setattr(blocks, "_held", {})
    return names


def test_threads_load_the_model_once_and_give_the_same_table(tiny_llava, many, loaded):
    wanted = run(tiny_llava, many, store=False)
    with ThreadPoolExecutor(3) as pool:
        same(run(tiny_llava, many, executor=pool), wanted)
    assert len(loaded) == 1


def test_a_worker_holds_one_model_at_a_time(tiny_llava, family, samples, loaded):
    other = family("internvl")
    for vlm in (tiny_llava, other, tiny_llava):
        run(vlm, samples, executor=Inline(), store=False)
    assert [os.path.basename(name) for name in loaded] == ["tiny-llava", "internvl", "tiny-llava"]  # noqa: PTH119
    assert len(blocks._held) == 1


def test_lost_workers_are_told_and_what_they_had_finished_is_kept(
    tiny_llava, many, computed, loaded
):
    with pytest.raises(RuntimeError, match=r"lost \(BrokenProcessPool.*run again"):
        run(tiny_llava, many, executor=Inline(breaks=2))
    computed.clear()
    same(run(tiny_llava, many, executor=Inline()), run(tiny_llava, many))
    assert [keys for keys, _ in computed] == [["s4", "s5"], ["s6"]]


def test_processes_give_the_same_table_bit_for_bit(tiny_llava, many, tmp_path, monkeypatch):
    bad = [*many, make_sample(tmp_path / "nowhere.png", key="s7")]
    (tmp_path / "nowhere.png").write_bytes(b"")
    wanted = run(tiny_llava, many, store=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(
            ValueError, match=r"pope s7: ValueError(.|\n)*readable where the worker"
        ):
            run(tiny_llava, bad, executor=pool)
        same(run(tiny_llava, many, executor=pool), wanted)


def test_a_model_made_in_memory_has_no_place_to_load_it_from(tiny_llava, samples):
    model = copy.deepcopy(tiny_llava.model)
    model.name_or_path = model.config._name_or_path = ""
    vlm = VLM("mine", model, tiny_llava.processor, tiny_llava.family)
    with pytest.raises(ValueError, match="found a model made in memory, which they cannot load"):
        run(vlm, samples, executor=Inline())
    assert len(run(vlm, samples)) == 10


def test_a_model_changed_in_memory_is_not_what_workers_load(tiny_llava, samples, loaded):
    vlm = VLM("tiny", copy.deepcopy(tiny_llava.model), tiny_llava.processor, tiny_llava.family)
    with torch.no_grad():
        vlm.model.lm_head.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"found one with weights '.*' instead of"):
        run(vlm, samples, executor=Inline())


def test_workers_that_differ_among_each_other_are_refused(tiny_llava, many, loaded, monkeypatch):
    told = describing.describe(tiny_llava)
    vary = iter([{"threads": 1}, {"threads": 1}, {"threads": 2}])
    monkeypatch.setattr(blocks, "_open", lambda _: (tiny_llava, told | next(vary)))
    with pytest.raises(ValueError, match=r"threads 2 instead of 1; .*OMP_NUM_THREADS"):
        run(tiny_llava, many, executor=Inline())


BESIDE = """
import json, os, sys, time
import torch
from irlib.sweeps import blocks
from irlib import load, load_task, sweep
torch.set_num_threads(1)
vlm, samples = load(sys.argv[1], device="cpu"), load_task("pope", n=24)
samples = [type(s)(**vars(s) | {"max_new_tokens": 2}) for s in samples]
children = []
for name, rows in {"a": samples[:18], "b": samples[6:], "c": samples}.items():
    if child := os.fork():
        children.append(child)
        continue
    done, real = [], blocks.answers_by_layer
    def count(vlm, inputs, **options):
        done.extend(sample.prompt + str(hash(sample.image.tobytes())) for sample in inputs.samples)
        time.sleep(0.05)
        return real(vlm, inputs, **options)
    blocks.answers_by_layer = count
    table = sweep(vlm, rows, batch_size=3, layers=[0], progress=False)
    path = os.path.join(sys.argv[2], name + ".json")
    with open(path, "w") as file:
        json.dump([len(rows), len(table), done], file)
    os._exit(0)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:the question")
def test_processes_on_one_store_compute_each_row_once_whatever_each_was_asked(
    tiny_folder, tmp_path
):
    order = [sys.executable, "-W", "ignore", "-c", BESIDE, str(tiny_folder), str(tmp_path)]
    setting = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    subprocess.run(order, check=True, env=setting, timeout=120, cwd=store.root())
    told = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "abc"]
    assert [(rows, table) for rows, table, _ in told] == [(18, 36), (18, 36), (24, 48)]
    done = [row for _, _, rows in told for row in rows]
    assert len(done) == len(set(done)) >= 20
    assert sum(bool(rows) for _, _, rows in told) > 1  # they did work side by side


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_sweep_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tiny_folder):
    order = [sys.executable, "-W", "ignore", "-m", "benchmarks.kill_sweep", "--kills", "3"]
    order += ["--model", str(tiny_folder), "--n", "12"]
    told = subprocess.run(
        order, capture_output=True, text=True, check=False, timeout=120, cwd=store.root(),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.splitlines()[-1] == "the tables are equal"


@pytest.mark.parametrize("what", ["template", "pixels", "family"])
def test_what_makes_a_sample_inputs_is_in_the_key_as_it_is_in_memory(
    tiny_llava, samples, computed, what
):
    run(tiny_llava, samples)
    processor, family = copy.deepcopy(tiny_llava.processor), tiny_llava.family
    if what == "template":
        processor.chat_template = processor.chat_template.replace("ASSISTANT", "BOT")
    elif what == "pixels":
        processor.image_processor.do_normalize = False
    else:
        family = replace(family, system="Be rude.")
    computed.clear()
    run(VLM(tiny_llava.name, tiny_llava.model, processor, family), samples)
    assert [keys for keys, _ in computed] == [[sample.key for sample in samples]]


def test_one_sample_alone_is_a_list_of_one(tiny_llava, samples):
    same(run(tiny_llava, samples[0]), run(tiny_llava, samples[:1]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("pope", r"samples\[0\], found a str"), (3, r"take 3 as samples, found a int"),
     ([{"question": "?"}], r"samples\[0\], found a dict")],
)  # fmt: skip
def test_what_are_no_samples_is_refused_in_words(tiny_llava, wrong, message):
    with pytest.raises(TypeError, match=message + r"; give samples of load_task"):
        run(tiny_llava, wrong)


def test_a_sample_that_allows_no_answer_is_refused_and_whole_numbers_of_numpy_are_taken(
    tiny_llava, samples, computed
):
    with pytest.raises(ValueError, match=r"samples\[1\].max_new_tokens=0"):
        run(tiny_llava, [samples[0], replace(samples[1], max_new_tokens=0)])
    numbers = {"layers": np.array([1, 3]), "batch_size": np.int64(2), "max_new_tokens": np.int8(2)}
    wanted = run(tiny_llava, samples, layers=[1, 3], max_new_tokens=2)
    same(run(tiny_llava, samples, **numbers), wanted)
    assert len(computed) == 1


def test_near_ties_are_first_tokens_decided_by_less_than_rounding(tiny_llava, samples):
    """Oracle: the two best logits of one truncated forward, counted in steps of the dtype."""
    vlm = VLM("low", copy.deepcopy(tiny_llava.model).to(torch.bfloat16), tiny_llava.processor,
              tiny_llava.family)  # fmt: skip
    head, banned, found = vlm.model.lm_head.weight, vlm.image_token_id, []
    with torch.no_grad():
        inputs = vlm.prepare(samples[0])
        best = int(vlm.forward(inputs)[0, -1].argmax())
        head[best + 1] = head[best]  # a twin of the best word at every layer where that is best
    table = run(vlm, samples, store=False).set_index(["sample", "layer"])
    for sample in samples:
        inputs = vlm.prepare(sample)
        for layer in range(5):
            with torch.no_grad(), truncate(vlm, inputs, layer=layer):
                logits = vlm.forward(inputs)[0, -1]
            logits[banned] = -torch.inf
            one, two = logits.sort(descending=True).values[:2]
            steps = 0
            while two < one:
                two, steps = torch.nextafter(two, one), steps + 1
            found.append(steps <= 1)
            assert table.near_tie[sample.key, layer] == found[-1]
    assert 0 < sum(found) < len(found)
    assert table.near_tie.dtype == bool


def test_a_near_tie_is_kept_with_the_answers(tiny_llava, samples, computed, monkeypatch):
    wanted = run(tiny_llava, samples)
    assert not wanted.near_tie.any()
    margins = staircase.margins
    monkeypatch.setattr(staircase, "margins", lambda *given: [1.0 for _ in margins(*given)])
    run(tiny_llava, samples, max_new_tokens=2)
    monkeypatch.setattr(staircase, "margins", lambda *given: pytest.fail("computed again"))
    assert run(tiny_llava, samples, max_new_tokens=2).near_tie.all()
    same(run(tiny_llava, samples), wanted)


def test_kl_and_log_probability_are_those_of_one_truncated_forward(
    tiny_llava, samples, text_sample, computed
):
    """Oracle: torch's own divergence and cross-entropy over prompt and answer in one sequence."""
    asked = [*samples, text_sample]
    plain = run(tiny_llava, asked)
    table = run(tiny_llava, asked, logprob=True)
    same(table.drop(columns="logprob"), plain)
    assert len(computed) == 4  # not taken for what was kept without
    same(run(tiny_llava, asked, logprob=True), table)
    some = run(tiny_llava, asked, logprob=True, layers=[2], store=False)
    assert np.allclose(some["logprob"], table[table.layer.isin([2, 4])]["logprob"], atol=1e-3)
    assert len(computed) == 6
    table = table.set_index(["sample", "layer"])
    for sample in asked:
        inputs = tiny_llava.prepare(sample)
        whole = inputs.followed_by(answer := tiny_llava.answer(inputs))
        first, ids = inputs.length - 1, answer.ids[0]
        with torch.no_grad():
            before = tiny_llava.forward(whole)[0, first].log_softmax(-1)
            for layer in range(5):
                with truncate(tiny_llava, inputs, layer=layer):
                    logits = tiny_llava.forward(whole)[0, first:-1]
                after = logits[0].log_softmax(-1)
                kl = torch.nn.functional.kl_div(after, before, reduction="sum", log_target=True)
                told = table.loc[sample.key, layer]
                assert told["kl"] == pytest.approx(kl.item(), abs=1e-3)
                left = -torch.nn.functional.cross_entropy(logits, ids, reduction="sum").item()
                assert told["logprob"] == pytest.approx(left, abs=1e-3)
        assert table.loc[sample.key, 4]["kl"] == 0
    assert table.loc["a"]["kl"].max() > 0.01


def test_answers_under_autocast_are_others_and_known_by_it(tiny_llava, samples, computed):
    wanted = run(tiny_llava, samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(tiny_llava, samples)
        run(tiny_llava, samples)
        with (
            ThreadPoolExecutor(1) as pool,  # autocast is a thread's own
            pytest.raises(ValueError, match=r"autocast None instead of 'torch.bfloat16'"),
        ):
            run(tiny_llava, samples, executor=pool)
    assert len(computed) == 2
    same(run(tiny_llava, samples), wanted)
    assert len(computed) == 2


class Stuck(Executor):
    """Computes the first `ready` blocks at once; the others stay under way for ever."""

    def __init__(self, ready: int):
        self.ready, self.futures = ready, []

    def submit(self, run, *args):
        future = Future()
        if run is blocks.answer_there:
            self.futures.append(future)
            if len(self.futures) > self.ready:
                return future
        future.set_result(run(*args))
        return future


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("ready", [0, 1, 2])
def test_an_interrupt_keeps_what_workers_have_finished_and_lets_go_of_the_rest(
    tiny_llava, many, computed, folder, monkeypatch, error, ready
):
    stuck = Stuck(ready)

    def interrupted(running, **_):
        assert len(list(folder.rglob("*.lock"))) == 7
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(filling, "wait", interrupted)
        with pytest.raises(error):
            run(tiny_llava, many, executor=stuck)
    assert not list(folder.rglob("*.lock"))
    assert [future.cancelled() for future in stuck.futures] == [
        place >= ready for place in range(4)
    ]
    kept = Answers(describing.describe(tiny_llava) | {"keep": 0, "logprob": False})
    rows = [provenance.asked(sample) for sample in many]
    assert [not kept.missing(row, range(5)) for row in rows] == [
        place < 2 * ready for place in range(7)
    ]
    with kept.claim(rows):  # nobody has them
        pass
    computed.clear()
    run(tiny_llava, many)
    assert len(computed) == 4 - ready


TERMINATED = """
import os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from conftest import make_sample, noise_picture
from irlib import load, sweep
from irlib.sweeps import filling
signal.signal(signal.SIGINT, signal.default_int_handler)  # else deaf in a shell's background
vlm, kept, real = load(sys.argv[1], device="cpu"), [], filling._keep
samples = [make_sample(noise_picture(40, 50, seed=i), key=str(i)) for i in range(40)]
def keep(*args):
    kept.append(1)
    made = real(*args)
    if len(kept) == 2:
        os.kill(os.getpid(), signal.Signals[sys.argv[2]])
    return made
filling._keep = keep
with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
    pids = pool._processes
    try:
        sweep(vlm, samples, batch_size=1, layers=[0], progress=False, executor=pool)
    finally:
        print(*pids, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as POSIX has them")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", -signal.SIGINT)])
def test_a_signal_ends_a_sweep_on_workers_and_leaves_no_claim_and_no_process(
    tiny_folder, folder, tmp_path, name, code
):
    script = tmp_path / "script.py"
    script.write_text(TERMINATED)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tiny_folder), name], text=True,
        capture_output=True, check=False, timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    # Python ends by the signal itself, but with 1 where a library runs code of its own at the exit
    ended = {code, 1} if name == "SIGINT" and "KeyboardInterrupt" in told.stderr else {code}
    assert told.returncode in ended, told.stderr
    assert not list(folder.glob("answers/*/locks/*"))
    assert 2 <= len(list(folder.rglob("*.parquet"))) < 40
    for pid in told.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_sigterm_is_left_to_who_has_a_say_in_it():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with filling.ending():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with filling.ending():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with ThreadPoolExecutor(1) as pool, filling.ending():
            inside = signal.getsignal(signal.SIGTERM)
            pool.submit(lambda: filling.ending().__enter__()).result()  # no main thread: no error
            assert signal.getsignal(signal.SIGTERM) is inside
    finally:
        signal.signal(signal.SIGTERM, before)
