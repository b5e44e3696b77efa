// Where panels come from: a widget's model, a file's own data, or a server of ours.

export function widget(model) {
  return {
    get: (name) => model.get(name),
    on: (name, hear) => {
      const heard = () => hear(model.get(name));
      model.on(`change:${name}`, heard);
      return () => model.off(`change:${name}`, heard);
    },
    send: (message) => model.send(message),
    layer: () => model.get("layer"),
    page: () => new Promise((done, fail) => {
      const late = setTimeout(() => { model.off("msg:custom", heard); fail(new Error("no kernel answers")); }, 60000);
      function heard(message) {
        if (message.page === undefined) return;
        clearTimeout(late);
        model.off("msg:custom", heard);
        done(message.page);
      }
      model.on("msg:custom", heard);
      model.send({ do: "page" });
    }),
  };
}

export function saved(told) {
  return { get: (name) => told[name], on: () => null, picks: () => told.picks ?? [], layer: () => told.layer };
}

export function served() {
  const hears = {}, panels = {};
  let waiting = null, socket = null;
  function open() {
    const here = `${location.origin}${location.pathname.replace(/\/?$/, "/")}`.replace(/^http/, "ws");
    socket = new WebSocket(`${here}socket${location.search}`);
    socket.onmessage = (event) => {
      for (const [name, panel] of Object.entries(JSON.parse(event.data))) {
        if (name === "page") waiting?.(panel);
        else { panels[name] = panel; hears[name]?.(panel); }
      }
    };
    socket.onclose = () => {
      hears.status?.({ error: "the server does not answer; start irlib explore again, then ask again" });
      setTimeout(open, 3000);
    };
  }
  function send(message) {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
    else hears.status?.({ error: "the server does not answer; start irlib explore again" });
  }
  open();
  return {
    get: (name) => panels[name],
    on: (name, hear) => { hears[name] = hear; return () => delete hears[name]; },
    send,
    layer: () => panels.layer,
    page: () => new Promise((done) => { waiting = done; send({ do: "page" }); }),
  };
}
