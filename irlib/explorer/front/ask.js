// Left: what is asked (a task's row, a path, an upload, a question) and the answer, word by word.

import { button, el, put, shorten } from "./dom.js";
import { same } from "./data.js";

const MOST = 6e6; // bytes of an upload: a Jupyter server takes messages of 10 MB, in base64

export function askPanel(view) {
  const { host, state } = view;
  const asks = Boolean(host.send);
  const task = el("select", { "aria-label": "task", change: () => row(0) });
  const place = el("span", { class: "ir-place", "aria-live": "polite" });
  const question = el("textarea", {
    rows: 3, dir: "auto", "aria-label": "question", placeholder: "Ask about the picture…", readonly: !asks,
    input: () => { typed = true; tellOf(); },
    keydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); own(); }
    },
  });
  const path = el("input", {
    type: "text", "aria-label": "path of a picture", placeholder: "path of a picture",
    input: () => { typed = true; },
    keydown: (event) => { if (event.key === "Enter") own(); },
  });
  const file = el("input", { type: "file", accept: "image/*", class: "ir-file",
    "aria-label": "upload a picture", change: () => file.files[0] && upload(file.files[0]) });
  const thumb = el("div", { class: "ir-thumb" });
  const words = el("div", { class: "ir-words", dir: "auto", role: "group", "aria-label": "answer, words to pick" });
  const all = button("whole answer", "maps and shares of the whole answer", () => pick([]),
    { class: "ir-small" });
  const right = el("span", { class: "ir-right", role: "img" });
  const told = el("div", { class: "ir-told", role: "status", "aria-live": "polite" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "progress" });
  const stop = button("stop", "stop computing", () => host.send({ do: "cancel" }), { class: "ir-small" });
  const busy = el("div", { class: "ir-busy", hidden: true }, bar, stop);
  const of = el("small", { class: "ir-of", dir: "auto" }); // whose answer this is, where another question is written
  const chosen = el("span", { class: "ir-chosen", hidden: true });
  let fresh = null; // a picture that was chosen and not asked about yet
  let typed = false; // something that was not asked yet: what comes in must not take it away

  function row(number) {
    typed = false;
    host.send({ do: "row", task: task.value, row: number });
  }

  function take(picture) {
    fresh = picture;
    chosen.hidden = !picture;
    put(chosen, picture && [picture.name,
      button("×", `leave out ${picture.name}`, () => take(null), { class: "ir-small" })]);
  }

  function tellOf() {
    const asked = view.panels.asked?.question;
    const other = asked != null && asked.trim() !== question.value.trim();
    put(of, other ? `answer to: ${shorten(asked, 160)}` : "");
  }

  function step(by) {
    const at = view.panels.asked?.place;
    row(at && at[0] === task.value ? at[1] + by : 0);
  }

  function own() {
    typed = false;
    const more = path.value.trim() ? { path: path.value.trim() } : (fresh ?? {});
    host.send({ do: "own", question: question.value, ...more });
  }

  function upload(one) {
    file.value = "";
    if (one.size > MOST) {
      return status({ error: `${one.name} has ${(one.size / 1e6).toFixed(1)} MB; an upload ` +
        `takes ${MOST / 1e6} MB at most: give its path instead, or a smaller picture` });
    }
    const reader = new FileReader();
    reader.onerror = () => status({ error: `${one.name} could not be read; choose it again` });
    reader.onload = () => {
      take({ name: one.name, data: reader.result.slice(reader.result.indexOf(",") + 1) });
      path.value = "";
      if (question.value.trim()) own();
      else { status({ note: `${one.name} is here: write a question` }); question.focus(); }
    };
    reader.readAsDataURL(one);
  }

  function pick(picked) {
    const count = view.panels.asked.words.length;
    const wanted = picked.length === count ? [] : picked;
    const ready = view.picks.find((one) => same(one.picked, wanted));
    if (!ready && !asks) return status({ note: "the maps of these words are not in this page" });
    state.picked = wanted;
    paint();
    if (ready) view.show(ready);
    else host.send({ do: "words", picked: wanted, number: view.panels.asked.number });
  }

  // the words are those whose map is shown, whatever was picked and did not come
  function settle() {
    if (!view.panels.shown || same(state.picked, view.panels.shown.picked)) return;
    state.picked = view.panels.shown.picked;
    paint();
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
    if (now.busy === "") settle();
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
    state.picked = [];
    if (!typed) {
      take(null);
      path.value = "";
      question.value = panel.question;
    }
    tellOf();
    if (panel.place) task.value = panel.place[0];
    put(place, panel.place ? `${panel.place[1] + 1} / ${panel.place[2]}`
      : panel.task === "user" ? "your own" : `${panel.task} ${panel.key}`);
    put(thumb, panel.picture && el("img", { src: panel.picture.url, alt: `the picture, ${panel.key}` }));
    put(words, panel.words.map((word, i) =>
      button(word.text, `word ${word.text}`, () => toggle(i),
        { class: word.space ? "ir-word" : "ir-word ir-close", "aria-pressed": "false" })));
    put(right, panel.right == null ? "" : panel.right ? "✓" : "✗");
    right.className = panel.right ? "ir-right" : "ir-right ir-wrong";
    right.title = panel.right ? "right, by the task's own score" : "wrong, by the task's own score";
    right.setAttribute("aria-label", panel.right == null ? "" : right.title);
    all.hidden = panel.words.length < 2;
    paint();
  }

  const rows = el("div", { class: "ir-row" }, task,
    button("‹", "previous row", () => step(-1)), place, button("›", "next row", () => step(1)));
  const ways = el("div", { class: "ir-row" }, path,
    el("label", { class: "ir-upload", title: "upload a picture" }, "upload", file), chosen);
  const drop = asks && { dragover: (event) => event.preventDefault(),
    drop: (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
    } };
  const node = el("section", { class: "ir-left", "aria-label": "picture, question and answer", ...drop },
    asks && rows, thumb, asks && ways,
    el("div", { class: "ir-ask" }, question,
      asks && button("Ask", "ask the question", own, { class: "ir-go" })),
    of, el("div", { class: "ir-answer" }, words, right), el("div", { class: "ir-row" }, all),
    busy, told);
  return { node, asked, status, settle };
}
