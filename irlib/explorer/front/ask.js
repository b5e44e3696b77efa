// Left: what is asked (a task's row, a path, an upload, a question) and the answer, word by word.

import { button, el, put } from "./dom.js";
import { same } from "./data.js";

const MOST = 6e6; // bytes of an upload: a Jupyter server takes messages of 10 MB, in base64

export function askPanel(view) {
  const { host, state } = view;
  const asks = Boolean(host.send);
  const task = el("select", { "aria-label": "task", change: () => row(0) });
  const place = el("span", { class: "ir-place", "aria-live": "polite" });
  const question = el("textarea", {
    rows: 3, "aria-label": "question", placeholder: "Ask about the picture…", readonly: !asks,
    keydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); own(); }
    },
  });
  const path = el("input", {
    type: "text", "aria-label": "path of a picture", placeholder: "path of a picture",
    keydown: (event) => { if (event.key === "Enter") own(); },
  });
  const file = el("input", { type: "file", accept: "image/*", class: "ir-file",
    "aria-label": "upload a picture", change: () => file.files[0] && upload(file.files[0]) });
  const thumb = el("div", { class: "ir-thumb" });
  const words = el("div", { class: "ir-words", role: "group", "aria-label": "answer, words to pick" });
  const all = button("whole answer", "maps and shares of the whole answer", () => pick([]),
    { class: "ir-small" });
  const right = el("span", { class: "ir-right" });
  const told = el("div", { class: "ir-told", role: "status", "aria-live": "polite" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "progress" });
  const stop = button("stop", "stop computing", () => host.send({ do: "cancel" }), { class: "ir-small" });
  const busy = el("div", { class: "ir-busy", hidden: true }, bar, stop);
  let fresh = null; // a picture that was chosen and not asked about yet

  function row(number) { host.send({ do: "row", task: task.value, row: number }); }

  function step(by) {
    const at = view.panels.asked?.place;
    row(at && at[0] === task.value ? at[1] + by : 0);
  }

  function own() {
    const more = path.value.trim() ? { path: path.value.trim() } : (fresh ?? {});
    host.send({ do: "own", question: question.value, ...more });
  }

  function upload(chosen) {
    file.value = "";
    if (chosen.size > MOST) {
      return status({ error: `${chosen.name} has ${(chosen.size / 1e6).toFixed(1)} MB; an upload ` +
        `takes ${MOST / 1e6} MB at most: give its path instead, or a smaller picture` });
    }
    const reader = new FileReader();
    reader.onerror = () => status({ error: `${chosen.name} could not be read; choose it again` });
    reader.onload = () => {
      fresh = { name: chosen.name, data: reader.result.slice(reader.result.indexOf(",") + 1) };
      path.value = "";
      if (question.value.trim()) own();
      else { status({ note: `${chosen.name} is here: write a question` }); question.focus(); }
    };
    reader.readAsDataURL(chosen);
  }

  function pick(picked) {
    const count = view.panels.asked.words.length;
    state.picked = picked.length === count && count > 1 ? [] : picked;
    paint();
    const ready = view.picks.find((one) => same(one.picked, state.picked));
    if (ready) view.show(ready);
    else if (asks) host.send({ do: "words", picked: state.picked });
    else status({ note: "the maps of these words are not in this page" });
  }

  function toggle(place) {
    const has = state.picked.includes(place);
    pick(has ? state.picked.filter((one) => one !== place)
             : [...state.picked, place].sort((a, b) => a - b));
  }

  function paint() {
    [...words.children].forEach((node, place) =>
      node.setAttribute("aria-pressed", state.picked.includes(place)));
    all.setAttribute("aria-pressed", state.picked.length === 0);
  }

  function status(now) {
    busy.hidden = !now.busy;
    bar.value = now.part || 0;
    view.root.toggleAttribute("data-busy", Boolean(now.busy));
    told.className = now.error ? "ir-told ir-error" : "ir-told";
    const note = now.note === "stopped" ? "stopped; what was there stays" : now.note;
    put(told, now.error || (now.busy ? `${now.busy} …` : "") || note || "");
    if (now.tasks && !task.length) {
      put(task, now.tasks.map((name) => el("option", { value: name }, name)));
      const at = view.panels.asked?.place;
      if (at) task.value = at[0];
    }
  }

  function asked(panel) {
    fresh = null;
    state.picked = [];
    question.value = panel.question;
    if (panel.place) task.value = panel.place[0];
    put(place, panel.place ? `${panel.place[1] + 1} / ${panel.place[2]}` : "your own");
    put(thumb, panel.picture && el("img", { src: panel.picture.url, alt: `the picture, ${panel.key}` }));
    put(words, panel.words.map((word, i) =>
      button(word.text, `word ${word.text}`, () => toggle(i),
        { class: word.space ? "ir-word" : "ir-word ir-close", "aria-pressed": "false" })));
    put(right, panel.right == null ? "" : panel.right ? "✓" : "✗");
    right.className = panel.right ? "ir-right" : "ir-right ir-wrong";
    right.title = panel.right ? "right, by the task's own score" : "wrong, by the task's own score";
    all.hidden = panel.words.length < 2;
    paint();
  }

  const rows = el("div", { class: "ir-row" }, task,
    button("‹", "previous row", () => step(-1)), place, button("›", "next row", () => step(1)));
  const ways = el("div", { class: "ir-row" }, path,
    el("label", { class: "ir-upload", title: "upload a picture" }, "upload", file));
  const drop = asks && { dragover: (event) => event.preventDefault(),
    drop: (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
    } };
  const node = el("section", { class: "ir-left", "aria-label": "picture, question and answer", ...drop },
    asks && rows, thumb, asks && ways,
    el("div", { class: "ir-ask" }, question,
      asks && button("Ask", "ask the question", own, { class: "ir-go" })),
    el("div", { class: "ir-answer" }, words, right), el("div", { class: "ir-row" }, all),
    busy, told);
  return { node, asked, status };
}
