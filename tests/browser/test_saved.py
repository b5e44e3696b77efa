"""A saved view in a real browser, from disk and with the network off: all of it moves."""

import io
import json

import pytest
from PIL import Image

from irlib.cam.cam import llava_cam
from irlib.explorer import packing
from irlib.explorer.page import page as page_of
from irlib.explorer.view import explore
from irlib.models.loading import load
from irlib.tasks.loading import load_task


@pytest.fixture(scope="session")
def view():
    """A caption of mini-llava with every panel."""
    view = explore(load("mini-llava"), load_task("chair", n=1)[0], layer=4)
    for do in ("routes", "faithful"):
        view.session.hear({"do": do}).join()
    return view


@pytest.fixture(scope="session")
def saved(view, tmp_path_factory):
    """Its file, with the maps of each word."""
    return view.save(tmp_path_factory.mktemp("saved") / "view.html", words=True)


@pytest.fixture
def opened(page, saved):
    """The file in a page that reaches nothing."""
    page.context.set_offline(True)
    page.goto(saved.as_uri())
    page.locator(".ir-marks circle").wait_for(state="attached")  # drawn, its hottest cell marked
    return page


def sync_api():
    return pytest.importorskip("playwright.sync_api")


def layer(page):
    return page.locator(".ir-layer").inner_text().split(" of")[0]


def pixels(page):
    return page.evaluate("document.querySelector('.ir-stage canvas').toDataURL()")


def test_arrow_keys_slider_and_charts_step_through_the_layers(opened):
    assert layer(opened) == "layer 4"
    before = pixels(opened)
    opened.locator(".ir-root").press("ArrowRight")
    assert layer(opened) == "layer 5"
    assert pixels(opened) != before
    opened.locator(".ir-root").press("Home")
    opened.locator(".ir-root").press("ArrowLeft")
    assert layer(opened) == "layer 0"
    opened.locator(".ir-slider").fill("7")
    assert layer(opened) == "layer 7"
    box = opened.locator(".ir-chart").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] * 0.2, middle)
    opened.mouse.down()
    at = layer(opened)
    opened.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=4)
    assert layer(opened) != at  # while it is dragged
    opened.mouse.up()


def test_the_heat_is_llava_cams_where_it_says(opened, view):
    vlm, (inputs, answer) = view.session.vlm, view.session.read()
    heat = llava_cam(vlm, inputs, answer, site="mlp", pool="token").heat[4]
    opened.get_by_role("button", name="MLP").click()
    opened.get_by_role("button", name="token by token").click()
    spot = opened.locator(".ir-marks circle")
    x, y = float(spot.get_attribute("cx")), float(spot.get_attribute("cy"))
    row, col = divmod(int(heat.argmax()), heat.shape[1])
    x0, y0, x1, y1 = inputs.grid.cells[row, col]
    assert (x0 < x < x1, y0 < y < y1) == (True, True)


def test_words_are_picked_together_and_alone(opened, view):
    words = opened.locator(".ir-word")
    assert words.all_inner_texts() == [word["text"] for word in view.asked["words"]]
    whole = pixels(opened)
    words.nth(3).click()
    assert words.nth(3).get_attribute("aria-pressed") == "true"
    assert pixels(opened) != whole
    words.nth(4).click()  # both together are not in the file
    assert "not in this page" in opened.locator(".ir-told").inner_text()
    pressed = [one.get_attribute("aria-pressed") for one in words.all()]
    assert pressed.index("true") == 3  # the one whose map is shown
    assert pressed.count("true") == 1
    opened.get_by_role("button", name="maps and shares of the whole answer").click()
    assert pixels(opened) == whole


def test_play_runs_to_the_last_layer_and_stops(opened):
    opened.locator(".ir-slider").fill("9")
    opened.get_by_role("button", name="play through the layers").click()
    expect = sync_api().expect
    expect(opened.locator(".ir-layer")).to_contain_text("layer 11")
    expect(opened.locator(".ir-steps button")).to_have_text("▶")


def test_a_patch_tells_what_it_has_at_each_layer_and_goes_again(opened):
    stage = opened.locator(".ir-stage")
    size = stage.bounding_box()
    stage.click(position={"x": size["width"] * 0.3, "y": size["height"] * 0.3})
    assert opened.locator(".ir-patch rect").count() == 12
    assert "patch 2, 2" in opened.locator(".ir-patched figcaption").inner_text()
    stage.click(position={"x": size["width"] * 0.3, "y": size["height"] * 0.3})
    assert not opened.locator(".ir-patched").is_visible()


def test_patches_are_reached_by_keyboard_and_told(opened, view):
    rows, cols = view.asked["grid"]["rows"], view.asked["grid"]["cols"]
    stage, heard = opened.locator(".ir-stage"), opened.locator(".ir-heard")
    opened.locator(".ir-maps button").last.focus()
    opened.keyboard.press("Tab")
    assert stage.evaluate("node => node === document.activeElement")
    first = heard.inner_text()
    assert first.startswith("row ")
    assert first.endswith("100\u00a0% of the highest")  # the hottest cell
    for _ in range(max(rows, cols)):
        opened.keyboard.press("ArrowUp")
        opened.keyboard.press("ArrowLeft")
    assert heard.inner_text().startswith("row 0, column 0: ")
    opened.keyboard.press("ArrowDown")
    for _ in range(cols + 1):
        opened.keyboard.press("ArrowRight")
    assert heard.inner_text().startswith(f"row 1, column {cols - 1}: ")
    assert layer(opened) == "layer 4"  # the layers stand
    opened.keyboard.press("Enter")
    assert heard.inner_text().endswith(", picked")
    assert f"patch 1, {cols - 1}" in opened.locator(".ir-patched figcaption").inner_text()
    opened.keyboard.press("Escape")
    assert opened.locator(".ir-root").evaluate("node => node === document.activeElement")
    opened.keyboard.press("ArrowRight")
    assert layer(opened) == "layer 5"
    assert opened.locator(".ir-patched").is_visible()  # what was picked stays


def test_a_click_on_the_picture_leaves_the_arrow_keys_to_the_layers(opened):
    opened.locator(".ir-stage").click(position={"x": 40, "y": 40})
    opened.keyboard.press("ArrowRight")
    assert layer(opened) == "layer 5"
    assert opened.locator(".ir-patched").is_visible()


def saving(page, name):
    with page.expect_download() as coming:
        page.get_by_role("button", name=name, exact=True).click()
    return coming.value


def test_png_and_csv_are_saved_with_what_they_were_made_from(opened, view):
    found = saving(opened, "save this view as a picture")
    made = Image.open(io.BytesIO(found.path().read_bytes()))
    made.load()
    told = json.loads(made.text["irlib"])
    assert told["model"] == view.asked["provenance"]["model"]
    assert (told["layer"], told["map"], made.width) == (4, "post_attention/mean", 1500)
    head, names, *rows = saving(opened, "save the numbers by layer").path().read_text().splitlines()
    assert json.loads(head[2:]) == told
    assert len(rows) == 13
    image = names.split(",").index("share_image")
    share = view.shown["share"][view.shown["segments"].index("image")]
    assert [float(row.split(",")[image]) for row in rows[:12]] == share


@pytest.mark.parametrize("size", [(20, 5000), (5000, 20), (1, 1)])
def test_odd_pictures_and_markup_are_shown_and_saved(page, view, tmp_path, size):
    nasty = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b"
    told = view.session.known()
    words = [{"text": text, "tokens": [0], "space": True} for text in (nasty, "אבג")]
    plain = packing.picture(Image.new("RGB", size, "red"))
    asked = told["asked"] | {"picture": plain, "boxes": [], "question": nasty, "answer": nasty}
    asked |= {"words": words, "grid": told["asked"]["grid"] | {"frame": [0, 0, *size]}}
    strip = told["strip"] | {"answers": [nasty] * len(told["strip"]["answers"])}
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog) or dialog.dismiss())
    path = tmp_path / "odd.html"
    path.write_text(page_of(told | {"asked": asked, "strip": strip}, title=nasty))
    page.goto(path.as_uri())
    page.locator(".ir-marks circle").wait_for(state="attached")
    assert page.locator(".ir-word").first.inner_text() == nasty
    assert page.locator("img").count() == 1  # the picture
    made = Image.open(saving(page, "save this view as a picture").path())
    assert (made.width, made.height < 2000) == (1500, True)
    assert dialogs == []


def test_copied_python_makes_the_map_of_the_picked_words(opened, view):
    opened.locator(".ir-word").nth(3).click()
    opened.get_by_role("button", name="the lines that make the same").click()
    code = opened.evaluate("navigator.clipboard.readText()")
    assert code == opened.locator(".ir-python").input_value()
    names = {}
    exec(code, names)
    told = names["maps"].heat
    tokens = view.asked["words"][3]["tokens"]
    heat = llava_cam(names["vlm"], names["inputs"], names["answer"], target=tokens[0]).heat
    assert (told == heat).all()
    assert len(names["figure"].axes) >= 1


@pytest.mark.parametrize("width", [600, 900, 1280, 1600, 1920, 2560])
def test_it_fills_the_width_and_nothing_runs_over(opened, width):
    opened.set_viewport_size({"width": width, "height": round(width * 0.5625)})
    opened.wait_for_timeout(150)
    whole = opened.evaluate("document.documentElement.scrollWidth")
    boxes = [one.bounding_box() for one in opened.locator(".ir-columns > *").all()]
    assert whole <= width
    assert width * 0.97 <= max(box["x"] + box["width"] for box in boxes) <= width


def test_each_control_has_a_name_for_a_screen_reader(opened):
    controls = opened.locator("button, input, select, textarea, canvas, svg[role]").all()
    assert len(controls) > 25
    for one in controls:
        assert one.get_attribute("aria-label") or one.text_content().strip(), one


@pytest.mark.parametrize("width", [1280, 1920])
def test_a_picture_of_it_is_kept(opened, shots, width):
    opened.set_viewport_size({"width": width, "height": round(width * 0.5625)})
    opened.wait_for_timeout(200)
    path = shots / f"saved-{width}.png"
    opened.screenshot(path=path, full_page=True)
    assert Image.open(path).width == width
