// Which events are listed: one line to type in, and what is chosen as chips. The server filters.
import { html, useRef, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { overview } from "../store.js";
import { count, shown, categoryOf } from "../text.js";
import { go, param, params, SEVERAL } from "../url.js";
import { Icon } from "./icons.js";

const NAMES = { stream: "stream", category: "category", type: "type", tag: "tag", filter: "where", as_of: "occurred by", as_at: "recorded by" };
const WORDS = { stream: "stream", category: "category", type: "type", tag: "tag", "as-of": "as_of", "as-at": "as_at" };

/** The parameters of the view that choose events, as the API takes them. */
export function filtersOf() {
  return {
    stream: param("stream").value, category: params("category"), type: params("type"), tag: params("tag"),
    where: param("filter").value, as_of: param("as_of").value, as_at: param("as_at").value,
  };
}

/** What was typed: name:value words, and the rest as an expression. */
export function parsed(text) {
  const changes = {};
  const rest = text.replace(/(?:^|\s)(stream|category|type|tag|as-of|as-at):(?:"([^"]*)"|(\S+))/g, (_, word, quoted, plain) => {
    const name = WORDS[word];
    const value = quoted ?? plain;
    if (SEVERAL.has(name)) changes[name] = [...new Set([...(changes[name] ?? params(name)), value])];
    else changes[name] = value;
    return " ";
  }).trim();
  if (rest) changes.filter = rest;
  return changes;
}

function Chip({ name, value }) {
  const remove = () => go({ [name]: SEVERAL.has(name) ? params(name).filter((one) => one !== value) : null });
  return html`<span class="chip"><small>${NAMES[name]}</small><bdi>${shown(value)}</bdi><button class="plain" aria-label=${`Remove ${NAMES[name]} ${shown(value)}`} onClick=${remove}><${Icon} name="close" size=${11} /></button></span>`;
}

function Add({ name, label, options }) {
  const chosen = params(name);
  const add = (event) => {
    if (event.target.value) go({ [name]: [...chosen, event.target.value] });
    event.target.value = "";
  };
  return html`<select class="add" aria-label=${`Only of a ${label}`} onChange=${add}>
    <option value="">${label}</option>
    ${options.filter((one) => !chosen.includes(one.name)).map((one) => html`<option key=${one.name} value=${one.name}>${shown(one.name)}${one.events === undefined || one.events === null ? "" : `  (${count(one.events)})`}</option>`)}
  </select>`;
}

export function Filters({ children }) {
  const [text, setText] = useState("");
  const types = useAsked(overview.value ? urlOf("/types") : null, { keep: true, after: 200 }).data?.types ?? [];
  const categories = useAsked(overview.value ? urlOf("/categories") : null, { keep: true, after: 200 }).data?.categories ?? [];
  const apply = (event) => {
    event.preventDefault();
    if (text.trim()) go(parsed(text));
    setText("");
  };
  const chips = Object.keys(NAMES).flatMap((name) => (SEVERAL.has(name) ? params(name) : [param(name).value].filter(Boolean)).map((value) => [name, value]));
  return html`<div class="filters">
    <form onSubmit=${apply} role="search">
      <label class="field"><${Icon} name="search" size=${13} /><span class="sr">Filter events</span>
        <input id="filter" value=${text} onInput=${(event) => setText(event.target.value)} autocomplete="off" spellcheck="false"
          placeholder="Filter: type:… stream:… tag:… or CEL, as event.amount > 100" /><kbd aria-hidden="true">/</kbd></label>
      ${types.length > 1 && html`<${Add} name="type" label="type" options=${types.map((one) => ({ name: one.type, events: one.events }))} />`}
      ${categories.length > 1 && html`<${Add} name="category" label="category" options=${categories.map((one) => ({ name: one.category ?? one, events: one.events }))} />`}
      ${children}
    </form>
    ${chips.length > 0 && html`<div class="chips">${chips.map(([name, value]) => html`<${Chip} key=${name + value} name=${name} value=${value} />`)}
      ${chips.length > 1 && html`<button class="quiet" onClick=${() => go(Object.fromEntries(Object.keys(NAMES).map((name) => [name, null])))}>Clear all</button>`}</div>`}
  </div>`;
}
