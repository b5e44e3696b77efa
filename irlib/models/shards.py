"""Weights in folders of safetensors, read and written a tensor at a time."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Planned:
    """A tensor that is made only when its shard is written."""

    shape: list[int]
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


class Weights:
    """The tensors of a folder of safetensors; `role` names it in errors.

    Raises `FileNotFoundError` for a folder without safetensors, or with an index and not all of its
    shards, and `ValueError` for a damaged file. Pickles (.bin) are not read.
    """

    def __init__(self, folder: Path, role: str):
        self.folder, self.role = Path(folder), role
        index = self.folder / INDEX
        files = {"model.safetensors"}
        if index.is_file():
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(file for file in files if not (self.folder / file).is_file()):
            pickles = len(list(self.folder.glob("*.bin")))
            raise FileNotFoundError(
                f"asked for the {role} in {self.folder}, found no {missing[0]} ({pickles} .bin "
                "files, which are not read); download its safetensors from the hub, or have "
                "https://huggingface.co/spaces/safetensors/convert make them there and download "
                "its pull request N with hf download --revision refs/pr/N"
            )
        try:
            opened = [safe_open(self.folder / file, "pt") for file in sorted(files)]
        except SafetensorError as error:
            raise ValueError(
                f"asked for the {role} in {self.folder}, found a damaged file ({error}); "
                "download it again"
            ) from error
        self.files = {key: file for file in opened for key in file.keys()}  # noqa: SIM118

    def shape(self, key: str) -> list[int]:
        """The shape of a tensor, `ValueError` where the folder does not hold it."""
        return self._header(key).get_shape()

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of a tensor, `ValueError` where it is no floating point number."""
        told = self._header(key).get_dtype()
        if told not in DTYPES:
            raise ValueError(
                f"asked for {key} of the {self.role}, found it as {told}; "
                f"take a folder that is not quantised ({sorted(DTYPES)})"
            )
        return DTYPES[told]

    def read(self, key: str) -> torch.Tensor:
        """The tensor itself."""
        return self.files[key].get_tensor(key)

    def plan(self, key: str, shape: list[int]) -> Planned:
        """The tensor, to be copied as it is; `ValueError` where it has another shape."""
        if self.shape(key) != shape:
            raise ValueError(
                f"asked for {key} of the {self.role} as {shape}, found {self.shape(key)} in "
                f"{self.folder}; take folders that belong together"
            )
        return Planned(shape, self.dtype(key), lambda: self.read(key))

    def _header(self, key):
        if key not in self.files:
            raise ValueError(
                f"asked for {key} of the {self.role}, found {len(self.files)} other tensors in "
                f"{self.folder}; download it again, or the right one"
            )
        return self.files[key].get_slice(key)


def taken(files: Iterable[Path], dtype: torch.dtype | str) -> int:
    """Bytes that the tensors of these safetensors files take as `dtype`, "auto" for their own.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"a": torch.zeros(2, 3)}, Path(folder) / "a.safetensors")
    ...     taken([Path(folder) / "a.safetensors"], torch.float64)
    48
    """
    if dtype == "auto":
        return sum(path.stat().st_size for path in files)
    total = 0
    for path in files:
        with safe_open(path, "pt") as weights:
            shapes = (weights.get_slice(key).get_shape() for key in weights.keys())  # noqa: SIM118
            total += sum(map(prod, shapes)) * dtype.itemsize
    return total


def write_shards(folder: Path, plan: Mapping[str, Planned], *, limit: int) -> None:
    """Write the planned tensors as shards of at most `limit` bytes, then their index.

    Only one shard is in memory; a tensor above `limit` has a shard of its own.

    >>> import tempfile
    >>> plan = {key: Planned([2], torch.float32, lambda: torch.ones(2)) for key in "abc"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shards(Path(folder), plan, limit=16)
    ...     sorted(path.name for path in Path(folder).glob("*.safetensors"))
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    shards, room = [], 0
    for key, planned in plan.items():
        if planned.size > room or not shards:
            shards.append([])
            room = limit
        shards[-1].append(key)
        room -= planned.size
    places = {}
    with tqdm(total=len(plan), desc="tensors", disable=None) as bar:
        for number, keys in enumerate(shards, 1):
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
            tensors = {}
            for key in keys:
                tensors[key] = plan[key].make()
                places[key] = name
                bar.update()
            save_file(tensors, folder / name, metadata={"format": "pt"})
    total = sum(planned.size for planned in plan.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
