// Two states side by side, with what differs marked in both; or only what differs.
import { html, useMemo } from "../dom.js";
import { plural } from "../text.js";
import { go, param } from "../url.js";
import { Changes } from "./changes.js";
import { Choice, Empty } from "./parts.js";
import { useMarks } from "./subject.js";
import { Tree, Value } from "./tree.js";

const SHOWN = [["both", "Side by side"], ["changes", "Only differences"]];
const NONE = new Map();
const NARROW = "(max-width: 52rem)"; // as in app.css

function Whole({ value, label, title, note, ...tree }) {
  const isTree = value !== null && typeof value === "object";
  return html`<section class="half" aria-label=${label}><h2 class="minor">${title}${note && html` <small>${note}</small>`}</h2>
    ${!isTree ? html`<div class="block single"><${Value} value=${value} limit=${2000} /></div>`
      : !Object.keys(value).length && !tree.gone?.size ? html`<${Empty}>Empty.<//>`
      : html`<${Tree} value=${value} label=${label} ...${tree} />`}</section>`;
}

/** The other tree goes along with the one that is scrolled. */
function together({ target, currentTarget }) {
  if (!target.matches?.(".tree")) return;
  for (const tree of currentTarget.querySelectorAll(".tree")) if (tree !== target && tree.scrollTop !== target.scrollTop) tree.scrollTop = target.scrollTop;
}

/**
 * `before` and `after` are {value, label, title, note}; `changes` lead from one to the other.
 * The chosen path is part of the address, as is the way of looking at it.
 */
export function StatePair({ before, after, changes, more = 0, cut = NONE, none, name, children }) {
  const usual = matchMedia(NARROW).matches ? "changes" : "both";
  const show = param("show").value ?? usual;
  const path = param("path").value ?? changes[0]?.path ?? "";
  const choose = (chosen) => go({ path: chosen }, { replace: true });
  const { marks, gone, open } = useMarks(changes);
  const marksBefore = useMemo(() => {
    const found = new Map();
    for (const [of, mark] of marks) if (mark.kind !== "added") found.set(of, mark.kind === "changed" ? { kind: "changed" } : mark);
    for (const one of changes) if (one.kind === "removed") found.set(one.path, { kind: "removed" });
    return found;
  }, [marks, changes]);
  return html`<div class="pair-head line"><${Choice} label="Show states" options=${SHOWN} value=${show} onChoose=${(one) => go({ show: one === usual ? null : one }, { replace: true })} />
      <span role="status">${changes.length ? html`<b>${plural(changes.length + more, "difference")}</b>` : none}</span>${children}</div>
    ${show === "changes"
      ? html`<div class="scrolled" tabindex="0" role="region" aria-label="Differences"><div class="block"><p class="dim legend">${before.title} → ${after.title}</p><${Changes} changes=${changes} more=${more} chosen=${path} onChoose=${choose} none=${none} /></div></div>`
      : html`<div class="halves" onScrollCapture=${together}>
        <${Whole} key=${"before" + name} ...${before} marks=${marksBefore} cut=${cut} openPaths=${open} chosen=${path} onChoose=${choose} />
        <${Whole} key=${"after" + name} ...${after} marks=${marks} gone=${gone} cut=${cut} openPaths=${open} chosen=${path} onChoose=${choose} /></div>`}`;
}
