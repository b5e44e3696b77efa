// The view: three columns over one state; a step of the layer draws, and asks nobody.

import { askPanel } from "./ask.js";
import { chartsPanel } from "./charts.js";
import { same, SITES, unpack } from "./data.js";
import { el } from "./dom.js";
import { served, saved, widget } from "./hosts.js";
import { picturePanel } from "./picture.js";
import { savePanel } from "./save.js";

const PANELS = ["asked", "shown", "strip", "routes", "faithful", "status"];
const PACE = 420; // milliseconds a layer

export function mount(root, host) {
  const state = { layer: 0, site: "post_attention", pool: "mean", smooth: false, opacity: 0.75, boxes: true,
    patch: null, cursor: null, picked: [] };
  let timer = null, left, middle, right;
  const view = {
    root, host, state, panels: {}, picks: [],
    mapKey: () => state.site === "attends" ? "attention" : `${state.site}/${state.pool}`,
    mapName: () => state.site === "attends" ? "attention of the answer"
      : `LLaVA-CAM, ${SITES[state.site]}, ${state.pool === "mean" ? "mean slope" : "token by token"}`,
    map: () => {
      const map = view.panels.shown?.maps[view.mapKey()], { grid } = view.panels.asked;
      return map && unpack(map, grid.rows * grid.cols);
    },
    toLayer: (layer) => {
      if (!view.panels.asked) return;
      state.layer = Math.max(0, Math.min(view.panels.asked.layers - 1, layer));
      view.draw();
    },
    playing: () => timer !== null,
    play: () => {
      if (timer !== null) halt();
      else {
        if (state.layer >= view.panels.asked.layers - 1) state.layer = -1;
        timer = setInterval(() => {
          if (!root.isConnected) return halt();
          view.toLayer(state.layer + 1);
          if (state.layer >= view.panels.asked.layers - 1) { halt(); view.draw(); }
        }, PACE);
      }
      view.draw();
    },
    draw: () => { middle.draw(); right.draw(); },
    show: (shown) => { view.panels.shown = shown; right.build(); middle.draw(); },
    status: (now) => left.status(now),
    paint: (...all) => middle.paint(...all),
    drawings: () => right.drawings(),
  };
  left = askPanel(view);
  middle = picturePanel(view);
  right = chartsPanel(view);
  view.marks = middle.marks;
  const model = el("h2", {}, "…");

  function halt() { clearInterval(timer); timer = null; }

  function hear(name, panel) {
    if (!panel || !Object.keys(panel).length) return;
    if (name === "status") return left.status(panel);
    if (name === "asked") {
      if (view.panels.asked?.number === panel.number) return;
      const first = !view.panels.asked || view.panels.asked.layers !== panel.layers;
      halt();
      view.panels = { asked: panel };
      view.picks = (host.picks?.() ?? []).filter((one) => one.number === panel.number);
      if (first) state.layer = Math.max(0, Math.min(host.layer?.() ?? Math.floor(panel.layers / 2), panel.layers - 1));
      model.textContent = panel.model;
      left.asked(panel);
      middle.asked(panel);
      right.build();
      return;
    }
    if (panel.number !== view.panels.asked?.number) return; // of another question
    const before = view.panels[name];
    view.panels[name] = panel;
    if (name === "shown") {
      if (!view.picks.some((one) => same(one.picked, panel.picked))) view.picks.push(panel);
      const mine = view.picks.find((one) => same(one.picked, state.picked));
      view.panels.shown = mine ?? before ?? panel; // another page may have picked others
      if (!mine && !before) left.settle();
    }
    right.build();
    middle.draw();
  }

  function keys(event) {
    if (event.target.closest("input:not(.ir-slider), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = (view.panels.asked?.layers ?? 1) - 1;
    const to = { ArrowLeft: state.layer - 1, ArrowRight: state.layer + 1, Home: 0, End: last }[event.key];
    const space = event.key === " " && !event.target.closest("button");
    if (to === undefined && !space) return;
    event.preventDefault();
    event.stopPropagation();
    if (space) view.play(); else view.toLayer(to);
  }

  root.classList.add("ir-root");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own keys
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "where an answer comes from; arrow keys step through the layers, on the picture through its patches");
  root.addEventListener("keydown", keys);
  root.replaceChildren(el("div", { class: "ir-page" }, el("header", {}, model,
    el("small", {}, "where in the picture, and how deep in the model, an answer comes from")),
    el("main", { class: "ir-columns" }, left.node, middle.node, right.node), savePanel(view).node));
  const away = PANELS.map((name) => host.on(name, (panel) => hear(name, panel)));
  for (const name of PANELS) hear(name, host.get(name));
  return () => { halt(); root.removeEventListener("keydown", keys); away.forEach((end) => end?.()); };
}

export function start(root, told) {
  return mount(root, told ? saved(told) : served());
}

export default { render: ({ model, el: root }) => mount(root, widget(model)) };
