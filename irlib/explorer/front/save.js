// What can be taken away: the picture, the numbers, the page, the lines of Python.

import { button, el } from "./dom.js";

const WIDE = 1500, EDGE = 30;

function download(name, blob) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function stem(view) {
  const { asked } = view.panels;
  return `${asked.model}-${asked.task}-${asked.key}-layer${view.state.layer}`.replace(/[^\w.-]+/g, "_");
}

// the words whose maps are shown, which are not yet those that were picked a moment ago
function picked(view) { return view.panels.shown?.picked ?? []; }

function provenance(view) {
  const { asked } = view.panels, { state } = view;
  return { ...asked.provenance, question: asked.question, answer: asked.answer, layer: state.layer,
    map: view.mapKey(), words: picked(view).map((place) => asked.words[place].text) };
}

// one row a layer; the last is the untouched model
export function csv(view) {
  const { asked, shown, strip } = view.panels, map = view.map();
  const cell = (value) => value == null ? "" : /[",\r\n]/.test(String(value))
    ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const names = shown ? shown.segments : [];
  const head = ["layer", ...names.map((name) => `share_${name}`), "map", "peak", "inside", "hit",
    "answer_hidden_from_here", "logprob"];
  const rows = [];
  for (let layer = 0; layer <= asked.layers; layer++) {
    const own = map && layer < asked.layers;
    rows.push([layer, ...names.map((_, i) => shown.share[i][layer]), own ? view.mapKey() : "",
      own ? map.peak[layer] : "", own ? map.inside[layer] : "", own ? map.hit[layer] : "",
      strip?.answers[strip.which[layer]], strip?.logprob[layer]]);
  }
  const lines = [head, ...rows].map((row) => row.map(cell).join(","));
  return `# ${JSON.stringify(provenance(view))}\n${lines.join("\n")}\n`;
}

// a text without what no XML may hold, which a model may well say: control signs, half letters
export function written(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "").replace(/\p{Cs}/gu, "");
}

function drawn(node, width, height) {
  const copy = node.cloneNode(true);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const image = new Image(), text = written(new XMLSerializer().serializeToString(copy));
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
  return image.decode().then(() => image);
}

async function png(view) {
  const { asked, strip } = view.panels, { picture } = asked, parts = view.drawings();
  const side = picture ? Math.max(1, Math.min(660, (1200 * picture.width) / picture.height)) : 0;
  const high = picture ? Math.max(1, (side * picture.height) / picture.width) : 0;
  const left = EDGE + side + (side ? EDGE : 0), wide = WIDE - left - EDGE;
  const sizes = parts.map((one) => one.viewBox.baseVal), top = 118;
  const tall = sizes.map((size) => (wide * size.height) / size.width);
  const height = top + Math.max(high, tall.reduce((sum, one) => sum + one + 24, 0)) + 60;
  const canvas = el("canvas", { width: WIDE, height }), pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, WIDE, height);
  const write = (words, x, y, size, colour = "#222") => {
    pen.font = `${size}px system-ui, sans-serif`;
    pen.fillStyle = colour;
    pen.fillText(words, x, y, WIDE - x - EDGE);
  };
  write(asked.question, EDGE, 44, 24);
  write(`→ ${asked.answer}`, EDGE, 76, 24, "#00694d");
  write(`${view.mapName()}, layer ${view.state.layer}`, EDGE, 104, 17, "#555");
  if (picture) {
    const one = el("canvas");
    view.paint(one, Math.round(side), Math.round(high));
    pen.drawImage(one, EDGE, top);
    pen.drawImage(await drawn(view.marks, Math.round(side), Math.round(high)), EDGE, top, side, high);
  }
  let y = top;
  for (const [i, one] of parts.entries()) {
    pen.drawImage(await drawn(one, 2 * wide, 2 * tall[i]), left, y, wide, tall[i]);
    y += tall[i] + 24;
  }
  const kept = strip ? ` · ⚑ answer kept from layer ${strip.keeps} on` : "";
  write(`${asked.model} · layers count from 0${kept} · irlib ${asked.provenance.irlib}`, EDGE, height - 22, 15, "#777");
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return withText(new Uint8Array(await blob.arrayBuffer()), "irlib", JSON.stringify(provenance(view)));
}

// a PNG with an iTXt chunk behind its head: what it was made from travels in the file
export function withText(bytes, name, text) {
  const code = new TextEncoder(), body = code.encode(`iTXt${name}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(body.length + 8), view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc(body));
  const made = new Uint8Array(bytes.length + chunk.length), behind = 33; // signature and IHDR
  made.set(bytes.subarray(0, behind));
  made.set(chunk, behind);
  made.set(bytes.subarray(behind), behind + chunk.length);
  return made;
}

function crc(bytes) {
  let rest = ~0;
  for (const byte of bytes) {
    rest ^= byte;
    for (let k = 0; k < 8; k++) rest = (rest >>> 1) ^ (0xedb88320 & -(rest & 1));
  }
  return ~rest >>> 0;
}

export function python(view) {
  const { asked } = view.panels, { state } = view, lines = [...asked.python];
  const tokens = picked(view).flatMap((place) => asked.words[place].tokens);
  const flow = "flow = attention_flow(vlm, inputs, answer, first=True)" +
    (tokens.length ? "  # of the whole answer, not of these words" : "");
  if (state.site !== "attends" && asked.picture) {
    if (tokens.length) {
      const words = JSON.stringify(picked(view).map((place) => asked.words[place].text).join(" "));
      lines.push(`tokens = [${tokens.join(", ")}]  # ${words}`, "ids = answer.ids[0][tokens]");
    }
    const target = tokens.length ? ", target=lambda logits: logits[tokens, ids].sum()" : "";
    lines.push(`maps = llava_cam(vlm, inputs, answer, site="${state.site}", pool="${state.pool}"${target})`,
      `figure = maps.show([${state.layer}])`);
  }
  lines.push(flow, `with truncate(vlm, inputs, layer=${state.layer}):`, "    hidden = vlm.answer(inputs).text");
  return `${lines.join("\n")}\n`;
}

function printed(html) {
  const frame = el("iframe", { class: "ir-print", "aria-hidden": "true", srcdoc: html });
  frame.addEventListener("load", () => setTimeout(() => {
    frame.contentWindow.addEventListener("afterprint", () => frame.remove());
    frame.contentWindow.print();
  }, 400));
  document.body.append(frame);
}

export function savePanel(view) {
  const { host } = view;
  const copied = el("span", { role: "status", class: "ir-copied" });
  const shown = el("textarea", { class: "ir-python", readonly: true, hidden: true, rows: 11,
    "aria-label": "the same in Python" });
  const safe = (job) => async () => {
    if (!view.panels.asked) return;
    try { await job(); } catch (error) { view.status({ error: `could not be saved: ${error.message}` }); }
  };
  async function copy() {
    shown.value = python(view);
    shown.hidden = !shown.hidden;
    if (shown.hidden) return;
    try {
      await navigator.clipboard.writeText(shown.value);
      copied.textContent = "copied";
    } catch { shown.select(); copied.textContent = "press Ctrl+C"; }
    setTimeout(() => { copied.textContent = ""; }, 2500);
  }
  const node = el("footer", { class: "ir-save" },
    button("PNG", "save this view as a picture", safe(async () =>
      download(`${stem(view)}.png`, new Blob([await png(view)], { type: "image/png" })))),
    button("csv", "save the numbers by layer", safe(() =>
      download(`${stem(view)}.csv`, new Blob([csv(view)], { type: "text/csv" })))),
    button("PDF", "print, or save as PDF", safe(async () =>
      host.page ? printed(await host.page()) : window.print())),
    host.page && button("page", "save as one HTML file that needs no kernel", safe(async () =>
      download(`${stem(view)}.html`, new Blob([await host.page()], { type: "text/html" })))),
    button("copy as Python", "the lines that make the same", safe(copy)), copied, shown);
  return { node };
}
