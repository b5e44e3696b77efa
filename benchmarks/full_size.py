"""One picture through every instrument in LLaVA-1.5-7B's exact shape, with random weights.

    python -m benchmarks.full_size [--device cpu|cuda] [--layers N] [--together N] [--new N]

Shows that all-layer CAM and an all-layer sweep of a 7B model fit a machine of 24 GiB, and how long
they take; what a random model answers means nothing. The weights are drawn in bfloat16 where they
stay: 14.1 GB, never held twice. Seconds, peak memory and operations go to
benchmarks/results/full_size-<device>.json.
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import torch
import transformers

from irlib import attention_flow, llava_cam, load, load_task
from irlib.interventions.staircase import answers_by_layer
from irlib.models.vlm import VLM
from irlib.plan import costs
from irlib.plan.anatomy import shape_of
from irlib.plan.skeleton import skeleton

NAME = "llava-hf/llava-1.5-7b-hf"
SIDE, PATCH = 336, 14


def build(device: str, layers: int) -> tuple[VLM, costs.Shape]:
    """The model on the device, its weights drawn where they stay, and its shape."""
    model, family, images = skeleton(NAME)
    tower = model.model.vision_tower
    for part, stack in ((model.get_decoder(), "layers"), (tower, "encoder.layers")):
        del part.get_submodule(stack)[layers:]
        part.config.num_hidden_layers = len(part.get_submodule(stack))
    model = model.to(torch.bfloat16)
    shape, _ = shape_of(model, images, (SIDE, SIDE), words=0)
    model.to_empty(device=device)
    draw_weights(model)
    restore_buffers(model)
    mini = load("mini-llava", device="cpu")  # for its tokenizer: the words do not matter
    processor = mini.processor
    processor.patch_size = PATCH
    processor.image_processor.size = {"shortest_edge": SIDE}
    processor.image_processor.crop_size = {"height": SIDE, "width": SIDE}
    model.config.image_token_id = mini.image_token_id
    model.generation_config = mini.model.generation_config
    model.generation_config.eos_token_id = None  # every answer has the length that is asked for
    return VLM(NAME, model.eval().requires_grad_(False), processor, family), shape


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Fill weights with one drawn block over and over (7 billion draws take minutes); norms are 1.

    The block's length is prime, so that no two rows of a matrix are alike.
    """
    block = torch.empty(1_000_003, dtype=model.dtype, device=model.device)
    block.normal_(std=0.02, generator=torch.Generator(model.device).manual_seed(0))
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.fill_(float("norm" in name and name.endswith("weight")))
            continue
        for part in weight.view(-1).split(len(block)):
            part.copy_(block[: len(part)])


@torch.no_grad()
def restore_buffers(model: torch.nn.Module) -> None:
    """Fill what is computed and not learnt: numbers of positions, and the rotations' angles."""
    for module in model.modules():
        for name, values in module.named_buffers(recurse=False):
            if name == "position_ids":
                values.copy_(torch.arange(values.shape[-1]))
            elif name.endswith("inv_freq"):
                angles = getattr(type(module)(config=module.config), name)
                setattr(module, name, angles.to(values.device))  # float32, as in any model
            else:
                raise ValueError(
                    f"{name} of {type(module).__name__} was to be filled; it is no weight and not "
                    "known; add how it is made to restore_buffers"
                )


def main(arguments: list[str] | None = None) -> dict:
    """Run the stages, print a line for each, and write the results."""
    options = _options(arguments)
    device, new = options.device, options.new
    told = {"model": NAME, "layers": options.layers, "dtype": "bfloat16", **_machine(device)}
    told |= {"matmul_tflops": _matmul(device), "stages": []}
    print(f"a plain matrix product: {told['matmul_tflops']:.3g} TFLOP/s", flush=True)

    def stage(name, run, flops=0):
        _forget(device)
        start = time.perf_counter()
        found = run()
        _wait(device)
        seconds, peak = time.perf_counter() - start, _peak(device)
        one = {"stage": name, "seconds": round(seconds, 2), "peak_gb": round(peak / 1e9, 2)}
        one["tflops"] = round(flops / seconds / 1e12, 4)
        told["stages"].append(one)
        print("{stage:12} {seconds:8.2f} s {peak_gb:6.2f} GB {tflops:8.3g} TFLOP/s".format(**one))
        return found

    vlm, shape = stage("build", lambda: build(device, options.layers))
    sample = load_task("pope", n=1)[0]
    inputs = vlm.prepare(sample)
    image = int(inputs.spans.image.sum())
    before = int(inputs.spans.system.sum())
    after = inputs.length - image - before
    prompt = costs.Prompt(before=before, image=image, after=after, new=new)
    once = costs.Prompt(**{**vars(prompt), "new": new - 1})  # nothing ends these answers
    told["prompt"] = {"before": before, "image": image, "after": after, "new": new}
    told["bytes_of_weights"] = shape.weights
    told["estimated_gb"] = {
        "cam": round((shape.weights + costs.cam_memory(shape, prompt)) / 1e9, 2),
        "sweep": round((shape.weights + costs.sweep_memory(shape, prompt)) / 1e9, 2),
    }
    print(f"{told['prompt']}, estimated {told['estimated_gb']} GB", flush=True)
    answer = stage(
        "answer", lambda: vlm.answer(inputs, max_new_tokens=new), costs.answer(shape, once)
    )
    flow = stage("flow", lambda: attention_flow(vlm, inputs, answer), costs.flow(shape, prompt))
    maps = stage("cam", lambda: llava_cam(vlm, inputs, answer, noise=0.1), costs.cam(shape, prompt))
    every = range(options.layers + 1)
    parts = [every[i : i + options.together] for i in range(0, len(every), options.together)]

    def sweep():
        found = {}
        for layers in parts:
            found |= answers_by_layer(vlm, inputs, layers=layers, max_new_tokens=new)
        return found

    answers = stage("sweep", sweep, costs.sweep(shape, once))
    told["layers_at_once"] = min(options.together, len(every))
    told["seen"] = {
        "maps": list(maps.heat.shape),
        "flow": len(flow),
        "answers": len(answers),
        "untouched_is_the_answer": answers[options.layers].ids[0].equal(answer.ids[0]),
    }
    print(told["seen"])
    cut = "" if options.layers == 32 else f"-{options.layers}_layers"
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"full_size-{device}{cut}.json"
    path.write_text(json.dumps(told, indent=1) + "\n")
    return told


def _options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--layers", type=int, default=32, help="of decoder and tower at most; 32: all"
    )
    parser.add_argument("--together", type=int, default=33, help="variants of a sweep at once")
    parser.add_argument("--new", type=int, default=3, help="tokens of an answer")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args(arguments)


def _machine(device) -> dict:
    """What the numbers hang on: nothing that names the machine or its user."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _matmul(device) -> float:
    """TFLOP/s of a plain product of two square matrices in bfloat16, the best of three."""
    side, best = 8192 if device == "cuda" else 1024, float("inf")
    a = torch.ones(side, side, dtype=torch.bfloat16, device=device)
    for _ in range(4):  # the first warms up
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e12


def _wait(device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _forget(device) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device) -> int:
    """Bytes at most: of the stage on a GPU, of the process so far (it never falls) elsewhere."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
