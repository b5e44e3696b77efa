"""The figures say what the tables say, and nothing on them overlaps."""

from functools import cache
from io import BytesIO
from itertools import combinations, pairwise
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.text import Annotation, Text
from pandas.testing import assert_frame_equal
from PIL import Image

from irlib import plots
from irlib.cam.maps import Maps
from irlib.inputs.grids import crop_grid
from irlib.plots import lettering, page, style
from irlib.plots.cells import draw_key, draw_map, draw_picture
from irlib.plots.fig5_truncation import CLIFFS
from irlib.plots.fig9_no_picture_needed import BARS
from irlib.plots.matrices import draw_matrix

LAYERS, SAMPLES = 12, 40
STANDS_FOR = {
    "mini-llava": "LLaVA-1.5",
    "mini-llava-next": "LLaVA-1.6",
    "mini-instructblip": "InstructBLIP",
    "mini-internvl": "InternVL",
    "mini-qwen2vl": "Qwen-VL",
    "mini-shikra": "Shikra",
}
PARTS = ["system"] * 20 + ["image"] * 64 + ["user"] * 10 + ["answer"] * 3


def rng():
    return np.random.default_rng(0)


def flow_table(queries=("answer",), layers=LAYERS):
    rows = []
    draw = rng()
    names = ("system", "image", "between", "user", "answer")
    for sample in range(SAMPLES):
        for layer in range(layers):
            for query in queries:
                visible = names[: names.index(query) + 1]
                alpha = [
                    0.0 if n == "between" else 8.0 / (1 + layer * (n == "image")) for n in visible
                ]
                live = [a > 0 for a in alpha]
                share = np.zeros(len(visible))
                share[live] = draw.dirichlet([a for a in alpha if a > 0])
                size = [PARTS.count(n) for n in visible]
                for name, value, tokens in zip(visible, share, size, strict=True):
                    uniform = tokens / sum(size)
                    rows.append(("tiny", "pope", f"q{sample}", layer, query, name, value, uniform))
    return pd.DataFrame(rows, columns="model task sample layer query segment share uniform".split())


def attention(hidden=False):
    size = len(PARTS)
    weights = np.tril(rng().gamma(0.3, size=(size, size)))
    if hidden:
        weights[84:, 20:84] = 0
    weights += np.diag(1e-6 + np.zeros(size))
    return weights / weights.sum(axis=1, keepdims=True)


NOTE = (
    "Its map goes through the Q-Former's cross-attention, averaged over heads and queries, and is "
)
NOTE += "no plain grid of image tokens."


def fake_maps(seed=0, layers=LAYERS, zero=(-1,), note=""):
    draw = np.random.default_rng(seed)
    heat = draw.random((layers, 8, 8)).astype(np.float32)
    heat[list(zero)] = 0
    pixels = np.full((288, 288, 3), 238, np.uint8)
    pixels[40:140, 60:160] = draw.integers(40, 220, 3)
    picture = Image.fromarray(pixels)
    boxes = np.array([[60.0, 40.0, 160.0, 140.0]])

    def overlay(layer):
        scaled = np.kron(heat[layer] / max(heat[layer].max(), 1e-9), np.ones((36, 36)))
        return (
            pixels * (1 - 0.5 * scaled[..., None]) + [120, 0, 0] * scaled[..., None] / 2
        ).astype(np.uint8)

    grid = SimpleNamespace(note=note)
    return SimpleNamespace(
        heat=heat,
        layers=tuple(range(layers)),
        picture=picture,
        boxes=boxes,
        overlay=overlay,
        grid=grid,
        model="tiny",
    )


@cache
def cam_table(tasks=("pope", "textvqa"), layers=LAYERS):
    draw, rows = rng(), []
    for task in tasks:
        for sample in range(SAMPLES):
            for layer in range(layers):
                inside = np.nan if layer == layers - 1 else draw.beta(3, 6)
                hit = np.nan if layer == layers - 1 else float(draw.random() < 0.6)
                rows.append((task, f"{task}{sample}", layer, inside, 0.11, hit))
    table = pd.DataFrame(rows, columns="task sample layer inside area hit".split())
    return plots.average(table, ["inside", "area", "hit"], by=["task", "layer"], n_resamples=50)


def gallery(models=tuple(STANDS_FOR), *, n=3, depths=None, note="", layers=LAYERS):
    """Everything that cam_gallery() takes: lift by model and layer, maps, questions, answers."""
    depths = {model: (depths or {}).get(model, layers) for model in models}
    rows = [
        (model, layer, "lift", np.nan if layer == depth - 1 else 1 + layer / 9,
         0 if layer == depth - 1 else SAMPLES)
        for model, depth in depths.items() for layer in range(depth)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns="model layer measure value n".split())
    maps = {
        model: [
            fake_maps(i, depth, note=note if model == "mini-instructblip" else "") for i in range(n)
        ]
        for model, depth in depths.items()
    }
    for model, own in maps.items():
        for one in own:
            one.model = model
    questions = ["Is there a boat in the image?", "what word is on the sign?", LONG]
    return (
        table,
        maps,
        (questions * 3)[:n],
        {model: (["Yes ✓", "BAT ✗", "A ✓"] * 3)[:n] for model in models},
    )


SITES = ("input_norm", "attention", "post_attention", "mlp", "block", "authors")
ALL_LIT = ("input_norm", "authors")  # in the last layer too


def site_table(layers=LAYERS):
    rows = []
    for site in SITES:
        for layer in range(layers):
            zero = float(site not in ALL_LIT and layer == layers - 1)
            lift = np.nan if zero else 1 + 3 * np.sin(layer / 4) ** 2
            rows += [(site, layer, "lift", lift, SAMPLES * (1 - zero))]
            rows += [(site, layer, "zero", zero, SAMPLES)]
    return pd.DataFrame(rows, columns="site layer measure value n".split())


def curves(models=("mini-llava",), layers=LAYERS):
    rows, cliffs = [], []
    metrics = ("POPE Acc", "TextVQA Acc", "SQA IMG Acc", "CHAIRi")
    for rank, model in enumerate(models):
        for place, metric in enumerate(metrics):
            for layer in range(layers + 1):
                value = 0.98 - 0.03 * rank - 0.5 * np.exp(-layer / (1 + place))
                value = 1 - value if metric == "CHAIRi" else value
                rows.append((model, metric, layer, value, value - 0.03, value + 0.02, 400))
            cliff = layers if place == 2 and rank else 3 * place + rank
            low, high = max(cliff - 1, 0), min(cliff + 2, layers)
            resolves = 0.0124 + place / 100
            told = (model, metric, cliff, low, high, layers, 0.05, 300 + place, resolves)
            cliffs.append(told)
    return (
        pd.DataFrame(rows, columns="model metric layer value low high n".split()),
        pd.DataFrame(cliffs, columns=[*CLIFFS]),
    )


def cuts(layers=LAYERS):
    def table(**names):
        (name, values), *_ = names.items()
        rows = [
            (task, layer, measure, value, at, at - 0.02, at + 0.03, SAMPLES)
            for task in ("pope", "textvqa")
            for value in values
            for layer in range(layers)
            for measure in ("changed", "lost", "share")
            for at in [0.9 * np.exp(-layer / 5)]
        ]
        columns = ["task", "layer", "measure", name, "value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    cut = table(edge=("image>question", "image>answer", "question>answer", "image>all text"))
    cut = pd.concat([cut.assign(span=span) for span in ("from", "window")])
    cliffs = pd.DataFrame({"task": ["pope", "textvqa"], "layer": [5, layers]})
    ways = table(how=("mask", "drop, renumbered", "mean"))
    return cut, table(segment=("image", "user", "system")), ways, cliffs


def cards(n=4):
    question = "Which of these is a metal? Choose from the options. A. copper B. fern C. wolf"
    row = {
        "question": question,
        "never seen (L = 0)": ("A", True),
        "layer 0 only (L = 1)": ("B", False),
        "always seen": ("A", True),
    }
    kinds = [
        (kind, seen, value, value - 0.05, value + 0.04, 100)
        for kind in ("facts (text only)", "objects", "food chain")
        for seen, value in zip(list(row)[1:], (0.35, 0.8, 0.95), strict=True)
    ]
    table = pd.DataFrame(kinds, columns="kind seen value low high n".split())
    return table, pd.DataFrame([row] * n), [fake_maps(i).picture for i in range(n - 1)] + [None]


def ours():
    rows = [  # column, metric, baseline, at_cliff, change, layer, cliff, low, high, n
        ("POPE Acc", "POPE Acc", 0.978, 0.975, -0.02, 0.01, 4, 4, 3, 6, 500),
        ("POPE F1", "POPE F1", 0.978, 0.999, 0.01, 0.03, 4, 4, 3, 6, 500),
        ("SQA Acc", "SQA IMG Acc", 0.93, 0.94, -0.01, 0.03, 6, 6, 5, 11, 500),
        ("SQA all", "SQA Acc", 0.951, 0.952, -0.01, 0.03, 6, 6, 5, 11, 550),
        ("TextVQA Acc", "TextVQA Acc", 1.0, 0.9, -0.12, -0.08, 11, 12, 12, 12, 500),
        ("CHAIRs", "CHAIRs", 0.05, 0.06, -0.02, 0.01, 6, 6, 5, 12, 500),
        ("CHAIRi", "CHAIRi", 0.02, 0.03, -0.02, -0.001, 6, 6, 5, 12, 500),
    ]
    names = "column metric baseline at_cliff change_low change_high layer cliff low high n"
    tables = [
        pd.DataFrame(rows, columns=names.split()).assign(
            model=model,
            published=name,
            n_layers=12,
            margin=0.05,
            resolves=0.0713,
            baseline_low=lambda t: t["baseline"] - 0.04,
            baseline_high=lambda t: (t["baseline"] + 0.03).clip(upper=1),
            units=lambda t: t["n"] - 150,
        )
        for model, name in STANDS_FOR.items()
    ]
    return pd.concat(tables, ignore_index=True)


def published():
    from pathlib import Path

    return pd.read_csv(Path(__file__).parents[2] / "data" / "paper" / "table1.csv")


@cache
def depths(layers=LAYERS):
    flow = flow_table(("image", "user", "answer"), layers)
    names = "shallow: layers 0–1", f"deep: layers 2–{layers - 1}"
    flow["depth"] = np.where(flow["layer"] < 2, *names)
    by = ["depth", "query", "segment"]
    return plots.average(flow, ["share", "uniform"], by=by, n_resamples=50)


@cache
def shares(layers=LAYERS):
    flow = flow_table(layers=layers)
    return plots.average(flow, ["share", "uniform"], by=["layer", "segment"], n_resamples=50)


TITLES = [
    f"Is there a {name} in the image?  →  Yes (correct)" for name in "cat dog owl bee".split()
]
LONG = "Which organism is eaten by the hedgehog? A. beetle B. fox C. owl  →  A (wrong: it is B)"


def image_alone(layers=LAYERS):
    """The image's share by task, and of two models beside."""
    one = shares(layers).query("segment == 'image' and measure == 'share'")
    names = [("task", name) for name in ("pope", "textvqa", "scienceqa", "chair")]
    names += [("control", f"smol-llava-{name}") for name in ("projector", "random")]
    return pd.concat([
        one.assign(kind=kind, series=name, value=one["value"] * (1 - place / 20))
        for place, (kind, name) in enumerate(names)
    ])  # fmt: skip


@cache
def first_apart(layers=LAYERS, queries=("answer",)):
    flow = flow_table(queries, layers)
    system = flow[flow["segment"] == "system"]
    first = system.assign(segment="first", share=0.8 * system["share"], uniform=0.01)
    flow.loc[system.index, "share"] *= 0.2
    return pd.concat([first, flow])


def measured():
    from pathlib import Path

    return pd.read_csv(Path(__file__).parents[2] / "data" / "paper" / "cliffs.csv")


def judged_maps(layers=LAYERS):
    """What map_faithfulness() takes: means over layers of all maps, and by layer of some."""
    layered = ["cam post_attention", "token post_attention", "attention", "attention x gradient"]
    others, rows = ["gradient norm", "leave one out", "random", "centre", "box"], []
    for place, name in enumerate(layered + others):
        for measure, value in (("hit", 0.1), ("lift", 0.9), ("own", 0.0), ("gain", -0.9)):
            step = {"lift": 0.9, "hit": 0.1}.get(measure, 0.2) * place
            rows.append((name, np.nan, measure, value + step, value + step / 2, value + step + 0.1))
        for layer in range(layers) if name in layered else ():
            rows.append(
                (name, layer, "lift", 1 + place + layer / 9, 0.5 + place, 2 + place + layer)
            )
            if layer in (0, layers // 2, layers - 2):
                rows.append((name, layer, "gain", -0.8 + place / 4, -0.9, 0.4))
    rows.remove(next(row for row in rows if row[0] == "leave one out" and row[2] == "own"))
    table = pd.DataFrame(rows, columns="map layer measure value low high".split())
    return table.assign(n=SAMPLES)


def few_tokens(layers=LAYERS, depths=4):
    """What tokens_kept() takes."""
    rows = [("untouched", layers, 64, 0.96, 0.9, 1.0)]
    for layer in np.linspace(1, layers - 1, depths).round().astype(int):
        rows.append(("none", layer, 0, 0.2, 0.1, 0.3))
        for place, name in enumerate(("last row", "token mlp", "box", "centre", "random")):
            for kept in (1, 4, 16, 144):
                value = min(1, 0.2 + kept / 200 + place / 20)
                rows.append((name, layer, kept, value, value - 0.1, min(1, value + 0.1)))
    table = pd.DataFrame(rows, columns="ranking layer kept value low high".split())
    return table.assign(n=SAMPLES)


def read_by_layer(layers=LAYERS, tasks=("pope", "textvqa", "scienceqa")):
    """What lens_curves() takes."""
    rows = [
        (task, row, of, layer, value, max(0, value - 0.2), min(1, value + 0.2), SAMPLES)
        for place, task in enumerate(tasks)
        for row, of in (("first", "own"), ("image", "own"), ("image", "other"))
        for layer in range(layers)
        for value in [min(1, (layer + place) / layers) if of == "own" else 0.3]
    ]
    cliffs = pd.DataFrame({"task": tasks, "layer": [layers // 2, layers - 1, 0][: len(tasks)]})
    return pd.DataFrame(rows, columns="task row of layer value low high n".split()), cliffs


def patched_by_layer(layers=LAYERS, kinds=("presence", "reading", "chains")):
    """What patching_curves() takes."""
    rows = []
    for kind in kinds:
        for place, segment in enumerate(("image", "question", "answer", "hidden")):
            for layer in range(layers):
                value = (1 - layer / layers) if place in (0, 3) else layer / layers / place
                for measure in ("restored", "flipped", "changed"):
                    rows.append((kind, segment, layer, measure, value, value - 0.1, value + 0.1))
    table = pd.DataFrame(rows, columns="task segment layer measure value low high".split())
    return table.assign(n=SAMPLES)


BUILDERS = {
    "information_flow": lambda n: plots.information_flow(depths(n), model="tiny"),
    "attention_shares": lambda n: plots.attention_shares(
        shares(n), {f"layer {at}": attention() for at in (0, n // 3, 2 * n // 3, n - 1)}, PARTS,
        model="tiny", question=LONG,
    ),
    "attention_shares_first": lambda n: plots.attention_shares(
        plots.average(first_apart(n), ["share", "uniform"], by=["layer", "segment"], n_resamples=9),
        {f"layer {at}": attention() for at in (0, n // 3, 2 * n // 3, n - 1)}, PARTS,
        model="tiny", question=LONG, image=image_alone(n),
    ),
    "information_flow_first": lambda n: plots.information_flow(
        plots.average(
            first_apart(n, ("image", "user", "answer")).assign(depth="deep: layers 5–29"),
            ["share", "uniform"], by=["depth", "query", "segment"], n_resamples=9,
        ), model="tiny",
    ),
    "truncation_curves_others": lambda n: plots.truncation_curves(
        *curves(("smol-llava", "mini-llava", "mini-internvl"), n), others=measured()
    ),
    "cam_layers_one_task": lambda n: plots.cam_layers(
        cam_table(("scienceqa",), n), [fake_maps(i, n) for i in range(3)], [LONG] * 3
    ),
    "cam_layers": lambda n: plots.cam_layers(
        cam_table(layers=n), [fake_maps(i, n) for i in range(4)], TITLES
    ),
    "cam_gallery": lambda n: plots.cam_gallery(*gallery(layers=n)),
    "cam_gallery_one": lambda n: plots.cam_gallery(
        *gallery(("llava-v1.6-vicuna-7b-hf",), n=7, layers=n)
    ),
    "cam_gallery_uneven": lambda n: plots.cam_gallery(
        *gallery(("mini-llava", "mini-instructblip", "deep"), depths={"deep": 32}, note=NOTE,
                 layers=n)
    ),
    "cam_layers_noted": lambda n: plots.cam_layers(
        cam_table(layers=n), [fake_maps(i, n, note=NOTE) for i in range(2)], TITLES[:2]
    ),
    "explore_view_noted": lambda n: plots.explore_view(
        flow_table(layers=n), fake_maps(0, n, note=NOTE), TITLES[0], layer=4
    ),
    "cam_sites_noted": lambda n: plots.cam_sites(
        site_table(n), {"mlp": fake_maps(0, n, note=NOTE)}, TITLES[0]
    ),
    "cam_sites": lambda n: plots.cam_sites(
        site_table(n),
        {site: fake_maps(i, n, () if site in ALL_LIT else (-1,)) for i, site in enumerate(SITES)},
        TITLES[0],
    ),
    "truncation_curves": lambda n: plots.truncation_curves(*curves(layers=n)),
    "truncation_curves_three": lambda n: plots.truncation_curves(
        *curves(("mini-llava", "mini-internvl", "mini-qwen2vl"), n)
    ),
    "truncation_curves_four": lambda n: plots.truncation_curves(
        *curves(("mini-llava", "llava-hf/llava-v1.6-vicuna-7b-hf", "mini-qwen2vl", "smol"), n)
    ),
    "truncation_diagram": lambda n: plots.truncation_diagram(
        shares(n), attention(), attention(hidden=True), PARTS, layer=8, model="tiny", question=LONG
    ),
    "map_faithfulness": lambda n: plots.map_faithfulness(
        judged_maps(n), model="tiny", sizes="6.25 % and 25 %"
    ),
    "tokens_kept": lambda n: plots.tokens_kept(few_tokens(n), model="tiny"),
    "tokens_kept_seven": lambda n: plots.tokens_kept(few_tokens(n, 7), model="tiny"),
    "knockout_curves": lambda n: plots.knockout_curves(*cuts(n), model="tiny", window=3),
    "lens_curves": lambda n: plots.lens_curves(*read_by_layer(n), model="tiny", top=10),
    "lens_curves_one": lambda n: plots.lens_curves(
        *read_by_layer(n, ("pope",)), model="tiny", top=10
    ),
    "patching_curves": lambda n: plots.patching_curves(patched_by_layer(n), model="tiny"),
    "patching_curves_one": lambda n: plots.patching_curves(
        patched_by_layer(n, ("chains",)), model="tiny"
    ),
    "no_picture_needed": lambda n: plots.no_picture_needed(*cards(), model="tiny"),
    "generalisation": lambda n: plots.generalisation(ours(), published()),
    "explore_view": lambda n: plots.explore_view(
        flow_table(layers=n), fake_maps(0, n), TITLES[0], layer=4
    ),
}  # fmt: skip
DEPTHS = (LAYERS, 24, 30)
FLAT = ("no_picture_needed", "generalisation")  # show no layers
EVERY = [(name, n) for name in BUILDERS for n in (DEPTHS if name not in FLAT else DEPTHS[:1])]


@cache
def drawn(name, layers=LAYERS):
    """One figure of each kind; tests look at it and leave it as it is."""
    return BUILDERS[name](layers)


def drawn_texts(figure, monkeypatch):
    """Every piece of text that reaches the page, with its box in pixels."""
    found, draw = [], Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            found.append(self)
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", record)
    figure.draw_without_rendering()
    monkeypatch.undo()
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in dict.fromkeys(found)]


def words(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize(("name", "layers"), EVERY)
def test_no_text_overlaps_another_or_leaves_the_page(name, layers, monkeypatch):
    texts = drawn_texts(drawn(name, layers), monkeypatch)
    assert len(texts) > 5
    assert_apart(texts, drawn(name, layers).bbox)


def assert_apart(texts, page):
    outside = [
        t for t, b in texts if b.x0 < -1 or b.y0 < -1 or b.x1 > page.x1 + 1 or b.y1 > page.y1 + 1
    ]
    assert not outside
    clash = [
        (a, b)
        for (a, p), (b, q) in combinations(texts, 2)
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1
    ]
    assert not clash


@pytest.mark.parametrize(("name", "layers"), EVERY)
def test_every_figure_is_legible_on_a_one_column_page(name, layers):
    figure = drawn(name, layers)
    assert figure.get_figwidth() == page.PAGE
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text().strip()) >= 5.5


@pytest.mark.parametrize("name", BUILDERS)
def test_a_figure_names_its_models_and_says_how_layers_count(name):
    said = " ".join(words(drawn(name)).split())
    several = {"truncation_curves": ["mini-llava"], "generalisation": STANDS_FOR,
               "truncation_curves_three": ["mini-llava", "mini-internvl", "mini-qwen2vl"],
               "truncation_curves_four": ["mini-llava", "mini-qwen2vl", "smol"],
               "truncation_curves_others": ["smol-llava", "mini-llava", "mini-internvl"],
               "cam_gallery": STANDS_FOR, "cam_gallery_one": ["llava-v1.6-vicuna-7b-hf"],
               "cam_gallery_uneven": ["mini-llava", "mini-instructblip", "deep"]}  # fmt: skip
    for model in several.get(name, ["tiny"]):
        assert model in said.replace("- ", "-")
    assert said.count("Layers count from 0") == 1
    assert said.count("the paper counts attention layers from 1") == (name != "generalisation")


@pytest.mark.parametrize("name", BUILDERS)
def test_letters_of_panels_stand_on_the_line_of_their_titles(name, monkeypatch):
    figure = drawn(name)
    letters = [t for t in figure.texts if t.get_text() in list("ABCDE") and t.get_fontsize() == 10]
    lone = ("information_flow", "information_flow_first", "generalisation", "tokens_kept",
            "tokens_kept_seven")  # fmt: skip
    assert bool(letters) != (name in lone or name.startswith("explore_view"))
    letters.sort(key=lambda t: (-round(t.get_position()[1], 3), t.get_position()[0]))  # as read
    assert [t.get_text() for t in letters] == sorted(t.get_text() for t in letters)
    assert all(t.get_va() == "baseline" for t in letters)
    if name == "truncation_diagram":
        assert len({t.get_position()[1] for t in letters}) == 1


def test_overlap_is_found_where_there_is_one(monkeypatch):
    figure = page.Drawing(1)
    figure.text(0.5, 0.5, "one")
    figure.text(0.52, 0.5, "two")
    with pytest.raises(AssertionError):
        assert_apart(drawn_texts(figure, monkeypatch), figure.bbox)


@pytest.mark.parametrize("name", [n for n in BUILDERS if not n.startswith("explore_view")])
def test_row_counts_are_printed(name):
    counts = {"no_picture_needed": 100, "generalisation": 500}
    if name.startswith("truncation_curves"):
        counts[name] = 400
    assert f"n = {counts.get(name, SAMPLES)}" in words(drawn(name))


def test_plots_leave_the_readers_rc_params_alone():
    with matplotlib.rc_context({"font.size": 23, "axes.linewidth": 5}):
        before = dict(matplotlib.rcParams)
        figure = BUILDERS["truncation_curves"](LAYERS)
        assert dict(matplotlib.rcParams) == before
        assert figure.axes[0].spines["left"].get_linewidth() == page.RC["axes.linewidth"]


def test_pyplot_holds_no_figure():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    BUILDERS["truncation_curves"](LAYERS)
    assert pyplot.get_fignums() == before


def test_a_drawing_shows_itself_in_a_notebook_at_100_dots_an_inch():
    with Image.open(BytesIO(drawn("generalisation")._repr_png_())) as shown:
        assert (shown.format, shown.width) == ("PNG", 100 * page.PAGE)


def test_the_same_table_gives_the_same_bytes():
    assert BUILDERS["explore_view"](LAYERS).png(200) == drawn("explore_view").png(200)


def test_colours_are_okabe_and_ito():
    assert {*style.SEGMENTS.values(), *style.SERIES} <= set(style.OKABE_ITO)
    assert len(set(style.SEGMENTS.values())) == len(style.SEGMENTS)


# averages


def test_average_equals_pandas_mean_and_counts_samples():
    flow = flow_table()
    table = plots.average(flow, ["share"], by=["layer", "segment"])
    want = flow.groupby(["layer", "segment"])["share"].mean()
    got = table.set_index(["layer", "segment"])["value"]
    pd.testing.assert_series_equal(got.sort_index(), want.sort_index(), check_names=False)
    assert set(table["n"]) == {SAMPLES}
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_average_interval_matches_the_normal_one():
    values = np.random.default_rng(1).normal(3, 2, 400)
    table = pd.DataFrame({"sample": range(400), "layer": 0, "x": values})
    row = plots.average(table, ["x"], by=["layer"], n_resamples=4000).iloc[0]
    half = 1.96 * values.std(ddof=1) / 20
    assert row["high"] - row["value"] == pytest.approx(half, rel=0.1)
    assert row["value"] - row["low"] == pytest.approx(half, rel=0.1)


def test_average_leaves_out_nan_and_lowers_n():
    table = pd.DataFrame({"sample": [1, 2, 3], "layer": 0, "x": [1.0, np.nan, 3.0]})
    row = plots.average(table, ["x"], by=["layer"]).iloc[0]
    assert (row["value"], row["n"]) == (2.0, 2)


def test_average_of_nothing_but_nan_is_nan_with_n_zero():
    table = pd.DataFrame({"sample": [1, 2], "layer": 0, "x": [np.nan] * 2})
    row = plots.average(table, ["x"], by=["layer"]).iloc[0]
    assert row["n"] == 0
    assert np.isnan(row["value"])
    assert np.isnan(row["low"])


def test_average_counts_a_sample_once_however_many_rows_it_has():
    table = pd.DataFrame(
        {"sample": [1, 1, 1, 2], "layer": [0, 1, 2, 0], "deep": 0, "x": [0, 0, 0, 1.0]}
    )
    row = plots.average(table, ["x"], by=["deep"]).iloc[0]
    assert (row["value"], row["n"]) == (0.5, 2)


def test_average_keeps_equal_keys_of_two_tasks_apart():
    table = pd.DataFrame({"task": ["a", "b"], "sample": [1, 1], "layer": 0, "x": [0.0, 1.0]})
    assert plots.average(table, ["x"], by=["layer"])["n"].item() == 2


def test_average_names_the_missing_column():
    with pytest.raises(ValueError, match=r"\['peak'\].*Name columns"):
        plots.average(flow_table(), ["peak"], by=["layer"])


def test_pool_equals_sklearn_like_counting_and_cliff_tables():
    said = np.array([1, 1, 0, 0, 1, 0.0])
    truth = np.array([1, 0, 0, 1, 1, 0.0])
    rows = pd.DataFrame({
        "model": "m", "task": "pope", "sample": range(6), "layer": 3, "said_yes": said,
        "is_yes": truth, "score": (said == truth).astype(float),
    })  # fmt: skip
    found = plots.pool(rows, ["POPE F1", "POPE Acc"]).set_index("metric")
    assert list(found.index) == ["POPE F1", "POPE Acc"]
    assert found.loc["POPE F1", "value"] == pytest.approx(2 / 3)
    assert found.loc["POPE Acc", "value"] == pytest.approx(4 / 6)
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()


def test_pool_counts_pictures_only_for_image_accuracy():
    rows = pd.DataFrame({
        "model": "m", "task": "scienceqa", "sample": list("abc"), "layer": 0,
        "score": [1.0, 0.0, 1.0], "has_image": [1.0, 1.0, 0.0],
    })  # fmt: skip
    found = plots.pool(rows, ["SQA IMG Acc", "SQA Acc"]).set_index("metric")
    assert found["n"].tolist() == [2, 3]
    assert found["value"].tolist() == pytest.approx([0.5, 2 / 3])


def test_pool_of_a_shuffled_table_is_that_of_the_table_and_near_ties_count_for_nothing():
    """The same resamples at every layer need the same order of samples in each."""
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({
        "model": "m", "task": "textvqa", "sample": [f"s{i}" for i in range(12)] * 2,
        "layer": np.repeat([0, 4], 12), "keep": 0, "score": rng.random(24),
    })  # fmt: skip
    wanted = plots.pool(rows, ["TextVQA Acc"], n_resamples=20)
    for state in range(3):
        shuffled = rows.sample(frac=1, random_state=state).assign(near_tie=rows["score"] < 0.5)
        found = plots.pool(shuffled, ["TextVQA Acc"], n_resamples=20)
        found = found.sort_values("layer", ignore_index=True)
        assert_frame_equal(found, wanted, rtol=1e-12)
    other = plots.pool(rows, ["TextVQA Acc"], n_resamples=20, seed=1)
    assert (other["value"] == wanted["value"]).all()
    assert (other["low"] != wanted["low"]).all()


def test_pool_refuses_metrics_that_no_task_has():
    rows = pd.DataFrame({"task": ["textvqa"], "sample": ["a"], "layer": [0], "score": [1.0]})
    with pytest.raises(ValueError, match="Name metrics of these tasks"):
        plots.pool(rows, ["CHAIRi"], by=["layer"])


# what the figures show


def test_bands_are_as_wide_as_the_shares():
    table = depths()
    figure = plots.information_flow(table, model="tiny")
    rows = table[(table["depth"] == "shallow: layers 0–1") & (table["measure"] == "share")]
    rows = rows[rows["segment"] != "between"]
    widths = sorted(
        patch.get_path().vertices[4, 1] - patch.get_path().vertices[3, 1]
        for patch in figure.axes[0].patches
        if isinstance(patch, PathPatch)
    )
    want = sorted(rows.loc[rows["value"] > 0, "value"])
    assert widths == pytest.approx(want)


def test_flow_prints_the_answers_share_of_the_image_with_its_interval():
    table = depths()
    row = table.query(
        "depth == 'shallow: layers 0–1' and query == 'answer' and segment == 'image' "
        "and measure == 'share'"
    )
    text = style.interval(*row[["value", "low", "high"]].to_numpy()[0])
    assert text in words(plots.information_flow(table, model="tiny"))


def test_shares_draw_the_uniform_reference_dashed_and_leave_out_parts_without_tokens():
    table = shares()
    figure = plots.attention_shares(table, {}, PARTS, model="tiny")
    axes = figure.axes[0]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [to_hex(line.get_color()).upper() for line in dashed] == [
        style.SEGMENTS[name] for name in ("system", "image", "user", "answer")
    ]
    want = table.query("segment == 'image' and measure == 'uniform'")["value"]
    assert dashed[1].get_ydata() == pytest.approx(want.to_numpy())
    assert "between" not in words(figure)


def test_cliffs_of_others_stand_at_their_own_depth_and_ours_at_ours():
    table, cliffs = curves(("smol-llava", "mini-llava"))
    axes = plots.truncation_curves(table, cliffs, others=measured()).axes
    [panel] = [one for one in axes if "share of the model's layers" in one.get_xlabel()]
    white = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    drawn = sorted((line.get_xdata()[0], *line.get_ydata()) for line in white)
    names = ["scienceqa", "textvqa", "pope", "presence", "chair", "gqa", "all"]
    wanted = sorted(
        ((row.low + row.high) / 2 / row.layers, names.index(row.task))
        for row in measured().itertuples()
    )
    assert np.array(drawn) == pytest.approx(np.array(wanted))
    ours = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    ours = [x for x in ours if x not in {line.get_xdata()[0] for line in white}]
    assert set(ours) <= set(cliffs["layer"] / cliffs["n_layers"])
    assert len(ours)


def test_a_task_without_a_row_for_others_is_refused():
    strange = measured().assign(task="vqa")
    with pytest.raises(ValueError, match=r"tasks \['vqa'\].*add what is missing"):
        plots.truncation_curves(*curves(), others=strange)


def test_full_marks_in_every_column_of_the_table_stand_apart(monkeypatch):
    figure = plots.generalisation(ours().assign(baseline=1.0, at_cliff=1.0), published())
    assert_apart(drawn_texts(figure, monkeypatch), figure.bbox)


def test_a_model_that_stands_for_no_row_of_the_paper_says_so_and_has_none_in_latex():
    table = ours()
    table.loc[table["model"] == table["model"].iloc[0], "published"] = ""
    said = words(plots.generalisation(table, published()))
    assert said.count("not in the paper") == 1
    assert plots.latex(table, published()).count(", published") == table["model"].nunique() - 1


def test_shares_fill_their_axis_and_never_pass_one():
    table = shares()
    for scale in (0.5, 1.0, 1.5):
        scaled = table.assign(**{name: table[name] * scale for name in ("value", "low", "high")})
        axes = plots.attention_shares(scaled, {}, PARTS, model="tiny").axes[0]
        most = scaled[["value", "high"]].max(axis=None)
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] == pytest.approx(min(1, 1.06 * most))


def test_panels_of_one_question_name_it():
    for name in ("attention_shares", "truncation_diagram"):
        assert " ".join(LONG.split()) in " ".join(words(drawn(name)).split())


def test_maps_stand_at_their_values_and_what_nobody_measured_is_a_dash():
    table, figure = judged_maps(), drawn("map_faithfulness")
    for axes, measure in zip(figure.axes, ("hit", "lift", "own", "gain"), strict=False):
        rows = table[table["layer"].isna() & (table["measure"] == measure)]
        dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert dots == pytest.approx(rows["value"].tolist())
        assert [t.get_text() for t in axes.texts] == ["–"] * (9 - len(rows))
    each = table[table["layer"].notna()].groupby("map", sort=False)
    for line, (_, rows) in zip(figure.axes[4].lines[:4], each, strict=True):
        assert line.get_ydata() == pytest.approx(rows.query("measure == 'lift'")["value"].tolist())


def test_maps_of_rows_without_boxes_explain_and_show_nothing(monkeypatch):
    table = judged_maps().query("measure == 'gain' and map != 'box'")
    figure = plots.map_faithfulness(table, model="tiny", sizes="25 %")
    assert_apart(drawn_texts(figure, monkeypatch), figure.bbox)
    assert [len(axes.texts) for axes in figure.axes[:4]] == [8, 8, 8, 0]


def test_every_panel_of_kept_tokens_begins_at_none_and_draws_each_ranking():
    table, figure = few_tokens(), drawn("tokens_kept")
    for axes, layer in zip(figure.axes[1:], sorted(set(table["layer"]) - {LAYERS}), strict=True):
        drawn_lines = [line for line in axes.lines if line.get_marker() == "o"]
        rows = table[(table["layer"] == layer) & (table["ranking"] != "none")]
        for line, (_, mine) in zip(drawn_lines, rows.groupby("ranking", sort=False), strict=True):
            assert line.get_ydata() == pytest.approx([20, *(100 * mine["value"])])
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == [96]


def test_every_share_of_at_least_half_a_percent_bears_its_number():
    table = depths()
    rows = table[(table["measure"] == "share") & (table["value"] >= 0.005)]
    for axes, (_, group) in zip(
        drawn("information_flow").axes, rows.groupby("depth", sort=False), strict=True
    ):
        numbers = sorted(t.get_text() for t in axes.texts if t.get_text().endswith(" %"))
        assert numbers == sorted(f"{100 * value:.0f} %" for value in group["value"])


@pytest.mark.parametrize("layers", DEPTHS)
def test_axes_and_titles_count_layers_from_zero(layers):
    for name in ("attention_shares", "cam_layers", "cam_sites", "cam_gallery", "explore_view"):
        figure = drawn(name, layers)
        found = [axes for axes in figure.axes if axes.get_xlabel() == "decoder layer"]
        assert found
        for axes in found:
            ticks = [label.get_text() for label in axes.get_xticklabels()]
            assert (ticks[0], ticks[-1]) == ("0", str(layers - 1))
            assert list(map(float, ticks)) == list(axes.get_xticks())
    titles = [text.get_text() for text in drawn("cam_layers", layers).texts]
    assert {"layer 0", f"layer {layers - 1}"} <= set(titles)
    stack = drawn("truncation_diagram", layers).axes[0]
    assert stack.get_yticklabels()[0].get_text() == "0"
    assert stack.get_yticks()[0] == 0.5


def test_matrix_masks_the_future_and_marks_each_segment():
    axes = page.Drawing(2).place(0, 0, 2, 2)
    image = draw_matrix(axes, attention(), PARTS)
    assert image.get_array().mask[0, 1]
    assert not image.get_array().mask[1, 0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(bars) == 2 * len(set(PARTS))


def test_the_edge_bar_of_a_single_token_can_be_seen_and_stays_at_its_place():
    parts = ["system"] + ["image"] * 97 + ["user", "answer"]
    axes = page.Drawing(2).place(0, 0, 2, 2)
    draw_matrix(axes, np.tril(np.ones((100, 100))), parts)
    bars = {to_hex(bar.get_facecolor()).upper(): bar for bar in axes.patches[::2]}
    spans = {
        name: (bars[colour].get_x() + 0.5, bars[colour].get_x() + 0.5 + bars[colour].get_width())
        for name, colour in style.SEGMENTS.items()
        if colour in bars
    }
    assert spans == {"system": (0, 3), "image": (1, 98), "user": (97, 100), "answer": (97, 100)}


def test_matrix_refuses_labels_of_another_length():
    axes = page.Drawing(2).place(0, 0, 2, 2)
    with pytest.raises(ValueError, match="one label per position"):
        draw_matrix(axes, attention(), PARTS[:-1])


def test_a_zero_map_says_zero_and_shows_no_heat():
    axes = page.Drawing(2).place(0, 0, 2, 2)
    draw_map(axes, fake_maps(), LAYERS - 1)
    assert [text.get_text() for text in axes.texts] == ["zero"]
    shown = axes.images[0].get_array()
    assert (shown == shown[..., :1]).all()


def test_a_live_map_shows_its_overlay_and_box():
    axes = page.Drawing(2).place(0, 0, 2, 2)
    maps = fake_maps()
    draw_map(axes, maps, 3)
    np.testing.assert_array_equal(axes.images[0].get_array(), maps.overlay(3))
    assert not axes.texts
    [box] = axes.patches
    point = 288 / (2 * 72)  # the outline lies a point outside of what it shows
    assert box.get_xy() == pytest.approx((60 - point, 40 - point))
    assert (box.get_width(), box.get_height()) == pytest.approx((100 + 2 * point,) * 2)


def test_a_box_beyond_the_picture_is_drawn_to_its_edge():
    axes = page.Drawing(2).place(0, 0, 2, 2)
    maps = fake_maps()
    draw_picture(axes, maps.picture, [(-20, 30, 400, 90)])
    [box] = axes.patches
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((-2.5, 289.5))


def test_the_key_has_the_colours_of_an_overlay_on_white():
    heat = np.linspace(0, 1, 64, dtype=np.float32)[None, None]
    white = Image.new("RGB", (64, 1), "white")
    grid = crop_grid((64, 1), shape=(1, 64), resize={"height": 1, "width": 64})
    maps = Maps(heat=heat, site="block", grid=grid, picture=white, sample=None, model="m")
    figure = page.Drawing(1, title="m")
    draw_key(figure)
    [shown] = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(255 * shown, maps.overlay(0), atol=0.51)  # bytes are rounded


def test_localisation_says_zero_where_no_sample_has_a_map():
    axes = drawn("cam_layers").axes[-1]
    assert {(t.get_position()[0], t.get_text()) for t in axes.texts if t.get_text() == "zero"} == {
        (LAYERS - 1, "zero")
    }


def test_localisation_without_boxes_says_so_and_not_zero():
    table = cam_table(("pope",))
    empty = table.assign(value=np.nan, low=np.nan, high=np.nan, n=0)
    figure = plots.cam_layers(empty, [fake_maps(0)], TITLES[:1])
    texts = [text.get_text() for text in figure.axes[-1].texts]
    assert "no boxes in these tasks:\nnothing to measure" in texts
    assert "zero" not in texts


def test_chance_stops_short_of_the_layers_whose_maps_are_zero():
    axes = drawn("cam_layers").axes[-1]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 2
    assert all(max(line.get_xdata()) == LAYERS - 2 for line in dashed)


@pytest.mark.parametrize(
    ("name", "said"),
    [("cam_layers_noted", "tiny: Its map"), ("cam_sites_noted", "tiny: Its map"),
     ("cam_gallery_uneven", "mini-instructblip: Its map"), ("explore_view_noted", "Its map")],
)  # fmt: skip
def test_what_must_be_known_of_a_grid_is_printed_once(name, said):
    text = " ".join(words(drawn(name)).split())
    assert text.count(" ".join(NOTE.split())) == 1
    assert said in text
    assert "Q-Former" not in words(drawn("cam_gallery"))


def test_gallery_shows_each_sample_in_every_model_and_right_answers_below():
    figure = drawn("cam_gallery")
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert texts.count("Yes ✓") == texts.count("BAT ✗") == len(STANDS_FOR)
    assert {f"layer {n}" for n in (3, 8)} == {t for t in texts if t.startswith("layer ")}
    maps = [axes for axes in figure.axes if axes.images]
    assert len(maps) == 3 * (1 + 2 * len(STANDS_FOR)) + 1  # and the key of their colours


def test_gallery_takes_layers_by_depth_and_names_them_by_number():
    table, maps, questions, answers = gallery(("a", "deep"), depths={"deep": 32})
    figure = plots.cam_gallery(table, maps, questions, answers, depths=(0, 0.5, 1))
    texts = [axes.get_title("center") for axes in figure.axes if axes.images]
    named = [text for text in texts if text]
    assert named[:6] == ["layer 0", "layer 6", "layer 11", "layer 0", "layer 16", "layer 31"]
    grid = [text.get_text() for text in figure.axes[-1].texts]
    assert grid.count("zero") == 2
    assert len([text for text in grid if text]) == 12 + 32  # deeper ones blank


def test_gallery_without_boxes_says_nothing_was_measured():
    table, *rest = gallery(("a", "b"))
    figure = plots.cam_gallery(table.assign(value=np.nan, n=0), *rest)
    grid = [text.get_text() for text in figure.axes[-1].texts]
    assert grid.count("–") == 2 * LAYERS
    assert "zero" not in grid


def test_gallery_refuses_a_model_with_a_map_missing():
    table, maps, questions, answers = gallery(("a", "b"))
    with pytest.raises(ValueError, match=r"3 questions, and .* 'b': .2, 3"):
        plots.cam_gallery(table, maps | {"b": maps["b"][:2]}, questions, answers)


def test_sites_print_zero_for_zero_maps_only():
    texts = [text.get_text() for text in drawn("cam_sites").axes[-1].texts]
    assert texts.count("zero") == 4
    assert len(texts) == len(SITES) * LAYERS
    rows = [label.get_text() for label in drawn("cam_sites").axes[-1].get_yticklabels()]
    assert rows[-1] == "authors' indexing"


def test_sites_without_boxes_keep_zero_apart_from_nothing_measured():
    table = site_table()
    table.loc[table["measure"] == "lift", "value"] = np.nan
    figure = plots.cam_sites(table, {"input_norm": fake_maps(zero=())}, TITLES[0])
    texts = [text.get_text() for text in figure.axes[-1].texts]
    assert texts.count("zero") == 4
    assert texts.count("–") == len(SITES) * LAYERS - 4


def test_curves_draw_never_apart_with_the_baseline_and_the_cliff():
    table, cliffs = curves()
    axes = plots.truncation_curves(table, cliffs).axes[1]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "2", "4", "6", "8", "10", "never"]
    curve = next(line for line in axes.lines if line.get_marker() == "o")
    assert list(curve.get_xdata()) == list(range(LAYERS))
    whole = table.query("metric == 'TextVQA Acc' and layer == 12")["value"].item()
    diamond = next(line for line in axes.lines if line.get_marker() == "D")
    assert diamond.get_ydata()[0] == pytest.approx(100 * whole)
    assert diamond.get_xdata()[0] > LAYERS
    assert "cliff 3 [2, 5]" in [text.get_text() for text in axes.texts]
    assert next(t for t in axes.texts if isinstance(t, Annotation)).xy[0] == 3


def test_a_cliff_at_the_untouched_model_reads_never():
    table, cliffs = curves(("a", "b"))
    axes = plots.truncation_curves(table, cliffs).axes[5]  # third metric, second model
    assert "cliff never [11, never]" in [text.get_text() for text in axes.texts]


def test_cliffs_say_at_which_margin_on_how_many_pictures_and_what_these_resolve():
    figure = drawn("truncation_curves")
    assert [axes.get_title("right").split(",")[0] for axes in figure.axes] == [
        "n = 400 (300)", "n = 400 (301)", "n = 400 (302)", "n = 400 (303)"
    ]  # fmt: skip
    said = " ".join(words(figure).split())
    assert "stays within 5 points of it" in said
    assert "would certify 1.2 points (POPE Acc), 2.2 points (TextVQA Acc)" in said
    table, cliffs = curves()
    one = plots.truncation_curves(table, cliffs.assign(resolves=0.0713, units=400, margin=0.01))
    said = " ".join(words(one).split())
    assert "stays within 1 point of it" in said
    assert "would certify 7.1 points." in said
    assert one.axes[0].get_title("right") == "n = 400"
    said = " ".join(words(drawn("generalisation")).split())
    assert "at a margin of 5 points" in said
    assert "would certify 7.1 points" in said


def test_chair_says_that_lower_is_better():
    axes = drawn("truncation_curves").axes
    assert ["lower is better" in a.get_title("right") for a in axes] == [False, False, False, True]
    axes = drawn("truncation_curves_three").axes
    assert ["lower is better" in a.get_ylabel() for a in axes] == [False] * 9 + [True, False, False]


def test_several_models_stand_abreast_on_one_scale_each_with_its_own_layers():
    table, cliffs = curves(("a", "b"))
    cut = table[(table["model"] == "a") | (table["layer"] <= 8)]
    cliffs.loc[cliffs["model"] == "b", ["layer", "low", "high", "n_layers"]] = [8, 7, 8, 8]
    figure = plots.truncation_curves(cut, cliffs)
    axes = figure.axes
    assert len(axes) == 8
    assert [len(one.lines[0].get_xdata()) for one in axes[:2]] == [12, 8]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [one.get_xticklabels()[-1].get_text() for one in axes[:2]] == ["never", "never"]
    assert "cliff never [7, never]" in [text.get_text() for text in axes[1].texts]
    names = {text.get_text(): text.get_position()[0] for text in figure.texts}
    assert [names["a"], names["b"]] == pytest.approx([one.get_position().x0 for one in axes[:2]])


def test_more_models_than_fit_abreast_are_refused():
    with pytest.raises(ValueError, match="given 5 models; 4 fit abreast"):
        plots.truncation_curves(*curves("abcde"))


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (0, 12), (5, 6), (11, 12), (12, 12), (2, 11), (0, 3)]
)
def test_the_cliffs_name_stays_in_its_panel_and_off_the_arrow(low, high, monkeypatch):
    table, cliffs = curves(("a", "b", "c"))
    cliffs[["layer", "low", "high"]] = [[(low + high) // 2, low, high]] * len(cliffs)
    figure = plots.truncation_curves(table, cliffs)
    figure.canvas.draw()
    for axes in figure.axes:
        [name] = [text for text in axes.texts if text.get_text().startswith("cliff")]
        box, frame = name.get_window_extent(), axes.get_window_extent()
        assert box.x0 >= frame.x0 - 2
        assert box.x1 <= figure.bbox.x1
        heights = next(line for line in axes.lines if line.get_marker() == "|").get_ydata()
        bar = frame.y0 + heights[0] * frame.height  # where the arrow starts
        assert box.y0 >= bar


def test_nothing_stands_below_what_was_measured():
    table, cliffs = curves()
    for axes, (_, rows) in zip(
        plots.truncation_curves(table, cliffs).axes,
        table.groupby("metric", sort=False),
        strict=True,
    ):
        low, high = 100 * rows["low"].min(), 100 * rows["high"].max()
        assert low - 0.1 * (high - low) < axes.get_ylim()[0] < low
        assert axes.spines["left"].get_bounds()[1] <= 100


def test_diagram_hatches_exactly_the_columns_that_nothing_reads():
    figure = drawn("truncation_diagram")
    hatched = [p for p in figure.axes[2].patches if p.get_hatch()]
    places = {(p.get_x(), p.get_width(), p.get_y(), p.get_height()) for p in hatched}
    assert places == {(19.5, 64, 83.5, 10), (19.5, 64, 93.5, 3)}  # before user, before answer
    assert not [p for p in figure.axes[1].patches if p.get_hatch()]
    open_again = plots.truncation_diagram(
        shares(), attention(), attention(), PARTS, layer=8, model="tiny"
    )
    assert not [p for p in open_again.axes[2].patches if p.get_hatch()]


@pytest.mark.parametrize("name", ["truncation_diagram", "attention_shares"])
def test_matrices_have_the_scale_of_their_colours_beside_them(name):
    bars = [axes for axes in drawn(name).axes if axes.get_title("center") == "weight"]
    assert len(bars) == 1
    assert bars[0].get_ylim() == pytest.approx((1e-4, 1.0))


def test_diagram_refuses_a_layer_without_a_layer_before():
    with pytest.raises(ValueError, match=r"layer 0 of 12.*1\.\.11"):
        plots.truncation_diagram(shares(), attention(), attention(), PARTS, layer=0, model="tiny")


def test_cards_show_answers_marks_and_missing_pictures():
    text = words(drawn("no_picture_needed"))
    assert text.count("A ✓") == 8
    assert text.count("B ✗") == 4
    assert text.count("no picture") == 1


def test_table_prints_ours_and_below_it_the_published_row():
    figure = drawn("generalisation")
    texts = {text.get_text(): text for text in figure.findobj(Text)}
    words = "\n".join(texts)
    for model, name in STANDS_FOR.items():
        ours_at = texts[model.replace("mini-instructblip", "mini-\ninstructblip")].get_position()
        assert ours_at[1] > texts[f"{name}, paper"].get_position()[1]
    assert "97.8 →" in words
    assert "13.80 →" in words
    assert "94.58" in words
    assert "cliff 6 [5, 11]\nall: 95.1 → 95.2" in words
    assert "cliff 4 [3, 6]" in words
    assert "cliff – [–, –]\nL = 11" in words


def test_table_counts_questions_once_a_column():
    texts = [text.get_text() for text in drawn("generalisation").findobj(Text)]
    heads = [text.splitlines() for text in texts if "n = " in text and "L:" not in text]
    assert heads == [
        ["n = 500 (350)"], ["n = 500 (350)"],
        ["with a picture", "n = 500 (350)", "all: n = 550 (400)"], ["n = 500 (350)"],
        ["lower is better", "n = 500 (350)"], ["lower is better", "n = 500 (350)"],
    ]  # fmt: skip


def test_table_keeps_what_it_says_within_its_column(monkeypatch):
    table = ours().assign(baseline=1.0, at_cliff=1.0)
    figure = plots.generalisation(table, published())
    wide = figure.bbox.width * (page.PAGE - 1.0) / page.PAGE / 6
    for text, box in drawn_texts(figure, monkeypatch):
        if text.startswith(("cliff", "all", "n =", "with", "lower", "better", "worse")):
            assert box.width < wide


def test_table_shortens_a_hub_id_to_fit_its_column(monkeypatch):
    one = ours().query("model == 'mini-llava'")
    named = one.replace("mini-llava", "llava-hf/llava-v1.6-vicuna-7b-hf")
    figure = plots.generalisation(named, published())
    texts = dict(drawn_texts(figure, monkeypatch))
    name = next(text for text in texts if "vicuna" in text)
    assert name.replace("\n", "") == "llava-v1.6-vicuna-7b-hf"
    assert texts[name].x1 < texts["97.8 →"].x0


def test_table_says_which_questions_science_counts_and_which_cells_nobody_published():
    texts = [text.get_text() for text in drawn("generalisation").findobj(Text)]
    assert sum("with a picture" in text for text in texts) == 1
    assert sum("lower is better" in text for text in texts) == 2
    # the paper's six columns hold 24 figures in five rows; of LLaVA-1.6 it has none, said once
    assert texts.count("not published") == 30 - 24 + 1


def test_table_says_in_words_which_changes_are_certain():
    texts = drawn("generalisation").findobj(Text)
    colours = {text.get_text(): to_hex(text.get_color()).upper() for text in texts}
    assert colours["97.5"] == "#000000"
    assert colours["99.9"] == colours["better"] == style.BLUE
    assert colours["90.0"] == colours["worse"] == style.VERMILLION
    assert colours["3.0"] == style.VERMILLION  # more hallucination
    assert colours["85.51"] == "#000000"  # the paper gives no interval
    said = [text.get_text() for text in texts]
    assert said.count("better") == len(STANDS_FOR)
    assert said.count("worse") == 2 * len(STANDS_FOR)


def test_latex_holds_every_model_and_what_is_published_of_it():
    text = plots.latex(ours(), published())
    assert text.count("$\\to$") == 6 * 6 + 24 + 1  # and one in the caption
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(rule) == 1
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert len(body) == 12
    assert {line.count("&") for line in body} == {6}
    assert all(line.endswith("\\\\") for line in body)
    assert body[0].startswith("mini-llava & 97.8 $\\to$ 97.5 (6) &")
    assert "100.0 $\\to$ 90.0 (never)" in body[0]
    assert body[1].startswith("LLaVA-1.5, published & 84.70 $\\to$ 85.51 &")
    assert body[3].count("not published") == 6
    assert "questions with a picture" in text


def test_latex_escapes_what_latex_would_read():
    text = plots.latex(ours().replace("mini-llava", "my_folder & co"), published())
    assert "my\\_folder \\& co &" in text


def test_paper_table_is_complete():
    table = published()
    assert table["model"].nunique() == 5
    assert len(table) == 25
    assert table["baseline"].isna().sum() == 1


def test_explore_marks_its_layer_and_refuses_others():
    figure = drawn("explore_view")
    bars = figure.axes[2].patches
    strong = {round(bar.get_x() + bar.get_width() / 2) for bar in bars if bar.get_alpha() == 1.0}
    assert strong == {4}
    with pytest.raises(ValueError, match=r"layer 12; the maps have 0\.\.11"):
        plots.explore_view(flow_table(), fake_maps(), "", layer=12)


@pytest.mark.parametrize(
    "plot",
    [lambda t: plots.information_flow(t, model="m"),
     lambda t: plots.attention_shares(t, {}, PARTS, model="m"),
     lambda t: plots.truncation_curves(t, t)],
)  # fmt: skip
def test_a_table_without_its_columns_or_rows_is_refused(plot):
    with pytest.raises(ValueError, match="needs the columns"):
        plot(pd.DataFrame({"layer": [0]}))


@pytest.mark.parametrize("places", [[0.5, 0.5, 0.5], [0.0, 0.02, 1.0], [0.99, 1.0, 0.98, 0.1]])
def test_spread_keeps_order_gap_and_limits(places):
    moved = style.spread(places, 0.1, 0.0, 1.0)
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) >= 0.1 - 1e-9).all()
    assert moved.min() >= -1e-9
    assert moved.max() <= 1 + 1e-9


def test_spread_leaves_places_that_are_far_enough_apart():
    assert style.spread([0.1, 0.9, 0.5], 0.1, 0, 1).tolist() == [0.1, 0.9, 0.5]


# what people typed

TYPED = {
    "mathematics": r"Is it $5 or $6? \frac{ \alpha x_1^2 $\bad{$ 100 % # & ~",
    "lines": "first line\nsecond\r\n\n  third\ta tab\x00\x1b[0m",
    "a very long word": "Donau" * 60,
    "hyphens": "very-long-folder_name-" * 12 + "weights",
    "many words": "which of the many things in this picture is it that we asked about? " * 12,
    "nothing": "",
    "blanks": " \n ",
    "wide letters": "WWWW MMMM @@@@ " * 12,
    "other scripts": "\u0427\u0442\u043e? \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d e\u0301",
    "letters the font lacks": "\u56fe\u4e2d\uff1f \U0001f34e \ud55c\uad6d \u0928\u092e \ue000",
}  # fmt: skip
ALIKE = ("hyphens", "blanks", "wide letters", "other scripts")
"""Where figures do nothing that they do not do for the rest."""


def typed(text):
    """Every figure that shows what people typed, with `text` for each question, answer and name."""
    maps = [fake_maps(i, 4) for i in range(2)]
    for one in maps:
        one.model = text
    table, several, _, _ = gallery(("a", "b"), n=2, layers=4)
    named = {f"org/{text}": several["a"], "b": several["b"]}
    table = table.replace({"model": {"a": f"org/{text}"}})
    bars, _, pictures = cards()
    card = {"question": text, "never seen": (text, True), "always seen": (text, False)}
    curve = [part.replace({"model": {"a": text}}) for part in curves(("a", "b"))]
    lone = [part.replace({"model": {"mini-llava": text}}) for part in curves()]
    return {
        "flow": plots.information_flow(depths(4), model=text),
        "shares": plots.attention_shares(
            shares(4), {"layer 0": attention()}, PARTS, model=text, question=text
        ),
        "layers": plots.cam_layers(cam_table(layers=4), maps, [text] * 2),
        "sites": plots.cam_sites(site_table(4), {"mlp": maps[0]}, text),
        "gallery": plots.cam_gallery(table, named, [text] * 2, dict.fromkeys(named, [text] * 2)),
        "curves": plots.truncation_curves(*curve),
        "lone": plots.truncation_curves(*lone),
        "diagram": plots.truncation_diagram(
            shares(4), attention(), attention(hidden=True), PARTS, layer=2, model=text,
            question=text,
        ),
        "cards": plots.no_picture_needed(
            bars.replace({"kind": {"objects": text}}), pd.DataFrame([card] * 3), pictures[:3],
            model=text,
        ),
        "table": plots.generalisation(ours().replace({"model": {"mini-llava": text}}), published()),
        "explore": plots.explore_view(flow_table(layers=4), maps[0], text, layer=1),
    }  # fmt: skip


@pytest.mark.filterwarnings("error")  # a letter without a glyph is a warning and an empty box
@pytest.mark.parametrize("kind", [kind for kind in TYPED if kind not in ALIKE])
def test_what_a_person_typed_is_drawn_whole_and_as_it_is(kind, monkeypatch):
    text = TYPED[kind]
    shown = "".join(lettering.plain(text).split())
    for name, figure in typed(text).items():
        texts = drawn_texts(figure, monkeypatch)
        assert any(shown in "".join(one.split()) for one, _ in texts), name
        assert_apart(texts, figure.bbox)
    figure.savefig(BytesIO(), format="pdf")


def test_text_of_drawable_letters_stays_letter_for_letter():
    for text in (r"$x_1^2$ \frac{a}{b} 5 % #1 {~}", "Gr\u00f6\u00dfe 1\u00bd \u20ac \u2713 \u2192"):
        assert lettering.plain(text) == text
        assert lettering.wrap(text, 9, 7) == text


def test_letters_that_the_font_lacks_are_named():
    for text, want in {
        "\u56fe\u4e2d": "[CJK \u00d7 2]",
        "a \U0001f34e b": "a [red apple] b",
        "\ud55c \ud55c\uad6d": "[Hangul] [Hangul \u00d7 2]",
        "\uff21\uff11\uff1f": "A1?",  # full width: the plain form is there
        "\ue000": "[U+E000]",
        "\ud800": "[U+D800]",
        "a\u200bb\ufe0f": "ab",
        "": "\u2013",
    }.items():
        assert lettering.plain(text) == want


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize("wide", [0.3, 1.0, 5.5])
def test_wrapped_lines_keep_every_letter_and_fit(kind, wide):
    text = lettering.plain(TYPED[kind])
    lines = lettering.wrap(text, wide, 7).split("\n")
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(lettering.width(line, 7) for line in lines) <= wide
    assert all(lines)


def test_figures_read_no_mathematics_whatever_the_readers_settings():
    with matplotlib.rc_context({"text.parse_math": True}):
        figure = plots.information_flow(depths(), model="$x$")
    named = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert [text.get_parse_math() for text in named] == [False]


# colours


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_bars_side_by_side_differ_in_lightness_so_that_every_eye_can_tell_them():
    bars = [luminance(colour) for colour in BARS]
    ratios = [(a + 0.05) / (b + 0.05) for a, b in pairwise(bars)]
    assert min(ratios) > 1.6


def test_many_kinds_of_question_stand_beside_each_other(monkeypatch):
    bars, told, pictures = cards()
    one = bars[bars["kind"] == "objects"]
    many = pd.concat([one.assign(kind=f"kind of question {i}") for i in range(20)])
    figure = plots.no_picture_needed(many, told, pictures, model="tiny")
    assert_apart(drawn_texts(figure, monkeypatch), figure.bbox)


def test_knockout_draws_each_edge_its_own_colour_and_every_number_at_its_layer():
    cut, shares, ways, cliffs = cuts()
    chosen = (cut["edge"] == "image>answer") & (cut["layer"] == 3) & (cut["task"] == "textvqa")
    cut.loc[chosen & (cut["measure"] == "changed") & (cut["span"] == "from"), "value"] = 0.11
    figure = plots.knockout_curves(cut, shares, ways, cliffs, model="tiny", window=3)
    axes = figure.axes[5]  # five panels a task
    lines = {line.get_color(): line for line in axes.lines if len(line.get_xdata()) == LAYERS}
    assert lines[style.VERMILLION].get_ydata()[3] == pytest.approx(11)
    assert lines[style.BLUE].get_ydata()[3] == pytest.approx(90 * np.exp(-3 / 5))
    assert len(lines) == 4
    with pytest.raises(ValueError, match="needs the columns"):
        plots.knockout_curves(cut.drop(columns="edge"), shares, ways, cliffs, model="m", window=3)
