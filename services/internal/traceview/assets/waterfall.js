// The waterfall of one trace and of the traces that follow from it.
import { clock, colour, count, duration, el } from "./format.js";

// A trace that follows much later would squeeze the first to a line: it gets
// a scale of its own.
const muchLater = 4;

export class Waterfall {
  #parts;
  #folded = new Set(); // of the rows that are folded, by key
  #selected = ""; // the key of the row whose span is shown
  #focus = ""; // the key of the row that the keyboard is at
  #wanted = ""; // a span to choose when it is there
  #trace = null;
  #rows = []; // as drawn: {key, depth, kind, span?, trace?, scale, has, parent}

  constructor(parts) {
    this.#parts = parts;
    parts.rows.addEventListener("click", (event) => this.#click(event));
    parts.rows.addEventListener("keydown", (event) => this.#key(event));
    parts.span.addEventListener("click", (event) => {
      const a = event.target.closest("a[data-trace]");
      if (a) {
        event.preventDefault();
        parts.goTo(a.dataset.trace);
      }
      if (event.target.closest(".close")) this.close();
    });
  }

  /** choose makes ready for another trace, of which a span may be chosen. */
  choose(span) {
    this.#folded.clear();
    this.#selected = "";
    this.#focus = "";
    this.#wanted = span;
  }

  /** draw shows a trace as the API describes it. */
  draw(trace) {
    this.#trace = trace;
    this.#head();
    if (this.#wanted) {
      const all = [trace, ...(trace.linked ?? [])];
      const of = all.find((t) => t.spans.some((s) => s.id === this.#wanted));
      if (of) {
        this.#selected = this.#focus = `${of.id}.${this.#wanted}`;
        this.#wanted = "";
      }
    }
    this.#redraw();
    this.#details();
  }

  /** close hides the span's details and reports whether they were there. */
  close() {
    if (!this.#selected) return false;
    this.#selected = "";
    this.#redraw(true);
    this.#details();
    return true;
  }

  #head() {
    const t = this.#trace;
    const all = [t, ...(t.linked ?? [])];
    const spans = all.flatMap((one) => one.spans);
    const errors = spans.filter((s) => s.error).length;
    this.#parts.title.textContent = t.name;
    this.#parts.facts.replaceChildren(
      el("span", {}, el("b", {}, duration(t.duration_ms))),
      el("span", {}, clock(t.start_ms)),
      el("span", {}, el("b", {}, String(spans.length)), spans.length === 1 ? " span" : " spans"),
      ...(errors ? [el("span", { class: "mark" }, count(errors, "error"))] : []),
      ...(all.length > 1 ? [el("span", {}, `with ${count(all.length - 1, "linked trace")}`)] : []),
      ...(t.spans_dropped ? [el("span", { class: "mark plain" }, `${count(t.spans_dropped, "span")} not kept`)] : []),
      ...(t.leader_id ? [this.#link(t.leader_id, "← the trace it follows from")] : []),
      el("code", {}, t.id),
      ...(t.deliveries ?? []).map((d) => delivery(d)),
    );
    const per = group(spans, lane);
    this.#parts.legend.replaceChildren(
      ...[...per].map(([name, own]) => colour(el("li", { class: "chip" }, `${name} · ${own.length}`), name)),
    );
  }

  #link(id, text) {
    const a = el("a", { href: `/traces/${id}` }, text);
    a.addEventListener("click", (event) => {
      event.preventDefault();
      this.#parts.goTo(id);
    });
    return a;
  }

  /** #layout makes the rows that are to be seen, in order. */
  #layout() {
    const first = this.#trace;
    const linked = first.linked ?? [];
    const own = new Set();
    let end = first.start_ms + first.duration_ms;
    for (const t of linked) {
      if (t.start_ms + t.duration_ms - first.start_ms > Math.max(first.duration_ms, 1) * muchLater) own.add(t);
      else end = Math.max(end, t.start_ms + t.duration_ms);
    }
    const from = Math.min(first.start_ms, ...linked.filter((t) => !own.has(t)).map((t) => t.start_ms));
    const common = { from, length: Math.max(end - from, 0.001) };
    const rows = [];
    this.#walk(first, 0, common, "", rows);
    for (const t of linked) {
      const scale = own.has(t) ? { from: t.start_ms, length: Math.max(t.duration_ms, 0.001) } : common;
      const key = `t${t.id}`;
      rows.push({ key, depth: 0, kind: "follows", trace: t, own: own.has(t), after: t.start_ms - first.start_ms, has: true, parent: "" });
      if (!this.#folded.has(key)) this.#walk(t, 1, scale, key, rows);
    }
    return { rows, common };
  }

  #walk(trace, depth, scale, under, rows) {
    const known = new Set(trace.spans.map((s) => s.id));
    const children = group(trace.spans, (s) => (known.has(s.parent_id) ? s.parent_id : ""));
    const seen = new Set();
    const visit = (parent, level, above) => {
      for (const s of children.get(parent) ?? []) {
        if (seen.has(s.id)) continue;
        seen.add(s.id);
        const key = `${trace.id}.${s.id}`;
        const has = children.has(s.id);
        rows.push({ key, depth: level, kind: "span", span: s, trace, scale, has, parent: above });
        if (has && !this.#folded.has(key)) visit(s.id, level + 1, key);
      }
    };
    visit("", depth, under);
    // Spans that claim to be their own ancestors are under no root.
    for (const s of this.#folded.size ? [] : trace.spans.filter((one) => !seen.has(one.id))) {
      if (!seen.has(s.id)) {
        children.set("", [s]);
        visit("", depth, under);
      }
    }
  }

  #redraw(keepFocus = false) {
    const { rows, common } = this.#layout();
    this.#rows = rows;
    if (!rows.some((r) => r.key === this.#focus)) this.#focus = rows[0]?.key ?? "";
    const hadFocus = keepFocus || this.#parts.rows.contains(document.activeElement);
    this.#parts.rows.replaceChildren(...rows.map((r) => this.#row(r)));
    this.#ticks(common);
    if (hadFocus) this.#element(this.#focus)?.focus({ preventScroll: true });
  }

  #ticks({ length }) {
    this.#parts.ticks.replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].map((part) => {
        const tick = el("span", {}, part === 0 ? "0" : duration(length * part));
        tick.style.left = `${part * 100}%`;
        return tick;
      }),
    );
  }

  #row(r) {
    const service = r.span ? lane(r.span) : r.trace.service;
    const failed = r.span?.error;
    const node = colour(el("div", {
      class: `row${r.kind === "follows" ? " follows" : ""}${failed ? " failed" : ""}`,
      role: "treeitem", "data-key": r.key, "aria-level": String(r.depth + 1),
      "aria-selected": String(r.key === this.#selected),
      "aria-expanded": r.has ? String(!this.#folded.has(r.key)) : null,
      tabindex: r.key === this.#focus ? "0" : "-1",
    }), service);
    node.style.setProperty("--depth", String(Math.min(r.depth, 12)));
    const what = el("div", { class: "what" }, el("span", { class: "fold", "aria-hidden": "true" }), el("span", { class: "edge" }));
    node.append(what);
    if (r.kind === "follows") {
      what.append(el("span", { class: "name", title: r.trace.name }, `↳ ${r.trace.name}`));
      node.append(el("div", { class: "say" }, `linked trace · begins ${duration(Math.max(0, r.after))} after · takes ${duration(r.trace.duration_ms)}${r.own ? " · drawn on a scale of its own" : ""}`));
      return node;
    }
    const s = r.span;
    if (failed) what.append(el("span", { class: "bang", role: "img", "aria-label": "error" }, "!"));
    what.append(el("span", { class: "name", title: s.name }, s.name, " ", el("small", {}, s.service)));
    node.append(this.#track(r));
    return node;
  }

  #track({ span, scale }) {
    const place = (ms) => Math.min(100, Math.max(0, (100 * (ms - scale.from)) / scale.length));
    const left = place(span.start_ms);
    const width = Math.max(0, place(span.start_ms + span.duration_ms) - left);
    const bar = el("div", { class: "bar" });
    bar.style.left = `min(${left}%, 100% - 3px)`;
    bar.style.width = `${width}%`;
    const took = el("span", { class: "took" }, duration(span.duration_ms));
    // Beside the bar where there is room: behind it, or else before it.
    if (left + width > 84 && left > 16) took.style.right = `${100 - left}%`;
    else took.style.left = `${Math.min(left + width, 100)}%`;
    const track = el("div", { class: "track" }, bar, took);
    for (const e of span.events ?? []) {
      const moment = el("span", { class: "moment", title: `${e.name} · ${duration(e.offset_ms)}` });
      moment.style.left = `${place(span.start_ms + e.offset_ms)}%`;
      track.append(moment);
    }
    return track;
  }

  #element(key) {
    return this.#parts.rows.querySelector(`[data-key="${key}"]`);
  }

  #click(event) {
    const node = event.target.closest(".row");
    if (!node) return;
    const r = this.#rows.find((row) => row.key === node.dataset.key);
    this.#focus = r.key;
    if (event.target.closest(".fold") || r.kind === "follows") this.#fold(r, !this.#folded.has(r.key));
    else this.#choose(r);
  }

  #fold(r, folded) {
    if (!r.has) return;
    if (folded) this.#folded.add(r.key);
    else this.#folded.delete(r.key);
    this.#redraw(true);
  }

  #choose(r) {
    this.#selected = this.#selected === r.key ? "" : r.key;
    this.#redraw(true);
    this.#details();
    this.#element(r.key)?.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    const at = this.#rows.findIndex((r) => r.key === this.#focus);
    const r = this.#rows[at];
    if (!r) return;
    const folded = this.#folded.has(r.key);
    switch (event.key) {
      case "ArrowDown": this.#moveTo(this.#rows[at + 1]); break;
      case "ArrowUp": this.#moveTo(this.#rows[at - 1]); break;
      case "Home": this.#moveTo(this.#rows[0]); break;
      case "End": this.#moveTo(this.#rows.at(-1)); break;
      case "ArrowRight":
        if (r.has && folded) this.#fold(r, false);
        else if (r.has) this.#moveTo(this.#rows[at + 1]);
        break;
      case "ArrowLeft":
        if (r.has && !folded) this.#fold(r, true);
        else this.#moveTo(this.#rows.find((row) => row.key === r.parent));
        break;
      case "Enter": case " ":
        if (r.kind === "follows") this.#fold(r, !folded);
        else this.#choose(r);
        break;
      default: return;
    }
    event.preventDefault();
  }

  #moveTo(r) {
    if (!r) return;
    this.#element(this.#focus)?.setAttribute("tabindex", "-1");
    this.#focus = r.key;
    const node = this.#element(r.key);
    node.setAttribute("tabindex", "0");
    node.focus();
    if (this.#selected && r.kind === "span") {
      this.#element(this.#selected)?.setAttribute("aria-selected", "false");
      this.#selected = r.key;
      node.setAttribute("aria-selected", "true");
      this.#details();
    }
  }

  #details() {
    const panel = this.#parts.span;
    const r = this.#rows.find((row) => row.key === this.#selected);
    panel.hidden = !r;
    history.replaceState(null, "", location.pathname + (r ? `#${r.span.id}` : ""));
    if (!r) return;
    const s = r.span;
    colour(panel, lane(s));
    const parts = [
      el("header", {},
        el("h3", {}, s.name),
        colour(el("span", { class: "chip quiet" }, s.service), s.service),
        el("span", { class: "quiet" }, `${s.kind} · ${duration(s.duration_ms)} · at ${duration(Math.max(0, s.offset_ms))}`)),
      el("button", { class: "button close", type: "button", "aria-label": "Close the span" }, "✕"),
    ];
    if (s.error) parts.push(el("p", { class: "fault" }, s.message || "This span failed."));
    if (s.attributes) parts.push(el("h4", {}, "Attributes"), pairs(s.attributes));
    for (const e of s.events ?? []) {
      parts.push(el("h4", {}, `Event at ${duration(e.offset_ms)}: `, el("b", {}, e.name)));
      if (e.attributes) parts.push(pairs(e.attributes));
    }
    if (s.links) {
      parts.push(el("h4", {}, "Links"), el("ul", { class: "links" }, ...s.links.map((l) =>
        el("li", {}, el("a", { href: `/traces/${l.trace_id}`, "data-trace": l.trace_id }, `${l.trace_id} · span ${l.span_id}`)))));
    }
    parts.push(el("h4", {}, "Span"), pairs([
      { key: "span id", value: s.id },
      ...(s.parent_id ? [{ key: "parent id", value: s.parent_id }] : []),
      { key: "began", value: clock(s.start_ms) },
      ...(s.scope ? [{ key: "made by", value: s.scope }] : []),
      ...(s.dropped ? [{ key: "not kept", value: count(s.dropped, "attribute, event or link", "attributes, events or links") }] : []),
    ]));
    panel.replaceChildren(...parts);
    panel.scrollTop = 0;
  }
}

function pairs(list) {
  return el("dl", {}, ...list.flatMap(({ key, value }) => [el("dt", {}, key), el("dd", {}, value)]));
}

/** A call to a store is drawn in the store's colour: stores send no spans. */
function lane(span) {
  return span.attributes?.find((a) => a.key === "db.system.name" || a.key === "db.system")?.value ?? span.service;
}

function group(list, by) {
  const groups = new Map();
  for (const one of list) {
    const key = by(one);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(one);
  }
  return groups;
}

/** The way of an event: published, handed to connections, on screens. */
function delivery(d) {
  const step = (what, ms) => [" → ", what, " ", el("b", {}, `+${duration(ms)}`)];
  return el(
    "span",
    { class: "delivery" },
    d.name,
    ...(d.delivered_ms === undefined ? [" → delivered to nobody yet"] : step("delivered", d.delivered_ms)),
    ...(d.rendered_ms === undefined ? [] : step(d.screens === 1 ? "rendered" : `rendered on ${d.screens} screens`, d.rendered_ms)),
  );
}
