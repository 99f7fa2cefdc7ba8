// The endpoint as the page asks it: the key, requests and their errors, and what is on the air.

const KEY = "brain_ray.key"; // in sessionStorage
const SLACK_S = 120; // for slow uploads, on top of the server's own limit

export const TRIES = 5; // of a request, while the server says that it is busy

export let model = null; // GET /v1/model, once `fetchModel` has it

export class Problem extends Error {
  constructor(status, code, detail = "", retryAfter = 0) {
    super(detail);
    Object.assign(this, { status, code, detail, retryAfter });
  }
}

export function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return storedKey.fallback ?? ""; // storage is switched off: for as long as the page is open
  }
}

export function storeKey(key) {
  storedKey.fallback = key;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch { /* see above */ }
}

/** Fetch, with the key; throws a Problem for every answer that is none. Status 0: no answer at all. */
export async function ask(path, options = {}) {
  const key = storedKey();
  const headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const seconds = (model?.limits.timeout_s ?? 30) + SLACK_S;
  let response;
  try {
    const signal = AbortSignal.timeout(seconds * 1000);
    response = await fetch(path, { ...options, headers, credentials: "same-origin", signal });
  } catch (error) {
    if (error.name === "TimeoutError") throw new Problem(504, "timeout", `nothing came within ${seconds} s`);
    throw new Problem(0, "unreachable");
  }
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch { /* a proxy's page, say */ }
  const detail = typeof body.detail === "string" ? body.detail : "";
  const problem = new Problem(response.status, String(body.code ?? ""), detail, waitOf(response));
  problem.body = body.code ? body : undefined;
  problem.key = key;
  throw problem;
}

/** Seconds that an answer tells to wait, 1..60. */
function waitOf(response) {
  const header = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(60, Math.max(1, Math.ceil(seconds))) : 2;
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** What the endpoint says if the images of late are unlike those of validation; else nothing. */
export async function fetchDrift() {
  try {
    const { status, sentence } = await (await ask("v1/drift")).json();
    return status === "drifted" ? sentence : "";
  } catch {
    return ""; // the page goes on without it
  }
}

/** Get `model`, and wait for a server that is busy or starts; throws a Problem. */
export async function fetchModel() {
  for (let attempt = 1; !model; attempt++) {
    try {
      model = await (await ask("v1/model")).json();
    } catch (error) {
      if (error.status !== 503 || attempt === TRIES) throw error;
      await sleep(error.retryAfter);
    }
  }
}
