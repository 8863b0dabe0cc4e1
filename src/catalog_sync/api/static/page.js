import { h, lost, onToken, refusal, seen, send, show, since, span, tick, ask } from "/static/shared.js";
import { seconds, verdict, waterfall } from "/static/waterfall.js";

const SHOWN = 20;
const POLL_MS = 3000;
const TIMEOUT_MS = 8000;
const RECONNECT_MS = 2000;
const $ = (id) => document.getElementById(id);
const syncs = new Map(); // id → the job as last told
const boxes = new Map(); // id → its element
const traces = new Map(); // trace id → the element of a waterfall, kept while the page is open
let stream = null;
let opened = false;
let looking = false;
let incidentsAt = null; // when they were last seen

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

function explain(error) {
  if (error.status === 401 || error.status === 403) {
    notice(error.status === 401 ? "Reading needs the token: enter it under “Token”." : error.message);
  } else lost(error.status ? error.message : error.name === "TimeoutError" ? "the server takes too long" : "the server cannot be reached");
}

document.addEventListener("lost", () => {
  const pill = $("health");
  if (!pill.dataset.was) pill.dataset.was = pill.textContent;
  pill.className = "pill";
  pill.textContent = `unknown, was ${pill.dataset.was}`;
  document.title = "unknown · catalog-api";
});

// ---- words

const ago = (moment) => h("time", { datetime: moment, title: new Date(moment).toLocaleString() }, `${since(moment)} ago`);
const many = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;
const TONES = { healthy: "good", degraded: "warn", unhealthy: "bad", COMPLETE: "good", PARTIAL: "warn", FAILED: "bad",
  LOCK_UNAVAILABLE: "bad", SKIPPED_LOCKED: "warn", CLOSED: "good", OPEN: "bad", HALF_OPEN: "warn", FORCED_OPEN: "bad", SHADOW: "good",
  CRITICAL: "bad", HIGH: "bad", MEDIUM: "warn", LOW: "", ok: "good", stale: "warn", failed: "bad", fresh: "good", snapshot: "warn" };
const pill = (word, tone = TONES[word] ?? "") => h("span", { class: `pill ${tone}` }, word.toLowerCase().replaceAll("_", " "));

// ---- the state of things

async function look() {
  if (looking) return;
  looking = true;
  try {
    const found = await ask("/overview", { signal: AbortSignal.timeout(TIMEOUT_MS) });
    notice("");
    seen();
    showHealth(found.health);
    showCatalogue(found.catalogue);
    showProtection(found.breakers, found.budgets);
    showIncidents(found.alerts);
    showTraces((await ask("/traces?limit=20", { signal: AbortSignal.timeout(TIMEOUT_MS) })).traces);
  } catch (error) {
    explain(error);
  } finally {
    looking = false;
  }
}

function showHealth(report) {
  delete $("health").dataset.was;
  $("health").className = `pill ${TONES[report.status]}`;
  $("health").textContent = report.status;
  document.title = report.status === "healthy" ? "catalog-api" : `${report.status} · catalog-api`;
  show($("checks"), ...Object.entries(report.checks).map(([name, check]) => {
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
    show($("catalogue"), "There is none yet. Request a sync below.");
    return;
  }
  const part = Math.min(1, found.age_s / found.stale_after_s);
  const tone = part >= 1 ? "bad" : part > 0.75 ? "warn" : "";
  const bar = h("i", { class: tone });
  bar.style.width = `${Math.max(1, part * 100)}%`;
  $("catalogue").className = "";
  offer(Object.keys(found.groups).sort());
  show($("catalogue"),
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
  show($("protection"), ...names.map((name) => {
    const breaker = breakers.find((each) => each.dependency === name);
    const budget = budgets.find((each) => each.dependency === name);
    const box = h("div", { class: "protected" }, h("div", {}, h("b", {}, name), breaker ? pill(breaker.state, toneOf(breaker)) : null));
    if (breaker) {
      const wait = breaker.retry_after_s ? `, a probe in ${seconds(breaker.retry_after_s)}` : "";
      box.append(h("small", {}, `${breaker.failures} of ${many(breaker.calls, "call")} failed lately${breaker.rejected ? `, ${breaker.rejected} rejected` : ""}${wait}`));
    }
    if (budget) {
      const left = budget.capacity ? budget.tokens / budget.capacity : 0;
      const bar = h("i", { class: left < 0.1 ? "bad" : left < 0.4 ? "warn" : "" });
      bar.style.width = `${left * 100}%`;
      box.append(h("span", { class: "meter", role: "img", "aria-label": `${Math.round(left * 100)} % of the retry budget left` }, bar),
        h("small", {}, `${Math.round(budget.tokens)} of ${budget.capacity} retry tokens left${budget.denied ? `, ${budget.denied} ${budget.denied === 1 ? "retry" : "retries"} denied` : ""}`));
    }
    return box;
  }));
  if (names.length === 0) show($("protection"), "nothing was called yet");
}

// Closed is only well where calls went well.
const toneOf = ({ state, calls, failures }) =>
  !["CLOSED", "SHADOW"].includes(state) ? TONES[state] : failures ? "warn" : calls ? "good" : "";

function showIncidents(alerts) {
  const box = $("incidents");
  box.classList.toggle("lost", Boolean(alerts.error));
  if (alerts.error) {
    const was = [...box.childNodes].filter((node) => incidentsAt !== null && !node.classList?.contains("was"));
    const why = incidentsAt === null ? `unknown: ${alerts.error.message}` : `seen ${since(incidentsAt)} ago; now unknown: ${alerts.error.message}`;
    show(box, ...was.map((node) => node.cloneNode(true)), h("p", { class: "was" }, why));
    return;
  }
  incidentsAt = new Date().toISOString();
  if (!alerts.set_up) return show(box, "Alerting is not set up.");
  const found = alerts.incidents.map((each) => h("div", { class: "incident" },
    h("div", {}, pill(each.severity), " ", h("a", { href: `/incidents/${encodeURIComponent(each.id)}` }, each.title)),
    h("small", { class: "hint" }, `${many(each.count ?? 1, "time")}, since `, ago(each.first_seen))));
  const gap = alerts.complete === false ? h("p", { class: "was" }, "Redis does not answer: incidents of other machines are unknown.") : null;
  show(box, gap, ...(found.length ? found : [gap ? "none of this machine" : "none"]),
    h("p", { class: "hint" }, `${alerts.outbox} waiting to be delivered, ${many(alerts.dead_letters, "dead letter")}`));
}

let tracesSeen = null;

function showTraces(found) {
  tracesSeen = found;
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
  show(box.querySelector("summary"), ...head(job));
  show(box.querySelector(".live"), ...facts(job));
  if (box.open) evidence(job);
}

// What a sync had not fetched when it ended is neither waiting nor under way any more.
const groupsOf = (job) => job.progress.groups.map((each) =>
  ended(job) && (each.status === "pending" || each.status === "running") ? { ...each, status: "not fetched" } : each);

function head(job) {
  const word = job.outcome ?? job.status;
  const state = pill(word);
  if (!ended(job)) state.classList.add("busy");
  const groups = groupsOf(job);
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
  const rows = [["correlation ID", h("a", { class: "id", href: `/traces/${job.correlation_id}` }, job.correlation_id)], ["asked", new Date(job.created_at).toLocaleString()]];
  const report = job.report;
  if (report?.version) rows.push(["version", h("span", { class: "id" }, report.version)]);
  if (report?.quarantined) rows.push(["set aside", many(report.quarantined, "row")]);
  if (report?.holder) rows.push(["lock held by", report.holder.owner]);
  if (report?.error) rows.push(["error", `${report.error.type} (${report.error.class}, ${report.error.severity}): ${report.error.message}`]);
  const found = [h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))];
  if (job.progress.groups.length) {
    found.push(h("ul", { class: "grouplist" }, ...groupsOf(job).map((each) => h("li", {},
      pill(each.status), h("span", {}, each.name), h("span", { class: "quiet" }, each.bundles.toLocaleString()),
      each.error ? h("span", { class: "why" }, `${each.error.type} (${each.error.class}, ${each.error.severity}): ${each.error.message}`) : null))));
  }
  const links = [h("a", { href: job.links.self }, "page of this sync")];
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
    take(await send(`/syncs/${id}`, "DELETE"));
  } catch (error) {
    $("asked").textContent = refusal(error);
  }
}

// ---- the live line

async function listen() {
  stream?.abort();
  const own = (stream = new AbortController());
  while (!own.signal.aborted) {
    try {
      const answer = await ask("/events", { stream: true, signal: own.signal });
      line("");
      await load();
      await read(answer.body.getReader());
    } catch (error) {
      if (own.signal.aborted) return;
      if (error.status) explain(error);
    }
    line("Live updates are interrupted, reconnecting …");
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
  if (tracesSeen) showTraces(tracesSeen); // those of syncs that were not known a moment ago
  if (!opened) {
    opened = true;
    const newest = [...syncs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at)).find(troubled);
    if (newest) boxes.get(newest.id).open = true;
  }
}

function line(text) {
  $("stream").textContent = text;
}

// ---- what people do

const chosen = { groups: [], countries: [] };

function offer(groups) {
  if (groups.join("\n") === chosen.groups.join("\n")) return;
  chosen.groups = groups;
  if ($("ask-kind").value === "group") fill(groups);
}

function fill(names) {
  const before = $("ask-choice").value;
  show($("ask-choice"), ...names.map((name) => h("option", { value: name }, name)));
  if (names.includes(before)) $("ask-choice").value = before;
}

$("ask-kind").addEventListener("change", async () => {
  const kind = $("ask-kind").value;
  $("ask-scope").hidden = kind !== "bundle";
  $("ask-choice").hidden = kind !== "group" && kind !== "country";
  if (kind === "group") fill(chosen.groups);
  if (kind !== "country") return;
  try {
    if (!chosen.countries.length) chosen.countries = (await ask("/countries")).countries.map((each) => each.code);
    fill(chosen.countries);
  } catch (error) {
    $("asked").textContent = refusal(error);
  }
});

function scope(kind) {
  return kind === "full" ? null : kind === "bundle" ? $("ask-scope").value : $("ask-choice").value;
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = $("ask-kind").value;
  try {
    const job = await send("/syncs", "POST", { kind, scope: scope(kind), force: $("ask-force").checked });
    $("asked").textContent = "";
    take(job);
    order();
  } catch (error) {
    $("asked").textContent = refusal(error, event.submitter);
  }
});
onToken(() => {
  $("asked").textContent = "";
  look();
  listen();
});

setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
setInterval(() => tick((time) => `${since(time.dateTime)} ago`), 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
// A page that is left keeps no connection: of those that a browser has for a server, each visit would take one.
addEventListener("pagehide", () => stream?.abort());
addEventListener("pageshow", (event) => { if (event.persisted) { look(); listen(); } });
look();
listen();
