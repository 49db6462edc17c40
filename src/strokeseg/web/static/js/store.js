// The studies known to this tab, updated by the server's events, and whether the server can be reached.

import { address, call, getJson } from "./api.js";

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8000;

export const studies = new Map();
/** Events: `study` and `deleted` (detail: the study, or its id), `list`, `connection` (detail: true or false). */
export const changes = new EventTarget();
let connected = true;
let source = null;
let delay = FIRST_DELAY_MS;
let timer = 0;

const notify = (type, detail) => changes.dispatchEvent(new CustomEvent(type, { detail }));

/** Listen until a signal is aborted, so that a view that was left no longer listens. */
export const listen = (type, handler, signal) => changes.addEventListener(type, (event) => handler(event.detail), { signal });

/** Store a study as the server sent it. */
export function update(study) {
  studies.set(study.id, study);
  notify("study", study);
}

function forget(id) {
  if (studies.delete(id)) notify("deleted", id);
}

/** Fetch the newest studies, or those after `cursor`. Returns the next cursor, or null. */
export async function list({ status = "", q = "", cursor = "" } = {}) {
  const query = new URLSearchParams({ limit: "50" });
  for (const [name, value] of Object.entries({ status, q, cursor })) if (value) query.set(name, value);
  const page = await getJson(`studies?${query}`);
  for (const study of page.items) studies.set(study.id, study);
  if (!status && !q && !cursor && !page.next) {
    const present = new Set(page.items.map((study) => study.id));
    for (const id of [...studies.keys()]) if (!present.has(id)) studies.delete(id);
  }
  notify("list", page.items);
  return page.next;
}

export async function study(id) {
  const fetched = await getJson(`studies/${encodeURIComponent(id)}`);
  update(fetched);
  return fetched;
}

export async function remove(id) {
  await call(`studies/${encodeURIComponent(id)}`, { method: "DELETE" });
  forget(id);
}

/** Process a study again that failed or was refused. */
export async function retry(id) {
  const response = await call(`studies/${encodeURIComponent(id)}/retry`, { method: "POST" });
  update(await response.json());
}

function setConnected(now) {
  if (now === connected) return;
  connected = now;
  notify("connection", now);
}

export const isConnected = () => connected;

/** Keep the event stream open. After a lost connection it reconnects, and the list is read again. */
export function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(address("studies/events"));
  source.addEventListener("open", () => {
    const wasOffline = !connected;
    delay = FIRST_DELAY_MS;
    setConnected(true);
    if (wasOffline) list().catch(() => {});
  });
  source.addEventListener("study", (event) => update(JSON.parse(event.data)));
  source.addEventListener("deleted", (event) => forget(JSON.parse(event.data).id));
  source.addEventListener("error", () => {
    source.close();
    setConnected(false);
    timer = setTimeout(reconnect, delay);
    delay = Math.min(delay * 2, MAX_DELAY_MS);
  });
}

/** A refused stream does not say why: a small request first tells a missing sign-in from a lost connection. */
async function reconnect() {
  try {
    await call("studies?limit=1");
  } catch (error) {
    if (error.code === "offline" || error.status >= 500) {
      timer = setTimeout(reconnect, delay);
      delay = Math.min(delay * 2, MAX_DELAY_MS);
      return;
    }
  }
  connect();
}

window.addEventListener("offline", () => setConnected(false));
window.addEventListener("online", connect);
