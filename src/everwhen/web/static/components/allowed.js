// What the caller may do here; where they may not, why.
import { html } from "../dom.js";
import { overview } from "../store.js";

/** Why the caller can't do what needs the scope; null where they can. */
export const lacks = (scope) =>
  overview.value?.scopes.includes(scope) ? null : `This needs the scope “${scope}”, which you don't have here. Whoever runs the server can give it.`;

/** A button, or in its place the reason why there is none. */
export function Act({ reason, children, ...rest }) {
  return html`<button class="quiet" disabled=${Boolean(reason)} title=${reason ?? undefined} ...${rest}>${children}</button>`;
}

export const Reasons = ({ reasons }) => {
  const told = [...new Set(reasons.filter(Boolean))];
  return told.length > 0 && html`<ul class="reasons">${told.map((reason) => html`<li key=${reason}>${reason}</li>`)}</ul>`;
};
