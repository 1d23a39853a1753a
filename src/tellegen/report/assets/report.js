// Puts the page together: what the run has is drawn, what it lacks is taken away.
function daily() {
  const loads = DATA.worlds.filter((w) => w.root_kw);
  $("figure-load").hidden = !loads.length;
  $("figure-prices").hidden = !view.market && !DATA.wholesale.real_time;
  chart("chart-load", () => loads.map((w) => ({ title: w.title, colour: w.name, values: row(w.root_kw), width: w.name === "market" ? 2 : 1.4 })), { height: 240, digits: 1, zero: true, levels: [[0, "soft", []]] });
  const prices = chart("chart-prices", () => {
    const curves = [];
    if (view.market) {
      const nodes = series(DATA.markets[view.market].energy), [low, high] = extremes(nodes);
      const weights = NODES.customers.some((n) => n > 0) ? NODES.customers : nodes.map(() => 1);
      curves.push({ title: "highest node", colour: "congestion", values: high, width: 0.8 }, { title: "lowest node", colour: "vehicle", values: low, width: 0.8 },
        { title: "mean of customers", colour: "market", values: mean(nodes, weights), width: 2 });
    }
    const wholesale = wholesaleOf(view.market);
    if (wholesale) curves.push({ title: "wholesale", colour: "wholesale", values: row(wholesale), dash: [4, 3], width: 1.3 });
    return curves;
  }, () => ({ height: 220, digits: 2, bands: view.market ? [[0, 1, "market", 0.22]] : [], levels: [[0, "soft", []]] }));
  on("market", prices);
}

function bands() {
  const worlds = DATA.worlds.filter((w) => w.v_min_pu && w.v_max_pu);
  // One scale for all worlds, so that they can be compared.
  const all = worlds.flatMap((w) => [...row(w.v_min_pu), ...row(w.v_max_pu)]).concat(DATA.limits);
  const range = [Math.min(...all) - 0.004, Math.max(...all) + 0.004];
  worlds.forEach((w) => {
    const id = "band-" + w.name, broken = w.voltage_violations ? row(w.voltage_violations) : null;
    const times = broken ? broken.filter((n) => n > 0).length : 0;
    const note = broken ? (times ? `outside in ${times} of ${DATA.count} intervals` : "inside all day") : "";
    $("bands").append(make("figure", {}, make("figcaption", {}, w.title, make("em", {}, note)), make("div", { id })));
    chart(id, () => [{ title: "highest", colour: w.name, values: row(w.v_max_pu), width: 1 }, { title: "lowest", colour: w.name, values: row(w.v_min_pu), width: 1 }],
      { height: 220, digits: 3, bands: [[0, 1, w.name, 0.3]], levels: DATA.limits.map((v) => [v, "bad", [5, 4]]), range: () => range });
  });
}

function clockwork() {
  const slider = $("time"), play = $("play");
  slider.max = String(DATA.count - 1);
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶"; };
  slider.addEventListener("input", () => tell("time", Number(slider.value)));
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "❚❚";
    timer = setInterval(() => tell("time", (view.time + 1) % DATA.count), 90);
  });
  const show = () => { slider.value = String(view.time); $("clock").textContent = clock(view.time); slider.setAttribute("aria-valuetext", clock(view.time)); };
  on("time", show);
  show();
}

function themes() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = (name) => { document.documentElement.dataset.theme = name; tell("theme"); };
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  dark.addEventListener("change", () => set(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => set(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  // Paper is white.
  let before = "light";
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; set("light"); });
  addEventListener("afterprint", () => set(before));
}

function start() {
  themes();
  document.querySelectorAll("[data-unit=price]").forEach((e) => { e.textContent = PRICE_UNIT; });
  const marketChoice = MARKETS.map((name) => [name, MARKET_TITLES[name] || words(name)]);
  const seen = DATA.worlds.filter((w) => w.voltages);
  const parts = {
    day: DATA.worlds.some((w) => w.root_kw) || MARKETS.length > 0 || Object.keys(DATA.wholesale).length > 0,
    feeder: Boolean(NODES) && (MARKETS.length > 0 || seen.length > 0),
    voltages: DATA.worlds.some((w) => w.v_min_pu && w.v_max_pu),
    customer: DATA.customers.length > 0,
  };
  for (const [name, there] of Object.entries(parts)) {
    if (!there) document.querySelectorAll(`[data-part=${name}], [data-needs=${name}]`).forEach((e) => { e.hidden = true; });
  }
  if (!MARKETS.length) view.colour = "voltage";
  if (seen.length && !seen.some((w) => w.name === view.world)) view.world = seen[0].name;
  choice("choice-day-market", marketChoice, "market");
  if (parts.feeder) {
    choice("choice-colour", [...(MARKETS.length ? [["price", "Price"]] : []), ...(seen.length ? [["voltage", "Voltage"]] : [])], "colour");
    choice("choice-feeder-market", marketChoice, "market");
    choice("choice-feeder-world", seen.map((w) => [w.name, w.title]), "world");
    choice("choice-scale", [["day", "Scale of the day"], ["moment", "Of this moment"]], "scale");
    const relevant = () => { $("choice-feeder-market").hidden = $("choice-scale").hidden = view.colour !== "price"; $("choice-feeder-world").hidden = view.colour !== "voltage"; };
    on("colour", relevant);
    relevant();
    feeder();
    clockwork();
  }
  if (parts.day) daily();
  if (parts.voltages) bands();
  if (parts.customer) customers();
}
start();
