// Middle: the heat on the picture at one layer, what of it lies in the box, and one patch by layer.

import { button, el, percent, put, svg } from "./dom.js";
import { hottest, inferno, SITES } from "./data.js";

const PALE = 0.65; // how grey the picture is, so that colour speaks of heat

export function picturePanel(view) {
  const { state } = view;
  const canvas = el("canvas", { role: "img" });
  const marks = svg("svg", { class: "ir-marks", "aria-hidden": "true", preserveAspectRatio: "none" });
  // by Tab it takes the arrow keys for its patches; a click leaves them to the layers
  const stage = el("div", { class: "ir-stage", tabindex: 0, role: "application", click: patch, keydown: keys,
    mousedown: (event) => { event.preventDefault(); view.root.focus({ preventScroll: true }); },
    focus: () => move(0, 0), blur: () => set({ cursor: null }),
    "aria-label": "patches of the picture: arrow keys move, Enter picks, Escape leaves" }, canvas, marks);
  const heard = el("div", { class: "ir-heard", "aria-live": "polite" });
  const sites = el("div", { class: "ir-choice", role: "group", "aria-label": "where it is measured" });
  const pools = el("div", { class: "ir-choice", role: "group", "aria-label": "how slopes are pooled" });
  const slider = el("input", { type: "range", min: 0, step: 1, class: "ir-slider", "aria-label": "layer",
    input: () => view.toLayer(Number(slider.value)) });
  const number = el("output", { class: "ir-layer", "aria-live": "polite" });
  const play = button("▶", "play through the layers", () => view.play());
  const opacity = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: state.opacity,
    "aria-label": "opacity", title: "opacity", input: () => set({ opacity: Number(opacity.value) }) });
  const smooth = button("smooth", "blend cells", () => set({ smooth: !state.smooth }));
  const boxes = button("box", "what is asked about", () => set({ boxes: !state.boxes }));
  const facts = el("div", { class: "ir-facts" });
  const faith = el("div", { class: "ir-faith" });
  const small = svg("svg", { class: "ir-patch", role: "img", "aria-label": "the patch by layer" });
  const patched = el("figure", { class: "ir-patched", hidden: true }, el("figcaption"), small);
  let image = null, pale = null;

  function set(more) { Object.assign(state, more); view.draw(); }

  function choose(node, choices, chosen) {
    put(node, Object.entries(choices).map(([name, text]) =>
      button(text, text, () => chosen(name), { "data-name": name })));
  }

  function press(node, now) {
    for (const one of node.children) one.setAttribute("aria-pressed", one.dataset.name === now);
  }

  async function asked(panel) {
    image = pale = null;
    state.patch = state.cursor = null;
    put(heard);
    slider.max = panel.layers - 1;
    const known = Object.fromEntries(Object.entries(SITES).filter(([name]) => panel.sites.includes(name)));
    choose(sites, { ...known, attends: "answer’s attention" }, (site) => set({ site }));
    choose(pools, { mean: "mean slope", token: "token by token" }, (pool) => set({ pool }));
    stage.hidden = !panel.picture;
    boxes.hidden = !panel.boxes.length;
    if (!panel.picture) return draw();
    const loaded = new Image();
    loaded.src = panel.picture.url;
    stage.style.aspectRatio = `${panel.picture.width} / ${panel.picture.height}`;
    stage.style.setProperty("--ratio", panel.picture.width / panel.picture.height);
    marks.setAttribute("viewBox", `0 0 ${panel.picture.width} ${panel.picture.height}`);
    await loaded.decode();
    if (view.panels.asked !== panel) return;
    image = loaded;
    view.draw();
  }

  function greyed(width, height) {
    if (pale && pale.width === width && pale.height === height) return pale;
    pale = el("canvas", { width, height });
    const pen = pale.getContext("2d");
    pen.drawImage(image, 0, 0, width, height);
    const all = pen.getImageData(0, 0, width, height), data = all.data;
    for (let i = 0; i < data.length; i += 4) {
      const grey = PALE * (0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
      for (let k = 0; k < 3; k++) data[i + k] = (1 - PALE) * data[i + k] + grey;
    }
    pen.putImageData(all, 0, 0);
    return pale;
  }

  function cellsOf(map) {
    const { rows, cols } = view.panels.asked.grid;
    const cells = el("canvas", { width: cols, height: rows });
    const pen = cells.getContext("2d"), all = pen.createImageData(cols, rows);
    for (let cell = 0; cell < rows * cols; cell++) {
      const heat = map.at(state.layer, cell);
      all.data.set([...inferno(heat), Math.round(255 * state.opacity * heat)], 4 * cell);
    }
    pen.putImageData(all, 0, 0);
    return cells;
  }

  // the picture with its heat on a canvas of so many pixels; also what is saved
  function paint(onto, width, height) {
    onto.width = width;
    onto.height = height;
    const pen = onto.getContext("2d"), { picture, grid } = view.panels.asked, map = view.map();
    if (!map || !map.peak[state.layer]) {
      pen.drawImage(image, 0, 0, width, height);
      pen.fillStyle = "rgba(255,255,255,0.75)";
      if (map) pen.fillRect(0, 0, width, height);
      return;
    }
    pen.drawImage(greyed(width, height), 0, 0);
    const [x0, y0, x1, y1] = grid.frame, x = width / picture.width, y = height / picture.height;
    pen.imageSmoothingEnabled = state.smooth;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(cellsOf(map), x0 * x, y0 * y, (x1 - x0) * x, (y1 - y0) * y);
  }

  function outline(x0, y0, x1, y1, colour, wide) {
    const unit = view.panels.asked.picture.width / Math.max(1, canvas.clientWidth);
    const box = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, fill: "none" };
    return [svg("rect", { ...box, stroke: "#000", "stroke-width": (wide + 2) * unit }),
      svg("rect", { ...box, stroke: colour, "stroke-width": wide * unit })];
  }

  function cellBox(cell) {
    const { rows, cols, frame: [x0, y0, x1, y1] } = view.panels.asked.grid;
    const wide = (x1 - x0) / cols, high = (y1 - y0) / rows;
    const x = x0 + (cell % cols) * wide, y = y0 + Math.floor(cell / cols) * high;
    return [x, y, x + wide, y + high];
  }

  function patch(event) {
    const { picture, grid } = view.panels.asked, at = canvas.getBoundingClientRect();
    const x = ((event.clientX - at.left) / at.width) * picture.width;
    const y = ((event.clientY - at.top) / at.height) * picture.height;
    const [x0, y0, x1, y1] = grid.frame;
    const col = Math.floor(((x - x0) / (x1 - x0)) * grid.cols);
    const row = Math.floor(((y - y0) / (y1 - y0)) * grid.rows);
    const inside = col >= 0 && row >= 0 && col < grid.cols && row < grid.rows;
    const cell = row * grid.cols + col;
    set({ patch: !inside || state.patch === cell ? null : cell });
  }

  function move(rows, cols) {
    if (!view.panels.asked?.grid) return;
    const { grid } = view.panels.asked, map = view.map();
    const from = state.cursor ?? state.patch ?? (map ? hottest(map, state.layer, grid.rows * grid.cols) : 0);
    const within = (at, most) => Math.max(0, Math.min(most - 1, at));
    const row = within(Math.floor(from / grid.cols) + rows, grid.rows);
    set({ cursor: row * grid.cols + within((from % grid.cols) + cols, grid.cols) });
    tell();
  }

  function tell() {
    const { grid } = view.panels.asked, map = view.map(), peak = map?.peak[state.layer] ?? 0;
    const share = peak ? map.at(state.layer, state.cursor) : 0;
    put(heard, `row ${Math.floor(state.cursor / grid.cols)}, column ${state.cursor % grid.cols}: ` +
      (map ? `${(share * peak).toPrecision(2)}, ${percent(share)} of the highest` : "no map") +
      (state.cursor === state.patch ? ", picked" : ""));
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !view.panels.asked?.grid) return;
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by && event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (by) return move(...by);
    if (event.key === "Escape") return view.root.focus({ preventScroll: true });
    if (state.cursor == null) return move(0, 0);
    set({ patch: state.patch === state.cursor ? null : state.cursor });
    tell();
  }

  function draw() {
    const { asked: panel, shown, faithful } = view.panels;
    if (!panel) return;
    const map = view.map(), last = panel.layers - 1;
    slider.value = state.layer;
    slider.setAttribute("aria-valuetext", `layer ${state.layer} of 0 to ${last}`);
    put(number, `layer ${state.layer}`, el("small", {}, ` of 0–${last}`));
    put(play, view.playing() ? "❚❚" : "▶");
    smooth.setAttribute("aria-pressed", state.smooth);
    boxes.setAttribute("aria-pressed", state.boxes);
    press(sites, state.site);
    press(pools, state.pool);
    pools.classList.toggle("ir-off", state.site === "attends");
    if (image) {
      const ratio = window.devicePixelRatio || 1;
      const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      paint(canvas, width, Math.max(1, Math.round(canvas.clientHeight * ratio)));
    }
    canvas.setAttribute("aria-label", `${view.mapName()}, layer ${state.layer}, on the picture`);
    const zero = map && !map.peak[state.layer];
    put(marks,
      state.boxes && image ? panel.boxes.map((box) => outline(...box.slice(1), "#fff", 2)) : [],
      map && !zero && image ? [spot(cellBox(hottest(map, state.layer, panel.grid.rows * panel.grid.cols)))] : [],
      state.patch != null && panel.grid ? outline(...cellBox(state.patch), "#4FE3FF", 3) : [],
      state.cursor != null && panel.grid ? outline(...cellBox(state.cursor), "#FFE14F", 2) : [],
      zero && image ? [zeroText(panel)] : []);
    drawFacts(panel, map, shown);
    drawFaith(faithful, map);
    drawPatch(panel, map);
  }

  function spot([x0, y0, x1, y1]) {
    const unit = view.panels.asked.picture.width / Math.max(1, canvas.clientWidth);
    const dot = { cx: (x0 + x1) / 2, cy: (y0 + y1) / 2, r: 4 * unit };
    return svg("circle", { ...dot, fill: "#fff", stroke: "#000", "stroke-width": 1.5 * unit });
  }

  function zeroText(panel) {
    return svg("text", { x: panel.picture.width / 2, y: panel.picture.height / 2, "text-anchor": "middle",
      "font-size": panel.picture.width / 22, fill: "#444" }, "no gradient reaches the picture here");
  }

  function drawFacts(panel, map, shown) {
    const note = !panel.picture ? "no picture was asked about: there is no map"
      : panel.grid.note || (shown && !map ? "this map has no place on the picture" : "");
    const inside = map?.inside[state.layer];
    const known = map && panel.boxes.length > 0 && inside != null;
    put(facts, known && [
      el("span", { class: "ir-fact", title: "the share of the heat that lies in the box" }, "heat in box ",
        meter(inside, map.area), el("b", {}, percent(inside)),
        el("small", {}, ` even: ${percent(map.area)}`)),
      el("span", { class: "ir-fact", title: "whether the hottest cell's centre lies in the box" },
        el("i", { class: "ir-dot" }), "peak in box ",
        el("b", { class: map.hit[state.layer] ? "ir-yes" : "ir-no" }, map.hit[state.layer] ? "✓" : "✗"))],
      note && el("span", { class: "ir-fact" }, note));
  }

  function meter(share, even) {
    return svg("svg", { class: "ir-meter", viewBox: "0 0 60 10", "aria-hidden": "true" },
      svg("rect", { width: 60, height: 10, fill: "#E7E9EC" }),
      svg("rect", { width: 60 * share, height: 10, fill: "#D55E00" }),
      svg("rect", { x: 60 * even - 0.75, width: 1.5, height: 10, fill: "#222" }));
  }

  function drawFaith(told, map) {
    if (!view.panels.asked.picture || !map) return put(faith);
    if (!told) {
      return put(faith, view.host.send && button("is this map faithful?",
        "put in and take out the image tokens that it ranks highest, all layers together",
        () => view.host.send({ do: "faithful", number: view.panels.asked.number }), { class: "ir-small" }));
    }
    const row = told.maps[view.mapKey()], chance = told.maps.random;
    if (!row) return put(faith);
    put(faith, el("span", {}, "probability of the whole answer with the " +
      `${told.tokens} hottest tokens of ${state.picked.length ? "its own map" : "this map"}, mean over layers, `),
      el("b", {}, `alone ${percent(row[0])}`), el("small", {}, ` (random ${percent(chance[0])})`), ", ",
      el("b", {}, `without ${percent(row[1])}`), el("small", {}, ` (random ${percent(chance[1])})`),
      el("small", {}, ` · all ${percent(told.whole)} · none ${percent(told.none)}`));
  }

  function drawPatch(panel, map) {
    patched.hidden = state.patch == null || !map;
    if (patched.hidden) return;
    const heat = [...Array(panel.layers).keys()].map((l) => map.at(l, state.patch) * (map.peak[l] || 0));
    const most = Math.max(...heat) || 1, wide = 300, high = 44, step = wide / panel.layers;
    put(patched.firstChild, `patch ${Math.floor(state.patch / panel.grid.cols)}, ` +
      `${state.patch % panel.grid.cols}: ${view.mapName()} at each layer`);
    small.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    small.setAttribute("aria-label", heat.map((one, l) => `layer ${l}: ${one.toPrecision(2)}`).join(", "));
    put(small, heat.map((one, l) => svg("rect", { x: l * step + 0.5, width: Math.max(1, step - 1),
      y: high - (high - 2) * (one / most), height: (high - 2) * (one / most),
      fill: l === state.layer ? "#D55E00" : "#B8BEC6" })));
  }

  new ResizeObserver(() => draw()).observe(stage);
  const node = el("section", { class: "ir-middle", "aria-label": "map on the picture" },
    el("div", { class: "ir-row ir-maps" }, sites, pools), el("div", { class: "ir-hold" }, stage), heard,
    el("div", { class: "ir-row ir-steps" }, play, slider, number),
    el("div", { class: "ir-row" }, el("label", { class: "ir-opacity" }, "heat ", el("small", {}, "0"), el("i", { class: "ir-key" }), el("small", {}, "max"), opacity), smooth, boxes, facts),
    faith, patched);
  return { node, asked, draw, paint: (onto, wide, high) => image && paint(onto, wide, high), marks };
}
