// A trace as a waterfall: what failed stands open and is named first, what went well is folded away.

const FOLD_FROM = 4; // so many neighbours of a kind become one row

export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function seconds(value) {
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 99.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

// A failed attempt, and the request inside it, may have been repeated with success.
const final = (span) => span.status === "error" && span.name !== "attempt" && !["CLIENT", "PRODUCER"].includes(span.kind);

function tree(spans) {
  const nodes = new Map(spans.map((span) => [span.span_id, { span, children: [], failed: final(span) }]));
  const roots = [];
  for (const node of nodes.values()) {
    const above = nodes.get(node.span.parent_id);
    if (above === undefined || above === node) roots.push(node);
    else above.children.push(node);
  }
  const order = (a, b) => a.span.start - b.span.start || b.span.end - a.span.end;
  for (const node of nodes.values()) node.children.sort(order);
  roots.sort(order);
  const judge = (node) => {
    node.size = 1;
    node.troubled = node.failed;
    node.cured = node.span.status === "error";
    for (const child of node.children) {
      judge(child);
      node.size += child.size;
      node.troubled ||= child.troubled;
      node.cured ||= child.cured;
    }
    node.cured &&= !node.troubled;
  };
  roots.forEach(judge);
  return roots;
}

// The calls that failed in the end, each with its last attempt: the answer to "which attempt failed, and why".
export function causes(spans) {
  const byId = new Map(spans.map((span) => [span.span_id, span]));
  const found = [];
  for (const span of spans) {
    if (span.attributes["resilience.outcome"] === undefined || span.status !== "error") continue;
    const attempts = spans
      .filter((other) => other.name === "attempt" && other.parent_id === span.span_id)
      .sort((a, b) => a.start - b.start);
    const last = attempts.at(-1) ?? null;
    const request = last && spans.find((other) => other.kind === "CLIENT" && other.parent_id === last.span_id);
    let group = span;
    while (group && group.attributes["catalog.group"] === undefined) group = byId.get(group.parent_id);
    found.push({ span, attempts, last, request: request ?? null, group: group?.attributes["catalog.group"] ?? null });
  }
  return found.sort((a, b) => a.span.start - b.span.start);
}

function says(cause) {
  const { span, last } = cause;
  const facts = { ...span.attributes, ...(last?.attributes ?? {}) };
  const kind = [facts["resilience.error.class"], facts["resilience.error.severity"]].filter(Boolean).join(", ");
  return { type: facts["error.type"] ?? span.attributes["resilience.outcome"], kind };
}

export function verdict(spans) {
  const found = causes(spans);
  if (found.length === 0) {
    const failed = spans.find((span) => span.status === "error" && span.message);
    const text = failed ? `${failed.name}: ${failed.message}` : "No call failed in the end.";
    return h("p", { class: failed ? "verdict" : "verdict fine" }, text);
  }
  const began = Math.min(...spans.map((span) => span.start));
  const lines = found.slice(0, 4).map((cause) => {
    const { type, kind } = says(cause);
    const count = cause.attempts.length;
    const which = count === 0 ? "was not sent" : `failed at attempt ${cause.last.attributes["resilience.attempt.number"] ?? count}`;
    const others = count > 1 ? ` after ${count - 1} ${count === 2 ? "retry" : "retries"}` : "";
    const request = cause.request?.attributes ?? {};
    const sent = [request["http.request.method"], request["url.full"] ?? request["url.template"]].filter(Boolean).join(" ");
    const why = (cause.last?.message || cause.span.message || "").split("\n")[0];
    return h("li", {},
      h("strong", {}, `${cause.group ? `${cause.group}: ` : ""}“${cause.span.name}” ${which}`),
      `${others}: `, h("strong", {}, String(type)), kind ? ` (${kind})` : "",
      ` at ${seconds((cause.last ?? cause.span).end - began)}`,
      why || sent ? h("small", {}, [why, sent].filter(Boolean).join(" · ")) : null);
  });
  if (found.length > 4) lines.push(h("li", {}, `and ${found.length - 4} more calls`));
  return h("ul", { class: "verdict" }, ...lines);
}

function label(span) {
  const given = span.attributes;
  if (span.name === "attempt") return `attempt ${given["resilience.attempt.number"] ?? ""}`;
  return given["catalog.group"] ? `${span.name} ${given["catalog.group"]}` : span.name;
}

function mark(span) {
  const given = span.attributes;
  const text = given["error.type"] ?? given["resilience.outcome"] ?? given["catalog.outcome"] ?? null;
  const status = given["http.response.status_code"];
  const word = text ?? (status === undefined ? null : String(status));
  if (word === null || word === "ok") return null;
  const tone = span.status === "error" ? "bad" : word === "ok_after_retry" || word === "PARTIAL" ? "warn" : "good";
  return h("span", { class: `mark ${tone}` }, String(word));
}

function inside(span, depth) {
  const rows = [["service", span.service], ["kind", span.kind.toLowerCase()]];
  if (span.message) rows.push(["message", span.message]);
  for (const [name, value] of Object.entries(span.attributes)) rows.push([name, String(value)]);
  for (const event of span.events) {
    const facts = Object.entries(event.attributes).map(([name, value]) => `${name}=${value}`).join(" ");
    rows.push([`+${seconds(event.at - span.start)} ${event.name}`, facts]);
  }
  const terms = rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  return h("div", { class: "inside", "--depth": depth }, h("dl", {}, ...terms));
}

// What stands open by itself shows its children alone; a first click on it shows its attributes, a second one closes it.
function pick(event) {
  const box = event.currentTarget.parentElement;
  if (!box.classList.contains("picked")) {
    if (box.open) event.preventDefault();
    box.classList.add("picked");
  }
}

export function waterfall(spans) {
  const began = Math.min(...spans.map((span) => span.start));
  const whole = Math.max(Math.max(...spans.map((span) => span.end)) - began, 1e-6);
  const bad = new Set(causes(spans).map((cause) => (cause.last ?? cause.span).span_id));
  const services = [...new Set(spans.map((span) => span.service))];

  const track = (from, to, tone) =>
    h("span", { class: "track", "aria-hidden": "true" },
      h("i", { class: tone, "--from": `${((from - began) / whole) * 100}%`, "--part": `${((to - from) / whole) * 100}%` }));

  const line = (node, depth) => {
    const { span } = node;
    const cause = bad.has(span.span_id);
    const tone = span.status === "error" ? "error" : span.kind === "SERVER" || span.kind === "CONSUMER" ? "server" : "";
    const row = h("summary", { class: "row", onclick: pick },
      h("span", { class: "name", "--depth": depth }, h("span", { title: label(span) }, label(span)), mark(span),
        services.length > 1 ? h("small", {}, span.service) : null),
      track(span.start, span.end, tone), h("span", { class: "took" }, seconds(span.end - span.start)));
    const open = (node.troubled || cause) && node.children.length > 0;
    const classes = [span.status === "error" ? "failed" : "", cause ? "cause" : ""].join(" ").trim();
    return h("details", { class: classes, open }, row, inside(span, depth), ...lines(node.children, depth + 1));
  };

  const fold = (nodes, depth, words) => {
    const count = nodes.reduce((sum, node) => sum + node.size, 0);
    const from = Math.min(...nodes.map((node) => node.span.start));
    const to = Math.max(...nodes.map((node) => node.span.end));
    const row = h("summary", { class: "row" },
      h("span", { class: "name", "--depth": depth }, h("span", {}, `${nodes.length} ${words}, ${count} spans`)),
      track(from, to, ""), h("span", { class: "took" }, seconds(to - from)));
    const box = h("details", { class: "folded" }, row);
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1) box.append(...nodes.map((node) => line(node, depth + 1)));
    });
    return box;
  };

  const lines = (nodes, depth) => {
    const rows = [];
    const attempts = nodes.some((node) => node.span.name === "attempt");
    const kinds = [[(node) => node.cured, "calls that a retry cured"], [(node) => !node.cured && !node.troubled, "calls that went well"]];
    let single = nodes.map((node, at) => ({ node, at }));
    for (const [fits, words] of kinds) {
      const alike = single.filter(({ node }) => fits(node));
      if (attempts || alike.length < FOLD_FROM) continue;
      single = single.filter(({ node }) => !fits(node));
      rows.push({ at: alike[0].at, row: fold(alike.map(({ node }) => node), depth, words) });
    }
    rows.push(...single.map(({ node, at }) => ({ at, row: line(node, depth) })));
    return rows.sort((a, b) => a.at - b.at).map(({ row }) => row);
  };

  const head = h("div", { class: "row head" },
    h("span", { class: "name" }, h("span", {}, `${spans.length} spans · ${services.join(", ")}`)),
    h("span", { class: "track" }), h("span", { class: "took" }, seconds(whole)));
  return h("div", { class: "trace" }, head, ...lines(tree(spans), 0));
}
