"""What is to be run: notebooks and their parameters, checked by name and kind beforehand."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from irlib import doors, store
from irlib.reproduce import parameters
from irlib.reproduce.parameters import declared, typed
from irlib.reproduce.profiles import settings_of
from irlib.reproduce.runner import Job
from irlib.tasks.protocols import BUNDLES, TASKS

OUTPUTS = ("png", "csv", "json")
HUB = r"\w[\w.-]*/\w[\w.-]*"  # an id there: owner/name
NO_FIGURE = ("explore",)  # notebooks that save nothing
PLACES = ("model", "models", "beside", "source")  # parameters that may name a local folder


def stems(notebooks: Path | None = None) -> list[str]:
    """Return the stems of all figures and tables, in order.

    >>> "fig5_truncation" in stems()
    True
    """
    folder = notebooks or store.root() / "notebooks"
    return sorted(path.stem for path in folder.glob("*.ipynb") if path.stem not in NO_FIGURE)


def plan(
    wanted: Sequence[str] = (),
    *,
    profile: str = "mini",
    settings: Mapping[str, object] | None = None,
    notebooks: Path | None = None,
    out: str | Path | None = None,
    pdf: bool = False,
) -> list[Job]:
    """Return the jobs for the stems (the profile's where none is named), every parameter checked.

    A stem is known by its beginning: "fig3". "mini" is the notebooks' own defaults; another profile
    is notebooks/profiles/<profile>.yaml. `settings` (text is read as the declared kind) must be
    known to every notebook named, and make it a trial: its figures go to figures/trials, or to the
    folder `out`. Raises ValueError for an unknown stem, profile or parameter, for a value of the
    wrong kind or out of its range, and for a profile that does not read.
    """
    folder = notebooks or store.root() / "notebooks"
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if not known:
        raise ValueError(f"notebooks were to be run; {folder} holds none; run in a full checkout.")
    named = list(dict.fromkeys(_stem(start, known) for start in wanted))
    common, special, drawn = settings_of(profile, folder, known)
    jobs = []
    for stem in named or drawn or [stem for stem in known if stem not in NO_FIGURE]:
        told = declared(folder / f"{stem}.ipynb")
        mine = {**special.get(stem, {}), **(settings or {})}
        if unknown := [name for name in mine if name not in told]:
            raise ValueError(
                f"{stem} was to be run with {', '.join(map(str, unknown))}; its parameters are "
                f"{', '.join(told)}; set one of these."
            )
        chosen = {name: value for name, value in common.items() if name in told} | mine
        values = {name: typed(value, told[name][0], name) for name, value in chosen.items()}
        places = [name for name in PLACES if name in values]
        values |= {name: _absolute(values[name]) for name in places}
        full = {name: default for name, (_, default) in told.items()} | values
        _check(stem, full, told)
        place = store.figures("trials" if settings else str(full.get("profile", profile)))
        place = (doors.path("out", out) if out else place).absolute()
        kinds = (*OUTPUTS, *["pdf"] * pdf)
        made = () if stem in NO_FIGURE else tuple(place / f"{stem}.{kind}" for kind in kinds)
        jobs.append(
            Job(
                notebook=folder.absolute() / f"{stem}.ipynb",
                copy=place / "notebooks" / f"{stem}.ipynb",
                parameters=values,
                outputs=made,
                hub=_on_hub(full),
                models=len(_models(full)),
            )
        )
    return jobs


def _stem(start: str, known: Sequence[str]) -> str:
    """Return the stem that is named in full, by its first word, or else by its beginning."""
    for fits in (
        [stem for stem in known if stem == start],
        [stem for stem in known if stem.partition("_")[0] == start],
        [stem for stem in known if start and stem.startswith(start)],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise ValueError(
                f"reproduce was asked for {start}; that may be {', '.join(fits)}; name one of them."
            )
    raise ValueError(
        f"reproduce was asked for {start}; there are {', '.join(known)}; name one "
        "of these, or none for all figures."
    )


def _check(stem: str, values: Mapping[str, object], told: Mapping[str, tuple]) -> None:
    """Raise ValueError for values out of range, what is nowhere, and lists that do not fit."""
    models, published = _models(values), values.get("published")
    names = [Path(model).name if Path(model).is_dir() else model for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{stem} was to be run with several models named {', '.join(twice)}; their rows could "
            "not be told apart; rename the folders, or name each model once."
        )
    if "models" in values and not models:
        raise ValueError(
            f"{stem} was to be run with no model at all; there is nothing to measure then; "
            "name at least one."
        )
    if published is not None and len(published) != len(models):
        raise ValueError(
            f"{stem} was to be run with {len(models)} models; found {len(published)} rows of the "
            "paper in 'published'; name the row of each model, in their order."
        )
    rows = {*pd.read_csv(store.root() / "data/paper/table1.csv")["model"]} if published else set()
    rows |= {"", *told["published"][1]} if published else set()  # "": a model that it has not
    if strange := [name for name in published or () if name not in rows]:
        raise ValueError(
            f"{stem} was to be run beside the paper's {', '.join(strange)}; the paper has "
            f"{', '.join(sorted(rows - {''}))}; name one of these, or '' for a model without a row."
        )
    for model in models:
        if not (_weights(model) or _bundled(model) or re.fullmatch(HUB, model)):
            bundled = {path.name for path in (store.root() / "data/minis").iterdir()}
            bundled = sorted(bundled | store.bundles().keys())
            raise ValueError(
                f"{stem} was to be run with the model {model!r}; there is no such folder (with a "
                "config.json), and it is no owner/name of the hub; make the folder, or take one "
                f"of {bundled}."
            )
    source = values.get("source", "bundled")
    if not (
        source in BUNDLES or re.fullmatch(f"hub(:{HUB})?", source) or _local(source, file=True)
    ):
        raise ValueError(
            f"{stem} was to be run with the rows of {source!r}; there is no such folder or file; "
            "take bundled, hub, hub:OWNER/NAME, or a folder or table that is there."
        )
    store.figures(str(values.get("profile", "mini")))  # a plain name
    folders = [_bundled(model) or Path(model) for model in models]
    depths = [depth for folder in folders if (depth := parameters.depth(folder))]
    parameters.check(stem, values, layers=min(depths, default=None))


def _models(values: Mapping[str, object]) -> list[str]:
    """Return the models that a notebook is to load."""
    one = [values["model"]] if "model" in values else []
    more = (values.get(name, ()) for name in ("models", "controls", "beside"))
    return [*one, *chain.from_iterable(more)]


def _absolute(value: str | list[str]) -> str | list[str]:
    """Return a local folder by its full path (a notebook runs in its own), another value as is."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    keep = value in ("hub", *BUNDLES) or _bundled(value) or not _local(value, file=True)
    return value if keep else str(doors.path("a folder", value).resolve())


def _local(place: str, *, file: bool = False) -> bool:
    """Whether that is a folder here, or a `file` too: an empty text is not the current one."""
    if not place.strip():
        return False
    path = doors.path("a folder", place)
    return path.is_dir() or (file and path.is_file())


def _weights(model: str) -> bool:
    """Whether that is a folder of a model, or of what adapts one."""
    files = (Path(model) / name for name in ("config.json", "adapter_config.json"))
    return _local(model) and any(file.is_file() for file in files)


def _bundled(model: str) -> Path | None:
    """Return the folder with a bundled model's config, None where there is none of that name."""
    found = {
        path.parent.name: path.parent for path in store.root().glob("data/minis/*/config.json")
    }
    found |= {name: folder / "parts" for name, folder in store.bundles().items()}
    return found.get(model)


def _on_hub(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return what these parameters fetch from the hub, as kind:repository."""
    source = str(values.get("source", ""))
    remote = [name for name in _models(values) if "/" in name and not Path(name).is_dir()]
    names = [f"model:{name}" for name in remote]
    if source.partition(":")[0] == "hub":
        names.append(f"dataset:{source.partition(':')[2] or TASKS['pope'].hub}")
    return tuple(names)
