// What all pages share: asking with the token, times for people, changing only what changed, and how old it all is.

import { h } from "/static/waterfall.js";

export const OLD_MS = 15000; // after so long without an answer nothing here is taken for the present
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") ?? "";
let seenAt = null;
let lostSince = null;
let asking = null; // what had the focus when the token was asked for

export class Problem extends Error {
  constructor(document_) {
    super(document_.detail || document_.title);
    this.document = document_;
    this.status = document_.status;
  }
}

export function request(path, options = {}) {
  const headers = { ...(options.headers ?? {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { ...options, headers, cache: "no-store" });
}

export async function ask(path, options = {}) {
  const answer = await request(path, options);
  if (options.stream && answer.ok) return answer;
  const document_ = await answer.json();
  if (!answer.ok && !document_.checks) throw new Problem(document_);
  return document_;
}

export const send = (path, method, body) => ask(path, { method,
  ...(body ? { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {}) });

export function refusal(error, from = document.activeElement) {
  if (error.status === undefined) return "No response: it is unknown whether it was done.";
  if (error.status === 401) {
    asking = from;
    $("token").open = true;
    $("token-value").focus();
    return token ? "This token is not accepted. Enter the right one." : "Enter the token first.";
  }
  return error.status === 409 ? `Another sync is under way: ${error.document.conflict}.` : error.message;
}

export function onToken(use) {
  const close = () => {
    $("token").open = false;
    (asking?.isConnected ? asking : $("token").querySelector("summary")).focus();
    asking = null;
  };
  $("token").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token-value").value.trim();
    if (token) sessionStorage.setItem("token", token);
    else sessionStorage.removeItem("token");
    close();
    use();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && $("token").open) close(); });
}

// ---- words

export function span(value) {
  const rounded = Math.max(0, Math.round(value));
  if (rounded < 90) return `${rounded} s`;
  if (rounded < 5400) return `${Math.round(rounded / 60)} min`;
  if (rounded < 172800) return `${Math.round(rounded / 3600)} h`;
  return `${Math.round(rounded / 86400)} days`;
}

export const since = (moment) => span((Date.now() - Date.parse(moment)) / 1000);
export const away = (moment) => {
  const ahead = (Date.parse(moment) - Date.now()) / 1000;
  return ahead > 1 ? `in ${span(ahead)}` : `${since(moment)} ago`; // clocks differ
};
export const clock = (at) => new Date(at).toLocaleTimeString();

// ---- changing only what changed: the focus, the selection and what is open stay

export function morph(old, next) {
  if (old.isEqualNode(next) || old.dataset?.keep !== undefined) return;
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || (old.id ?? "") !== (next.id ?? "")) {
    old.replaceWith(next);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.nodeName === "TIME" && old.dateTime === next.dateTime) return;
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === "style") old.style.cssText = next.style.cssText; // as an attribute the policy refuses it
    else old.setAttribute(name, value);
  }
  const wanted = [...next.childNodes];
  wanted.forEach((child, at) => {
    if (at < old.childNodes.length) morph(old.childNodes[at], child);
    else old.append(child);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

export function show(box, ...children) {
  const next = box.cloneNode(false);
  next.append(...children.filter((child) => child !== null && child !== undefined));
  morph(box, next);
}

// ---- how old it is

export function seen() {
  seenAt = Date.now();
  if (lostSince !== null || $("line").textContent === "") say("live");
  lostSince = null;
  document.body.classList.remove("lost");
}

export function lost(why) {
  if (lostSince === null) {
    lostSince = seenAt ?? Date.now();
    say(seenAt === null ? `No answer: ${why}` : `No answer since ${clock(lostSince)}: ${why}. Below is what was seen last`);
  }
  document.body.classList.add("lost");
  document.dispatchEvent(new Event("lost"));
}

function say(text) {
  $("line").textContent = text;
}

function selected(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
}

export function tick(words) {
  if (seenAt !== null && Date.now() - seenAt > OLD_MS) lost("this page was not renewed");
  for (const time of document.querySelectorAll("time")) {
    const text = words(time);
    if (time.textContent !== text && !selected(time)) time.textContent = text;
  }
  const age = seenAt === null ? "" : `, seen ${span((Date.now() - seenAt) / 1000)} ago`;
  if ($("age") && $("age").textContent !== age) $("age").textContent = age;
}

export { h };
