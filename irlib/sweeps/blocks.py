"""What one block of rows answers at every layer, computed here or on a worker that loads the model.

Weights never travel: a worker is told where the model is and what it must find there.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from irlib.interventions.staircase import answers_by_layer
from irlib.interventions.ways import answers_by_way
from irlib.models.loading import load
from irlib.sweeps.answers import Told
from irlib.sweeps.describing import WAYS, compare, describe
from irlib.tasks.samples import Sample

# state of a worker process: it lives long and is given many blocks of the same model, but has room
# for one; the hooks of a run live on that model, so threads take turns
_held: dict["Source", tuple] = {}
_turn = threading.Lock()


@dataclass(frozen=True)
class Source:
    """Where a worker finds a model and how it loads it: a folder or hub id, its commit, its dtype,
    in how few bits, and whether it is spread over the worker's devices."""

    name: str
    revision: str | None
    dtype: str
    quantization: str | None = None
    device_map: str | None = None

    @classmethod
    def of(cls, vlm) -> "Source":
        """Where `vlm` came from; raises `ValueError` for a model made in memory."""
        name = vlm.model.name_or_path
        commit = getattr(vlm.model.config, "_commit_hash", None)
        local = bool(name) and Path(name).is_dir()
        if not local and not (name and commit):
            raise ValueError(
                f"asked to have {vlm.name} answer on other workers, found a model made in memory, "
                "which they cannot load; save it to a folder that they see and load it from there, "
                "or give no executor"
            )
        place = str(Path(name).resolve()) if local else name
        spread = len(set(getattr(vlm.model, "hf_device_map", {}).values())) > 1
        dtype = str(vlm.dtype).removeprefix("torch.")
        return cls(
            place, None if local else commit, dtype, vlm.quantization, "auto" if spread else None
        )


class Said(NamedTuple):
    """What one row said by layer, or why nothing."""

    told: dict[int, Told]
    failure: str = ""


def answer(
    vlm, samples: Sequence[Sample], wanted: Sequence[Sequence[int]], **options
) -> list[Said]:
    """What each sample answers with its picture hidden from each of the layers `wanted[sample]`.

    Samples that want the same layers are one batch; `options` are those of `answers_by_layer`, and
    `picture` the one of several that is looked at.
    Where a batch cannot be had (a broken picture, numbers that are not finite, no memory) its rows
    are tried one at a time, so that one row's fault is no other's.

    >>> vlm = load("mini-llava")
    >>> sample = Sample(task="t", key="k", question="Is there a cat?", prompt="Is there a cat?",
    ...                 image="nowhere.png", reference={})
    >>> answer(vlm, [sample], [[0]])[0].failure
    "FileNotFoundError: task 't', row 'k': asked for the picture 'nowhere.png', found no such...
    """
    if (code := options.pop("code", WAYS)) != WAYS:
        compare({"ways": WAYS}, {"ways": code}, ["ways"])
    picture = options.pop("picture", None)
    groups: dict[tuple, list[int]] = {}
    for place, layers in enumerate(wanted):
        groups.setdefault(tuple(layers), []).append(place)
    said = {}
    for layers, places in groups.items():
        found = _ask(vlm, [samples[place] for place in places], layers, options, picture)
        said |= dict(zip(places, found, strict=True))
    return [said[place] for place in range(len(samples))]


def look(source: Source) -> dict[str, object]:
    """`describe` of the model as a worker has it."""
    with _turn:
        return _open(source)[1]


def answer_there(
    source: Source, expected: Mapping, samples: Sequence[Sample], wanted: Sequence, options: Mapping
) -> list[Said]:
    """`answer` on a worker; raises `ValueError` where it is not as `expected`, a `describe`."""
    with _turn:
        vlm, told = _open(source)
        compare(told, expected, tuple(expected))
        return answer(vlm, samples, wanted, **options)


def _open(source):
    """The model of a source and its `describe`; loaded once, in the place of the one before."""
    if source not in _held:
        _held.clear()  # before loading: there may be no room for two
        vlm = load(**vars(source))
        _held[source] = vlm, describe(vlm)
    return _held[source]


def _ask(vlm, samples, layers, options, picture=None) -> list[Said]:
    try:
        inputs = vlm.prepare(samples)
        inputs = inputs if picture is None else inputs.picture(picture)
        ask = answers_by_way if "how" in options else answers_by_layer
        said = ask(vlm, inputs, layers=layers, **options)
        return [
            Said({layer: _told(said[layer], row) for layer in layers}) for row in range(len(inputs))
        ]
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        short = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if isinstance(error, RuntimeError) and not short:  # a broken device, say: no row's fault
            raise
        failure = f"{type(error).__name__}: {error}"
    if len(samples) == 1:
        return [Said({}, failure)]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [said for one in samples for said in _ask(vlm, [one], layers, options, picture)]


def _told(said, row) -> Told:
    found = (said.texts, said.margins, said.kl, said.logprob)
    return Told(*(one[row] for one in found if one))
