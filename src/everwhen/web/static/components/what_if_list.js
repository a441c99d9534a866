// Events to be ticked off, given other data, or followed by others: around one of them, which need not be the moment.
import { html, useEffect, useRef, useState } from "../dom.js";
import { count, listTime, shown } from "../text.js";
import { Summary } from "./event_list.js";
import { Icon } from "./icons.js";
import { Dialog } from "./overlays.js";
import { Empty, Loading, ProblemBox, StreamName, TypeName } from "./parts.js";

const Tool = ({ current, label, title, icon, onClick }) => html`<button class="plain" tabindex=${current ? 0 : -1} aria-label=${label} title=${title} onClick=${(e) => (e.stopPropagation(), onClick())}><${Icon} name=${icon} size=${13} /></button>`;

function Row({ event, current, without, edit, onTick, onEdit, onInsert, onChoose }) {
  const position = event.position;
  return html`<li class=${`row what-row ${without ? "off" : ""} ${edit ? "edited" : ""}`} aria-current=${current ? "true" : undefined} data-position=${position} onClick=${() => onChoose(position)}>
    <input type="checkbox" tabindex=${current ? 0 : -1} checked=${!without} aria-label=${`${position} ${shown(event.type)} happened`} onClick=${(e) => e.stopPropagation()} onChange=${() => onTick(event)} />
    <span class="position">${count(position)}</span><${TypeName} name=${edit?.type ?? event.type} /><${StreamName} name=${event.stream} />
    <span class="summary">${without ? html`<em>− left out</em> ` : edit ? html`<em>~ edited</em> ` : ""}<${Summary} data=${edit?.data ?? event.data} limit=${120} /></span>
    <${Tool} current=${current} label=${`Insert after ${position}`} title="Insert an event after it (i)" icon="plus" onClick=${() => onInsert(event)} />
    <${Tool} current=${current} label=${`Edit ${position}`} title="Edit its data (e)" icon="edit" onClick=${() => onEdit(event)} /></li>`;
}

/** One that never was, after the event. */
function InsertedRow({ event, index, inserted, current, onEdit, onChoose }) {
  return html`<li class="row what-row inserted" onClick=${() => onChoose(event.position)}><span class="sign" aria-hidden="true">+</span><span class="position"></span>
    <${TypeName} name=${inserted.type} /><${StreamName} name=${inserted.stream ?? event.stream} /><span class="summary"><em>inserted</em> <${Summary} data=${inserted.data} limit=${120} /></span><span></span>
    <${Tool} current=${current} label=${`Edit what is inserted after ${event.position}`} title="Edit it" icon="edit" onClick=${() => onEdit(event, index)} /></li>`;
}

/** The events of `found` (see useEventWindow). `without` is a set of positions; `edits` and `inserts` are by position. */
export function WhatIfList({ found, without, edits, inserts, ...on }) {
  const list = useRef(null);
  const { events, index, window } = found;
  const chosen = events[index];
  useEffect(() => {
    list.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }, [chosen?.position, found.isFilled]);
  if (found.problem && !events.length) return html`<${ProblemBox} problem=${found.problem} again=${() => window.again()} />`;
  if (!found.isFilled) return html`<${Loading} />`;
  if (!events.length) return html`<${Empty}>No event matches.<//>`;
  return html`<div class="scrolled" ref=${list}><ol class="what-if-list" aria-label="Events that happened">
    ${!found.atStart && html`<li class="edge"><button class="quiet" onClick=${() => window.earlier()}>Earlier events</button></li>`}
    ${events.map((event) => html`<${Row} key=${event.position} event=${event} current=${event === chosen} without=${without.has(event.position)} edit=${edits.get(event.position)} ...${on} />
      ${inserts.get(event.position)?.map((inserted, index) => html`<${InsertedRow} key=${`${event.position}+${index}`} event=${event} index=${index} inserted=${inserted} current=${event === chosen} ...${on} />`)}`)}
    ${found.atEnd ? html`<li class="edge">now</li>` : html`<li class="edge"><button class="quiet" onClick=${() => window.later()}>Later events</button></li>`}
  </ol></div>`;
}

/** An event's type and data, to be changed, or those of one that is inserted after it; data is JSON. */
export function EditEvent({ event, edit, isInserted, onDone, onClose }) {
  const [type, setType] = useState(edit?.type ?? event.type);
  const [stream, setStream] = useState(edit?.stream ?? event.stream);
  const [text, setText] = useState(() => JSON.stringify(edit?.data ?? event.data, null, 2));
  const [wrong, setWrong] = useState("");
  const submit = (submitted) => {
    submitted.preventDefault();
    try {
      const data = JSON.parse(text);
      if (data === null || typeof data !== "object" || Array.isArray(data)) throw new Error("An event's data is an object: { … }");
      const isOfType = type.trim() === event.type;
      const given = { type: type.trim(), data, ...(isOfType ? { schema_version: event.schema_version } : {}), ...(stream.trim() === event.stream ? { tags: event.tags } : {}) };
      const isSame = isOfType && JSON.stringify(data) === JSON.stringify(event.data);
      onDone(isInserted ? { ...given, stream: stream.trim() } : isSame ? null : given);
    } catch (error) {
      setWrong(error.message);
    }
  };
  const field = (name, value, set) => html`<label class="named"><span>${name}</span><span class="field"><input value=${value} onInput=${(e) => set(e.target.value)} autocomplete="off" spellcheck="false" /></span></label>`;
  return html`<${Dialog} label=${isInserted ? "Insert an event" : "Edit the event"} class="asks edits" onClose=${onClose}><form onSubmit=${submit}>
    <h2>${isInserted ? `What if another one had followed ${count(event.position)}?` : `What if ${count(event.position)} had been another one?`}</h2>
    <p class="dim"><${StreamName} name=${event.stream} /> · ${listTime(event.recorded_at)}. Nothing is written: history stays as it is.</p>
    ${field("type", type, setType)}${isInserted && field("stream", stream, setStream)}
    <label><span class="sr">Data, as JSON</span><textarea autofocus rows=${Math.min(16, text.split("\n").length + 1)} value=${text} spellcheck="false" aria-invalid=${wrong ? "true" : undefined} aria-describedby="edit-wrong" onInput=${(e) => (setText(e.target.value), setWrong(""))}></textarea></label>
    <p id="edit-wrong" class="wrong" role="alert">${shown(wrong)}</p>
    <p class="buttons">${edit && html`<button type="button" class="quiet" onClick=${() => onDone(null)}>${isInserted ? "Insert nothing" : "As it was"}</button>`}<span class="space"></span>
      <button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="act" disabled=${!type.trim() || !stream.trim()}>Suppose so</button></p>
  </form><//>`;
}
