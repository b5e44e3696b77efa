"""`sweep`: the answers of many samples with the image hidden from every layer, as one table."""

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
from tqdm.auto import tqdm

from irlib import doors
from irlib.hooks.hooks import hooked
from irlib.scores import score
from irlib.store import provenance, sources
from irlib.sweeps import blocks, engines
from irlib.sweeps.answers import Answers, capacity
from irlib.sweeps.filling import ending, fill, telling
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)


def sweep(
    vlm,
    samples: Sequence[Sample] | Sample,
    *,
    layers: Sequence[int] | None = None,
    keep: int = 0,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    progress: bool = True,
    executor: Executor | None = None,
    store: bool = True,
) -> pd.DataFrame:
    """Answers and scores of every sample with the image hidden from every layer: a tidy table.

    Columns `model, task, kind, sample, picture, asked, layer, keep, answer, near_tie, score` and
    the count columns of the task's scorer; one row a sample and layer. `picture` is a hash of what
    is seen, "" where there is none: the unit, where several samples ask about one. `asked` is one
    of picture, words and length: where it is the same, the answer is. `near_tie` is true where the
    first token's logit is at most one unit in the last place of the model's dtype ahead of the
    next, which is rounding's alone (models.rounding): elsewhere it may be another token. `layers`
    are 0-based and default to all that `keep` allows; the untouched model, layer n_layers, is
    always among them. Each batch holds `batch_size` samples, each as many times as there are
    layers.

    Answers are kept in data/results (IRLIB_RESULTS) batch by batch, each known by all that
    determines it: whatever ends a sweep, the same call again computes only what is missing.
    IRLIB_FRESH=1 computes anew; `store=False` keeps nothing, nor do a model with hooks on it and an
    irlib that was edited since it was imported. Any `executor` of concurrent.futures may compute
    the batches, its workers load the model by themselves; without one it is done here, or by the
    workers of the dask scheduler in IRLIB_SCHEDULER.

    Raises `ValueError` for an empty list of samples, for layers out of range, and, when all others
    are done, for the rows that could not be answered, each with its reason; `OSError` where the
    store cannot be written, `RuntimeError` where workers are lost.

    >>> from irlib import load, load_task
    >>> table = sweep(load("mini-llava"), load_task("pope", n=1), layers=[0], progress=False)
    >>> len(table), "score" in table
    (2, True)
    """
    samples, batch_size = _samples(samples), doors.count("batch_size", batch_size, least=1)
    if max_new_tokens is not None:
        max_new_tokens = doors.count("max_new_tokens", max_new_tokens, least=1)
    keep = doors.count("keep", keep)
    layers = _layers(vlm, layers, keep)
    options = {"keep": keep, "max_new_tokens": max_new_tokens}
    rows, distinct, failed = _rows(samples, max_new_tokens)
    todo = [list(distinct)[i : i + batch_size] for i in range(0, len(distinct), batch_size)]
    quiet = True if not progress or os.environ.get("TQDM_DISABLE") else None
    with (
        engines.given(executor) as executor,
        tqdm(total=len(distinct), desc="sweep", unit="row", disable=quiet) as bar,
    ):
        kept = store and not _hooked(vlm) and not _edited()
        setting, submit = (
            _here(vlm, options, kept) if executor is None else _there(vlm, options, executor)
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
        raise ValueError(_told(samples, rows, failed, answers.folder, executor))
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
            "answer": answers.texts[row, layer],
            "near_tie": answers.margins[row, layer] <= 1,
            **score(sample, answers.texts[row, layer]),
        }
        for row, sample in zip(rows, samples, strict=True)
        for layer in layers
    )


def _layers(vlm, layers, keep) -> list[int]:
    """The layers in order, the untouched model's among them; refused where one is not there."""
    least = 1 if keep else 0
    layers = range(least, vlm.n_layers) if layers is None else layers
    layers = sorted({*doors.counts("layers", layers, most=vlm.n_layers), vlm.n_layers})
    if layers[0] < least:
        raise ValueError(
            f"asked to sweep over layers {layers} with keep={keep}, found no layer before the "
            f"first to rank tokens by; give layers in {least}..{vlm.n_layers}, or keep=0"
        )
    return layers


def _samples(samples) -> list[Sample]:
    """The samples asked for: a list of them, or one alone."""
    samples = [samples] if isinstance(samples, Sample) else samples
    doors.kind("samples", samples, Iterable, give="samples of load_task(...)")
    samples = list(samples)
    if not samples:
        raise ValueError("asked to sweep over samples, found none; give at least one")
    for place, sample in enumerate(samples):
        doors.kind(f"samples[{place}]", sample, Sample, give="samples of load_task(...)")
        doors.count(f"samples[{place}].max_new_tokens", sample.max_new_tokens, least=1)
    return samples


def _rows(samples, max_new_tokens):
    """What each sample is known by, the distinct ones (what is asked twice is answered once), and
    those whose picture cannot even be read, with the reason."""
    rows, failed = [], {}
    for place, sample in enumerate(samples):
        try:
            rows.append(provenance.asked(sample, max_new_tokens=max_new_tokens))
        except (OSError, ValueError) as error:
            rows.append(f"unread {place}")
            failed[rows[-1]] = f"{type(error).__name__}: {error}"
    # of a row no more goes to a worker than the answer hangs on
    bare = [replace(sample, reference={}, boxes=()) for sample in samples]
    distinct = dict(reversed([*zip(rows, bare, strict=True)]))  # the first of several equal ones
    return rows, {row: distinct[row] for row in dict.fromkeys(rows) if row not in failed}, failed


def _here(vlm, options, kept):
    """What determines the answers besides the row, and `submit` for `fill`, in this process."""

    def submit(samples, wanted):
        done = Future()
        done.set_result(blocks.answer(vlm, samples, wanted, **options))
        return done

    return blocks.describe(vlm) | {"keep": options["keep"]} if kept else None, submit


def _there(vlm, options, executor):
    """The same on an executor's workers; keyed by what they are, which may have a GPU alone."""
    source = blocks.Source.of(vlm)
    if _hooked(vlm):
        raise ValueError(
            f"asked to have {vlm.name} answer on other workers, found hooks on it, which they "
            "would not have; take them away, or give no executor"
        )
    with telling():
        there = executor.submit(blocks.look, source).result()
    blocks.compare(there, blocks.describe(vlm), blocks.MUST_AGREE)

    def submit(samples, wanted):
        return executor.submit(blocks.answer_there, source, there, samples, wanted, options)

    return there | {"keep": options["keep"]}, submit


def _hooked(vlm) -> bool:
    """Whether something on the model watches or changes its runs: no key can tell what it does."""
    found = hooked(vlm.model)
    if found:
        log.warning("%s has hooks on it: its answers are neither kept nor taken", vlm.name)
    return found


def _edited() -> bool:
    """Whether the instrument's files are no more what was imported: then nobody knows what runs."""
    if found := sources.instrument() != blocks.SOURCES:
        log.warning("irlib was edited since it was imported: answers are neither kept nor taken")
    return found


def _told(samples, rows, failed, folder, executor) -> str:
    """What failed, row by row, what is kept, and what to do."""
    lost = [(s, failed[row]) for s, row in zip(samples, rows, strict=True) if row in failed]
    lines = [f"  {sample.task} {sample.key}: {reason}" for sample, reason in lost]
    kept = f"{len(samples) - len(lost)} are kept in {folder}" if folder else "nothing is kept"
    seen = "; a picture's path must be readable where the workers are" if executor else ""
    short = "; a smaller batch_size does not help here, rows were tried alone" * any(
        "memory" in reason for _, reason in lost
    )
    return (
        f"asked for the answers of {len(samples)} samples, found {len(lost)} that could not be had"
        f" ({kept}):\n" + "\n".join(lines) + "\nrepair these or leave them out, and run again: only"
        f" what is missing is computed{seen}{short}"
    )
