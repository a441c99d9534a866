// Small things that every screen is made of.
import { html, useEffect, useRef, useState } from "../dom.js";
import { complain, toast } from "../store.js";
import { categoryOf, hue, shown } from "../text.js";
import { go, hrefOf } from "../url.js";
import { Icon } from "./icons.js";

/** A link to a view of this page: opened here by a click, elsewhere as any link. */
export function Link({ to, children, replace = false, ...rest }) {
  const follow = (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(typeof to === "function" ? to() : to, { replace });
  };
  return html`<a href=${hrefOf(typeof to === "function" ? to() : to)} onClick=${follow} ...${rest}>${children}</a>`;
}

export const StreamName = ({ name }) => html`<bdi class="stream" style=${{ "--hue": hue(categoryOf(name)) }}>${shown(name)}</bdi>`;
export const TypeName = ({ name }) => html`<bdi class="type">${shown(name)}</bdi>`;

/** Whether the same question may have another answer. */
const isPassing = ({ status = 0 }) => status < 400 || status >= 500 || [401, 408, 429].includes(status);

/** What went wrong, in the place where the answer would be. */
export function ProblemBox({ problem, again }) {
  return html`<div class="problem" role="alert">
    <strong>${shown(problem.title ?? "The page failed")}</strong>
    <p class="told">${shown(problem.message).replaceAll("\\n", "\n")}</p>
    ${again && isPassing(problem) && html`<button onClick=${again}>Try again</button>`}
  </div>`;
}

export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;
export const Loading = ({ children = "Loading…" }) => html`<div class="empty" aria-busy="true"><span class="delayed">${children}</span></div>`;

/** Copies a text, or what a promise of one brings. */
export async function copy(text, what) {
  try {
    text = await text;
  } catch (error) {
    return complain(error);
  }
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied ${what}`, "", "done");
  } catch {
    toast("It can't be copied here", "The browser allows it only on pages that are loaded safely: 127.0.0.1 or https.");
  }
}

export const CopyButton = ({ text, what, children }) =>
  html`<button class="quiet" onClick=${() => copy(typeof text === "function" ? text() : text, what)}><${Icon} name="copy" size=${13} />${children}</button>`;

/** A list of texts to choose from, as buttons of which one is pressed. */
export function Choice({ label, options, value, onChoose }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([name, title]) => html`<button key=${name} aria-pressed=${value === name} onClick=${() => onChoose(name)}>${title}</button>`)}
  </div>`;
}

/** The width and height of an element as it changes; attach `ref` to it. */
export function useSize() {
  const ref = useRef(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    if (!ref.current) return;
    const watching = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      setSize((old) => (old.width === width && old.height === height ? old : { width, height }));
    });
    watching.observe(ref.current);
    return () => watching.disconnect();
  }, []);
  return [ref, size];
}
