// Time series with uPlot: one legend that reads out the pointer's time, one shared cursor, one chosen time.
const drawn = new Map();  // id -> { build, plot }

function shadeOf(name, alpha) {
  const hex = colour(name);
  return hex.startsWith("#") ? hex + Math.round(alpha * 255).toString(16).padStart(2, "0") : hex;
}

function chosenTime(plot) {
  const x = Math.round(plot.valToPos(TIMES[view.time], "x", true)), c = plot.ctx;
  c.save();
  c.strokeStyle = colour("accent");
  c.lineWidth = devicePixelRatio;
  c.setLineDash([]);
  c.beginPath();
  c.moveTo(x, plot.bbox.top);
  c.lineTo(x, plot.bbox.top + plot.bbox.height);
  c.stroke();
  c.restore();
}

function level(plot, value, name, dash) {
  const y = Math.round(plot.valToPos(value, "y", true)), c = plot.ctx;
  if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) return;
  c.save();
  c.strokeStyle = colour(name);
  c.lineWidth = devicePixelRatio;
  c.setLineDash(dash.map((d) => d * devicePixelRatio));
  c.beginPath();
  c.moveTo(plot.bbox.left, y);
  c.lineTo(plot.bbox.left + plot.bbox.width, y);
  c.stroke();
  c.restore();
}

// Power is read against zero, so zero is always in sight.
const fromZero = (_, low, high) => {
  const room = (Math.max(high, 0) - Math.min(low, 0) || 1) * 0.06;
  return [low < 0 ? low - room : 0, high > 0 ? high + room : 0];
};

// curves: [{ title, values, colour, fill?, width?, dash?, shown? (values to read out), silent? }]
// options: { height, digits, bands, levels: [[value, colour, dash]], zero, shaded: quality per interval, range }
function chart(id, make_curves, options = {}) {
  const place = $(id);
  const build = () => {
    if (drawn.has(id) && drawn.get(id).plot) drawn.get(id).plot.destroy();
    place.replaceChildren();
    const curves = make_curves();
    if (!curves || !curves.length) { drawn.set(id, { build, plot: null }); return; }
    const settings = typeof options === "function" ? options() : options;
    const legend = make("div", { class: "legend" });
    const stamp = make("time", {}, "");
    legend.append(stamp);
    const cells = curves.map((curve) => {
      if (curve.silent) return null;
      const mark = make("i");
      mark.style.background = colour(curve.colour);
      const value = make("b", {}, "");
      legend.append(make("span", {}, mark, curve.title, value));
      return value;
    });
    const read = (k) => {
      stamp.textContent = clock(k);
      curves.forEach((curve, n) => { if (cells[n]) cells[n].textContent = curve.text ? curve.text(k) : number((curve.shown || curve.values)[k], settings.digits ?? 1); });
    };
    const axis = { stroke: colour("soft"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot({
      width: Math.max(place.clientWidth, 240), height: settings.height || 210,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), DATA.timezone),
      legend: { show: false },
      padding: [8, 6, 0, 0],
      cursor: { sync: { key: "day" }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
      scales: { x: { time: true }, y: settings.range ? { range: settings.range } : settings.zero ? { range: fromZero } : {} },
      axes: [{ ...axis, size: 28, values: (_, at) => at.map((t) => clockFormat.format(new Date(t * 1000))), space: 56 },
             { ...axis, size: 46, values: (_, at) => at.map((v) => number(v, at.length > 1 ? Math.max(0, Math.min(3, -Math.floor(Math.log10(at[1] - at[0]) + 1e-9))) : 1)) }],
      series: [{}, ...curves.map((curve) => ({
        stroke: curve.width === 0 ? "transparent" : colour(curve.colour), width: curve.width ?? 1.6, dash: curve.dash,
        fill: curve.fill ? shadeOf(curve.colour, curve.fill) : undefined, fillTo: curve.fill ? 0 : undefined,
        paths: uPlot.paths.stepped({ align: 1 }), points: { show: false },
      }))],
      bands: (settings.bands || []).map(([top, bottom, name, alpha]) => ({ series: [top + 1, bottom + 1], fill: shadeOf(name, alpha) })),
      hooks: {
        drawClear: [(p) => { if (settings.shaded) shadeIntervals(p, settings.shaded); }],
        draw: [(p) => { (settings.levels || []).forEach((l) => level(p, ...l)); chosenTime(p); }],
        setCursor: [(p) => read(p.cursor.idx ?? view.time)],
      },
    }, [TIMES, ...curves.map((curve) => curve.values)], place);
    plot.over.addEventListener("click", () => { if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) tell("time", plot.cursor.idx); });
    place.append(legend);
    read(view.time);
    drawn.set(id, { build, plot, read });
  };
  build();
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    const { plot } = drawn.get(id);
    if (plot && width) plot.setSize({ width, height: plot.height });
  }).observe(place);
  return build;
}

function shadeIntervals(plot, quality) {
  const c = plot.ctx;
  c.save();
  c.fillStyle = colour("estimate");
  for (let k = 0; k < quality.length; k++) {
    if (!quality[k]) continue;
    let end = k;
    while (end + 1 < quality.length && quality[end + 1]) end++;
    const x = plot.valToPos(TIMES[k], "x", true), next = plot.valToPos(Math.min(TIMES[end] + DATA.step, TIMES[DATA.count - 1]), "x", true);
    c.fillRect(x, plot.bbox.top, next - x, plot.bbox.height);
    k = end;
  }
  c.restore();
}

on("time", () => drawn.forEach(({ plot, read }) => { if (plot) { plot.redraw(false); read(view.time); } }));
on("theme", () => drawn.forEach(({ build }) => build()));

// Curves that lie on each other, above and below zero apart; outermost first so that each covers the next.
function stack(layers) {
  const up = new Float64Array(DATA.count), down = new Float64Array(DATA.count), above = [], below = [];
  for (const layer of layers) {
    const positive = layer.values.map((v, k) => (up[k] += Math.max(v, 0)));
    const negative = layer.values.map((v, k) => (down[k] += Math.min(v, 0)));
    const read = { title: layer.title, colour: layer.colour, fill: 1, width: 0, shown: layer.values };
    const rises = layer.values.some((v) => v > 0), falls = layer.values.some((v) => v < 0);
    if (rises || !falls) above.push({ ...read, values: positive });
    if (falls) below.push({ ...read, values: negative, silent: rises });
  }
  return [...above.reverse(), ...below.reverse()];
}

function extremes(rows) {
  // Least and greatest of many rows at each time.
  const low = Float64Array.from(rows[0]), high = Float64Array.from(rows[0]);
  for (const values of rows) values.forEach((v, k) => { if (v < low[k]) low[k] = v; if (v > high[k]) high[k] = v; });
  return [low, high];
}
function mean(rows, weights) {
  const sum = new Float64Array(DATA.count);
  let weight = 0;
  rows.forEach((values, r) => { const w = weights[r]; weight += w; values.forEach((v, k) => { sum[k] += w * v; }); });
  return sum.map((v) => v / (weight || 1));
}
