"""What is to be run: notebooks and their parameters, checked by name and kind beforehand."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from irlib import store
from irlib.reproduce.runner import Job, declared, typed
from irlib.tasks.protocols import TASKS

OUTPUTS = ("png", "pdf", "csv", "json")
NO_FIGURE = ("explore",)  # notebooks that save nothing
COUNTS = ("n", "captions", "held", "held_captions", "shown", "copies")  # parameters that count


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
) -> list[Job]:
    """Return the jobs for the stems (all figures where none is named), every parameter checked.

    "mini" is the notebooks' own defaults; another profile is notebooks/profiles/<profile>.yaml.
    `settings` (text is read as the declared kind) must be known to every notebook named. Raises
    ValueError for an unknown stem, profile or parameter, and for a value of the wrong kind.
    """
    folder = notebooks or store.root() / "notebooks"
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if not known:
        raise ValueError(f"notebooks were to be run; {folder} holds none; run in a full checkout.")
    if unknown := [stem for stem in wanted if stem not in known]:
        raise ValueError(
            f"reproduce was asked for {', '.join(unknown)}; there are {', '.join(known)}; name one "
            "of these, or none for all figures."
        )
    common, special = _profile(profile, folder, known)
    jobs = []
    for stem in wanted or [stem for stem in known if stem not in NO_FIGURE]:
        parameters = declared(folder / f"{stem}.ipynb")
        named = {**special.get(stem, {}), **(settings or {})}
        if unknown := [name for name in named if name not in parameters]:
            raise ValueError(
                f"{stem} was to be run with {', '.join(unknown)}; its parameters are "
                f"{', '.join(parameters)}; set one of these."
            )
        chosen = {name: value for name, value in common.items() if name in parameters} | named
        values = {name: typed(value, parameters[name][0], name) for name, value in chosen.items()}
        places = [name for name in ("model", "models", "source") if name in values]
        values |= {name: _absolute(values[name]) for name in places}
        full = {name: default for name, (_, default) in parameters.items()} | values
        _check(stem, full)
        place = store.figures(str(full.get("profile", profile))).absolute()
        made = () if stem in NO_FIGURE else tuple(place / f"{stem}.{kind}" for kind in OUTPUTS)
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


def _profile(profile: str, folder: Path, known: Sequence[str]) -> tuple[dict, dict]:
    """Return a profile's common parameters and those of single notebooks."""
    if profile == "mini":
        return {}, {}
    path = folder / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        there = ["mini", *sorted(file.stem for file in path.parent.glob("*.yaml"))]
        raise ValueError(
            f"reproduce was asked for profile {profile!r}; there are {', '.join(there)}; take one."
        )
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    common = told.pop("all", {})
    if unknown := [stem for stem in told if stem not in known]:
        raise ValueError(
            f"profile {profile!r} names {', '.join(unknown)}; there is no such notebook; correct "
            f"{path.name}."
        )
    return common, told


def _check(stem: str, parameters: Mapping[str, object]) -> None:
    """Raise ValueError for a count below one, models that are nowhere, and lists that differ."""
    for name in COUNTS:
        if name in parameters and parameters[name] < 1:
            raise ValueError(
                f"{stem} was to be run with {name}={parameters[name]}; there is nothing to draw "
                f"then; set {name} to 1 or more."
            )
    models, published = _models(parameters), parameters.get("published")
    if "models" in parameters and not models:
        raise ValueError(
            f"{stem} was to be run with no model at all; there is nothing to measure then; "
            "name at least one."
        )
    names = [Path(model).name if Path(model).is_dir() else model for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{stem} was to be run with several models named {', '.join(twice)}; their rows could "
            "not be told apart; rename the folders, or name each model once."
        )
    if published is not None and len(published) != len(models):
        raise ValueError(
            f"{stem} was to be run with {len(models)} models; found {len(published)} rows of the "
            "paper in 'published'; name the row of each model, in their order."
        )
    for model in models:
        if not (Path(model).is_dir() or _bundled(model) or re.fullmatch(r"[\w.-]+/[\w.-]+", model)):
            bundled = sorted(path.name for path in (store.root() / "data/minis").iterdir())
            raise ValueError(
                f"{stem} was to be run with the model {model!r}; there is no such folder, and it "
                f"is no owner/name of the hub; make the folder, or take one of {bundled}."
            )


def _models(parameters: Mapping[str, object]) -> list[str]:
    """Return the models that a notebook is to load."""
    single = [parameters["model"]] if "model" in parameters else []
    return [*single, *parameters.get("models", ())]


def _absolute(value: str | list[str]) -> str | list[str]:
    """Return a local folder by its full path (a notebook runs in its own), another value as is."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    local = value not in ("hub", "bundled") and Path(value).is_dir()
    return str(Path(value).resolve()) if local and not _bundled(value) else value


def _bundled(model: str) -> bool:
    return (store.root() / "data/minis" / model).is_dir()


def _on_hub(parameters: Mapping[str, object]) -> tuple[str, ...]:
    """Return what these parameters fetch from the hub, as kind:repository."""
    source = str(parameters.get("source", ""))
    remote = [name for name in _models(parameters) if "/" in name and not Path(name).is_dir()]
    names = [f"model:{name}" for name in remote]
    if source.partition(":")[0] == "hub":
        names.append(f"dataset:{source.partition(':')[2] or TASKS['pope'].hub}")
    return tuple(names)
