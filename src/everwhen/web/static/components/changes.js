// What changed between two states, part by part: with a sign and a colour, before and after.
import { html } from "../dom.js";
import { sameForm } from "../paths.js";
import { plural, shown } from "../text.js";
import { Value } from "./tree.js";

const SIGNS = { added: "+", removed: "−", changed: "~" };

export function Changes({ changes, more = 0, chosen, onChoose, none = "Nothing differs." }) {
  if (!changes.length) return html`<p class="dim nothing">${none}</p>`;
  return html`<ul class="changes">
    ${changes.map((change) => html`<li key=${change.path} class=${change.kind}><button aria-pressed=${chosen !== undefined && sameForm(change.path) === sameForm(chosen)} onClick=${() => onChoose?.(change.path)}>
      <span class="sign" aria-hidden="true">${SIGNS[change.kind]}</span><span class="sr">${change.kind}</span><bdi class="path">${shown(change.path) || "the state"}</bdi>
      <span class="values">${change.kind !== "added" && html`<span class="old"><${Value} value=${change.before} limit=${160} /></span>`}
        ${change.kind === "changed" && html`<span class="arrow" aria-hidden="true"> → </span>`}
        ${change.kind !== "removed" && html`<span class="new"><${Value} value=${change.after} limit=${160} /></span>`}</span></button></li>`)}
  </ul>${more > 0 && html`<p class="dim">and ${plural(more, "other change")}</p>`}`;
}
