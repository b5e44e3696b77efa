"""No code of a checkpoint's own is run, asked or not: it is refused at once, in words."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import irlib
from irlib.models.loading import load

OWN = """
import pathlib
pathlib.Path({marker!r}).write_text("ran")
from transformers import LlavaProcessor as Processor, LlavaConfig as Config
from transformers import LlavaForConditionalGeneration as Model
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers import CLIPImageProcessor as Images
"""
PLACES = {  # a file, and where in it code is named
    "config.json": {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}},
    "processor_config.json": {"auto_map": {"AutoProcessor": "own.Processor"}},
    "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "own.Images"}},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}},
    "generation_config.json": {"auto_map": {"GenerationConfig": "own.Config"}},
    "video_preprocessor_config.json": {"auto_map": {"AutoVideoProcessor": "own.Images"}},
    "config.json, inside": {"vision_config": {"auto_map": {"AutoModel": "own.Model"}}},
    "processor_config.json, in a list": {
        "parts": [{"image_processor": {"auto_map": {"AutoImageProcessor": "own.Images"}}}]
    },
    "processor_config.json, inside": {
        "image_processor": {"auto_map": {"AutoImageProcessor": "own.Images"}}
    },
}


def with_code(source, target, place, marker):
    """A copy of a model folder that names code of its own, which leaves a mark when it is run."""
    shutil.copytree(source, target)
    (target / "own.py").write_text(OWN.format(marker=str(marker)))
    path = target / place.split(",")[0]
    found = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in PLACES[place].items():
        old = found.get(key)
        found[key] = old | value if isinstance(old, dict) else value
    path.write_text(json.dumps(found))
    return target


@pytest.mark.parametrize("place", PLACES)
def test_code_of_a_checkpoints_own_is_refused_and_not_run(family_folder, tmp_path, place):
    folder = with_code(family_folder("llava"), tmp_path / "own", place, tmp_path / "mark")
    file = place.split(",")[0].replace(".", r"\.")
    with pytest.raises(ValueError, match=rf"found that its {file} names code .*never run; use the"):
        load(folder, device="cpu")
    assert not (tmp_path / "mark").exists()


def test_code_is_refused_where_the_q_formers_tokenizer_names_it(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("instructblip"), tmp_path / "own")
    path = folder / "qformer_tokenizer/tokenizer_config.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | PLACES["tokenizer_config.json"]))
    with pytest.raises(
        ValueError, match=r"its qformer_tokenizer/tokenizer_config\.json names code"
    ):
        load(folder, device="cpu")


@pytest.mark.parametrize("answer", ["y\n", ""])
def test_nobody_is_asked_whether_code_may_run(family_folder, tmp_path, answer):
    """transformers asks on standard input, runs it on y, and waits 15 seconds for no answer."""
    place, mark = "processor_config.json", tmp_path / "mark"
    folder = with_code(family_folder("llava"), tmp_path / "own", place, mark)
    code = (
        "import sys, time; from irlib import load; load('mini-llava', device='cpu')\n"
        "start = time.monotonic()\n"
        f"try: load({str(folder)!r}, device='cpu')\n"
        "except ValueError as error: print(error, time.monotonic() - start, sep='|')"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], input=answer, capture_output=True, text=True, check=True
    )
    words, seconds = told.stdout.strip().splitlines()[-1].split("|")
    assert "names code of its own (auto_map)" in words
    assert float(seconds) < 10  # not the 15 of a question that nobody answers
    assert not mark.exists()


HANDED = ("from_pretrained", "from_config")  # where transformers would ask


@pytest.mark.parametrize(
    "path", sorted(Path(irlib.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_every_reading_of_a_checkpoint_trusts_no_code(path):
    for node in ast.walk(ast.parse(path.read_text())):
        called = isinstance(node, ast.Call) and getattr(node.func, "attr", "")
        if called in HANDED:
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert said.get("trust_remote_code") == "False", ast.unparse(node)
