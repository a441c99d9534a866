// Paths into a state, written as in code: players.hedy.bets[0], players["J. R."].

const WORD = /^[\p{L}\p{Nl}_][\p{L}\p{N}_\p{Mn}]*(?:-[\p{L}\p{N}_\p{Mn}]+)*$/u;
const STEP = /\.?(?<word>[\p{L}\p{N}_$@:-]+)|\[(?<index>-?\d+)\]|\[(?<quoted>"(?:[^"\\]|\\.)*")\]/uy;

/** The path of a part of what a path leads to. */
export function childPath(path, key) {
  if (typeof key === "number") return `${path}[${key}]`;
  if (WORD.test(key)) return path ? `${path}.${key}` : key;
  return `${path}["${key.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"]`;
}

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
