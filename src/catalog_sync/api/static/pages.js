// Pages that the server made: renewed in place, traces as waterfalls, and what people do.

import { ask, away, clock, h, lost, morph, onToken, refusal, request, seen, send, tick } from "/static/shared.js";
import { verdict, waterfall } from "/static/waterfall.js";

const RENEW_MS = 5000;
const TIMEOUT_MS = 8000;
let renewing = false;

async function renew() {
  if (renewing) return;
  renewing = true;
  try {
    const answer = await request(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = next.querySelector("main");
    if (answer.status >= 500 || !main) return lost(next.querySelector("main .notice")?.textContent ?? `status ${answer.status}`);
    if (answer.redirected) history.replaceState(null, "", answer.url);
    main.querySelectorAll("section[data-unknown]").forEach(keepLastKnown);
    document.title = next.title;
    const focused = document.activeElement;
    for (const part of ["main", "#seen time"]) morph(document.querySelector(part), document.importNode(next.querySelector(part), true));
    // What had the focus may be over, as the form of an incident that was closed: go on reading from the top.
    if (!focused.isConnected) document.querySelector("main").focus();
    seen();
    upgrade();
    times();
  } catch (error) {
    lost(error.name === "TimeoutError" ? "the server takes too long" : "the server cannot be reached");
  } finally {
    renewing = false;
  }
}

// What cannot be read now is shown as it was, grey, with its age.
function keepLastKnown(next) {
  const old = document.getElementById(next.id);
  if (!old || (old.dataset.unknown !== undefined && old.dataset.as === undefined)) return;
  const at = old.dataset.as ?? String(Date.now());
  const before = old.cloneNode(true);
  before.querySelector(":scope > .was")?.remove();
  const why = next.dataset.unknown;
  next.replaceChildren(...before.childNodes, h("p", { class: "was" }, `Unknown since ${clock(Number(at))}: ${why}. This is what was seen last.`));
  next.dataset.as = at;
  next.classList.add("lost");
}

async function upgrade() {
  for (const place of document.querySelectorAll(".evidence[data-trace]:not([data-keep])")) {
    place.dataset.keep = "";
    try {
      const { spans } = await ask(`/traces/${place.dataset.trace}`);
      place.replaceChildren(verdict(spans), waterfall(spans));
    } catch {
      delete place.dataset.keep; // the list of the server stays
    }
  }
}

function times() {
  tick((time) => `${new Date(time.dateTime).toLocaleString()} (${away(time.dateTime)})`);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches(".act")) return;
  event.preventDefault();
  const said = form.querySelector(".said");
  said.dataset.keep = "";
  const button = event.submitter;
  try {
    if (form.matches(".decide")) {
      await send(`${form.dataset.path}/${button.value}`, "POST", decision(form, button.value));
      said.textContent = "Done.";
      renew();
    } else if (form.dataset.method === "DELETE") {
      await send(form.dataset.path, "DELETE");
      said.textContent = "It is being cancelled.";
    } else {
      const wanted = { kind: form.dataset.kind, scope: form.dataset.scope ?? null };
      location.assign((await send(form.dataset.path, "POST", wanted)).links.self);
    }
  } catch (error) {
    said.textContent = refusal(error, button);
  }
});

function decision(form, action) {
  const { by, reason, for_s } = Object.fromEntries(new FormData(form));
  return { ...(by && { by }), ...(reason && { reason }), ...(action === "silence" && { for_s: Number(for_s) }) };
}

onToken(renew);
seen();
times();
upgrade();
setInterval(() => { if (!document.hidden) renew(); }, RENEW_MS);
setInterval(times, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
