"""The training loop: optimisers, learning rate, and steps that go on where they were stopped."""

import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.generate.fitting.muon import Muon


def optimisers(
    modules: list[nn.Module], vectors: list[Tensor], *, muon: float, adam: float
) -> list:
    """Return Muon for the matrices and AdamW for the rest, `vectors` (embeddings) among them."""
    params = dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad)
    kept = {id(p) for p in vectors}
    matrices = [p for p in params if p.ndim == 2 and id(p) not in kept]
    rest = [p for p in params if p.ndim != 2 or id(p) in kept]
    return [
        Muon(matrices, lr=muon, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=adam, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate(step: int, steps: int, warm: int = 80, floor: float = 0.02) -> float:
    """Return the learning rate's factor: a warm-up, then one cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warm) * (floor + (1 - floor) * cosine)


def _state(modules: dict[str, nn.Module], optims: list) -> dict[str, Tensor]:
    state = {f"{k}.{n}": v for k, m in modules.items() for n, v in m.state_dict().items()}
    for i, optim in enumerate(optims):
        for j, kept in optim.state_dict()["state"].items():
            state |= {f"optim.{i}.{j}.{n}": torch.as_tensor(v) for n, v in kept.items()}
    return {k: v.detach().clone().contiguous() for k, v in state.items()}


def _restore(path: Path, modules: dict[str, nn.Module], optims: list) -> None:
    state = load_file(path)
    for k, m in modules.items():
        m.load_state_dict({n: state[f"{k}.{n}"] for n in m.state_dict()})
    for i, optim in enumerate(optims):
        now = optim.state_dict()
        kept: dict[int, dict] = {}
        for name, v in state.items():
            if name.startswith(f"optim.{i}."):
                _, _, j, n = name.split(".", 3)
                kept.setdefault(int(j), {})[n] = v
        optim.load_state_dict({"state": kept, "param_groups": now["param_groups"]})


def fit(stage, modules: dict[str, nn.Module], optims, steps: int, loss_of, work: Path) -> None:
    """Take the steps that are left; keep a checkpoint every two minutes and at the end."""
    path, note = work / f"{stage}.safetensors", work / f"{stage}.json"
    first, spent = 0, 0.0
    if path.exists():
        told = json.loads(note.read_text())
        first, spent = told["step"], told["seconds"]
        _restore(path, modules, optims)
    base = [[g["lr"] for g in o.param_groups] for o in optims]
    params = [p for o in optims for g in o.param_groups for p in g["params"]]
    device, sums = params[0].device.type, {}
    began = saved = time.time()
    for step in range(first, steps):
        for optim, rates in zip(optims, base, strict=True):
            for group, lr in zip(optim.param_groups, rates, strict=True):
                group["lr"] = lr * rate(step, steps)
        with torch.autocast(device, torch.bfloat16, enabled=halved(device)):
            loss, log = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        for k, v in (log | {"loss": loss.item()}).items():
            if v == v:
                sums.setdefault(k, []).append(v)
        last = step + 1 == steps
        if (step + 1) % 50 == 0 or last:
            means = "  ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in sums.items())
            speed = (step + 1 - first) / (time.time() - began)
            print(f"{stage} {step + 1}/{steps}  {speed:.2f} steps/s  {means}", flush=True)
            sums = {}
        if time.time() - saved > 120 or last:
            part = work / f"{stage}.part"
            save_file(_state(modules, optims), part)
            part.replace(path)
            saved = time.time()
            note.write_text(json.dumps({"step": step + 1, "seconds": spent + saved - began}))


def halved(device: str) -> bool:
    """Return whether a device, "cpu" or "cuda", is faster in bfloat16 than in float32."""
    if device != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def tables(*modules: nn.Module) -> list[Tensor]:
    """Return the embeddings of these modules: matrices whose rows are vectors of their own."""
    every = (m for module in modules for m in module.modules())
    return [m.weight for m in every if isinstance(m, nn.Embedding)]
