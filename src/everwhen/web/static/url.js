// The URL is the state: /s/BRANCH/SCREEN?at=…&stream=… Whoever opens it sees the same.
import { batch, computed, signal } from "./dom.js";

export const ROOT = new URL("../../", import.meta.url);
export const SEVERAL = new Set(["category", "type", "tag", "break", "eval"]);
const ORDER = ["at", "fold", "stream", "category", "type", "tag", "filter", "as_of", "as_at", "pin", "view", "path", "watch", "from", "to", "pick", "with", "event", "without", "edits", "inserts", "seek", "q"];
const SETTLE_MS = 150; // browsers refuse hundreds of changes of an address within seconds

function read() {
  const below = location.pathname.slice(ROOT.pathname.length);
  const found = /^s\/([^/]+)\/([^/]+)\/?$/.exec(below);
  const query = {};
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (SEVERAL.has(name)) (query[name] ??= []).push(value);
    else if (value !== "") query[name] = value;
  }
  return { branch: found ? decoded(found[1]) : "main", screen: found ? decoded(found[2]) : "timeline", query };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal(read());
export const branch = computed(() => route.value.branch);
export const screenName = computed(() => route.value.screen);
const asked = {};
/** A signal of a parameter: a text or undefined; a list, maybe empty, of one that comes several times. */
export const param = (name) =>
  (asked[name] ??= SEVERAL.has(name)
    ? computed(() => JSON.stringify(route.value.query[name] ?? []))
    : computed(() => route.value.query[name]));
export const params = (name) => JSON.parse(param(name).value);

/** The address of a view that differs from this one by what is given; null takes a parameter out. */
export function hrefOf(changes, from = route.value) {
  const { branch, screen, query } = merged(changes, from);
  const names = Object.keys(query).sort((a, b) => rank(a) - rank(b));
  const parts = names.flatMap((name) => [query[name]].flat().map((value) => `${name}=${encoded(value)}`));
  return `${ROOT.pathname}s/${encodeURIComponent(branch)}/${encodeURIComponent(screen)}${parts.length ? "?" + parts.join("&") : ""}`;
}

const rank = (name) => (ORDER.indexOf(name) + ORDER.length + 1) % (ORDER.length + 1);
const encoded = (value) => encodeURIComponent(value).replace(/%3A/gi, ":").replace(/%20/g, "+").replace(/%2C/gi, ",").replace(/%40/g, "@");

function merged({ branch, screen, ...changes }, from) {
  const query = { ...from.query };
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) delete query[name];
    else query[name] = Array.isArray(value) ? value : String(value);
  }
  return { branch: branch ?? from.branch, screen: screen ?? from.screen, query };
}

let timer = 0;
let replaces = true;
let movedAt = 0;

function write() {
  clearTimeout(timer);
  timer = 0;
  const href = hrefOf({});
  if (href === location.pathname + location.search) return;
  history[replaces ? "replaceState" : "pushState"](null, "", href);
}

/** Show another view; it can be gone back from, unless it replaces this one. */
export function go(changes, { replace = false } = {}) {
  if (timer) write();
  replaces = replace;
  movedAt = 0;
  route.value = merged(changes, route.value);
  write();
}

/** Move in time. Steps that follow each other quickly are one, for whoever goes back. */
export function move(at) {
  const now = performance.now();
  if (!timer) replaces = now - movedAt < 1500;
  movedAt = now;
  route.value = merged({ at }, route.value);
  timer ||= setTimeout(write, SETTLE_MS);
}

addEventListener("popstate", () => {
  clearTimeout(timer);
  timer = 0;
  batch(() => (route.value = read()));
});
