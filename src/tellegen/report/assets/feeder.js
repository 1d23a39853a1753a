// The feeder as a tree over electrical distance, and prices or voltages along it at the chosen time.
// Asked of an element, so that the page holds no address, not even a name that looks like one.
const SVG = $("pen").namespaceURI;
function shape(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (parent) parent.append(element);
  return element;
}

const NODES = DATA.nodes;
const SIDE = { left: 46, right: 14 };
const RAMP = ["#3b4cc0", "#4f86d9", "#5fb3c8", "#7fc98f", "#d8cf57", "#f0a03c", "#d9472b"];
const BALANCE = ["#2c5fb3", "#6f9fd8", "#b9c9d6", "#c9cfc6", "#e3c08f", "#df7f45", "#b3261e"];

function ramp(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2), part = at - low;
  const mix = (i) => Math.round(parseInt(stops[low].slice(i, i + 2), 16) * (1 - part) + parseInt(stops[low + 1].slice(i, i + 2), 16) * part);
  return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
}

function layout() {
  // Leaves one below the other in depth-first order, longest branch last; a parent in the middle of its children.
  const count = NODES.names.length, children = Array.from({ length: count }, () => []), roots = [];
  NODES.parents.forEach((p, n) => (p < 0 ? roots : children[p]).push(n));
  const y = new Float64Array(count), order = [];
  const walk = [...roots].reverse();
  while (walk.length) { const n = walk.pop(); order.push(n); walk.push(...[...children[n]].reverse()); }
  const size = new Int32Array(count).fill(1), far = Float64Array.from(NODES.distances);
  [...order].reverse().forEach((n) => { const p = NODES.parents[n]; if (p >= 0) { size[p] += size[n]; far[p] = Math.max(far[p], far[n]); } });
  children.forEach((list) => list.sort((a, b) => far[a] - far[b] || a - b));
  let leaf = 0;
  const place = (start) => {
    // Without recursion: a long feeder may be thousands of nodes deep.
    const work = [[start, 0]];
    while (work.length) {
      const top = work[work.length - 1], [n, done] = top;
      if (!children[n].length) { y[n] = leaf++; work.pop(); }
      else if (done < children[n].length) { top[1]++; work.push([children[n][done], 0]); }
      else { const ys = children[n].map((c) => y[c]); y[n] = children[n].length > 1 ? (Math.min(...ys) + Math.max(...ys)) / 2 : ys[0]; work.pop(); }
    }
  };
  roots.forEach(place);
  return { y, leaves: Math.max(leaf, 1), order, size };
}

function feeder() {
  const tree = layout(), count = NODES.names.length, far = Math.max(...NODES.distances) || 1;
  const map = $("map"), profile = $("profile");
  let width = 0, dots = [], wires = [];
  const x = (n) => SIDE.left + (NODES.distances[n] / far) * (width - SIDE.left - SIDE.right);
  const pathTo = (n) => { const path = []; for (let at = n; at >= 0; at = NODES.parents[at]) path.unshift(at); return path; };

  const values = () => view.colour === "price" ? (view.market && series(DATA.markets[view.market].energy)) : series(WORLD_OF.get(view.world)?.voltages);
  const spans = new Map();
  function span(all) {
    // Range of the colour scale: for voltages the limits; for prices the whole day's or this moment's.
    if (view.colour === "voltage") {
      const [low, high] = DATA.limits, reach = Math.max(1 - low, high - 1, 0.01);
      return [1 - reach, 1 + reach];
    }
    if (view.scale === "day") {
      if (!spans.has(all)) spans.set(all, [Math.min(...all.map((r) => Math.min(...r))), Math.max(...all.map((r) => Math.max(...r)))]);
      return spans.get(all);
    }
    const now = all.map((r) => r[view.time]);
    return [Math.min(...now), Math.max(...now)];
  }
  const outside = (v) => view.colour === "voltage" && (v < DATA.limits[0] || v > DATA.limits[1]);
  const digits = () => view.colour === "price" ? 2 : 4;

  function describe(n) {
    const lines = [NODES.names[n] + (NODES.customers[n] ? ` · ${NODES.customers[n]} customer${NODES.customers[n] > 1 ? "s" : ""}` : "")];
    if (view.market) lines.push(`${number(row(DATA.markets[view.market].energy, n)[view.time], 2)} ${PRICE_UNIT}`);
    for (const w of DATA.worlds) if (w.voltages) lines.push(`${number(row(w.voltages, n)[view.time], 4)} pu, ${w.title.toLowerCase()}`);
    return lines.join("\n");
  }
  function hint(event, n) {
    const tip = $("tip");
    tip.textContent = describe(n);
    tip.hidden = false;
    const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = left + "px";
    tip.style.top = event.pageY + 14 + "px";
  }
  const listen = (element, n) => {
    element.addEventListener("pointermove", (event) => hint(event, n));
    element.addEventListener("pointerleave", () => { $("tip").hidden = true; });
    element.addEventListener("click", () => tell("node", n));
  };

  function drawTree() {
    width = Math.max(map.clientWidth, 260);
    const gap = Math.max(15, Math.min(26, 460 / tree.leaves)), height = tree.leaves * gap + 20;
    const y = (n) => 12 + tree.y[n] * gap + gap / 2;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Feeder" });
    wires = []; dots = [];
    for (const n of tree.order) {
      const p = NODES.parents[n];
      wires[n] = p < 0 ? null : shape("path", { class: "wire", d: `M${x(p)},${y(p)} V${y(n)} H${x(n)}`, "stroke-width": 1 + Math.sqrt(tree.size[n] / count) * 2 }, svg);
    }
    const radius = Math.max(3, Math.min(6, gap * 0.28));
    for (const n of tree.order) {
      const root = NODES.parents[n] < 0;
      dots[n] = root ? shape("rect", { class: "node substation", x: x(n) - 6, y: y(n) - 6, width: 12, height: 12, rx: 2 }, svg)
        : shape("circle", { class: "node", cx: x(n), cy: y(n), r: NODES.customers[n] ? radius : radius * 0.6 }, svg);
      listen(dots[n], n);
      if (root) shape("text", { x: x(n) - 10, y: y(n) - 10, "text-anchor": "start" }, svg).textContent = "substation";
    }
    map.replaceChildren(svg);
  }

  function paint() {
    const all = values();
    if (!all) return;
    const [low, high] = span(all), stops = view.colour === "price" ? RAMP : BALANCE, width_of = high - low || 1;
    const path = new Set(pathTo(view.node));
    dots.forEach((dot, n) => {
      const v = all[n][view.time];
      if (NODES.parents[n] >= 0) dot.style.fill = ramp(stops, (v - low) / width_of);
      dot.classList.toggle("out", outside(v));
      dot.classList.toggle("chosen", n === view.node);
      if (wires[n]) wires[n].classList.toggle("path", path.has(n));
    });
    const bar = make("i");
    bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const unit = view.colour === "price" ? PRICE_UNIT : "pu";
    $("ramp").replaceChildren(number(low, digits() - 1), bar, `${number(high, digits() - 1)} ${unit}`);
  }

  function drawProfile() {
    const all = values();
    if (!all) { profile.replaceChildren(); return; }
    const height = 250, top = 12, bottom = height - 26, now = all.map((r) => r[view.time]);
    const parts = view.colour === "price" ? DATA.markets[view.market] : null;
    const path = pathTo(view.node), base = parts ? row(parts.root, view.node)[view.time] : null;
    const layers = [];
    if (parts) {
      // Parts lie on the wholesale price, those that raise it above, those that lower it below.
      const up = path.map(() => base), down = path.map(() => base);
      for (const part of PARTS) {
        const share = path.map((n) => row(parts[part], n)[view.time]);
        for (const [edge, sign] of [[up, 1], [down, -1]]) {
          if (!share.some((v) => v * sign > 0)) continue;
          const from = [...edge];
          share.forEach((v, i) => { if (v * sign > 0) edge[i] += v; });
          layers.push({ part, from, to: [...edge] });
        }
      }
    }
    const seen = [...now, ...layers.flatMap((l) => l.to), ...(parts ? [base] : [])];
    let low = Math.min(...seen), high = Math.max(...seen);
    if (!parts) { low = Math.min(low, DATA.limits[0]); high = Math.max(high, DATA.limits[1]); }
    const least = parts ? 0.1 : 0.01;
    if (high - low < least) { const middle = (high + low) / 2; low = middle - least / 2; high = middle + least / 2; }
    const room = (high - low) * 0.06; low -= room; high += room;
    const y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Along the feeder" });
    for (const v of ticks(low, high)) {
      shape("line", { class: "rule", x1: SIDE.left, x2: width - SIDE.right, y1: y(v.value), y2: y(v.value) }, svg);
      shape("text", { x: SIDE.left - 6, y: y(v.value) + 4, "text-anchor": "end" }, svg).textContent = v.text;
    }
    if (!parts) DATA.limits.forEach((v) => shape("line", { class: "limit", x1: SIDE.left, x2: width - SIDE.right, y1: y(v), y2: y(v) }, svg));
    for (const layer of layers) {
      const forth = path.map((n, i) => `${x(n)},${y(layer.to[i])}`), back = path.map((n, i) => `${x(n)},${y(layer.from[i])}`).reverse();
      const area = shape("polygon", { points: [...forth, ...back].join(" "), opacity: 0.8 }, svg);
      area.style.fill = colour(layer.part);
    }
    for (const n of tree.order) {
      const p = NODES.parents[n];
      if (p >= 0) shape("path", { class: "wire" + (path.includes(n) ? " path" : ""), d: `M${x(p)},${y(now[p])} L${x(n)},${y(now[n])}` }, svg);
    }
    if (parts) {
      const line = shape("line", { class: "axis", x1: SIDE.left, x2: width - SIDE.right, y1: y(base), y2: y(base) }, svg);
      line.style.stroke = colour("wholesale");
    }
    const [scaleLow, scaleHigh] = span(all), stops = parts ? RAMP : BALANCE;
    for (const n of tree.order) {
      const dot = shape("circle", { class: "node" + (n === view.node ? " chosen" : "") + (outside(now[n]) ? " out" : ""), cx: x(n), cy: y(now[n]), r: n === view.node ? 5 : 3.2 }, svg);
      dot.style.fill = ramp(stops, (now[n] - scaleLow) / (scaleHigh - scaleLow || 1));
      listen(dot, n);
    }
    shape("text", { x: width - SIDE.right, y: height - 6, "text-anchor": "end" }, svg).textContent = "resistance from the substation →";
    profile.replaceChildren(svg);
    $("profile-title").textContent = parts ? `Prices along the feeder at ${clock(view.time)}` : `Voltages along the feeder at ${clock(view.time)}, ${worldTitle(view.world).toLowerCase()}`;
    $("profile-unit").textContent = parts ? PRICE_UNIT : "pu";
    legend(parts, base);
  }

  function legend(parts, base) {
    const items = [];
    const item = (name, title, text) => {
      const mark = make("i");
      mark.style.background = colour(name);
      items.push(make("span", {}, mark, title, make("b", {}, text)));
    };
    if (parts) {
      items.push(make("time", {}, `${NODES.names[view.node]}: ${number(row(parts.energy, view.node)[view.time], 2)}`));
      item("wholesale", "wholesale", number(base, 2));
      PARTS.forEach((part) => item(part, PART_TITLES[part], number(row(parts[part], view.node)[view.time], 2)));
    } else {
      items.push(make("time", {}, NODES.names[view.node]));
      DATA.worlds.forEach((w) => { if (w.voltages) item(w.name, w.title, number(row(w.voltages, view.node)[view.time], 4)); });
    }
    $("profile-legend").replaceChildren(...items);
  }

  const refresh = () => { paint(); drawProfile(); };
  const redraw = () => { drawTree(); refresh(); };
  const select = $("node");
  NODES.names.forEach((name, n) => select.append(make("option", { value: n }, name)));
  const showNode = () => {
    select.value = String(view.node);
    const homes = DATA.customers.filter((c) => c.node === view.node).map((c) => c.name);
    $("node-facts").textContent = homes.length ? homes.join(", ") : `${NODES.customers[view.node]} customer${NODES.customers[view.node] === 1 ? "" : "s"}`;
  };
  select.addEventListener("change", () => tell("node", Number(select.value)));
  // Begin where there is most to see: the end of the longest branch, when prices differ most.
  view.node = NODES.distances.indexOf(far);
  const watched = values();
  if (watched) {
    const [low, high] = extremes(watched), spread = high.map((v, k) => v - low[k]);
    view.time = spread.indexOf(Math.max(...spread));
  }
  redraw();
  showNode();
  on("time colour world scale market theme", refresh);
  on("node", () => { refresh(); showNode(); });
  new ResizeObserver(() => { if (map.clientWidth && Math.abs(map.clientWidth - width) > 1) redraw(); }).observe(map);

  const nodePrice = chart("chart-node-price", () => {
    if (!view.market) return null;
    const m = DATA.markets[view.market], n = view.node, curves = [];
    PARTS.forEach((part) => curves.push({ title: PART_TITLES[part], colour: part, values: row(m[part], n), width: 1.3 }));
    return [{ title: "price", colour: "market", values: row(m.energy, n), width: 2 }, { title: "wholesale", colour: "wholesale", values: row(m.root, n), dash: [4, 3], width: 1.2 }, ...curves];
  }, { digits: 2 });
  const nodeVoltage = chart("chart-node-voltage", () => DATA.worlds.filter((w) => w.voltages).map((w) => ({ title: w.title, colour: w.name, values: row(w.voltages, view.node) })),
    { digits: 4, levels: DATA.limits.map((v) => [v, "bad", [5, 4]]), range: (_, low, high) => [Math.min(low, DATA.limits[0]) - 0.005, Math.max(high, DATA.limits[1]) + 0.005] });
  on("node market", nodePrice);
  on("node", nodeVoltage);
}

function ticks(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), list = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-12; v += step) list.push({ value: v, text: number(v, digits) });
  return list;
}
