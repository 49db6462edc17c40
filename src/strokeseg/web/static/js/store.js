// The studies this tab knows, kept up to date by the server's events; and whether the server can be reached.

import { address, call, getJson } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

export const studies = new Map();
/** Events: `study` and `deleted` (detail: the study, or its id), `list`, `connection` (detail: true or false). */
export const changes = new EventTarget();
let connected = true;
let source = null;
let wait = FIRST_WAIT_MS;
let timer = 0;

const tell = (type, detail) => changes.dispatchEvent(new CustomEvent(type, { detail }));

/** Listen until a signal ends, so that a page that is left listens no more. */
export const listen = (type, handler, signal) => changes.addEventListener(type, (event) => handler(event.detail), { signal });

/** Take a study as the server tells it. */
export function know(study) {
  studies.set(study.id, study);
  tell("study", study);
}

function forget(id) {
  if (studies.delete(id)) tell("deleted", id);
}

/** Fetch the newest studies; `cursor` goes on from there. Gives the next cursor, or null. */
export async function list({ status = "", q = "", cursor = "" } = {}) {
  const asked = new URLSearchParams({ limit: "50" });
  for (const [name, value] of Object.entries({ status, q, cursor })) if (value) asked.set(name, value);
  const page = await getJson(`studies?${asked}`);
  for (const study of page.items) studies.set(study.id, study);
  if (!status && !q && !cursor && !page.next) {
    const there = new Set(page.items.map((study) => study.id));
    for (const id of [...studies.keys()]) if (!there.has(id)) studies.delete(id);
  }
  tell("list", page.items);
  return page.next;
}

export async function study(id) {
  const found = await getJson(`studies/${encodeURIComponent(id)}`);
  know(found);
  return found;
}

export async function remove(id) {
  await call(`studies/${encodeURIComponent(id)}`, { method: "DELETE" });
  forget(id);
}

function setConnected(now) {
  if (now === connected) return;
  connected = now;
  tell("connection", now);
}

export const isConnected = () => connected;

/** Keep the stream of events open. It comes back by itself after a lost connection, and the list is read anew. */
export function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(address("studies/events"));
  source.addEventListener("open", () => {
    const back = !connected;
    wait = FIRST_WAIT_MS;
    setConnected(true);
    if (back) list().catch(() => {});
  });
  source.addEventListener("study", (event) => know(JSON.parse(event.data)));
  source.addEventListener("deleted", (event) => forget(JSON.parse(event.data).id));
  source.addEventListener("error", () => {
    source.close();
    setConnected(false);
    timer = setTimeout(reconnect, wait);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  });
}

/** A refused stream does not say why: ask for something small first, which tells a missing login from a lost network. */
async function reconnect() {
  try {
    await call("studies?limit=1");
  } catch (error) {
    if (error.code === "offline" || error.status >= 500) {
      timer = setTimeout(reconnect, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      return;
    }
  }
  connect();
}

window.addEventListener("offline", () => setConnected(false));
window.addEventListener("online", connect);
