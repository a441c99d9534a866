// Questions to the server: at most three at a time; whoever asks anew forgets what was asked before.
import { signal, useEffect, useRef, useState } from "./dom.js";
import { branch, ROOT } from "./url.js";

const AT_A_TIME = 3;
const KEPT = 200;

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `status ${status}`);
    this.status = status;
    this.title = body.title ?? "It didn't work";
    this.body = body;
  }
}

export const busy = signal(0);
export const signedOut = signal(false);
let running = 0;
const waiting = [];
const kept = new Map();

export function urlOf(path, params = {}, of = branch.value) {
  const url = new URL((of === "main" ? "v1" : `v1/branches/${encodeURIComponent(of)}`) + path, ROOT);
  for (const [name, value] of Object.entries(params))
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
  return url;
}

/** Exchange the token in the address, #token=…, for a cookie, and take it out of the address. */
async function signIn() {
  const token = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  await fetch(new URL("v1/session", ROOT), { method: "POST", headers: { authorization: `Bearer ${decodeURIComponent(token)}` }, credentials: "same-origin" }).catch(() => {});
}
const signedIn = signIn();

async function turn(abort) {
  await signedIn;
  if (running >= AT_A_TIME)
    await new Promise((resolve, reject) => {
      const entry = { resolve };
      waiting.push(entry);
      abort?.addEventListener("abort", () => {
        const index = waiting.indexOf(entry);
        if (index >= 0) {
          waiting.splice(index, 1);
          reject(abort.reason);
        }
      });
    });
  else running++;
  busy.value++;
}

function done() {
  busy.value--;
  const next = waiting.shift();
  if (next) next.resolve();
  else running--;
}

/** The answer's JSON. Raises Problem for what the server refuses, and AbortError. */
export async function ask(url, { method = "GET", body, abort, accept } = {}) {
  await turn(abort);
  try {
    const headers = accept ? { accept } : {};
    if (body !== undefined) headers["content-type"] = "application/json";
    let answer;
    try {
      answer = await fetch(url, { method, headers, signal: abort, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { title: "The server can't be reached", detail: "Is it still running? The page tries again when you do." });
    }
    if (answer.status === 204) return null;
    if (!answer.ok) {
      if (answer.status === 401) signedOut.value = true;
      throw new Problem(answer.status, await answer.json().catch(() => ({ title: answer.statusText || "It didn't work" })));
    }
    return accept ? await answer.text() : await answer.json();
  } finally {
    done();
  }
}

export const post = (path, body, options) => ask(urlOf(path), { method: "POST", body, ...options });

export function remembered(url) {
  return kept.get(String(url));
}

export function remember(url, data) {
  kept.delete(String(url));
  kept.set(String(url), data);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

/** Fetch and remember, for answers that a moment in the past has for good. */
export async function askOnce(url, options) {
  const known = remembered(url);
  if (known !== undefined) return known;
  const data = await ask(url, options);
  remember(url, data);
  return data;
}

/**
 * {data, problem, loading} of a question, asked again when it changes; nothing is asked of null.
 * The last answer stays while the next one is on its way: nothing flickers.
 */
export function useAsked(url, { keep = false, after = 0 } = {}) {
  const key = url === null ? null : String(url);
  const [found, setFound] = useState({ data: undefined, problem: null, of: null });
  const again = useRef(0);
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (key === null) return;
    const known = keep ? remembered(key) : undefined;
    if (known !== undefined) {
      setFound({ data: known, problem: null, of: key });
      return;
    }
    const abort = new AbortController();
    const start = () =>
      ask(key, { abort: abort.signal }).then(
        (data) => {
          if (keep) remember(key, data);
          if (!abort.signal.aborted) setFound({ data, problem: null, of: key });
        },
        (problem) => {
          if (!abort.signal.aborted) setFound((old) => ({ data: old.of === key ? old.data : undefined, problem, of: key }));
        },
      );
    const timer = after ? setTimeout(start, after) : void start();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, round]);
  if (key === null) return { data: undefined, problem: null, loading: false, again: () => {} };
  const known = keep && found.of !== key ? remembered(key) : undefined;
  if (known !== undefined) return { data: known, problem: null, loading: false, again: () => {} };
  return { data: found.data, problem: found.of === key ? found.problem : null, loading: found.of !== key, again: () => setRound(++again.current) };
}
