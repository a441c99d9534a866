// What every screen knows: what is served, where its head is, and at which moment we are.
import { batch, computed, effect, signal, untracked } from "./dom.js";
import { ask, Problem, urlOf } from "./api.js";
import { branch, move, param } from "./url.js";

export const overview = signal(null);
export const overviewProblem = signal(null);
export const head = signal({ position: 0, recorded_at: null });
export const live = signal("connecting"); // "live", "connecting" or "off"
export const moment = signal({ at: null, position: null, problem: null }); // where `at` leads
export const ticks = signal([]); // hits of a search: {position, label}
export const toasts = signal([]);

const at = param("at");
/** Whether the newest event is shown, and those to come. */
export const follows = computed(() => (at.value ?? "head") === "head");
export const here = computed(() => {
  if (follows.value) return head.value.position;
  const text = at.value;
  if (/^\d+$/.test(text)) return Math.min(Number(text), head.value.position || Number(text));
  return moment.value.at === text ? moment.value.position : null;
});
export const pin = computed(() => {
  const text = param("pin").value;
  return text && /^\d+$/.test(text) ? Number(text) : null;
});

/** Step to a position within history; beyond its end, the newest events are followed. */
export function step(to) {
  const last = head.value.position;
  move(to > last ? "head" : String(Math.max(0, Math.min(to, last))));
}

let toastNumber = 0;
export function toast(title, detail = "", kind = "problem") {
  const id = ++toastNumber;
  if (toasts.value.some((one) => one.title === title && one.detail === detail)) return;
  toasts.value = [...toasts.value.slice(-3), { id, title, detail, kind }];
  setTimeout(() => dismiss(id), kind === "problem" ? 9000 : 2500);
}
export const dismiss = (id) => (toasts.value = toasts.value.filter((one) => one.id !== id));
export function complain(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Problem) toast(error.title, error.message);
  else {
    toast("The page failed", String(error.message ?? error));
    console.error(error);
  }
}

const AGAIN_MS = 10000; // a server that has gone, or tells nothing live, is asked again
const PASSING = [0, 429, 502, 503, 504]; // a first answer that fails so is asked for again
let following = null;
let tries = 0;
async function look(of) {
  try {
    const found = await ask(urlOf("", {}, of));
    if (branch.value !== of) return;
    batch(() => {
      overview.value = found;
      overviewProblem.value = null;
      head.value = { position: found.head, recorded_at: found.recorded_at };
    });
    tries = 0;
    follow(of);
  } catch (error) {
    if (error.name === "AbortError") return;
    overviewProblem.value = error;
    if (PASSING.includes(error.status)) setTimeout(() => branch.value === of && !overview.value && look(of), Math.min(AGAIN_MS, 500 * 2 ** tries++));
  }
}
export const reload = () => look(branch.value);

/** Listen to the head as it moves. */
function follow(of) {
  following?.close();
  const source = (following = new EventSource(urlOf("/events/live", { heads: true }, of)));
  let latest = head.value;
  let frame = 0;
  const moved = (position, recorded_at) => {
    if (position <= latest.position) return;
    latest = { position, recorded_at };
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (following === source) head.value = latest;
    });
  };
  source.onopen = () => (live.value = "live");
  source.onerror = () => {
    if (following !== source) return;
    live.value = source.readyState === EventSource.CLOSED ? "off" : "connecting";
    if (live.value === "off") setTimeout(() => following === source && look(of), AGAIN_MS);
  };
  const heard = (event) => {
    const told = JSON.parse(event.data);
    moved(told.position, told.recorded_at ?? null);
  };
  source.addEventListener("caught-up", heard);
  source.addEventListener("head", heard);
}

effect(() => {
  const of = branch.value;
  untracked(() => {
    overview.value = null;
    look(of);
  });
});

// A moment in words is a position that the server knows.
let asking = null;
effect(() => {
  const text = at.value ?? "head";
  const of = branch.value;
  asking?.abort();
  if (text === "head" || /^\d+$/.test(text)) {
    moment.value = { at: text, position: null, problem: null };
    return;
  }
  const abort = (asking = new AbortController());
  ask(urlOf("/positions", { at: text }, of), { abort: abort.signal }).then(
    (found) => !abort.signal.aborted && (moment.value = { at: text, position: found.position, problem: null }),
    (problem) => {
      if (abort.signal.aborted) return;
      moment.value = { at: text, position: null, problem };
      complain(problem);
    },
  );
});

const THEMES = ["auto", "light", "dark"];
export const theme = signal(readTheme());
function readTheme() {
  try {
    return THEMES.includes(localStorage.getItem("everwhen.theme")) ? localStorage.getItem("everwhen.theme") : "auto";
  } catch {
    return "auto";
  }
}
export const nextTheme = () => (theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]);
effect(() => {
  document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem("everwhen.theme", theme.value);
  } catch {
    // a browser that keeps nothing: the choice holds for this page
  }
});
