"""The widget in JupyterLab: a row, the slider, a word, an upload, a wrong one, a page to keep."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from PIL import Image

from irlib.store import root

CODE = """from irlib import explore, load
view = explore(load("mini-llava"))
view"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with one notebook, which ends with the tests."""
    folder, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(8)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "view.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    order = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--allow-root",
    ]  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(root()), os.environ.get("PYTHONPATH")]))
    mine = {"PYTHONPATH": paths, "JUPYTER_CONFIG_DIR": str(folder / ".config")}
    mine |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(order, env=os.environ | mine, stderr=log, stdout=log)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}").close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/view.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def idle(page):
    page.wait_for_timeout(100)
    page.locator(".ir-root[data-busy]").wait_for(state="detached", timeout=60_000)


def test_a_reader_asks_looks_picks_uploads_and_keeps(page, lab, tmp_path, shots):
    page.set_default_timeout(90_000)
    page.goto(lab)
    page.wait_for_function("document.body.innerText.includes('| Idle')")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".ir-answers li")
    assert page.locator(".ir-place").inner_text() == "1 / 500"

    page.get_by_role("button", name="next row").click()
    page.wait_for_function("document.querySelector('.ir-place').textContent.startsWith('2')")
    idle(page)
    page.get_by_label("task", exact=True).select_option("chair")
    page.wait_for_function("document.querySelectorAll('.ir-word').length > 3")
    page.wait_for_selector(".ir-answers li")
    idle(page)

    page.locator(".ir-slider").fill("2")
    page.locator(".ir-slider").press("ArrowRight")
    assert page.locator(".ir-layer").inner_text().startswith("layer 3")
    page.locator(".ir-stage").click(position={"x": 40, "y": 40})
    page.locator(".ir-root").press("ArrowRight")  # the notebook must not take it
    assert page.locator(".ir-layer").inner_text().startswith("layer 4")

    before = page.evaluate("document.querySelector('.ir-stage canvas').toDataURL()")
    page.locator(".ir-word").nth(4).click()
    idle(page)
    page.wait_for_function(
        "now => document.querySelector('.ir-stage canvas').toDataURL() !== now", arg=before
    )
    page.get_by_role("button", name="cut attention").click()
    page.wait_for_selector(".ir-route")
    page.screenshot(path=shots / "jupyterlab-1280.png")

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    page.locator(".ir-file").set_input_files(broken)
    page.wait_for_selector(".ir-error")
    assert "broken.png" in page.locator(".ir-error").inner_text()
    assert page.locator(".ir-word").count() > 3  # what was there stays

    photo = tmp_path / "photo.png"
    Image.effect_noise((90, 60), 80).convert("RGB").save(photo)
    page.get_by_label("question", exact=True).fill("Is there a cat?")
    page.locator(".ir-file").set_input_files(photo)
    page.wait_for_selector(".ir-thumb img[alt*='photo.png']")
    page.wait_for_function("document.querySelector('.ir-told').textContent.includes('drawings')")

    with page.expect_download() as coming:
        page.get_by_role("button", name="save as one HTML file").click()
    kept = coming.value.path().read_text()
    assert kept.startswith("<!doctype html>")
    assert "Is there a cat?" in kept
