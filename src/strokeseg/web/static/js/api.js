// All requests to the server: relative addresses (the page may be on a sub-path), problem details as errors.

const BASE = "api/v1/";
const CHANGES = ["POST", "PUT", "PATCH", "DELETE"];

/** A refusal of the server, or a lost connection (`code` "offline", `status` 0). */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "error", remedy = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, remedy });
  }
}

let askForLogin = null;

/** Set the function that signs in when the server demands it; it returns a promise, true if the user signed in. */
export function onUnauthorized(signIn) {
  askForLogin = signIn;
}

export const address = (path) => BASE + path;

/** Return the headers of a call; changes need one that other sites' pages cannot send. */
export function headers(method, more = {}) {
  return CHANGES.includes(method) ? { "X-StrokeSeg": "1", ...more } : more;
}

/**
 * Call the server.
 * @returns {Promise<Response>} a response with status 2xx
 * @throws {ApiError}
 */
export async function call(path, { method = "GET", body, json, more = {}, signal, base = BASE, login = true } = {}) {
  const allHeaders = json === undefined ? more : { "Content-Type": "application/json", ...more };
  const options = { method, headers: headers(method, allHeaders), signal, credentials: "same-origin" };
  options.body = json === undefined ? body : JSON.stringify(json);
  let response;
  try {
    response = await fetch(base + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", { code: "offline", remedy: "The page tries again automatically." });
  }
  if (response.ok) return response;
  if (response.status === 401 && login && askForLogin && (await askForLogin())) {
    return call(path, { method, body, json, more, signal, base, login: false });
  }
  throw problem(response.status, await response.text().catch(() => ""));
}

/** Turn a failed response into an error; a proxy may send something other than problem details. */
export function problem(status, text) {
  let details = {};
  try {
    details = JSON.parse(text) ?? {};
  } catch {
    /* not JSON: show only the status */
  }
  const detail = typeof details.detail === "string" ? details.detail : details.title;
  return new ApiError(detail || `The server responded with status ${status}.`, {
    status,
    code: details.code || `http-${status}`,
    remedy: details.remedy || "",
  });
}

export const getJson = async (path, options) => (await call(path, options)).json();
export const getBytes = async (path, options) => (await call(path, options)).arrayBuffer();
export const atVersion = (version) => (version === null || version === undefined ? "" : `?version=${version}`);

/** Compress bytes as gzip. */
export async function gzip(data) {
  const stream = new Blob([data]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Decompress gzip; other bytes are returned unchanged, since a proxy may have decompressed them. */
export async function gunzip(data) {
  const start = new Uint8Array(data, 0, 2);
  if (start[0] !== 0x1f || start[1] !== 0x8b) return data;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
