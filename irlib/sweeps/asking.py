"""What a sweep is asked for: layers and samples, checked, each row known by what it hangs on."""

from collections.abc import Iterable
from dataclasses import replace

from irlib import doors
from irlib.interventions.changes import Change
from irlib.store import provenance
from irlib.tasks.samples import Sample


def all_layers(vlm, layers, change: Change) -> list[int]:
    """The layers in order, the untouched model's among them; refused where one is not there."""
    change.check_alone()
    n, least = vlm.n_layers, 1 if change.keep else 0
    change.span(0, n)  # refuses a kind that is none and a window longer than the model
    ends = n - change.window + 1 if change.kind == "window" else n
    layers = range(least, ends) if layers is None else layers
    layers = sorted({*doors.counts("layers", layers, most=n), n})
    if layers[0] < least:
        raise ValueError(
            f"asked to sweep over layers {layers} with keep={change.keep}, found no layer before "
            f"the first to rank tokens by; give layers in {least}..{n}, or keep=0"
        )
    for layer in layers:
        change.span(layer, n)
    return layers


def as_samples(samples) -> list[Sample]:
    """The samples asked for, checked: a list of them, or one alone."""
    samples = [samples] if isinstance(samples, Sample) else samples
    doors.kind("samples", samples, Iterable, give="samples of load_task(...)")
    samples = list(samples)
    if not samples:
        raise ValueError("asked to sweep over samples, found none; give at least one")
    for place, sample in enumerate(samples):
        doors.kind(f"samples[{place}]", sample, Sample, give="samples of load_task(...)")
        doors.count(f"samples[{place}].max_new_tokens", sample.max_new_tokens, least=1)
    return samples


def rows_of(samples, max_new_tokens):
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


def why_not(samples, rows, failed, folder, executor) -> str:
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
