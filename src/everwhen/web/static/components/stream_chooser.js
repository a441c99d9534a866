// A stream by a part of its name: the server looks among all of them.
import { html, useId, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { count, shown } from "../text.js";
import { Icon } from "./icons.js";
import { StreamName } from "./parts.js";

/** Chooses a stream, or null for all of them. */
export function StreamChooser({ value, onChoose, all = "all streams", input = "stream" }) {
  const [text, setText] = useState(null);
  const [at, setAt] = useState(0);
  const id = useId();
  const open = text !== null;
  const { data, loading } = useAsked(open ? urlOf("/streams", { contains: text.trim(), limit: 30 }) : null, { keep: true, after: text ? 150 : 0 });
  const options = [...(open && !text.trim() ? [null] : []), ...(data?.streams ?? [])];
  const choose = (option) => {
    setText(null);
    onChoose(option === null ? null : option.stream);
    document.getElementById(input)?.blur();
  };
  const onKeyDown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      event.preventDefault();
      setAt((at + by + options.length) % Math.max(1, options.length));
    } else if (event.key === "Enter" && options[at] !== undefined) {
      event.preventDefault();
      choose(options[at]);
    } else if (event.key === "Escape") setText(null);
  };
  return html`<div class="chooser">
    <label class="field"><span class="sr">Stream, by a part of its name</span>
      <input id=${input} role="combobox" aria-expanded=${open} aria-controls=${id} aria-autocomplete="list" aria-activedescendant=${open && options.length ? `${id}-${at}` : undefined}
        autocomplete="off" spellcheck="false" placeholder=${all} value=${text ?? (value ? shown(value) : "")}
        onFocus=${() => (setText(""), setAt(0))} onInput=${(event) => (setText(event.target.value), setAt(0))} onKeyDown=${onKeyDown} onBlur=${() => setText(null)} /><${Icon} name="down" size=${12} /></label>
    <ul id=${id} role="listbox" aria-label="Streams" class="options" hidden=${!open}>
      ${open && options.map((option, index) => html`<li key=${option?.stream ?? ""} id=${`${id}-${index}`} role="option" aria-selected=${index === at}
        onMouseDown=${(event) => (event.preventDefault(), choose(option))}>${option === null ? html`<span>${all}</span>` : html`<${StreamName} name=${option.stream} /><small>${count(option.version)}</small>`}</li>`)}
      ${open && data && !data.streams.length && !loading && html`<li class="empty" role="presentation">No stream is called so.</li>`}
      ${open && data?.more && html`<li class="edge" role="presentation">More: type a part of the name</li>`}
    </ul></div>`;
}
