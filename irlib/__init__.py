"""Instruments for information flow in vision-language models.

Everything public is one of the names below; each is loaded when it is first asked for, so that
reading a task or a score does not wait for torch.

>>> import irlib
>>> len(irlib.__all__)
16
"""

from importlib import import_module

from irlib.verdict import verdict  # bound here: the function, not the module of the same name

_HOME = {
    "load": "models",
    "load_task": "tasks",
    "Sample": "tasks",
    "metrics": "scores",
    "rescore": "scores",
    "trace": "hooks",
    "edit": "hooks",
    "attention_flow": "attention",
    "attention_map": "attention",
    "llava_cam": "cam",
    "truncate": "truncation",
    "sweep": "sweeps",
    "cliff_layer": "cliff",
    "save_figure": "store",
    "explore": "widgets",
}

__all__ = ["verdict", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"irlib has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"irlib.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
