// How values are written: nothing that hides, or that turns what follows around, stays as it is.

const SHORT = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" };
// The same characters as the command line's: everwhen/cli/escaping.py.
const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;

const hex = (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");

/** The text with control, hidden and bidirectional characters written out, as in JSON. */
export const shown = (text) =>
  String(text).replace(UNSAFE, (found) => SHORT[found] ?? [...found].flatMap((c) => c.split("")).map(hex).join(""));

const COUNTS = new Intl.NumberFormat("en");
export const count = (number) => COUNTS.format(number);
export const plural = (number, one, many = one + "s") => `${count(number)} ${number === 1 ? one : many}`;

/** A time as the server tells it, for people, in UTC: with as many decimals of a second as it has. */
export function timeText(iso, { date = true } = {}) {
  if (!iso) return "";
  const [day, rest = ""] = iso.split("T");
  const time = rest.replace("Z", "").replace(/\.(\d*?)0+$/, (_, digits) => (digits ? "." + digits : ""));
  return date ? `${day} ${time}Z` : `${time}Z`;
}

/** The same in a list: to the millisecond, and in UTC as all of them are. */
export const listTime = (iso) => timeText(iso).replace(/(\.\d{3})\d+/, "$1").replace("Z", "");

const STEPS = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
export function durationText(seconds) {
  if (seconds > 0 && seconds < 2) return `${count(Math.ceil(seconds * 1000))} ms`;
  for (const [name, size] of STEPS) if (seconds >= size * 2 || name === "second") return plural(Math.round(seconds / size), name);
}

export const isSealed = (value) => value !== null && typeof value === "object" && "$sealed" in value;
export const isErased = (value) => value !== null && typeof value === "object" && "$erased" in value;

/** A value in one line, of at most that many characters. */
export function brief(value, limit = 120) {
  const text = shown(briefly(value, limit));
  return text.length > limit ? text.slice(0, limit - 1) + "…" : text;
}

function briefly(value, limit) {
  if (typeof value === "string") return JSON.stringify(value.length > limit ? value.slice(0, limit) : value);
  if (value === undefined) return "—";
  if (value === null || typeof value !== "object") return String(value);
  if (isSealed(value)) return "sealed";
  if (isErased(value)) return "erased";
  let text = Array.isArray(value) ? "[" : "{";
  let first = true;
  for (const [key, part] of Object.entries(value)) {
    if (text.length > limit) break;
    text += (first ? "" : ", ") + (Array.isArray(value) ? "" : key + ": ") + briefly(part, limit - text.length);
    first = false;
  }
  return text + (Array.isArray(value) ? "]" : "}");
}

/** A hue for a name, the same everywhere: a help for the eye, never the only sign. */
export function hue(name) {
  let hash = 7;
  for (let index = 0; index < name.length; index++) hash = (hash * 31 + name.charCodeAt(index)) >>> 0;
  return (hash * 137.508) % 360;
}

export const categoryOf = (stream) => stream.split("-", 1)[0];
