"""What an editor and a type checker see of irlib, though every name is loaded late."""

import importlib
import inspect
import os
import subprocess
import sys

import jedi
import pytest

import irlib
from irlib.faces import handed
from irlib.store import root

ROOMS = [irlib, *(
    importlib.import_module(f"irlib.{path.parent.name}")
    for path in sorted((root() / "irlib").glob("*/__init__.py"))
    if handed(path)
)]  # fmt: skip
NAMES = [(room.__name__, name) for room in ROOMS for name in room.__all__]


def script(code: str) -> jedi.Script:
    """The code as an editor reads it, in this process: no other interpreter is started."""
    project = jedi.Project(root(), load_unsafe_extensions=False)
    return jedi.Script(code, project=project, environment=jedi.InterpreterEnvironment())


@pytest.mark.parametrize(("room", "name"), NAMES, ids=".".join)
def test_an_editor_completes_and_knows_every_name(room, name):
    found = script(f"from {room} import {name}\n{name}").goto(2, len(name), follow_imports=True)
    value = getattr(importlib.import_module(room), name)
    assert [d.name for d in found] == [name]
    assert found[0].type == ("class" if inspect.isclass(value) else "function") or not callable(
        value
    )


@pytest.mark.parametrize(
    "name", [n for n in irlib.__all__ if inspect.isfunction(getattr(irlib, n))]
)
def test_an_editor_shows_the_signature_of_every_public_function(name):
    shown = script(f"import irlib\nirlib.{name}(").get_signatures(2, len(f"irlib.{name}("))
    names = [
        param.name
        for param in inspect.signature(getattr(irlib, name)).parameters.values()
        if param.kind is not param.VAR_KEYWORD  # an editor shows whose they are
    ]
    assert [param.name for param in shown[0].params][: len(names)] == names


CHECKED = """\
import irlib
from irlib import cliff_layer, load
reveal_type(load)
reveal_type(irlib.sweep)
cliff_layer(1, nothing=2)
"""
SETTINGS = """\
[mypy]
strict = True
follow_imports = skip
[mypy-irlib.*]
follow_imports = silent
"""  # torch and the others are not read: a minute saved, and no word of theirs is asked for


def test_a_type_checker_sees_signatures_and_what_is_wrong(tmp_path):
    (tmp_path / "use.py").write_text(CHECKED)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MYPYPATH": str(root())},
    )
    told = ran.stdout.replace('"', "")
    assert "use.py:3: note: Revealed type is def (name: str" in told, ran.stdout + ran.stderr
    assert "-> irlib.models.vlm.VLM" in told
    assert "use.py:4: note: Revealed type is def (vlm:" in told
    assert "use.py:5: error: Unexpected keyword argument nothing for cliff_layer" in told
    assert "does not explicitly export" not in told
