"""What a profile will run and what that costs, before anything is downloaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from irlib.plan import costs
from irlib.plan.anatomy import shape_of
from irlib.plan.draws import CLOSING, SYSTEM, TOKEN, Task, rows_of
from irlib.plan.runs import runs
from irlib.plan.skeleton import skeleton
from irlib.reproduce import jobs
from irlib.reproduce.parameters import declared

BATCH = 8  # samples that a sweep takes at once


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one notebook runs of one task with one model; of `rows`, `kept` are in the store.

    `passes` are whole passes over a prompt (a backward is one), with what a sweep shares and
    `naive` without; `flops` are operations, `read` bytes that the tokens of answers read at least,
    `peak` bytes at once, the weights among them.
    """

    model: str
    stem: str
    task: str
    rows: int
    kept: int
    passes: float
    naive: float
    flops: float
    read: float
    peak: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All lines of a plan, the shape of each model, and what would go wrong.

    `tokens` are those of a picture by model, the most that a task's pictures have.
    """

    lines: tuple[Line, ...]
    shapes: Mapping[str, costs.Shape]
    tokens: Mapping[str, int]
    warnings: tuple[str, ...]


def estimate(planned: Sequence[jobs.Job]) -> Plan:
    """What these jobs run: rows that several of them sweep in one model are counted once.

    Nothing is downloaded: rows of the hub are drawn by number from as many as are published, those
    of the bundle and of folders are read. Raises `ValueError` for a notebook that is not counted
    and where `skeleton` and `shape_of` do.

    >>> plan = estimate(jobs.plan(["fig9_no_picture_needed"], settings={"n": 20}))
    >>> plan.lines[0].rows, round(plan.lines[0].naive)
    (20, 260)
    """
    lines, shapes, tokens, kept, warnings = [], {}, {}, {}, []
    for job in planned:
        parameters = {name: value for name, (_, value) in declared(job.notebook).items()}
        parameters |= job.parameters
        source = parameters["source"]
        for run in runs(job.stem, parameters):
            rows, task = rows_of(run, source)
            if run.which == "all" and run.n and len(rows) < run.n and run.task != "own":
                warnings.append(
                    f"{job.stem} was to take {run.n} rows of {run.task}; there are {len(rows)} of "
                    f"{task.rows}: it would fail there; ask for fewer"
                )
            own = parameters.get("models") or [parameters.get("model")]
            for name in [run.model] if run.model else own:
                shapes[name], prompt = _prompt(name, task)
                tokens[name] = max(tokens.get(name, 0), prompt.image)
                seen = kept.setdefault((name, run.task, source, run.sweep, run.cut), set())
                fresh = {key: share for key, share in rows.items() if key not in seen}
                if run.sweep:
                    seen.update(rows)
                done = fresh if run.sweep else rows
                lines.append(_line(name, job.stem, run, shapes[name], prompt, done, len(rows)))
    return Plan(lines=tuple(lines), shapes=shapes, tokens=tokens, warnings=tuple(warnings))


def _line(name, stem, run, shape, prompt, rows, drawn) -> Line:
    """The costs of a run over these rows: of those with a picture, and of those without."""
    bare = costs.Prompt(before=prompt.before, image=0, after=prompt.after, new=prompt.new)
    pictured = sum(rows.values())
    total = [0.0, 0.0, 0.0, 0.0]
    for kind, count in ((prompt, pictured), (bare, len(rows) - pictured)):
        for place, value in enumerate(_row(run, shape, kind)):
            total[place] += count * value
    if run.sweep and rows:  # the weights are read once for a batch
        total[3] += -(-len(rows) // BATCH) * prompt.new * shape.weights
    passes, naive, flops, read = total
    return Line(
        model=name,
        stem=stem,
        task=run.task,
        rows=drawn,
        kept=drawn - len(rows),
        passes=passes,
        naive=naive,
        flops=flops,
        read=read,
        peak=shape.weights + _peak(run, shape, prompt),
    )


def _row(run, shape, prompt) -> tuple[float, float, float, float]:
    """Passes, passes without sharing, operations and bytes read of one row."""
    if run.sweep:
        layers = None if run.sweep == "all" else [0]  # the most: where the cliff lies is not known
        sizes = (shape.n_layers, prompt.before, prompt.image, prompt.after)
        counts = costs.token_layers(*sizes, layers=layers)
        passes, naive = (
            counts[way] / (shape.n_layers * prompt.length) for way in ("shared", "naive")
        )
        read = prompt.new * costs.cache(shape, prompt.length)
        return passes, naive, costs.sweep(shape, prompt, layers=layers), read
    tested = run.tested + run.alone * prompt.image
    passes = run.answers + run.flows + 2 * run.cams + tested
    probed = prompt.length + prompt.new if run.everywhere else None
    flops = run.answers * costs.answer(shape, prompt) + run.cams * costs.cam(shape, prompt)
    flops += run.flows * costs.flow(shape, prompt, rows=probed)
    flops += tested * costs.flow(shape, prompt, rows=0)
    read = run.answers * prompt.new * (shape.weights + costs.cache(shape, prompt.length))
    return passes, passes, flops, read


def _peak(run, shape, prompt) -> int:
    """Bytes beside the weights, of one sample at a time."""
    if run.sweep:
        layers = None if run.sweep == "all" else [0]
        return costs.sweep_memory(shape, prompt, layers=layers)
    instrument = costs.cam_memory if run.cams else costs.answer_memory
    together = max(1, run.tested // 4)  # the maps of one size
    return max(instrument(shape, prompt), together * costs.answer_memory(shape, prompt))


@cache
def _skeleton(name):
    return skeleton(name)


def _prompt(name: str, task: Task) -> tuple[costs.Shape, costs.Prompt]:
    """The shape of a model and the tokens of a task's mean prompt in it."""
    model, family, images = _skeleton(name)
    after = round(task.chars / TOKEN) + CLOSING
    shape, image = shape_of(model, images, task.size, words=after)
    before = round(len(family.system) / TOKEN) if family.system else SYSTEM
    before *= family.placeholders > 0  # else the picture stands before the first word
    return shape, costs.Prompt(before=before, image=image, after=after, new=task.new)
