// The list of traces, the address and the keeping up to date.
import { ago, colour, count, duration, el, size } from "./format.js";
import { Waterfall } from "./waterfall.js";

const $ = (id) => document.getElementById(id);
const every = 1500; // ms between looks

let tag = ""; // of the last list
let items = [];
let clockSkew = 0; // the server's time minus ours
let live = true;
let open = idOfAddress();
let shown = ""; // the JSON of the trace that is drawn
let listed = ""; // what the list was asked for

const waterfall = new Waterfall({
  title: $("title"), facts: $("facts"), legend: $("legend"), ticks: $("ticks"), rows: $("rows"), span: $("span"),
  goTo: (id) => show(id, true),
});

function idOfAddress() {
  return location.pathname.match(/^\/traces\/([0-9a-f]{32})$/)?.[1] ?? "";
}

/** An address may end with #span. */
function spanOfAddress() {
  return location.hash.match(/^#([0-9a-f]{16})$/)?.[1] ?? "";
}

function query() {
  const q = new URLSearchParams();
  if ($("q").value.trim()) q.set("q", $("q").value.trim());
  if ($("service").value) q.set("service", $("service").value);
  if ($("min").value) q.set("min_ms", $("min").value);
  if ($("errors").checked) q.set("errors", "true");
  return q.toString();
}

async function refresh() {
  const asked = query();
  try {
    const response = await fetch(`/traces/api/traces?${asked}`, {
      headers: tag && asked === listed ? { "If-None-Match": tag } : {},
      cache: "no-store",
    });
    trouble("");
    if (response.status !== 304) {
      if (!response.ok) throw new Error((await response.json()).detail);
      const body = await response.json();
      if (asked !== query()) return; // there is a newer question already
      tag = response.headers.get("ETag") ?? "";
      listed = asked;
      items = body.items;
      clockSkew = body.now_ms - Date.now();
      drawServices(body.services);
      drawTotals(body.totals);
      drawList();
      if (open) await load(open);
    } else {
      drawAges();
    }
  } catch (error) {
    trouble(error instanceof TypeError ? "The server does not answer; trying again" : error.message);
  }
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function drawTotals(t) {
  let text = `${count(t.traces, "trace")} kept · ${size(t.bytes)} of ${size(t.max_bytes)}`;
  if (t.traces_evicted) text += ` · ${t.traces_evicted} forgotten`;
  $("totals").textContent = text;
}

function drawServices(services) {
  const select = $("service");
  const have = [...select.options].slice(1).map((o) => o.value);
  if (have.join() === services.join()) return;
  const chosen = select.value;
  select.replaceChildren(el("option", { value: "" }, "all"), ...services.map((s) => el("option", { value: s }, s)));
  select.value = services.includes(chosen) ? chosen : "";
  for (const s of services) colour(select, s); // settles the order of the colours
  select.style.removeProperty("--c");
}

function drawList() {
  const list = $("items");
  const focused = document.activeElement?.closest?.(".item")?.dataset.id;
  const longest = Math.max(1, ...items.map((i) => i.duration_ms));
  list.replaceChildren(...items.map((item) => el("li", {}, row(item, longest))));
  drawAges();
  if (focused) list.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  const none = $("none");
  none.hidden = items.length > 0;
  none.replaceChildren(
    query()
      ? "No trace is like that."
      : "No traces yet. Use Crewbeat in another tab: what you do there appears here within a second or two.",
  );
}

function row(item, longest) {
  const a = el("a", {
    class: item.errors ? "item failed" : "item", href: `/traces/${item.id}`, "data-id": item.id,
    "aria-current": item.id === open ? "true" : null,
  });
  const bar = el("i");
  bar.style.width = `${(100 * Math.log1p(item.duration_ms)) / Math.log1p(longest)}%`;
  const named = item.services.length === 1;
  const chips = item.services.map((s) =>
    colour(el("span", { class: "chip", title: `${s.name}: ${count(s.spans, "span")}` }, named ? s.name : ""), s.name));
  a.append(
    el("span", { class: "name", title: item.name }, item.name),
    el("span", { class: "time" }, duration(item.duration_ms)),
    el("span", { class: "length", "aria-hidden": "true" }, bar),
    el("span", { class: "meta" },
      item.errors ? el("span", { class: "mark" }, count(item.errors, "error")) : null,
      item.linked ? el("span", { class: "mark plain", title: "traces that follow from this one" }, `+${item.linked} linked`) : null,
      el("span", { class: "chips", role: "img", "aria-label": item.services.map((s) => s.name).join(", ") }, ...chips),
      el("span", {}, count(item.spans, "span")),
      el("time", { class: "ago", "data-at": String(item.start_ms) })),
  );
  return a;
}

function drawAges() {
  const now = Date.now() + clockSkew;
  for (const t of document.querySelectorAll("time.ago")) t.textContent = ago(now - Number(t.dataset.at));
}

async function show(id, push) {
  open = id;
  shown = "";
  if (push) history.pushState(null, "", id ? `/traces/${id}` : "/traces");
  $("panes").classList.toggle("open", Boolean(id));
  for (const a of document.querySelectorAll(".item")) {
    if (a.dataset.id === id) a.setAttribute("aria-current", "true");
    else a.removeAttribute("aria-current");
  }
  if (!id) {
    $("detail").hidden = true;
    $("blank").hidden = false;
    document.title = "Traces · Crewbeat";
    return;
  }
  waterfall.choose(push ? "" : spanOfAddress());
  await load(id);
}

async function load(id) {
  let body;
  try {
    const response = await fetch(`/traces/api/traces/${id}`, { cache: "no-store" });
    const text = await response.text();
    if (id !== open || text === shown) return;
    body = JSON.parse(text);
    if (!response.ok) {
      if (shown) return; // it was forgotten meanwhile; what is drawn may stay
      $("detail").hidden = true;
      $("blank").hidden = false;
      $("blank").replaceChildren(el("p", {}, el("strong", {}, "This trace is not here")), el("p", {}, body.detail));
      return;
    }
    shown = text;
  } catch {
    trouble("The server does not answer; trying again");
    return;
  }
  $("blank").hidden = true;
  $("detail").hidden = false;
  document.title = `${body.name} · Traces`;
  waterfall.draw(body);
}

// Whoever follows a link with a modifier key wants a new tab.
$("items").addEventListener("click", (event) => {
  const a = event.target.closest(".item");
  if (!a || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  show(a.dataset.id, true);
});

$("items").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const all = [...document.querySelectorAll(".item")];
  const at = all.indexOf(event.target.closest(".item"));
  if (!step || at < 0) return;
  event.preventDefault();
  all[at + step]?.focus();
});

let typing;
$("filters").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, 150);
});
$("filters").addEventListener("submit", (event) => event.preventDefault());

$("live").addEventListener("click", () => {
  live = !live;
  $("live").setAttribute("aria-pressed", String(live));
  if (live) refresh();
});

$("back").addEventListener("click", () => show("", true));

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    $("q").focus();
  }
  if (event.key === "Escape" && !waterfall.close() && open) {
    const id = open;
    show("", true);
    document.querySelector(`[data-id="${id}"]`)?.focus();
  }
});

addEventListener("popstate", () => show(idOfAddress(), false)); // also when only #span changed
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && live) refresh();
});

async function keepUp() {
  if (live && !document.hidden) await refresh();
  setTimeout(keepUp, every);
}

$("panes").classList.toggle("open", Boolean(open));
waterfall.choose(spanOfAddress());
keepUp(); // loads the open trace too, after the list has settled the colours
