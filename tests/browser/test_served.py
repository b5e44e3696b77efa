"""`irlib explore` as a reader starts it: open with an answer, behind its token."""

import os
import re
import subprocess
import sys
import time

import pytest

from irlib.store import root


@pytest.fixture
def address(tmp_path):
    """What `irlib explore` says is to be opened."""
    order = [sys.executable, "-m", "irlib", "explore", "mini-llava", "--no-browser", "--port=0"]
    mine = {"PYTHONPATH": str(root()), "JUPYTER_CONFIG_DIR": str(tmp_path),
            "JUPYTER_RUNTIME_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as into:
        server = subprocess.Popen(
            order, env=os.environ | mine, stderr=into, stdout=into, cwd=tmp_path
        )
    try:
        for _ in range(240):
            if found := re.search(r"http://127\.0\.0\.1:\d+/irlib/\?token=\w+", log.read_text()):
                break
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
        yield found[0]
    finally:
        server.terminate()
        server.wait(30)


def test_it_opens_ready_and_answers(page, address, shots):
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector(".ir-answers li")
    page.get_by_label("question", exact=True).fill("what number is on the sign?")
    page.get_by_role("button", name="ask the question").click()
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator(".ir-place")).to_have_text("1 / 500")
    expect(page.locator("span.ir-right")).to_have_text("", timeout=60_000)  # no row's any more
    page.wait_for_selector(".ir-answers li")
    page.screenshot(path=shots / "served-1920.png", full_page=True)
    page.get_by_label("question", exact=True).fill(" ")
    page.get_by_role("button", name="ask the question").click()
    page.wait_for_selector(".ir-error")
    assert "write a question" in page.locator(".ir-error").inner_text()
