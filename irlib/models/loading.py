"""`load` a model by name; what differs between families is in families.py."""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path

import httpx2
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from transformers import GenerationConfig

from irlib import doors, store
from irlib.models import fetch
from irlib.models.adapters import adapter_of, apply
from irlib.models.folders import (
    check_code,
    check_numbers,
    check_readable,
    check_weights,
    names_hub,
    told,
    weights_of,
)
from irlib.models.memory import check_memory
from irlib.models.placement import keep_gradients, placement
from irlib.models.reading import family_of, read
from irlib.models.shards import taken
from irlib.models.vlm import VLM

log = logging.getLogger(__name__)


def load(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    device_map: str | Mapping | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: str | None = None,
    revision: str | None = None,
) -> VLM:
    """The model of that name: a bundled one, else a local folder, else a hub id.

    Of the bundled ones, smol-llava and its controls are put together first, by `irlib fetch`.

    `device` defaults to a GPU if there is one, `dtype` to the checkpoint's own. `device_map="auto"`
    spreads a model over all GPUs, and what they cannot hold over CPU and disk; "balanced",
    "sequential" and a dict `{module: device}` are transformers' too. `quantization` is "4bit" (nf4)
    or "8bit", packed by bitsandbytes as the weights are read. Only safetensors are read and no
    remote code is run. An adapter in the folder is applied, by peft, and named: `vlm.base` is what
    it was put into. Raises `ValueError` for a name that is none of the three, for a model that
    is no vision-language model of a known family and for a device or dtype that is not there,
    `OSError` where it cannot be read, `ImportError` for quantization without bitsandbytes,
    `MemoryError` where its weights are more than this machine's CPU has room for.

    Of a model of this project, trained here, the log `irlib.models.loading` says what it knows.

    >>> load("mini-llava").n_layers >= 12
    True
    """
    if not isinstance(name, str | Path) or not str(name):
        raise ValueError(
            f"asked for the model {name!r}; give the name of a bundled model, a folder or a hub id"
        )
    given, name = name, str(name)
    bundled = {path.parent.name: path.parent for path in minis().glob("*/config.json")}
    fetched = fetch.found(name) if name not in bundled else None
    path = bundled.get(name) or fetched or doors.path("the model", name)
    local = False
    try:
        local = path.is_dir()
        source = str(path) if local else name
        _check_name(given, path, revision, bundled)
        adapter = _check(name, source, revision)
        base = source if adapter is None else adapter.base
        if base != source:  # it has its own revisions
            revision = None
            _check(name, base, revision)
        config = told(base, "config.json", revision=revision)
        if config is None and constants.HF_HUB_OFFLINE and not Path(base).is_dir():
            raise FileNotFoundError(
                "the hub is not asked (HF_HUB_OFFLINE), its cache has no config"
            )
        family = family_of(name, config)
        where = placement(device, device_map, dtype, quantization, config)
        if where["device_map"] == {"": "cpu"} and quantization is None:
            files = weights_of(base, revision=revision)
            check_memory(taken(files, where["dtype"]), f"to load {name} on the CPU")
        processor, model = read(
            family, base, processor=adapter and adapter.processor, revision=revision, **where
        )
        if "quantization_config" not in config:
            check_numbers(name, base, revision=revision)
        if adapter is not None:
            apply(name, model, adapter)
            model.name_or_path = str(adapter.folder)
    except OSError as error:
        missing = "check what is in the folder" if local else "check the name, the network"
        raise OSError(
            f"asked for the model {name!r}, found that {str(path)!r} cannot be read "
            f"({' '.join(str(error).split())}); "
            f"{missing}, or use a bundled model: {sorted(bundled)}"
        ) from error
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")  # greedy: no sampling defaults
    ends = {key: getattr(model.generation_config, key) for key in kept}
    ends = {key: getattr(processor.tokenizer, key) if v is None else v for key, v in ends.items()}
    for part in model.modules():  # InstructBLIP's decoder generates by one of its own
        if getattr(part, "generation_config", None) is not None:
            part.generation_config = GenerationConfig(do_sample=False, **ends)
    model = keep_gradients(model.eval().requires_grad_(False))
    base = adapter.base if adapter else None
    if path in bundled.values() or path == fetched:
        log.info(
            "%s was trained by this project, on drawings: of photographs it knows nothing; "
            "data/minis says what it does",
            path.name,
        )
    return VLM(path.resolve().name if local else name, model, processor, family, base)


def _check(name, source, revision):
    """The adapter of a folder or hub id that can be read and names no code of its own, or None."""
    if Path(source).is_dir():
        check_readable(Path(source))
    else:
        _check_hub(source, revision)
    check_code(name, source, revision=revision)
    check_weights(name, Path(source))
    return adapter_of(name, source, revision=revision)


def _check_name(given, path, revision, bundled):
    """Refuse a name that is neither here nor a hub id, and a folder's revision."""
    name, local = str(given), path.is_dir()
    if local and revision is not None:
        raise ValueError(
            f"asked for the revision {revision!r} of {name!r}, found a local folder, which holds "
            "one; leave revision out, or give the hub id"
        )
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"asked for the model {name!r}, found a link to {str(path.readlink())!r}, which is not "
            "there; mend the link, or name the folder itself"
        )
    folder = isinstance(given, Path) or name.startswith("~")  # it can be nothing else
    if not local and (folder or not names_hub(name)):
        near = difflib.get_close_matches(name, bundled, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"asked for the model {name!r}, found no bundled model, no local folder and no hub id "
            f"of that name{hint}; use one of {sorted(bundled)}, a folder, or owner/name"
        )


def _check_hub(name, revision):
    """Raise `OSError` where the hub does not answer and nothing of the model is here.

    One question of five seconds; transformers would repeat its own for half a minute.
    """
    here = try_to_load_from_cache(name, "config.json", revision=revision)
    if constants.HF_HUB_OFFLINE or isinstance(here, str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision), timeout=5)
    except httpx2.TransportError as error:
        raise OSError(f"the hub does not answer: {error}") from error
    except HfHubHTTPError:
        return  # it does, and transformers tells what it says


def minis():
    return store.root() / "data" / "minis"
