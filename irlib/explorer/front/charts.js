// Right: by layer, what the answer attends to, what is said without the picture, and cut routes.

import { button, el, percent, put, shorten, svg } from "./dom.js";
import { colourOf, SAME, SEGMENTS } from "./data.js";

const LEFT = 38, RIGHT = 8, INK = "#3A3F45", FAINT = "#D9DDE2";
const ROUTES = ["#D55E00", "#0072B2", "#7A5195"];

export function chartsPanel(view) {
  const { state } = view;
  const shares = chart("shares of the answer's attention by layer");
  const strip = chart("the answer with the picture hidden from each layer on");
  const routes = chart("the answer's log-probability with a route cut");
  const way = el("h3", {}, "Which way the picture reaches it");
  const legend = el("ul", { class: "ir-legend" });
  const answers = el("ul", { class: "ir-legend ir-answers" });
  const now = el("p", { class: "ir-now", "aria-live": "polite" });
  const edges = el("div", { class: "ir-legend" });
  let wide = 480;

  function chart(label) {
    const node = svg("svg", { class: "ir-chart", role: "img", "aria-label": label,
      pointerdown: (event) => { node.setPointerCapture(event.pointerId); drag(event); },
      pointermove: (event) => event.buttons && drag(event) });
    return node;
  }

  function step() { return (wide - LEFT - RIGHT) / (view.panels.asked.layers + 1.5); }
  function x(layer) { return LEFT + layer * step() + (layer === view.panels.asked.layers ? step() / 2 : 0); }

  function tall(height) { return Math.round(height * Math.min(1.6, Math.max(1, wide / 520))); }

  function drag(event) {
    const at = event.currentTarget.getBoundingClientRect();
    view.toLayer(Math.floor((((event.clientX - at.left) / at.width) * wide - LEFT) / step()));
  }

  function frame(node, high) {
    node.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    node.setAttribute("width", wide);
    node.setAttribute("height", high);
  }

  function text(at, y, words, more = {}) {
    return svg("text", { x: at, y, "font-size": 11, "font-family": "system-ui, sans-serif", fill: INK, ...more },
      words);
  }

  function cursor(high) {
    return svg("rect", { class: "ir-cursor", y: 0, height: high, width: step(), x: x(state.layer),
      fill: "none", stroke: "#111", "stroke-width": 1.5, rx: 2 });
  }

  function axis(y, never = false) {
    const { layers } = view.panels.asked, every = Math.ceil((layers * 20) / (wide - LEFT));
    const ticks = [...Array(layers).keys()].filter((l) => l % every === 0);
    return [...ticks.map((l) => text(x(l) + step() / 2, y, String(l), { "text-anchor": "middle" })),
      never && text(Math.min(x(layers) + step() / 2, wide - 14), y, "never", { "text-anchor": "middle" }),
      text(LEFT - 4, y, "layer", { "text-anchor": "end", fill: "#777" })].filter(Boolean);
  }

  function drawShares() {
    const { asked, shown } = view.panels, high = tall(168), low = high - 18;
    frame(shares, high);
    if (!shown) return put(shares);
    const bars = [];
    for (let layer = 0; layer < asked.layers; layer++) {
      let y = low;
      for (const name of Object.keys(SEGMENTS)) {
        const share = shown.share[shown.segments.indexOf(name)]?.[layer] ?? 0, part = share * (low - 4);
        y -= part;
        if (part > 0) {
          bars.push(svg("rect", { x: x(layer) + 0.5, width: Math.max(1, step() - 1), y, height: part,
            fill: SEGMENTS[name][1] }));
        }
      }
    }
    const ticks = [0, 0.5, 1].map((share) => text(LEFT - 5, low - share * (low - 4) + 4,
      `${100 * share}${share === 1 ? "\u00a0%" : ""}`, { "text-anchor": "end" }));
    put(shares, ...bars, ...ticks, ...axis(high - 4), cursor(low));
  }

  function line(values, offset, y, colour, middle = true) {
    const points = values.map((value, i) => value == null ? null
      : [x(i) + (middle ? step() / 2 : (offset * step()) / 2), y(value)]).filter(Boolean);
    return [svg("polyline", { points: points.map((one) => one.join(",")).join(" "), fill: "none",
      stroke: colour, "stroke-width": 1.8 }),
      ...points.map(([px, py]) => svg("circle", { cx: px, cy: py, r: 2.4, fill: colour }))];
  }

  function scale(values, top, low) {
    const least = Math.min(-0.5, ...values.filter((one) => one != null));
    const y = (value) => top + (value / least) * (low - top);
    const ticks = [0, least / 2, least].map((value) => [
      svg("line", { x1: LEFT, x2: wide - RIGHT, y1: y(value), y2: y(value), stroke: FAINT }),
      text(LEFT - 5, y(value) + 4, value === 0 ? "0" : value.toFixed(Math.abs(value) < 10 ? 1 : 0),
        { "text-anchor": "end" })]);
    return [y, ticks.flat()];
  }

  function drawStrip() {
    const { asked, strip: told } = view.panels, top = 8, low = tall(74), row = low + 8, deep = 22, high = low + 50;
    frame(strip, high);
    put(answers);
    if (!told) return put(strip);
    const [y, ticks] = scale(told.logprob, top, low);
    const cells = told.which.map((which, layer) => svg("rect", { x: x(layer) + 0.5, y: row,
      width: Math.max(1, step() - 1), height: deep, fill: colourOf(which), rx: 2 },
      svg("title", {}, told.answers[which])));
    const mark = told.keeps < asked.layers ? x(told.keeps) : x(asked.layers);
    const flag = [svg("path", { d: `M${mark} ${row - 4}v${deep + 8}`, stroke: "#111", "stroke-width": 2 }),
      svg("path", { d: `M${mark} ${row - 9}l8 4.5l-8 4.5z`, fill: "#111" })];
    put(strip, ...ticks, ...line(told.logprob, 1, y, INK), ...cells, ...flag, ...axis(high - 4, true),
      cursor(row + deep + 2));
    put(answers, told.answers.map((answer, which) => el("li", {},
      swatch(colourOf(which)), el("span", { dir: "auto" }, answer || "(nothing)"))));
  }

  function swatch(colour) {
    return svg("svg", { class: "ir-swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
      svg("rect", { width: 10, height: 10, fill: colour, rx: 2 }));
  }

  function drawRoutes() {
    const { routes: told, asked, strip: whole } = view.panels, top = 8, low = tall(92), high = low + 20;
    routes.toggleAttribute("hidden", !told?.edges.length);
    way.toggleAttribute("hidden", !told && !view.host.send); // a saved page cuts no more
    if (!told) {
      return put(edges, view.host.send && asked.picture && button("cut the routes",
        "cut attention from picture to question, picture to answer, question to answer",
        () => view.host.send({ do: "routes", number: asked.number }), { class: "ir-small" }));
    }
    frame(routes, high);
    const all = told.edges.flatMap((one) => one.logprob);
    const [y, ticks] = scale([...all, whole?.logprob.at(-1)], top, low);
    put(routes, ...ticks, ...told.edges.flatMap((one, i) => line(one.logprob, told.window, y, ROUTES[i], false)),
      ...axis(high - 4), cursor(low + 2));
    put(edges, told.edges.map((one, i) => el("span", { class: "ir-route" }, swatch(ROUTES[i]),
      one.edge.replace("image", "picture").replace(">", " → "))),
      el("small", {}, `cut in ${told.window} layers about each point`),
      Object.keys(told.without).map((edge) => el("small", {}, `${edge}: not in this prompt`)));
  }

  // a step of the layer moves the cursor and the numbers, and draws nothing anew
  function draw() {
    const { asked, shown, strip: told } = view.panels;
    if (!asked) return;
    for (const one of node.querySelectorAll(".ir-cursor")) one.setAttribute("x", x(state.layer));
    if (shown) {
      put(legend, Object.entries(SEGMENTS).map(([name, [words, colour]]) => {
        const row = shown.share[shown.segments.indexOf(name)];
        return row?.some((share) => share > 0) && el("li", {}, swatch(colour),
          `${words} `, el("b", {}, percent(row[state.layer])));
      }));
    } else put(legend);
    if (!told) return put(now);
    const which = told.which[state.layer];
    put(now, `hidden from layer ${state.layer} on: `,
      el("b", { dir: "auto", class: which ? "ir-other" : "ir-same" }, shorten(told.answers[which] || "(nothing)", 90)),
      el("small", {}, told.keeps < asked.layers ? `  ⚑ kept from layer ${told.keeps} on`
        : "  ⚑ kept by the untouched model alone"));
  }

  function build() {
    if (!view.panels.asked) return;
    drawShares();
    drawStrip();
    drawRoutes();
    draw();
  }

  const node = el("section", { class: "ir-right-side", "aria-label": "by layer" },
    el("h3", {}, "What the answer attends to"), shares, legend,
    el("h3", {}, "What it says when the picture is hidden from a layer on"),
    el("small", { class: "ir-unit" }, "log-probability of the untouched answer, nats"), strip, now, answers,
    way, routes, edges);
  new ResizeObserver(([entry]) => {
    const found = Math.round(entry.contentRect.width);
    if (found > 50 && found !== wide) { wide = found; build(); }
  }).observe(node);
  return { node, draw, build, drawings: () => [shares, strip, routes].filter((one) => one.childNodes.length
    && !one.hasAttribute("hidden")) };
}
