// Whose state is looked at: a fold, over a stream, a category or everything.
import { html, useMemo } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { overview } from "../store.js";
import { above, childPath, keysOf, sameForm } from "../paths.js";
import { shown } from "../text.js";
import { go, param, params } from "../url.js";
import { StreamChooser } from "./stream_chooser.js";

const GENERIC = ["document", "documents"];

/** {fold, stream, category} of the view. */
export function subjectOf() {
  const folds = overview.value?.folds ?? GENERIC;
  const stream = param("stream").value;
  const category = stream ? undefined : params("category")[0];
  const own = folds.filter((name) => !GENERIC.includes(name));
  const fold = param("fold").value ?? (stream ? "document" : own[0] ?? "documents");
  return { fold, of: { stream, category }, folds: [...own, ...GENERIC.filter((name) => folds.includes(name))] };
}

export const stateUrl = (subject, what = "", more = {}) => urlOf(`/states/${encodeURIComponent(subject.fold)}${what}`, { ...subject.of, ...more });

/** The fold and the stream, to be chosen. */
export function SubjectChooser({ subject, children }) {
  const words = useAsked(urlOf("/folds", {}, "main"), { keep: true }).data?.folds;
  return html`<div class="filters subject">
    <div class="line"><label class="named"><span>state</span><select id="fold" aria-label="Fold" onChange=${(event) => go({ fold: event.target.value, path: null })}>
      ${(subject.folds.includes(subject.fold) ? subject.folds : [subject.fold, ...subject.folds]).map((name) => html`<option key=${name} value=${name} selected=${name === subject.fold} title=${words?.find((one) => one.name === name)?.words}>${shown(name)}</option>`)}
    </select></label>
    <span class="dim">of</span>
    <${StreamChooser} value=${subject.of.stream} all=${subject.of.category ? `category ${shown(subject.of.category)}` : "everything"} onChoose=${(stream) => go({ stream, path: null, category: null })} />
    ${children}</div></div>`;
}

/** Marks for a tree out of a list of changes: of each path, in `sameForm`, and of the paths above it. */
export function useMarks(changes) {
  return useMemo(() => {
    const marks = new Map();
    const gone = new Map();
    const open = new Set();
    for (const change of changes ?? []) {
      const keys = keysOf(change.path);
      const outer = above(change.path).map(sameForm);
      if (change.kind === "removed") {
        const parent = outer.at(-1) ?? "";
        if (!gone.has(parent)) gone.set(parent, []);
        gone.get(parent).push({ path: change.path, key: keys.at(-1) ?? "", before: change.before });
      } else marks.set(sameForm(change.path), change);
      for (const path of outer) {
        open.add(path);
        if (!marks.has(path)) marks.set(path, { kind: "within" });
      }
    }
    return { marks, gone, open };
  }, [changes]);
}

/** The state with what a path has put in its place. */
export function grafted(state, path, part) {
  const keys = keysOf(path);
  const place = (value, depth) => {
    if (depth === keys.length) return part;
    if (value === null || typeof value !== "object") return value;
    const copy = Array.isArray(value) ? [...value] : { ...value };
    copy[keys[depth]] = place(copy[keys[depth]], depth + 1);
    return copy;
  };
  return place(state, 0);
}

export { childPath };
