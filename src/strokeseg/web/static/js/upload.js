// Files to the server. What is small goes in one request; what is big goes in pieces, each of which can be sent again.
// After a lost connection both go on by themselves: an idempotency key, or the offset that the server tells, makes sure
// that nothing arrives twice.

import { ApiError, address, call, getJson, headers, pause, problem } from "./api.js";
import { memory } from "./dom.js";
import { total } from "./files.js";

export const IN_ONE_BYTES = 8e6;
const AT_ONCE = 3;
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000, 15000, 15000];
const PASSING = [0, 408, 425, 429, 502, 503, 504];

/**
 * Send a study.
 * @param {import("./files.js").Entry[]} entries
 * @param {Object<string, string>} fields name, window, spacing, priority, model; empty ones are left out
 * @param {(state: {sent: number, total: number, waiting: boolean}) => void} report
 * @param {AbortSignal} signal ends it
 * @returns {Promise<Object>} the study
 * @throws {ApiError}
 */
export async function send(entries, fields, report, signal) {
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value));
  const size = total(entries);
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;
  if (size <= IN_ONE_BYTES) return lasting(() => inOne(entries, given, key, size, report, signal), size, report, signal);
  return inPieces(entries, given, key, size, report, signal);
}

/** Try again what may pass: a lost connection or a busy server. A refusal is told at once. */
async function lasting(attempt, size, report, signal, sent = () => 0) {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || !PASSING.includes(error.status) || tries >= WAITS_MS.length) throw error;
      report({ sent: sent(), total: size, waiting: true });
      await pause(WAITS_MS[tries], signal);
    }
  }
}

/** One multipart request; XMLHttpRequest, since fetch does not tell how far an upload is. */
async function inOne(entries, fields, key, size, report, signal) {
  const form = new FormData();
  for (const { file, path } of entries) form.append("files", file, path);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const { status, text } = await posted(form, key, size, report, signal);
  if (status === 401) return (await call("studies", { method: "POST", body: form, more: { "Idempotency-Key": key } })).json();
  if (status < 200 || status > 299) throw problem(status, text);
  return JSON.parse(text);
}

function posted(form, key, size, report, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", address("studies"));
    for (const [name, value] of Object.entries(headers("POST", { "Idempotency-Key": key }))) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => report({ sent: Math.min(loaded, size), total: size, waiting: false });
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = () => reject(new ApiError("The connection was lost.", { code: "offline" }));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    signal.addEventListener("abort", stop);
    request.send(form);
  });
}

async function inPieces(entries, fields, key, size, report, signal) {
  const offsets = new Array(entries.length).fill(0);
  const ids = new Array(entries.length).fill(null);
  const sent = () => offsets.reduce((sum, offset) => sum + offset, 0);
  let next = 0;
  const worker = async () => {
    while (next < entries.length) {
      const index = next++;
      const told = (offset) => {
        offsets[index] = offset;
        report({ sent: sent(), total: size, waiting: false });
      };
      ids[index] = await lasting(() => oneFile(entries[index], told, signal), size, report, signal, sent);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, entries.length) }, worker));
  const finish = async () => {
    const more = { "Idempotency-Key": key };
    return (await call("uploads/finish", { method: "POST", json: { uploads: ids, ...fields }, more, signal })).json();
  };
  const made = await lasting(finish, size, report, signal, sent);
  for (const entry of entries) memory.set(mark(entry), null);
  return made;
}

/** What tells a file again after the page was loaded anew: the same file then goes on where it was. */
const mark = ({ file, path }) => `upload.${path}.${file.size}.${file.lastModified}`;

async function oneFile(entry, told, signal) {
  const upload = await begun(entry, signal);
  let offset = upload.offset;
  told(offset);
  while (offset < entry.file.size) {
    const piece = entry.file.slice(offset, offset + upload.chunk_bytes);
    const more = { "Upload-Offset": String(offset), "Content-Type": "application/octet-stream" };
    try {
      const answer = await call(`uploads/${upload.id}`, { method: "PATCH", body: piece, more, signal });
      offset = Number(answer.headers.get("Upload-Offset"));
    } catch (error) {
      if (error.status !== 409) throw error;
      offset = (await getJson(`uploads/${upload.id}`, { signal })).offset;
    }
    told(offset);
  }
  return upload.id;
}

async function begun(entry, signal) {
  const [id, chunk] = (memory.get(mark(entry)) ?? "").split(" ");
  if (id) {
    try {
      const known = await getJson(`uploads/${id}`, { signal });
      return { id, offset: known.offset, chunk_bytes: Number(chunk) };
    } catch (error) {
      if (![404, 410].includes(error.status)) throw error;
    }
  }
  const json = { name: entry.path, size: entry.file.size };
  const upload = await (await call("uploads", { method: "POST", json, signal })).json();
  memory.set(mark(entry), `${upload.id} ${upload.chunk_bytes}`);
  return upload;
}
