// Data, numbers and times. The counterpart of packing.py.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function unpack(packed) {
  // Rows of Float64Array in the reader's unit.
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  const values = [];
  let at = 0, sum = 0;
  const next = () => {
    let value = 0, weight = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * weight; weight *= 128; } while (byte & 128);
    return value;
  };
  while (at < bytes.length) {
    const code = next();
    if (code === 0) {
      for (let again = next(); again >= 0; again--) values.push(sum);
    } else {
      sum += code % 2 ? -(code + 1) / 2 : code / 2;
      values.push(sum);
    }
  }
  const columns = values.length / packed.rows;
  return Array.from({ length: packed.rows }, (_, r) =>
    Float64Array.from(values.slice(r * columns, (r + 1) * columns), (v) => v * packed.unit));
}

const unpacked = new Map();
function series(packed) {
  if (!packed) return null;
  if (!unpacked.has(packed)) unpacked.set(packed, unpack(packed));
  return unpacked.get(packed);
}
const row = (packed, r = 0) => { const all = series(packed); return all ? all[all.length === 1 ? 0 : r] : null; };

const TIMES = Array.from({ length: DATA.count }, (_, k) => DATA.start + k * DATA.step);
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: DATA.timezone });
const clock = (k) => clockFormat.format(new Date(TIMES[k] * 1000));

function number(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits), [whole, part] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return (value < 0 && Number(text) !== 0 ? "−" : "") + grouped + (part ? "." + part : "");
}
const CENT = DATA.currency === "EUR" ? "ct" : "1/100 " + DATA.currency;
const PRICE_UNIT = CENT + "/kWh";
const words = (name) => name.replace(/_/g, " ");
const PART_TITLES = { root: "wholesale", losses: "losses", congestion: "congestion", voltage: "voltage" };
const PARTS = ["losses", "congestion", "voltage"];
const MARKET_TITLES = { real_time: DATA.markets.guide ? "Settled" : "Real time", day_ahead: "Day ahead", guide: "Guide" };
const wholesaleOf = (market) => DATA.wholesale[market === "guide" || !market ? "real_time" : market];
const WORLD_OF = new Map(DATA.worlds.map((w) => [w.name, w]));
const worldTitle = (name) => WORLD_OF.has(name) ? WORLD_OF.get(name).title : words(name);
const MARKETS = Object.keys(DATA.markets);

// What the page looks at; whoever changes it calls `tell`.
const view = { time: Math.floor(DATA.count / 2), node: 0, customer: 0, market: MARKETS[0] || null, colour: "price", world: DATA.worlds.length ? DATA.worlds[0].name : null, scale: "moment" };
const listeners = { time: [], node: [], customer: [], market: [], colour: [], world: [], scale: [], theme: [] };
const on = (what, action) => what.split(" ").forEach((w) => listeners[w].push(action));
const tell = (what, value) => { if (value !== undefined) view[what] = value; listeners[what].forEach((action) => action()); };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
const style = () => getComputedStyle(document.documentElement);
const colour = (name) => style().getPropertyValue("--" + name).trim() || style().getPropertyValue("--other").trim();

function choice(id, options, what) {
  // A row of buttons that sets view[what]; hidden where there is nothing to choose.
  const box = $(id);
  if (!box || options.length < 2) return;
  const buttons = options.map(([value, title]) => {
    const button = make("button", { type: "button" }, title);
    button.addEventListener("click", () => tell(what, value));
    box.append(button);
    return [value, button];
  });
  const mark = () => buttons.forEach(([value, b]) => b.setAttribute("aria-pressed", String(view[what] === value)));
  on(what, mark);
  mark();
}
