// Uploads. Small ones are sent in one request, large ones in chunks that can be sent again. After a lost connection both
// continue automatically: an idempotency key, or the server's offset, ensures that nothing arrives twice.

import { ApiError, address, call, getJson, headers, pause, problem } from "./api.js";
import { settings } from "./dom.js";
import { totalBytes } from "./files.js";

export const SINGLE_REQUEST_BYTES = 8e6;
const PARALLEL = 3;
const DELAYS_MS = [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000, 15000, 15000];
const TEMPORARY = [0, 408, 425, 429, 502, 503, 504];

/**
 * Send a study.
 * @param {import("./files.js").Entry[]} entries
 * @param {Object<string, string>} fields name, window, spacing, order, priority, model; empty ones are left out
 * @param {(state: {sent: number, total: number, waiting: boolean}) => void} report
 * @param {AbortSignal} signal ends it
 * @returns {Promise<Object>} the study
 * @throws {ApiError}
 */
export async function send(entries, fields, report, signal) {
  const used = Object.fromEntries(Object.entries(fields).filter(([, value]) => value));
  const size = totalBytes(entries);
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;
  if (size <= SINGLE_REQUEST_BYTES) return retry(() => sendInOneRequest(entries, used, key, size, report, signal), size, report, signal);
  return sendInChunks(entries, used, key, size, report, signal);
}

/** Retry after temporary errors: a lost connection or a busy server. A refusal is thrown at once. */
async function retry(attempt, size, report, signal, sent = () => 0) {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || !TEMPORARY.includes(error.status) || tries >= DELAYS_MS.length) throw error;
      report({ sent: sent(), total: size, waiting: true });
      await pause(DELAYS_MS[tries], signal);
    }
  }
}

/** Send one multipart request; by XMLHttpRequest, since fetch does not report the progress of uploads. */
async function sendInOneRequest(entries, fields, key, size, report, signal) {
  const form = new FormData();
  for (const { file, path } of entries) form.append("files", file, path);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const { status, text } = await post(form, key, size, report, signal);
  if (status === 401) return (await call("studies", { method: "POST", body: form, more: { "Idempotency-Key": key } })).json();
  if (status < 200 || status > 299) throw problem(status, text);
  return JSON.parse(text);
}

function post(form, key, size, report, signal) {
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

async function sendInChunks(entries, fields, key, size, report, signal) {
  const offsets = new Array(entries.length).fill(0);
  const ids = new Array(entries.length).fill(null);
  const sent = () => offsets.reduce((sum, offset) => sum + offset, 0);
  let next = 0;
  const worker = async () => {
    while (next < entries.length) {
      const index = next++;
      const onOffset = (offset) => {
        offsets[index] = offset;
        report({ sent: sent(), total: size, waiting: false });
      };
      ids[index] = await retry(() => sendFile(entries[index], onOffset, signal), size, report, signal, sent);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, entries.length) }, worker));
  const finish = async () => {
    const more = { "Idempotency-Key": key };
    return (await call("uploads/finish", { method: "POST", json: { uploads: ids, ...fields }, more, signal })).json();
  };
  const study = await retry(finish, size, report, signal, sent);
  for (const entry of entries) settings.set(storageKey(entry), null);
  return study;
}

/** The key that recognizes a file after the page was reloaded, so that its upload continues. */
const storageKey = ({ file, path }) => `upload.${path}.${file.size}.${file.lastModified}`;

async function sendFile(entry, onOffset, signal) {
  const upload = await resume(entry, signal);
  let offset = upload.offset;
  onOffset(offset);
  while (offset < entry.file.size) {
    const chunk = entry.file.slice(offset, offset + upload.chunk_bytes);
    const more = { "Upload-Offset": String(offset), "Content-Type": "application/octet-stream" };
    try {
      const response = await call(`uploads/${upload.id}`, { method: "PATCH", body: chunk, more, signal });
      offset = Number(response.headers.get("Upload-Offset"));
    } catch (error) {
      if (error.status !== 409) throw error;
      offset = (await getJson(`uploads/${upload.id}`, { signal })).offset;
    }
    onOffset(offset);
  }
  return upload.id;
}

async function resume(entry, signal) {
  const [id, chunkBytes] = (settings.get(storageKey(entry)) ?? "").split(" ");
  if (id) {
    try {
      const state = await getJson(`uploads/${id}`, { signal });
      return { id, offset: state.offset, chunk_bytes: Number(chunkBytes) };
    } catch (error) {
      if (![404, 410].includes(error.status)) throw error;
    }
  }
  const json = { name: entry.path, size: entry.file.size };
  const upload = await (await call("uploads", { method: "POST", json, signal })).json();
  settings.set(storageKey(entry), `${upload.id} ${upload.chunk_bytes}`);
  return upload;
}
