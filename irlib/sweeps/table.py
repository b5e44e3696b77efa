"""`sweep`: the answers of many samples with the image hidden from every layer, as one table."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext

import pandas as pd
from tqdm.auto import tqdm

from irlib import doors
from irlib.hooks.hooks import hooked
from irlib.interventions.averages import Means
from irlib.interventions.changes import Change
from irlib.interventions.ways import Way, check_way
from irlib.store import sources
from irlib.sweeps import blocks, describing, engines
from irlib.sweeps.answers import Answers, capacity
from irlib.sweeps.asking import all_layers, as_samples, rows_of, why_not
from irlib.sweeps.filling import ending, fill, telling
from irlib.sweeps.scoring import Own, scorer
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)


def sweep(
    vlm,
    samples: Sequence[Sample] | Sample,
    *,
    layers: Sequence[int] | None = None,
    keep: int = 0,
    edge: str | None = None,
    kind: str = "from",
    window: int = 3,
    how: str = "mask",
    renumber: bool = False,
    means: Means | None = None,
    picture: int | None = None,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    logprob: bool = False,
    score: Own | None = None,
    progress: bool = True,
    executor: Executor | None = None,
    store: bool = True,
) -> pd.DataFrame:
    """Answers and scores of every sample with the image hidden from every layer: a tidy table.

    Columns `model, task, kind, sample, picture, asked, layer, keep, answer, near_tie, kl, score`
    and the count columns of the task's scorer; one row a sample and layer. `picture` is a hash of
    what is seen, "" where there is none: the unit, where several samples ask about one. `asked` is
    one of picture, words and length: where it is the same, the answer is. `near_tie` is true where
    the first token's logit is at most one unit in the last place of the model's dtype ahead of the
    next, which is rounding's alone (models.rounding): elsewhere it may be another token. `kl` is
    KL(untouched || hidden) of the first token, in nats over the whole vocabulary; with `logprob`
    there is a column of that name, the log-probability, in nats summed over its tokens, that is
    left to the untouched model's answer (NaN where that is empty), for one block of its tokens more
    a layer. `layers` are 0-based and default to all that `keep` allows; the untouched model, layer
    n_layers, is always among them. Each batch holds `batch_size` samples, each as many times as
    there are layers.

    With an `edge`, such as "image>question", that edge is cut instead (see `knockout`), in the
    layers that `kind` says: "from" a layer on, "upto" and with it, "single" alone, or a "window" of
    `window` layers that begins there. Columns `edge`, `span` (the kind) and `width` (how many
    layers are cut, 0 in the untouched model) then stand behind `keep`. With another `how` than
    "mask" (see `truncate`, also for `renumber` and `means`) there is a column `how` instead; a
    generation a layer, which shares nothing. Where a sample has several pictures, all are hidden
    together, or the one number `picture` alone (see `Inputs.picture`), with a column `which`.

    Answers are kept in data/results (IRLIB_RESULTS) batch by batch, each known by all that
    determines it: whatever ends a sweep, the same call again computes only what is missing.
    IRLIB_FRESH=1 computes anew; `store=False` keeps nothing, nor do a model with hooks on it and an
    irlib that was edited since it was imported. Any `executor` of concurrent.futures may compute
    the batches, its workers load the model by themselves; without one it is done here, or by the
    workers of the dask scheduler in IRLIB_SCHEDULER. `score(sample, text)`, a number in 0..1, is
    for rows of your own that no scorer knows; it is no part of what is kept.

    Raises `ValueError` for an empty list of samples, for layers out of range, a window beyond them
    and what is no edge, and, when all others are done, for the rows that could not be answered,
    each with its reason (a row that has no such edge is one); `OSError` where the store cannot be
    written, `RuntimeError` where workers are lost.

    >>> from irlib import load, load_task
    >>> table = sweep(load("mini-llava"), load_task("pope", n=1), layers=[0], progress=False)
    >>> len(table), "score" in table
    (2, True)
    """
    samples, batch_size = as_samples(samples), doors.count("batch_size", batch_size, least=1)
    if max_new_tokens is not None:
        max_new_tokens = doors.count("max_new_tokens", max_new_tokens, least=1)
    logprob = doors.flag("logprob", logprob)
    keep, counts = doors.count("keep", keep), scorer(samples, score)
    check_way(vlm, how=how, renumber=renumber, means=means)
    one = {} if picture is None else {"picture": doors.count("picture", picture)}
    whose = {"which": one["picture"]} if one else {}
    change = Change(keep, edge, kind, doors.count("window", window, least=1))
    if how != "mask":
        change = Way(**vars(change), how=how, renumber=renumber, means=means)
    layers = all_layers(vlm, layers, change)
    code = {"code": describing.WAYS} if how != "mask" else {}
    options = {
        **vars(change),
        **code,
        **one,
        "max_new_tokens": max_new_tokens,
        "logprob": logprob,
    }
    cut = {layer: _cut(change, layer, vlm.n_layers) for layer in layers}
    rows, distinct, failed = rows_of(samples, max_new_tokens)
    todo = [list(distinct)[i : i + batch_size] for i in range(0, len(distinct), batch_size)]
    quiet = True if not progress or os.environ.get("TQDM_DISABLE") else None
    with (
        engines.given(executor) as executor,
        tqdm(total=len(distinct), desc="sweep", unit="row", disable=quiet) as bar,
    ):
        told = change.setting | code | one | {"logprob": logprob}
        kept = store and not _hooked(vlm) and not _edited()
        setting, submit = (
            _here(vlm, options, told, kept)
            if executor is None
            else _there(vlm, options, told, executor)
        )
        setting = setting if kept else None
        fresh = os.environ.get("IRLIB_FRESH") == "1"
        answers = Answers(setting, name=vlm.name, fresh=fresh)
        at_once = 1 if executor is None else max(1, capacity() // batch_size)
        with nullcontext() if executor is None else ending():
            failed |= fill(
                answers, todo, distinct, layers=layers, submit=submit, at_once=at_once,
                done=bar.update,
            )  # fmt: skip
    if failed:
        raise ValueError(why_not(samples, rows, failed, answers.folder, executor))
    shown = {id(sample.image): sample.image for sample in samples}  # many ask about one
    pictures = {name: identify(image) for name, image in shown.items()}
    return pd.DataFrame(
        {
            "model": vlm.name,
            "task": sample.task,
            "kind": sample.kind,
            "sample": sample.key,
            "picture": pictures[id(sample.image)],
            "asked": row[:16],
            "layer": layer,
            "keep": keep,
            **cut[layer],
            **whose,
            "answer": told.answer,
            "near_tie": told.margin <= 1,
            "kl": told.kl,
            **({"logprob": told.logprob} if logprob else {}),
            **counts(sample, told.answer),
        }
        for row, sample in zip(rows, samples, strict=True)
        for layer in layers
        for told in [answers.told[row, layer]]
    )


def _cut(change, layer, n_layers) -> dict[str, object]:
    """What of a table's row says which edge is cut in how many layers, or how tokens are hidden."""
    if change.edge is None:
        return {"how": change.name} if isinstance(change, Way) else {}
    first, end = change.span(layer, n_layers)
    return {"edge": change.edge, "span": change.kind, "width": end - first}


def _here(vlm, options, setting, kept):
    """What determines the answers besides the row, and `submit` for `fill`, in this process."""

    def submit(samples, wanted):
        done = Future()
        done.set_result(blocks.answer(vlm, samples, wanted, **options))
        return done

    return describing.describe(vlm) | setting if kept else None, submit


def _there(vlm, options, setting, executor):
    """The same on an executor's workers; keyed by what they are, which may have a GPU alone."""
    source = blocks.Source.of(vlm)
    if _hooked(vlm):
        raise ValueError(
            f"asked to have {vlm.name} answer on other workers, found hooks on it, which they "
            "would not have; take them away, or give no executor"
        )
    with telling():
        there = executor.submit(blocks.look, source).result()
    describing.compare(there, describing.describe(vlm), describing.MUST_AGREE)

    def submit(samples, wanted):
        return executor.submit(blocks.answer_there, source, there, samples, wanted, options)

    return there | setting, submit


def _hooked(vlm) -> bool:
    """Whether something on the model watches or changes its runs: no key can tell what it does."""
    found = hooked(vlm.model)
    if found:
        log.warning("%s has hooks on it: its answers are neither kept nor taken", vlm.name)
    return found


def _edited() -> bool:
    """Whether the instrument's files are no more what was imported: then nobody knows what runs."""
    if found := (sources.instrument(), sources.ways()) != (describing.SOURCES, describing.WAYS):
        log.warning("irlib was edited since it was imported: answers are neither kept nor taken")
    return found
