// The one way to the server: relative addresses (the page may stand on a sub-path), problem details as errors.

const BASE = "api/v1/";
const CHANGES = ["POST", "PUT", "PATCH", "DELETE"];

/** What the server refused, or why it cannot be reached (`code` "offline", `status` 0). */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "error", remedy = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, remedy });
  }
}

let askForLogin = null;

/** Say what to do when the server wants to know who asks: a function that gives a promise, true if one is let in. */
export function onUnauthorized(ask) {
  askForLogin = ask;
}

export const address = (path) => BASE + path;

/** Give the headers of a call; those that change something need one that no foreign page can send. */
export function headers(method, more = {}) {
  return CHANGES.includes(method) ? { "X-StrokeSeg": "1", ...more } : more;
}

/**
 * Call the server.
 * @returns {Promise<Response>} an answer of 2xx
 * @throws {ApiError}
 */
export async function call(path, { method = "GET", body, json, more = {}, signal, base = BASE, login = true } = {}) {
  const sent = json === undefined ? more : { "Content-Type": "application/json", ...more };
  const options = { method, headers: headers(method, sent), signal, credentials: "same-origin" };
  options.body = json === undefined ? body : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(base + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", { code: "offline", remedy: "The page tries again by itself." });
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && login && askForLogin && (await askForLogin())) {
    return call(path, { method, body, json, more, signal, base, login: false });
  }
  throw problem(answer.status, await answer.text().catch(() => ""));
}

/** Turn an answer that is no success into an error; a proxy may answer with something else than problem details. */
export function problem(status, text) {
  let said = {};
  try {
    said = JSON.parse(text) ?? {};
  } catch {
    /* not JSON: the status alone is told */
  }
  const detail = typeof said.detail === "string" ? said.detail : said.title;
  return new ApiError(detail || `The server answered with ${status}.`, {
    status,
    code: said.code || `http-${status}`,
    remedy: said.remedy || "",
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

/** Unpack gzip; bytes that are none come back as they are, since a server may have unpacked them on the way. */
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
