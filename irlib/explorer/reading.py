"""One picture and question read by every instrument: plain dicts, ready for JSON, one a panel.

Each function computes one panel and knows of no page. Layers count from 0; heat and shares are
those of the words that are picked, of all where none is.
"""

from collections.abc import Sequence

import numpy as np

from irlib import __version__
from irlib.evidence.rulers import faithfulness
from irlib.explorer import maps as drawn
from irlib.explorer import packing
from irlib.explorer.lines import Said, lines
from irlib.explorer.words import words_of
from irlib.inputs.records import Answer, Inputs
from irlib.interventions.staircase import answers_by_layer
from irlib.plots.cells import asked as worded
from irlib.scores import MAIN, score
from irlib.store import provenance

ROUTES = ("image>question", "image>answer", "question>answer")
WINDOW = 3  # layers that a route is cut in at a time
BEYOND = 8  # tokens that a changed answer may be longer than the untouched one: it is another then


def asked(vlm, inputs: Inputs, answer: Answer, model: dict, *, said: Said) -> dict:
    """What was asked and answered: picture, cells, boxes, words, and what it was made from.

    `model` is how the model is known, `name` and `sha256`; `said` how Python says what was asked.
    """
    (sample,), grid = inputs.samples, inputs.grid
    scored = sample.reference and sample.task in MAIN
    right = score(sample, answer.text)["score"] >= 0.5 if scored else None
    frame = None if grid is None else [*grid.cells[0, 0, :2], *grid.cells[-1, -1, 2:]]
    return {
        "model": model["name"],
        "layers": vlm.n_layers,
        "sites": list(vlm.sites),
        "task": sample.task,
        "key": sample.key,
        "question": sample.question,
        "asked": worded(sample),
        "right": right,
        "answer": answer.text,
        "words": words_of(vlm, answer.ids[0]),
        "picture": None if grid is None else packing.picture(inputs.pictures[0]),
        "grid": grid and {
            "rows": grid.shape[0], "cols": grid.shape[1], "frame": packing.numbers(frame),
            "note": grid.note,
        },
        "boxes": [[box.label, *packing.numbers([box.x0, box.y0, box.x1, box.y1])]
                  for box in sample.boxes],
        "python": lines(model["name"], said),
        "provenance": {
            "irlib": __version__, "model": model,
            "rows": provenance.rows(sample), **provenance.surroundings(),
        },
    }  # fmt: skip


def shown(
    vlm,
    inputs: Inputs,
    answer: Answer,
    attention: np.ndarray,
    *,
    picked: Sequence[int] = (),
    cam: bool = True,
) -> dict:
    """Maps and shares of the words `picked` (by their place), of the whole answer where none is.

    `attention` is what `drawn.attention_rows` gave. `maps` is by "site/pool" and "attention":
    packed heat, and by layer the share of it `inside` the boxes, whether the peak is a `hit`;
    `area` is what an even map would have inside. `cam=False` leaves the gradients out.
    """
    words = words_of(vlm, answer.ids[0])
    places = [t for word in sorted(set(picked)) for t in words[word]["tokens"]]
    tokens = places or range(len(answer.ids[0]))
    told = {"picked": sorted(set(picked)), "tokens": [*tokens], "maps": {}}
    told |= drawn.shares(inputs, answer, attention, tokens)
    told["share"] = packing.numbers([*told["share"].values()])
    told["segments"] = ["first", *drawn.SEGMENTS]
    if inputs.grid is None:
        return told
    found = drawn.cam_maps(vlm, inputs, answer, tokens) if cam else []
    found.append(drawn.attention_maps(vlm, inputs, attention, tokens))
    found = [one for one in found if one is not None]
    bits = 16 if sum(one.heat.size for one in found) <= packing.FINE else 8
    for one in found:
        table = one.table()
        told["maps"]["/".join(filter(None, (one.site, one.pool)))] = {
            **packing.heat(one.heat, bits=bits),
            "inside": packing.numbers(table["inside"]),
            "hit": packing.numbers(table["hit"]),
            "area": packing.numbers(table["area"].iloc[0]),
        }
    return told


def strip(vlm, inputs: Inputs, answer: Answer) -> dict:
    """What the model says with the picture hidden from each layer L on, n_layers being never.

    `answers` are the different ones, `which [L]` the place of each; `logprob [L]` what is left of
    the log-probability of the untouched answer, in nats; `keeps` the first layer from which on all
    answers are the untouched one's. An answer that is BEYOND longer than that is cut there ("…").
    """
    most, layers = _most(inputs, answer), range(vlm.n_layers + 1)
    every = answers_by_layer(vlm, inputs, layers=layers, max_new_tokens=most, logprob=True)
    texts = _texts(every, inputs, most)
    other = [layer for layer, text in enumerate(texts) if text != answer.text]
    return _different(texts, answer.text) | {
        "logprob": packing.numbers([every[layer].logprob[0] for layer in sorted(every)]),
        "keeps": max(other, default=-1) + 1,
    }


def routes(vlm, inputs: Inputs, answer: Answer, edges: Sequence[str] = ROUTES) -> dict:
    """What the model says with an edge cut in each window of layers, by the window's first layer.

    Each of `edges` has `answers`, `which` and `logprob` as `strip` has them; edges that these
    inputs lack are in `without`, with the reason.
    """
    window, most = min(WINDOW, vlm.n_layers), _most(inputs, answer)
    first, told = range(vlm.n_layers - window + 1), {"window": window, "edges": [], "without": {}}
    for edge in edges:
        try:
            every = answers_by_layer(
                vlm, inputs, layers=first, edge=edge, kind="window", window=window,
                max_new_tokens=most, logprob=True,
            )  # fmt: skip
        except ValueError as error:
            told["without"][edge] = str(error)
            continue
        row = {"edge": edge, "logprob": packing.numbers([every[i].logprob[0] for i in first])}
        told["edges"].append(row | _different(_texts(every, inputs, most), answer.text))
    return told


def _most(inputs, answer) -> int:
    """How many tokens a changed answer may have."""
    return min(inputs.limits()[0], len(answer.ids[0]) + BEYOND)


def _texts(every, inputs, most) -> list[str]:
    """The answers by layer, those that were cut before their end marked."""
    cut = most < inputs.limits()[0]
    ends = [" …" * (cut and len(every[layer].ids[0]) == most) for layer in sorted(every)]
    return [every[layer].text + end for layer, end in zip(sorted(every), ends, strict=True)]


def faithful(vlm, inputs: Inputs, answer: Answer, *, size: float = 0.25) -> dict:
    """How likely the answer is with the highest image tokens of each map alone, and without them.

    `maps` by "site/pool", "attention" and the rulers "random", "centre", "box": [inserted,
    deleted], as evidence.rulers has them, of maps that are a mean over layers; `whole` with all
    image tokens, `none` with no one. Raises ValueError where image tokens have no place.
    """
    if inputs.grid is None or not inputs.grid.views:
        raise ValueError(
            "asked how faithful the maps are, found no picture whose image tokens have a place on "
            "it; ask about a picture, with another model"
        )
    sample, pools = inputs.samples[0], {"mean": "cam", "token": "token"}
    names = {f"{site}/{pool}": f"{kind} {site}"
             for site in vlm.sites for pool, kind in pools.items()}  # fmt: skip
    others = ["attention", "random", "centre", *["box"] * bool(sample.boxes)]
    names |= {name: name for name in others}
    table = faithfulness(vlm, sample, [*names.values()], sizes=[size])
    found = {row["map"]: [row["inserted"], row["deleted"]] for row in table.to_dict("records")}
    first = table.iloc[0]
    return {
        "size": size, "tokens": int(first["tokens"]), "whole": packing.numbers(first["whole"]),
        "none": packing.numbers(first["none"]),
        "maps": {name: packing.numbers(found[kind]) for name, kind in names.items()},
    }  # fmt: skip


def _different(texts: Sequence[str], untouched: str) -> dict:
    """The different answers, the untouched first, and which of them each is."""
    answers = list(dict.fromkeys([untouched, *texts]))
    return {"answers": answers, "which": [answers.index(text) for text in texts]}
