// Draws a graph: nodes in layers from top to bottom, so that edges cross little.

import { h, svg } from "./show.js";

const MOST_NODES = 300;
const [HEIGHT, GAP_X, GAP_Y, PAD] = [30, 26, 42, 14];
const LONGEST = 26;

const label = (node) => {
  const name = String(node.data?.name ?? node.id);
  const last = name.slice(name.lastIndexOf(":") + 1);
  return { __start__: "start", __end__: "end" }[last] ?? last;
};
const cut = (name) => (name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name);
// The graph that a node is in, by the names of the nodes that hold it: "" is the outermost.
const groupOf = (id) => id.slice(0, Math.max(0, id.lastIndexOf(":")));

// The drawing of what GET /assistants/{id}/graph answers; `mark(ids)` shows which nodes are at work.
export function drawing(graph) {
  const nodes = (graph.nodes ?? []).map((each) => ({ ...each, id: String(each.id) }));
  const known = new Set(nodes.map((each) => each.id));
  const edges = (graph.edges ?? [])
    .map((each) => ({ ...each, source: String(each.source), target: String(each.target) }))
    .filter((each) => known.has(each.source) && known.has(each.target));
  if (nodes.length > MOST_NODES) {
    const names = nodes.slice(0, MOST_NODES).map((each) => h("li", {}, label(each)));
    const element = h("div", {}, h("p", { class: "hint" }, `${nodes.length} nodes, too many to draw.`), h("ul", {}, names));
    return { element, mark: () => {} };
  }
  const placed = layout(nodes, edges);
  const shapes = new Map();
  const inside = [
    ...boxes(placed).map((each) =>
      svg("g", { class: "group" },
        svg("rect", { x: each.x, y: each.y, width: each.width, height: each.height, rx: 10 }),
        svg("text", { x: each.x + 10, y: each.y + 15 }, cut(each.name)))),
    ...placed.edges.map(line),
    ...placed.nodes.map((each) => {
      const shape = box(each);
      shapes.set(each.id, shape);
      return shape;
    }),
  ];
  const told = edges.map((each) => `${each.source} to ${each.target}${each.conditional ? " (sometimes)" : ""}`);
  const [x, y, width, height] = extent(placed);
  const element = svg(
    "svg",
    { class: "graph", viewBox: `${x} ${y} ${width} ${height}`, width, height, role: "img", "aria-label": "The graph's nodes and edges" },
    svg("title", {}, `A graph of ${nodes.length} nodes`),
    svg("desc", {}, told.join(", ").slice(0, 5000)),
    svg("defs", {}, ["arrow"].map((id) =>
      svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
        svg("path", { d: "M0 0.5 L7.5 4 L0 7.5 z" })))),
    ...inside,
  );
  const mark = (states) => {
    for (const [id, shape] of shapes) {
      if (states.has(id)) shape.setAttribute("data-state", states.get(id));
      else shape.removeAttribute("data-state");
    }
  };
  return { element, mark, names: nodes.map((each) => each.id) };
}

// Place nodes and edges: each node gets x and y of its middle, each edge the points it goes through.
export function layout(nodes, edges) {
  const loops = edges.filter((each) => each.source === each.target);
  const ways = forward(nodes, edges.filter((each) => each.source !== each.target));
  const layerOf = layers(nodes, ways);
  const made = new Map(nodes.map((each) => {
    const width = Math.max(44, cut(label(each)).length * 7.3 + 26);
    return [each.id, { ...each, width, layer: layerOf.get(each.id), group: groupOf(each.id), up: [], down: [] }];
  }));
  const all = [...made.values()];
  // An edge over several layers has a place of its own in each between.
  const chains = ways.map((way) => {
    const [from, to] = [made.get(way.from), made.get(way.to)];
    const chain = [from];
    for (let layer = from.layer + 1; layer < to.layer; layer++) {
      const group = from.group === to.group ? from.group : "";
      const place = { width: 8, layer, group, up: [], down: [], isPlace: true };
      all.push(place);
      chain.push(place);
    }
    chain.push(to);
    chain.slice(1).forEach((each, i) => {
      chain[i].down.push(each);
      each.up.push(chain[i]);
    });
    return { edge: way.edge, chain, turned: way.turned };
  });
  const rows = [];
  for (const each of all) (rows[each.layer] ??= []).push(each);
  order(rows);
  coordinates(rows);
  return {
    nodes: all.filter((each) => !each.isPlace),
    edges: [
      ...chains.map(({ edge, chain, turned }) => ({ edge, points: turned ? [...chain].reverse() : chain, turned })),
      ...loops.map((edge) => ({ edge, points: [made.get(edge.source)], isLoop: true })),
    ],
  };
}

// The edges as they have to go to lead downwards: those that close a cycle are turned around.
function forward(nodes, edges) {
  const out = new Map(nodes.map((each) => [each.id, []]));
  for (const edge of edges) out.get(edge.source).push(edge);
  const state = new Map(); // 1: on the way, 2: done
  const ways = [];
  const targets = new Set(edges.map((each) => each.target));
  const roots = [...nodes].sort((a, b) => targets.has(a.id) - targets.has(b.id));
  for (const root of roots) {
    if (state.has(root.id)) continue;
    state.set(root.id, 1);
    const stack = [[root.id, 0]];
    while (stack.length) {
      const top = stack[stack.length - 1];
      const edge = out.get(top[0])[top[1]++];
      if (!edge) {
        state.set(top[0], 2);
        stack.pop();
        continue;
      }
      const turned = state.get(edge.target) === 1;
      ways.push(turned ? { edge, from: edge.target, to: edge.source, turned } : { edge, from: edge.source, to: edge.target, turned });
      if (!state.has(edge.target)) {
        state.set(edge.target, 1);
        stack.push([edge.target, 0]);
      }
    }
  }
  return ways;
}

// Each node's layer: one below the lowest that leads to it.
function layers(nodes, ways) {
  const layer = new Map(nodes.map((each) => [each.id, 0]));
  const open = new Map(nodes.map((each) => [each.id, 0]));
  for (const { to } of ways) open.set(to, open.get(to) + 1);
  const ready = nodes.filter((each) => !open.get(each.id)).map((each) => each.id);
  while (ready.length) {
    const id = ready.shift();
    for (const { to } of ways.filter((each) => each.from === id)) {
      layer.set(to, Math.max(layer.get(to), layer.get(id) + 1));
      open.set(to, open.get(to) - 1);
      if (!open.get(to)) ready.push(to);
    }
  }
  // The end is below all others of its graph.
  const others = [...layer].filter(([id]) => id !== "__end__").map(([, each]) => each);
  if (layer.has("__end__")) layer.set("__end__", Math.max(0, ...others.map((each) => each + 1)));
  return layer;
}

// Sort each row by where its neighbours are, down and up again; what is in one graph stays together.
function order(rows) {
  const number = () => rows.forEach((row) => row.forEach((each, i) => (each.at = i - (row.length - 1) / 2)));
  const mean = (list, otherwise) => (list.length ? list.reduce((sum, each) => sum + each.at, 0) / list.length : otherwise);
  number();
  for (let round = 0; round < 12; round++) {
    const down = round % 2 === 0;
    for (const row of down ? rows : [...rows].reverse()) {
      const wanted = new Map(row.map((each) => [each, mean(down ? each.up : each.down, each.at)]));
      const groups = new Map();
      for (const each of row) groups.set(each.group, [...(groups.get(each.group) ?? []), wanted.get(each)]);
      const middle = (group) => groups.get(group).reduce((a, b) => a + b, 0) / groups.get(group).length;
      row.sort((a, b) => (a.group === b.group ? 0 : middle(a.group) - middle(b.group)) || wanted.get(a) - wanted.get(b) || a.at - b.at);
      row.forEach((each, i) => (each.at = i - (row.length - 1) / 2));
    }
  }
}

// Give each its x, near its neighbours' and beside the others of its row; and its y.
function coordinates(rows) {
  const gap = (a, b) => (a.width + b.width) / 2 + GAP_X + (a.group === b.group ? 0 : PAD);
  rows.forEach((row, layer) => {
    let x = 0;
    row.forEach((each, i) => {
      x += i ? gap(row[i - 1], each) : 0;
      each.x = x;
      each.y = layer * (HEIGHT + GAP_Y);
    });
    row.forEach((each) => (each.x -= x / 2));
  });
  for (let round = 0; round < 24; round++) {
    const down = round % 2 === 0;
    for (const row of down ? rows : [...rows].reverse()) {
      const wanted = row.map((each) => {
        const near = down ? each.up : each.down;
        return near.length ? near.reduce((sum, other) => sum + other.x, 0) / near.length : each.x;
      });
      // As near as can be to where each wants to be: once from the left, once from the right.
      const left = [];
      row.forEach((each, i) => left.push(i ? Math.max(wanted[i], left[i - 1] + gap(row[i - 1], each)) : wanted[i]));
      const right = [];
      for (let i = row.length - 1; i >= 0; i--) {
        right[i] = i < row.length - 1 ? Math.min(wanted[i], right[i + 1] - gap(row[i], row[i + 1])) : wanted[i];
      }
      row.forEach((each, i) => (each.x = (left[i] + right[i]) / 2));
    }
  }
}

function boxes({ nodes }) {
  const found = new Map();
  for (const each of nodes) {
    for (let group = each.group; group; group = groupOf(group)) found.set(group, [...(found.get(group) ?? []), each]);
  }
  return [...found]
    .sort(([a], [b]) => a.split(":").length - b.split(":").length)
    .map(([group, inside]) => {
      const depth = Math.max(...inside.map((each) => each.group.split(":").length)) - group.split(":").length;
      const pad = PAD + depth * 8;
      const x = Math.min(...inside.map((each) => each.x - each.width / 2)) - pad;
      const y = Math.min(...inside.map((each) => each.y)) - HEIGHT / 2 - pad - 10;
      const width = Math.max(...inside.map((each) => each.x + each.width / 2)) + pad - x;
      const height = Math.max(...inside.map((each) => each.y)) + HEIGHT / 2 + pad - y;
      return { x, y, width, height, name: group.slice(group.lastIndexOf(":") + 1) };
    });
}

function extent(placed) {
  const around = boxes(placed);
  const points = placed.edges.flatMap((each) => each.points);
  const left = [...placed.nodes.map((each) => each.x - each.width / 2), ...points.map((each) => each.x), ...around.map((each) => each.x)];
  const right = [
    ...placed.nodes.map((each) => each.x + each.width / 2),
    ...points.map((each) => each.x),
    ...around.map((each) => each.x + each.width),
    ...placed.edges.filter((each) => each.isLoop).map((each) => each.points[0].x + each.points[0].width / 2 + 24),
  ];
  const top = [...placed.nodes.map((each) => each.y - HEIGHT / 2), ...around.map((each) => each.y)];
  const bottom = [...placed.nodes.map((each) => each.y + HEIGHT / 2), ...around.map((each) => each.y + each.height)];
  if (!placed.nodes.length) return [0, 0, 1, 1];
  const [x, y] = [Math.min(...left) - 8, Math.min(...top) - 8];
  return [x, y, Math.max(...right) + 8 - x, Math.max(...bottom) + 8 - y].map(Math.round);
}

function line({ edge, points, turned, isLoop }) {
  const kind = `edge${edge.conditional ? " conditional" : ""}`;
  const words = typeof edge.data === "string" && edge.data !== edge.target ? svg("title", {}, edge.data) : null;
  if (isLoop) {
    const [{ x, y, width }] = points;
    const right = x + width / 2;
    const d = `M${right} ${y - 6} C${right + 26} ${y - 20} ${right + 26} ${y + 20} ${right + 2} ${y + 6}`;
    return svg("path", { class: kind, d, "marker-end": "url(#arrow)" }, words);
  }
  const sign = turned ? -1 : 1;
  const first = points[0];
  const last = points[points.length - 1];
  // What goes back up keeps to the side of what comes down between the same two.
  const side = first.x < last.x ? -1 : 1;
  const aside = turned && points.length === 2 ? side * (Math.min(first.width, last.width) / 2 - 9) : 0;
  const track = points.map((each) => [each.x + aside, each.y]);
  track[0][1] += (sign * HEIGHT) / 2;
  track[track.length - 1][1] -= sign * (HEIGHT / 2 + 2);
  const [start, ...others] = track;
  let [x, y] = start;
  const d = others.map(([nextX, nextY]) => {
    const half = (nextY - y) / 2;
    const piece = `C${x} ${y + half} ${nextX} ${nextY - half} ${nextX} ${nextY}`;
    [x, y] = [nextX, nextY];
    return piece;
  });
  return svg("path", { class: kind, d: `M${start[0]} ${start[1]} ${d.join(" ")}`, "marker-end": "url(#arrow)" }, words);
}

function box(node) {
  const name = label(node);
  const isEnd = /(^|:)__(start|end)__$/.test(node.id);
  const tools = node.metadata?.__tools;
  const title = Array.isArray(tools) ? `${node.id}: ${tools.join(", ")}` : node.id;
  return svg(
    "g",
    { class: isEnd ? "node terminal" : "node" },
    svg("title", {}, title),
    svg("rect", { x: node.x - node.width / 2, y: node.y - HEIGHT / 2, width: node.width, height: HEIGHT, rx: isEnd ? HEIGHT / 2 : 7 }),
    svg("text", { x: node.x, y: node.y + 4.5, "text-anchor": "middle" }, cut(name)),
  );
}
