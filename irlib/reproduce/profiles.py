"""A profile: its notebooks, and parameters of all and of single ones: profiles/<profile>.yaml."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from irlib import store
from irlib.reproduce.parameters import declared


def settings_of(
    profile: str, folder: Path, known: Sequence[str]
) -> tuple[dict, dict, Sequence[str]]:
    """Return a profile's common parameters, those of single notebooks, and which ones it draws.

    These are the stems in its list `figures`, or none where it draws all that there are. Raises
    ValueError for a profile that is not there, does not read, or names what no notebook has.
    """
    if profile == "mini":
        return {}, {}, ()
    path = store.inside(folder / "profiles", profile).with_name(f"{profile}.yaml")
    if not path.is_file():
        there = ["mini", *sorted(file.stem for file in path.parent.glob("*.yaml"))]
        raise ValueError(
            f"reproduce was asked for profile {profile!r}; there are {', '.join(there)}; take one."
        )
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _malformed(path, " ".join(str(error).split())) from error
    if not isinstance(told, dict) or not told:
        raise _malformed(path, f"it holds {'nothing' if not told else type(told).__name__}")
    only = told.pop("figures", [])
    if not (isinstance(only, list) and all(isinstance(stem, str) for stem in only)):
        raise _malformed(path, f"figures holds {only!r}", "a list of notebooks")
    for name, values in told.items():
        if not isinstance(values, dict | None):
            raise _malformed(path, f"{name} holds {values!r}")
    told = {name: values or {} for name, values in told.items()}
    common = {"profile": profile} | told.pop("all", {})
    if unknown := [str(stem) for stem in (*only, *told) if stem not in known]:
        raise ValueError(
            f"profile {profile!r} names {', '.join(unknown)}; there is no such notebook; correct "
            f"{path.name}."
        )
    everywhere = {name for stem in known for name in declared(folder / f"{stem}.ipynb")}
    if strange := [str(name) for name in common if name not in {*everywhere, "profile"}]:
        raise ValueError(
            f"profile {profile!r} sets {', '.join(strange)} in all; no notebook has such a "
            f"parameter; correct {path.name}."
        )
    if common["profile"] == "mini":
        raise _malformed(path, "its figures would take the place of the miniature's")
    return common, told, only


HOW = "`all:` or the name of a notebook, and below it a line `parameter: value` each"


def _malformed(path: Path, found: str, how: str = HOW) -> ValueError:
    return ValueError(f"the profile {path.name} was to be read; {found}; write {how}.")
