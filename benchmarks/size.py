"""Cost of the sweep against layers and image tokens: irlib and one prefill a layer.

A narrow random model, so that it runs in minutes. Of the naive loop some layers are timed in each
round and the whole is extrapolated from them; the csv says how many.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks import alternatives, command, counts
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender, compare, evenly
from benchmarks.models import SHAPES, Shape, random_subject
from benchmarks.settings import Settings
from irlib.interventions.staircase import logits_by_layer
from irlib.plots import page, style

TITLE = "Cost against size: truncation at every layer"
NARROW = Shape(24, 128, 4, 352, 24, (2, 32, 2, 48))
LAYERS = (8, 16, 24, 32, 48)
SIDES = (12, 18, 24, 36, 54)  # 144 to 2916 image tokens; LLaVA-1.6 has at most 2880
OURS, NAIVE = "irlib, every layer at once", "one prefill a layer"


def measured(settings: Settings) -> list[dict]:
    """One comparison for each size."""
    if settings.quick:
        return [measure(SHAPES["tiny"], settings, "layers")]
    by_layers = [measure(replace(NARROW, layers=n), settings, "layers") for n in LAYERS]
    return by_layers + [measure(replace(NARROW, side=n), settings, "image tokens") for n in SIDES]


def measure(shape: Shape, settings: Settings, varied: str) -> dict:
    """The comparison at one size."""
    subject = random_subject(shape, device=settings.device)
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    n = vlm.n_layers
    layers, timed = range(n + 1), evenly(n + 1, settings.passes)

    def agrees(ours, theirs):
        ours, theirs = (logits.float().cpu() for logits in (ours[timed], theirs))
        return agreement("logits", ours, theirs, **closeness(vlm))

    def naive():
        return alternatives.naive_sweep(vlm, inputs, timed)

    contenders = [
        Contender(
            OURS,
            lambda: logits_by_layer(vlm, inputs, layers=layers),
            count=counts.sweep(inputs, n)["shared"],
        ),
        Contender(
            NAIVE,
            naive,
            count=counts.sweep(inputs, n)["naive"],
            agrees=agrees,
            scale=(n + 1) / len(timed),
            passes="all" if len(timed) == n + 1 else f"{len(timed)} of {n + 1} layers",
        ),
    ]
    told = compare(contenders, runs=settings.runs, device=settings.device, clock=settings.clock)
    return subject.told | {"varied": varied} | told


def table(comparisons: list[dict], clock: str) -> pd.DataFrame:
    """One row a size and way: `varied, layers, image_tokens, way, seconds, timed, ratio, ...`."""
    return pd.DataFrame(
        {
            "varied": told["varied"],
            "layers": told["layers"],
            "image_tokens": told["tokens"]["image"],
            "way": row["name"],
            "seconds": row[f"{clock}_s"],
            "timed": row["timed"],
            "ratio": row["ratio"]["median"],
            "counted": row["counted"],
        }
        for told in comparisons
        for row in told["rows"]
    )


@page.styled
def plot(table: pd.DataFrame, *, clock: str):
    """Seconds against layers and against image tokens, with the ratio at each size."""
    parts = dict.fromkeys(table[(table.way == NAIVE) & (table.timed != "all")].timed)
    foot = (
        "First-token logits with the image hidden from every layer; random LLaVA, hidden 128, 60 "
        "text tokens; A: 576 image tokens, B: 24 layers. Grey: how many times irlib's time."
        + (f" One prefill a layer is extrapolated from {', '.join(parts)}." if parts else "")
    )
    figure = page.Drawing(2.35, foot=foot)
    panels = (("A", "layers", "layers"), ("B", "image tokens", "image_tokens"))
    left = figure.place(0.56, 0.28, 2.35, 1.62)
    axes = [left, figure.place(3.15, 0.28, 2.35, 1.62, sharey=left)]
    axes[1].tick_params(labelleft=False)
    for (name, varied, column), ax in zip(panels, axes, strict=True):
        rows = table[table.varied == varied]
        for way, colour, mark in ((NAIVE, style.VERMILLION, "s"), (OURS, style.BLUE, "o")):
            line = rows[rows.way == way].sort_values(column)
            ax.plot(line[column], line.seconds, color=colour, marker=mark)
        naive = rows[rows.way == NAIVE]
        for _, row in naive.iterrows():
            ax.annotate(
                f"{row.ratio:.1f}x", (row[column], row.seconds), xytext=(0, 5),
                textcoords="offset points", ha="center", fontsize=page.SMALL, color=style.GREY,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_xticks(sorted(set(rows[column])), [str(x) for x in sorted(set(rows[column]))])
        ax.minorticks_off()
        ax.margins(0.1, 0.12)
        ax.set_xlabel("decoder layers" if varied == "layers" else "image tokens")
        figure.letter(name, 0.1 if name == "A" else 2.98, 0.28)
    for way, colour, x, y, side in (
        (NAIVE, style.VERMILLION, 0.03, 0.98, "left"),  # the lines rise: these corners are empty
        (OURS, style.BLUE, 0.98, 0.03, "right"),
    ):
        axes[0].text(
            x, y, way, color=style.ink(colour), fontsize=7.5, transform=axes[0].transAxes,
            ha=side, va="top" if side == "left" else "bottom",
        )  # fmt: skip
    axes[0].set_ylabel(f"{'CPU' if clock == 'cpu' else 'wall'} seconds a sweep")
    return figure


def save(comparisons: list[dict], folder: Path, stem: str, clock: str) -> None:
    """Write the csv and the picture of a run."""
    rows = table(comparisons, clock)
    rows.to_csv(folder / f"{stem}.csv", index=False, float_format="%.6g", lineterminator="\n")
    plot(rows, clock=clock).savefig(folder / f"{stem}.png", metadata={"Software": None})


if __name__ == "__main__":
    command.main({"size": sys.modules[__name__]})
