// What lies over a screen: the help, the palette of everything, and messages.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { commands, overlay } from "../keys.js";
import { dismiss, toasts } from "../store.js";
import { shown } from "../text.js";
import { Icon } from "./icons.js";

/** A modal dialog: keeps the focus, gives it back, closes by Escape or beside it. */
export function Dialog({ label, children, onClose = () => (overlay.value = null), ...rest }) {
  const ref = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.isConnected && before.focus({ preventScroll: true });
  }, []);
  const closing = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${ref} aria-label=${label} onCancel=${closing} onClick=${(event) => event.target === ref.current && onClose()} ...${rest}>${children}</dialog>`;
}

const SHOWN_AS = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", PageDown: "PgDn", PageUp: "PgUp", " ": "Space" };
const Keys = ({ keys }) => html`<span class="keys">${keys.map((key) => html`<kbd>${SHOWN_AS[key] ?? key}</kbd>`)}</span>`;

export function Help() {
  const groups = Map.groupBy(commands.value.filter((one) => one.keys?.length), (one) => one.group ?? "Everywhere");
  return html`<${Dialog} label="Keyboard" class="help">
    <header><h2>Keyboard</h2><button class="plain" aria-label="Close" onClick=${() => (overlay.value = null)}><${Icon} name="close" /></button></header>
    <div class="groups" tabindex="0" role="region" aria-label="Keys">
      ${[...groups].map(([name, found]) => html`<section key=${name}><h3>${name}</h3><dl>
        ${found.map((one) => html`<div><dt><${Keys} keys=${one.keys.slice(0, 2)} /></dt><dd>${one.title}</dd></div>`)}
      </dl></section>`)}
    </div>
  <//>`;
}

/** Of each command that has all of the words, how well it fits. */
function matching(all, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all
    .filter((one) => words.every((word) => one.title.toLowerCase().includes(word)))
    .sort((a, b) => Number(b.title.toLowerCase().startsWith(text.toLowerCase())) - Number(a.title.toLowerCase().startsWith(text.toLowerCase())))
    .slice(0, 60);
}

export function Palette() {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const found = useMemo(() => matching(commands.value, text.trim()), [text, commands.value]);
  const list = useRef(null);
  useEffect(() => list.current?.children[chosen]?.scrollIntoView({ block: "nearest" }), [chosen]);
  const run = (one) => {
    overlay.value = null;
    queueMicrotask(() => one?.run());
  };
  const onKeyDown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      event.preventDefault();
      setChosen((chosen + by + found.length) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(found[chosen]);
    }
  };
  return html`<${Dialog} label="Commands" class="palette">
    <input autofocus role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant=${found.length ? `palette-${chosen}` : undefined}
      aria-label="Find a command" placeholder="Do what?" value=${text} onInput=${(event) => (setText(event.target.value), setChosen(0))} onKeyDown=${onKeyDown} />
    <ul id="palette-list" role="listbox" aria-label="Commands" ref=${list}>
      ${found.map((one, index) => html`<li id=${`palette-${index}`} role="option" aria-selected=${index === chosen} onMouseMove=${() => setChosen(index)} onClick=${() => run(one)}>
        <span>${one.title}</span><small>${one.group}</small>${one.keys && html`<${Keys} keys=${one.keys.slice(0, 1)} />`}</li>`)}
    </ul>
    ${found.length === 0 && html`<p class="empty">Nothing here is called that.</p>`}
  <//>`;
}

export const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${toasts.value.map((one) => html`<div key=${one.id} class=${`toast is-${one.kind}`}>
    <div><strong>${shown(one.title)}</strong>${one.detail && html`<p>${shown(one.detail)}</p>`}</div>
    <button class="plain" aria-label="Dismiss" onClick=${() => dismiss(one.id)}><${Icon} name="close" size=${13} /></button></div>`)}
</div>`;
