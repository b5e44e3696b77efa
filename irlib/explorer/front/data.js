// What comes from Python, unpacked: maps of numbers, colours, the layers at which answers change.

const STOPS = (
  "000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d " +
  "8a226a 972766 a32c61 b0315b bc3754 c73e4c d24644 db503b e45a31 eb6628 f1731d f68013 " +
  "f98e09 fb9d07 fcac11 fbbc21 f9cb35 f5db4c f2ea69 f3f68a fcffa4"
).split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

export const SEGMENTS = {
  image: ["picture", "#D55E00"], user: ["question", "#0072B2"], answer: ["answer", "#009E73"],
  between: ["between tiles", "#CC79A7"], system: ["system prompt", "#56B4E9"],
  first: ["first token", "#C9CDD2"],
};
export const OTHERS = ["#E69F00", "#CC79A7", "#56B4E9", "#8C6D31", "#7A5195", "#BC5090", "#6E6E6E"];
export const SAME = "#009E73";
export const SITES = {
  input_norm: "input norm", attention: "attention", post_attention: "post-attention", mlp: "MLP",
  block: "block",
};

export function inferno(share) {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.floor(place), high = Math.min(low + 1, STOPS.length - 1);
  return STOPS[low].map((value, i) => Math.round(value + (STOPS[high][i] - value) * (place - low)));
}

// a packed map as {layers, size, peak, at(layer, cell)} with the heat brought to 1 in each layer
export function unpack(map, cells) {
  if (map.at) return map;
  const text = atob(map.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const view = new DataView(bytes.buffer), most = 2 ** map.bits - 1;
  map.at = map.bits === 8
    ? (layer, cell) => bytes[layer * cells + cell] / most
    : (layer, cell) => view.getUint16(2 * (layer * cells + cell), true) / most;
  return map;
}

export function hottest(map, layer, cells) {
  let best = 0;
  for (let cell = 1; cell < cells; cell++) if (map.at(layer, cell) > map.at(layer, best)) best = cell;
  return best;
}

export function colourOf(which) {
  return which === 0 ? SAME : OTHERS[(which - 1) % OTHERS.length];
}

export function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
