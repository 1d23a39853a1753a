// One customer's day and bill.
const DEVICE_TITLES = { load: "household", pv: "solar", battery: "battery", vehicle: "car", heat_pump: "heat pump", water_heater: "water heater" };

function customers() {
  const select = $("who");
  DATA.customers.forEach((c, k) => select.append(make("option", { value: k }, c.name)));
  const step = (by) => tell("customer", (view.customer + by + DATA.customers.length) % DATA.customers.length);
  select.addEventListener("change", () => tell("customer", Number(select.value)));
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  // Begin with the one that has most devices, of those with one whose readings were touched.
  const interest = DATA.customers.map((c) => (c.devices || []).length + (c.quality ? 0.5 : 0));
  view.customer = interest.indexOf(Math.max(...interest));

  const who = () => DATA.customers[view.customer];
  const net = chart("chart-net", () => {
    const c = who(), names = DATA.worlds.map((w) => w.name).filter((name) => c.worlds && c.worlds[name]);
    const curves = names.map((name) => ({ title: worldTitle(name), colour: name, values: row(c.worlds[name]), width: name === "market" ? 2 : 1.3 }));
    if (!names.includes("market")) curves.unshift({ title: "metered", colour: "market", values: row(c.metered), width: 2 });
    return curves;
  }, () => ({ digits: 2, zero: true, levels: [[0, "soft", []]], shaded: who().quality ? row(who().quality) : null }));
  const devices = chart("chart-devices", () => stack((who().devices || []).map(([name, packed]) => ({ title: DEVICE_TITLES[name] || words(name), colour: name, values: row(packed) }))), { digits: 2, zero: true, levels: [[0, "soft", []]] });
  const price = chart("chart-own-price", () => {
    const c = who();
    if (c.node === undefined || !view.market) return null;
    const curves = MARKETS.map((name) => ({ title: MARKET_TITLES[name] || words(name), colour: { real_time: "market", guide: "congestion" }[name] || "time_of_use", values: row(DATA.markets[name].energy, c.node), dash: name === "guide" ? [2, 3] : undefined, width: name === "real_time" ? 1.8 : 1.3 }));
    if (DATA.wholesale.real_time) curves.push({ title: "wholesale", colour: "wholesale", values: row(DATA.wholesale.real_time), dash: [4, 3], width: 1.2 });
    return curves;
  }, { digits: 2, height: 170 });

  const energy = (wh) => `${number(wh / 1000, 2)}`;
  function bill() {
    const c = who(), worlds = DATA.worlds.map((w) => w.name).filter((name) => c.bills[name]);
    const rows = new Map();
    for (const name of worlds) for (const [line, quantity, amount, cents] of c.bills[name]) {
      if (!rows.has(line)) rows.set(line, {});
      rows.get(line)[name] = { quantity, amount, cents };
    }
    const order = Object.keys(DATA.lines), place = (line) => (order.includes(line) ? order.indexOf(line) : order.length);
    const head = make("tr", {}, make("th", {}, ""), make("th", { class: "sub" }, "quantity"), make("th", { class: "sub" }, `mean price, ${CENT}`));
    worlds.forEach((name) => { const mark = make("i", { class: "swatch" }); mark.style.background = colour(name); head.append(make("th", {}, mark, worldTitle(name))); });
    const body = make("tbody"), sums = Object.fromEntries(worlds.map((name) => [name, 0]));
    for (const line of [...rows.keys()].sort((a, b) => place(a) - place(b))) {
      const cells = rows.get(line);
      if (worlds.every((name) => !cells[name] || (!cells[name].cents && !cells[name].amount))) continue;
      const mine = cells.market, counted = mine && mine.quantity;
      const unit = line === "reactive" ? "kvarh" : "kWh";
      const quantity = counted ? `${energy(mine.quantity)} ${unit}` : "", mean = counted ? number(mine.amount / mine.quantity / 1e4, 2) : "";
      // On a narrow screen the two columns stand under the line's name instead.
      const tr = make("tr", {}, make("th", { scope: "row" }, DATA.lines[line] || words(line), make("small", { class: "narrow" }, counted ? `${quantity} × ${mean} ${CENT}` : "")),
        make("td", { class: "sub" }, quantity), make("td", { class: "sub" }, mean));
      for (const name of worlds) {
        if (cells[name]) sums[name] += cells[name].cents;
        tr.append(make("td", {}, cells[name] ? number(cells[name].cents / 100, 2) : ""));
      }
      body.append(tr);
    }
    const total = make("tr", { class: "total" }, make("th", { scope: "row" }, `To pay, ${DATA.currency}`), make("td", { class: "sub" }), make("td", { class: "sub" }));
    worlds.forEach((name) => total.append(make("td", {}, number(sums[name] / 100, 2))));
    body.append(total);
    $("bill").replaceChildren(make("thead", {}, head), body);
  }
  function facts() {
    const c = who(), notes = [];
    if (c.node !== undefined && NODES) notes.push(`at node ${NODES.names[c.node]}`);
    const own = (c.devices || []).map(([name]) => name).filter((name) => name !== "load").map((name) => DEVICE_TITLES[name] || words(name));
    if (own.length) notes.push(own.join(", "));
    const touched = c.quality ? row(c.quality).filter((q) => q > 0).length : 0;
    if (touched) notes.push(`${touched} intervals estimated or corrected (shaded)`);
    $("who-facts").textContent = notes.join(" · ");
    $("figure-own-price").hidden = c.node === undefined || !view.market;
    select.value = String(view.customer);
  }
  const show = () => { facts(); net(); devices(); price(); bill(); };
  facts();
  price();
  bill();
  on("customer", show);
  document.querySelectorAll("[data-home]").forEach((link) => {
    const home = DATA.customers.findIndex((c) => c.name === link.dataset.home);
    if (home >= 0) link.addEventListener("click", () => tell("customer", home)); else link.hidden = true;
  });
  on("theme", bill);
}
