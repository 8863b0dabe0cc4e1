import { h, seconds, verdict, waterfall } from "/static/waterfall.js";

const SHOWN = 20;
const POLL_MS = 3000;
const RECONNECT_MS = 2000;
const $ = (id) => document.getElementById(id);
const syncs = new Map(); // id → the job as last told
const boxes = new Map(); // id → its element
const traces = new Map(); // trace id → the element of a waterfall, kept while the page is open
let token = sessionStorage.getItem("token") ?? "";
let stream = null;
let opened = false;

// ---- asking

async function ask(path, options = {}) {
  const headers = { ...(options.headers ?? {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (options.stream && answer.ok) return answer;
  const document_ = await answer.json();
  if (!answer.ok && !document_.checks) throw new Problem(document_);
  return document_;
}

class Problem extends Error {
  constructor(document_) {
    super(document_.detail || document_.title);
    this.document = document_;
    this.status = document_.status;
  }
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

function explain(error) {
  if (error.status === 401 || error.status === 403) {
    notice(error.status === 401 ? "Reading needs the token: enter it under “Token”." : error.message);
  } else notice(`This page cannot reach its server: ${error.message}`);
}

// ---- words

function since(moment) {
  return span((Date.now() - Date.parse(moment)) / 1000);
}

function span(value) {
  const rounded = Math.max(0, Math.round(value));
  if (rounded < 90) return `${rounded} s`;
  if (rounded < 5400) return `${Math.round(rounded / 60)} min`;
  if (rounded < 172800) return `${Math.round(rounded / 3600)} h`;
  return `${Math.round(rounded / 86400)} days`;
}

const ago = (moment) => h("time", { datetime: moment, title: new Date(moment).toLocaleString() }, `${since(moment)} ago`);
const many = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;
const TONES = { healthy: "good", degraded: "warn", unhealthy: "bad", COMPLETE: "good", PARTIAL: "warn", FAILED: "bad",
  LOCK_UNAVAILABLE: "bad", SKIPPED_LOCKED: "warn", CLOSED: "good", OPEN: "bad", HALF_OPEN: "warn", FORCED_OPEN: "bad", SHADOW: "good",
  CRITICAL: "bad", HIGH: "bad", MEDIUM: "warn", LOW: "", ok: "good", stale: "warn", failed: "bad", fresh: "good", snapshot: "warn" };
const pill = (word, tone = TONES[word] ?? "") => h("span", { class: `pill ${tone}` }, word.toLowerCase().replaceAll("_", " "));

// ---- the state of things

async function look() {
  try {
    const seen = await ask("/overview");
    notice("");
    showHealth(seen.health);
    showCatalogue(seen.catalogue);
    showProtection(seen.breakers, seen.budgets);
    showIncidents(seen.alerts);
    showTraces((await ask("/traces?limit=20")).traces);
  } catch (error) {
    explain(error);
  }
}

function showHealth(report) {
  $("health").className = `pill ${TONES[report.status]}`;
  $("health").textContent = report.status;
  document.title = report.status === "healthy" ? "catalog-api" : `${report.status} · catalog-api`;
  $("checks").replaceChildren(...Object.entries(report.checks).map(([name, check]) => {
    const said = check.detail ?? {
      freshness: () => `${check.source}, ${span(check.age_s)} old${check.stale_groups ? `; kept from before: ${check.stale_groups.join(", ")}` : ""}`,
      store: () => `answered ${check.last_answer_s_ago < 5 ? "just now" : `${span(check.last_answer_s_ago)} ago`}`,
      supplier: () => `${check.dependency}: circuit ${check.breaker.toLowerCase().replace("_", " ")}${check.retry_after_s ? `, a probe in ${seconds(check.retry_after_s)}` : ""}`,
      alerts: () => `${many(check.incidents, "incident")}, ${check.outbox} waiting, ${many(check.dead_letters, "dead letter")}`,
    }[name]?.() ?? "";
    return h("li", {}, pill(check.status), h("small", {}, h("b", {}, name), ` ${said}`));
  }));
}

function showCatalogue(found) {
  if (found === null) {
    $("catalogue").replaceChildren("There is none yet. Ask for a sync below.");
    return;
  }
  const part = Math.min(1, found.age_s / found.stale_after_s);
  const tone = part >= 1 ? "bad" : part > 0.75 ? "warn" : "";
  const bar = h("i", { class: tone });
  bar.style.width = `${Math.max(1, part * 100)}%`;
  $("catalogue").className = "";
  $("catalogue").replaceChildren(
    h("div", { class: "figures" },
      h("div", { class: "figure" }, h("b", {}, found.bundles.toLocaleString()), h("span", {}, "bundles")),
      h("div", { class: "figure" }, h("b", {}, found.problem ? "?" : span(found.age_s)), h("span", {}, found.problem ? "age unknown" : "old")),
      h("div", { class: "figure" }, pill(found.source), h("span", {}, found.last_full_sync ? " last full sync " : " no full sync yet"),
        found.last_full_sync ? ago(found.last_full_sync) : null)),
    h("div", { class: "meter", role: "img", "aria-label": `${Math.round(part * 100)} % of the age at which it counts as stale` }, bar),
    h("p", { class: "hint" }, `stale after ${span(found.stale_after_s)} · version `, h("span", { class: "id" }, found.version)),
    h("ul", { class: "groups", "aria-label": "Groups" }, ...Object.entries(found.groups).map(([name, group]) =>
      h("li", { class: group.stale ? "warn" : "" }, `${name} `, h("b", {}, group.bundles.toLocaleString()), group.stale ? " stale" : ""))));
}

function showProtection(breakers, budgets) {
  const names = [...new Set([...breakers, ...budgets].map((each) => each.dependency))];
  $("protection").className = "";
  $("protection").replaceChildren(...names.map((name) => {
    const breaker = breakers.find((each) => each.dependency === name);
    const budget = budgets.find((each) => each.dependency === name);
    const box = h("div", { class: "protected" }, h("div", {}, h("b", {}, name), breaker ? pill(breaker.state) : null));
    if (breaker) {
      const wait = breaker.retry_after_s ? `, a probe in ${seconds(breaker.retry_after_s)}` : "";
      box.append(h("small", {}, `${breaker.failures} of ${many(breaker.calls, "call")} failed lately${breaker.rejected ? `, ${breaker.rejected} rejected` : ""}${wait}`));
    }
    if (budget) {
      const left = budget.capacity ? budget.tokens / budget.capacity : 0;
      const bar = h("i", { class: left < 0.1 ? "bad" : left < 0.4 ? "warn" : "" });
      bar.style.width = `${left * 100}%`;
      box.append(h("span", { class: "meter", role: "img", "aria-label": `${Math.round(left * 100)} % of the retry budget left` }, bar),
        h("small", {}, `${Math.round(budget.tokens)} of ${budget.capacity} retry tokens left${budget.denied ? `, ${budget.denied} retries denied` : ""}`));
    }
    return box;
  }));
  if (names.length === 0) $("protection").replaceChildren("nothing was called yet");
}

function showIncidents(alerts) {
  const box = $("incidents");
  if (alerts.error) box.replaceChildren(`cannot be seen: ${alerts.error.message}`);
  else if (!alerts.set_up) box.replaceChildren("Alerting is not set up.");
  else if (alerts.incidents.length === 0) box.replaceChildren("none");
  else box.replaceChildren(...alerts.incidents.map((each) => h("div", { class: "incident" },
    h("div", {}, pill(each.severity), ` ${each.title}`),
    h("small", { class: "hint" }, `${many(each.count ?? 1, "time")}, since `, ago(each.first_seen)))));
  if (alerts.set_up) box.append(h("p", { class: "hint" }, `${alerts.outbox} waiting to be delivered, ${many(alerts.dead_letters, "dead letter")}`));
}

function showTraces(found) {
  const ofSyncs = new Set([...syncs.values()].map((job) => job.correlation_id));
  const others = found.filter((each) => !ofSyncs.has(each.trace_id));
  const box = $("traces");
  const kept = new Map([...box.children].filter((node) => node.dataset.id).map((node) => [node.dataset.id, node]));
  box.replaceChildren(...others.map((each) => kept.get(each.trace_id) ?? traceBox(each)));
  if (others.length === 0) box.replaceChildren(h("p", { class: "quiet" }, "none is kept"));
}

function traceBox(summary) {
  const body = h("div", { class: "body" });
  const box = h("details", { class: "sync", "data-id": summary.trace_id },
    h("summary", {}, pill("failed"), h("span", { class: "what" }, summary.name, h("small", { class: "id" }, summary.trace_id)),
      h("span", { class: "hint" }, `${many(summary.spans, "span")}, ${many(summary.errors, "error")}`),
      h("span", { class: "when" }, ago(new Date(summary.start * 1000).toISOString()))), body);
  box.addEventListener("toggle", async () => {
    if (box.open && body.children.length === 0) body.replaceChildren(await traceOf(summary.trace_id));
  });
  return box;
}

// ---- syncs

function take(job) {
  const before = syncs.get(job.id);
  syncs.set(job.id, job);
  if (syncs.size > 4 * SHOWN) syncs.delete(syncs.keys().next().value);
  draw(job);
  if (before && !ended(before) && ended(job)) {
    if (troubled(job)) boxes.get(job.id).open = true;
    look();
  }
}

const ended = (job) => job.status === "finished" || job.status === "cancelled";
const troubled = (job) => ["FAILED", "PARTIAL", "LOCK_UNAVAILABLE"].includes(job.outcome);

function draw(job) {
  let box = boxes.get(job.id);
  if (!box) {
    box = h("details", { class: "sync", "data-id": job.id }, h("summary", {}), h("div", { class: "body" },
      h("div", { class: "live" }), h("div", { class: "evidence" })));
    box.addEventListener("toggle", () => box.open && evidence(syncs.get(job.id)));
    boxes.set(job.id, box);
  }
  box.querySelector("summary").replaceChildren(...head(job));
  box.querySelector(".live").replaceChildren(...facts(job));
  if (box.open) evidence(job);
}

function head(job) {
  const word = job.outcome ?? job.status;
  const state = pill(word);
  if (!ended(job)) state.classList.add("busy");
  const groups = job.progress.groups;
  const told = ended(job) || groups.length === 0 ? "" : `, ${job.progress.groups_done} of ${job.progress.groups_total} groups`;
  const bars = h("span", { class: "segments", role: "img", "aria-label": groups.map((each) => `${each.name}: ${each.status}`).join(", ") || "groups are not known" },
    ...groups.map((each) => h("i", { class: each.status, title: `${each.name}: ${each.status}` })));
  const count = groups.reduce((sum, each) => sum + each.bundles, 0);
  const report = job.report;
  const detail = report ? `${report.bundles.toLocaleString()} bundles · ${many(report.attempts, "request")}${report.retries ? `, ${report.retries} repeated` : ""}`
    : count ? `${count.toLocaleString()} bundles so far${told}` : job.status;
  return [state, h("span", { class: "what" }, job.kind === "full" ? "Everything" : `${job.kind}: ${job.scope}`, h("small", {}, detail)), bars,
    h("span", { class: "when" }, report ? `${seconds(report.duration_s)} · ` : "", ago(job.created_at))];
}

function facts(job) {
  const rows = [["correlation ID", h("span", { class: "id" }, job.correlation_id)], ["asked", new Date(job.created_at).toLocaleString()]];
  const report = job.report;
  if (report?.version) rows.push(["version", h("span", { class: "id" }, report.version)]);
  if (report?.quarantined) rows.push(["set aside", many(report.quarantined, "row")]);
  if (report?.holder) rows.push(["lock held by", report.holder.owner]);
  if (report?.error) rows.push(["error", `${report.error.type} (${report.error.class}, ${report.error.severity}): ${report.error.message}`]);
  const found = [h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))];
  if (job.progress.groups.length) {
    found.push(h("ul", { class: "grouplist" }, ...job.progress.groups.map((each) => h("li", {},
      pill(each.status), h("span", {}, each.name), h("span", { class: "quiet" }, each.bundles.toLocaleString()),
      each.error ? h("span", { class: "why" }, `${each.error.type} (${each.error.class}, ${each.error.severity}): ${each.error.message}`) : null))));
  }
  const links = [];
  if (!ended(job)) {
    links.push(h("button", { type: "button", disabled: job.cancel_requested, onclick: () => cancel(job.id) },
      job.cancel_requested ? "is being cancelled …" : "Cancel"));
  }
  if (job.links.trace) links.push(h("a", { href: job.links.trace, rel: "noreferrer" }, "this trace in the tracing tool"));
  if (links.length) found.push(h("div", { class: "actions" }, ...links));
  return found;
}

async function evidence(job) {
  const place = boxes.get(job.id).querySelector(".evidence");
  if (!ended(job) || place.dataset.done) return;
  place.dataset.done = "yes";
  place.replaceChildren(await traceOf(job.correlation_id));
}

async function traceOf(traceId) {
  if (traces.has(traceId)) return traces.get(traceId);
  try {
    const { spans } = await ask(`/traces/${traceId}`);
    const box = h("div", {}, verdict(spans), waterfall(spans));
    box.className = "body trace-body";
    traces.set(traceId, box);
    return box;
  } catch (error) {
    return h("p", { class: "quiet" }, error.status === 404 ? "Its trace is not kept here any more." : `Its trace cannot be read: ${error.message}`);
  }
}

function order() {
  const list = [...syncs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at)).slice(0, SHOWN);
  const place = $("sync-list");
  const wanted = list.map((job) => boxes.get(job.id));
  // Only what moved is moved: an element that stays keeps the focus.
  wanted.forEach((box, at) => { if (place.children[at] !== box) place.insertBefore(box, place.children[at] ?? null); });
  while (place.children.length > wanted.length) place.lastChild.remove();
  if (wanted.length === 0) place.replaceChildren(h("p", { class: "quiet" }, "none yet"));
}

async function cancel(id) {
  try {
    take(await ask(`/syncs/${id}`, { method: "DELETE" }));
  } catch (error) {
    $("asked").textContent = refusal(error);
  }
}

function refusal(error) {
  if (error.status === 401) { $("token").open = true; $("token-value").focus(); return "Enter the token first."; }
  return error.status === 409 ? `Another sync is under way: ${error.document.conflict}.` : error.message;
}

// ---- the live line

async function listen() {
  stream?.abort();
  const own = (stream = new AbortController());
  while (!own.signal.aborted) {
    try {
      const answer = await ask("/events", { stream: true, signal: own.signal });
      line("live");
      await load();
      await read(answer.body.getReader());
    } catch (error) {
      if (own.signal.aborted) return;
      if (error.status) explain(error);
    }
    line("not connected, trying again …");
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += decoder.decode(value, { stream: true });
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((text) => text.startsWith("data: ")).map((text) => text.slice(6)).join("\n");
      if (data) { take(JSON.parse(data)); order(); }
    }
  }
}

async function load() {
  for (const job of (await ask(`/syncs?limit=${SHOWN}`)).syncs.reverse()) take(job);
  order();
  if (!opened) {
    opened = true;
    const newest = [...syncs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at)).find(troubled);
    if (newest) boxes.get(newest.id).open = true;
  }
}

function line(text) {
  $("line").textContent = text;
}

// ---- what people do

$("ask-kind").addEventListener("change", () => {
  $("ask-scope").hidden = $("ask-kind").value === "full";
});
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = $("ask-kind").value;
  const wanted = { kind, scope: kind === "full" ? null : $("ask-scope").value, force: $("ask-force").checked };
  try {
    const job = await ask("/syncs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wanted) });
    $("asked").textContent = "";
    take(job);
    order();
  } catch (error) {
    $("asked").textContent = refusal(error);
  }
});
$("token").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token-value").value.trim();
  if (token) sessionStorage.setItem("token", token);
  else sessionStorage.removeItem("token");
  $("token").open = false;
  $("asked").textContent = "";
  look();
  listen();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("token").open) { $("token").open = false; $("token").querySelector("summary").focus(); }
});

setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
setInterval(() => {
  for (const time of document.querySelectorAll("time")) time.textContent = `${since(time.dateTime)} ago`;
}, 1000);
look();
listen();
