"""The front end as text: joined as it is, small, closed to the network, safe with any words."""

import json
import re
import shutil
import subprocess

import pytest
from matplotlib import colormaps

from irlib.explorer import page as module
from irlib.explorer.page import MODULES, page, script, style
from irlib.store import root

FRONT = root() / "irlib/explorer/front"
NASTY = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> & \u2028 ' \" ]]>"
node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")


def test_every_module_is_joined_and_no_two_share_a_name():
    assert {path.stem for path in FRONT.glob("*.js")} == set(MODULES)
    names = re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", "\n".join(
        (FRONT / f"{name}.js").read_text() for name in MODULES), re.MULTILINE)  # fmt: skip
    assert len(names) == len(set(names)) > 30
    assert "import " not in re.sub(r"//.*", "", script())
    assert script().count("export default") == script().count("export ") == 1


def test_the_front_end_is_under_two_thousand_lines_and_asks_nobody():
    text = "\n".join(path.read_text() for path in FRONT.iterdir())
    assert len(text.splitlines()) < 2000
    told = re.findall(r"https?://[^\s\"']+", text)
    assert set(told) == {"http://www.w3.org/2000/svg"}
    markup = "innerHTML outerHTML insertAdjacentHTML document.write"
    ways = f"{markup} eval( Function( fetch( XMLHttpRequest importScripts @import url("
    for way in ways.split():
        assert way not in text, way


@node
def test_each_module_and_the_joined_ones_are_javascript(tmp_path):
    for name, text in {
        "joined": script(),
        **{n: (FRONT / f"{n}.js").read_text() for n in MODULES},
    }.items():
        path = tmp_path / f"{name}.mjs"
        path.write_text(text)
        subprocess.run(["node", "--check", path], check=True, capture_output=True)


def run(code: str):
    """What a module's expression gives, computed by node."""
    order = ["node", "--input-type=module", "-e", code]
    return json.loads(
        subprocess.run(order, check=True, capture_output=True, text=True, cwd=FRONT).stdout
    )


@node
def test_colours_are_matplotlibs_inferno():
    code = 'import { inferno } from "./data.js";'
    code += "console.log(JSON.stringify([...Array(101).keys()].map((i) => inferno(i / 100))))"
    for place, colour in enumerate(run(code)):
        told = [255 * part for part in colormaps["inferno"](place / 100)[:3]]
        assert max(abs(a - b) for a, b in zip(colour, told, strict=True)) < 6


@node
@pytest.mark.parametrize("bits", [8, 16])
def test_a_packed_map_is_unpacked_as_it_was(bits):
    import numpy as np

    from irlib.explorer.packing import heat

    values = np.random.default_rng(0).random((3, 2, 4)).astype(np.float32)
    told = json.dumps(heat(values, bits=bits))
    code = f'import {{ unpack }} from "./data.js"; const m = unpack({told}, 8);'
    code += "console.log(JSON.stringify([0, 1, 2].map((l) => "
    code += "[...Array(8).keys()].map((c) => m.at(l, c) * m.peak[l]))))"
    np.testing.assert_allclose(run(code), values.reshape(3, 8), atol=1.01 / 2**bits)


@node
def test_csv_quotes_what_it_must_and_says_what_it_is_of():
    view = {"state": {"layer": 1, "picked": [0]}, "panels": {
        "asked": {"layers": 2, "question": "q", "answer": 'a, "b"\n', "words": [{"text": "a"}],
                  "provenance": {"irlib": "1"}},
        "shown": {"segments": ["image"], "share": [[0.25, 0.5]]},
        "strip": {"answers": ['a, "b"\n', "x"], "which": [1, 0, 0], "logprob": [-1, None, 0]},
    }}  # fmt: skip
    code = 'import { csv } from "./save.js"; const view = ' + json.dumps(view) + ";"
    code += "view.map = () => ({ peak: [1, 2], inside: [null, 0.5], hit: [0, 1] });"
    code += 'view.mapKey = () => "mlp/mean"; console.log(JSON.stringify(csv(view)))'
    head, names, *rows = run(code).split("\n", 2)
    assert json.loads(head.removeprefix("# ")) | {"layer": 1, "map": "mlp/mean"} == json.loads(
        head[2:]
    )
    assert names.startswith("layer,share_image,map,peak,inside,hit,")
    assert rows[0].splitlines()[0] == "0,0.25,mlp/mean,1,,0,x,-1"
    assert '1,0.5,mlp/mean,2,0.5,1,"a, ""b""\n",' in rows[0]


@node
def test_what_no_drawing_can_hold_is_left_out_of_it():
    code = 'import { written } from "./save.js"; console.log(JSON.stringify(written('
    code += '"a\\u0000\\u001b\\t\\ud800b\\ud83d\\udc31\\uffff")))'
    assert run(code) == "a\tb🐱"


@node
def test_a_png_carries_where_it_comes_from():
    import base64
    import io

    from PIL import Image

    plain = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(plain, "png")
    data = base64.b64encode(plain.getvalue()).decode()
    code = 'import { withText } from "./save.js";'
    code += f'const made = withText(Buffer.from("{data}", "base64"), "irlib", "„{{1}}“");'
    code += 'console.log(JSON.stringify(Buffer.from(made).toString("base64")))'
    made = Image.open(io.BytesIO(base64.b64decode(run(code))))
    made.load()
    assert made.text["irlib"] == "„{1}“"
    assert made.getpixel((2, 1)) == (255, 0, 0)


def test_no_words_break_out_of_a_page():
    made = page({"asked": {"answer": NASTY}}, title=NASTY)
    assert made.count("<script") == made.count("</script>") == 2
    assert "<img" not in made
    assert "<!--" not in made
    told = re.search(r'id="told">(.*?)</script>', made, re.DOTALL)[1]
    assert json.loads(told)["asked"]["answer"] == NASTY


def test_a_page_lets_nothing_in_and_no_script_run_but_its_own():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page({}, title=""))[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert re.fullmatch(r"'sha256-[\w+/=]+'", rules["script-src"])


def test_a_number_that_is_none_is_refused_and_not_written():
    with pytest.raises(ValueError, match="Out of range float"):
        page({"asked": {"share": float("nan")}}, title="")


def test_style_is_all_under_its_own_names():
    plain = re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL)
    rules = re.findall(r"([^{}]+)\{", plain)
    for rule in rules:
        for one in rule.split(","):
            one = one.strip()
            assert one.startswith((".ir-", "@")) or not one, one
    assert module.MOST == 3_000_000
