// Paths into a state, written as in code: players.hedy.bets[0], players["J. R."].

const WORD = /^[\p{L}\p{Nl}_][\p{L}\p{N}_\p{Mn}]*(?:-[\p{L}\p{N}_\p{Mn}]+)*$/u;
const STEP = /\.?(?<word>[\p{L}\p{N}_$@:-]+)|\[(?<index>-?\d+)\]|\[(?<quoted>"(?:[^"\\]|\\.)*")\]/uy;

/** The path of a part of what a path leads to. */
export function childPath(path, key) {
  if (typeof key === "number") return `${path}[${key}]`;
  if (WORD.test(key)) return path ? `${path}.${key}` : key;
  return `${path}["${key.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"]`;
}

/**
 * A form that is the same for a key that is a number and for the text of it: [7] and ["7"] name one
 * part, of which the server writes the first one where the key is a number, and JSON has the second.
 */
export const sameForm = (path) => path.replace(/\["(-?\d+)"\]/g, "[$1]");

/** The keys in a path: texts and numbers. */
export function keysOf(path) {
  const keys = [];
  STEP.lastIndex = 0;
  while (STEP.lastIndex < path.length) {
    const found = STEP.exec(path)?.groups;
    if (!found) return keys;
    keys.push(found.word ?? (found.index === undefined ? found.quoted.slice(1, -1).replace(/\\(.)/g, "$1") : Number(found.index)));
  }
  return keys;
}

/** The paths above a path, from the outermost; without the state itself. */
export function above(path) {
  let built = "";
  return keysOf(path).slice(0, -1).map((key) => (built = childPath(built, key)));
}
