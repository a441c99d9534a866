// All of one event: its data, who and why, what caused it and what came of it.
import { html, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { pin } from "../store.js";
import { brief, count, plural, shown, timeText } from "../text.js";
import { go, hrefOf, move } from "../url.js";
import { asCommand, asTest, surroundings } from "./copies.js";
import { CopyButton, Empty, Link, Loading, StreamName, TypeName } from "./parts.js";
import { Icon } from "./icons.js";
import { Tree } from "./tree.js";

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
const Id = ({ value }) => html`<bdi class="id">${shown(value)}</bdi>`;

/** Other events, each a step away. */
export const Events = ({ events, empty }) =>
  events.length
    ? html`<ul class="steps">${events.map((event) => html`<li key=${event.position}><button class="step" onClick=${() => move(String(event.position))}>
        <span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} /></button></li>`)}</ul>`
    : html`<p class="dim">${empty}</p>`;

function Causes({ event }) {
  const { data, problem } = useAsked(urlOf(`/events/${event.position}/explanation`), { keep: true, after: 80 });
  if (problem || !data) return problem ? null : html`<${Loading} />`;
  const causes = (data.causes ?? []).map((cause) => cause?.event ?? cause).filter((cause) => cause?.position);
  const others = (data.correlated ?? []).filter((one) => one.position !== event.position);
  if (!causes.length && !others.length) return null;
  return html`${causes.length > 0 && html`<h3>Caused by</h3><${Events} events=${causes.slice(0, 20)} />`}
    ${others.length > 0 && html`<h3>Of the same origin</h3><${Events} events=${others.slice(0, 20)} />${others.length > 20 && html`<p class="dim">and ${plural(others.length - 20, "other")}</p>`}`}
    ${data.is_whole === false && html`<p class="dim">There is more of it than is shown.</p>`}`;
}

/** The event in full. */
export function EventDetail({ event, mates = [] }) {
  const [path, setPath] = useState("");
  if (!event) return html`<${Empty}>Choose an event to see all of it.<//>`;
  const command = event.extras?.command;
  const extras = Object.entries(event.extras ?? {}).filter(([name]) => name !== "command");
  const isPinned = pin.value === event.position;
  return html`<article class="detail" aria-label=${`Event ${event.position}`}>
    <header><h2><${TypeName} name=${event.type} /></h2><span class="position">${count(event.position)}</span></header>
    <p class="lead"><${Link} to=${{ screen: "state", stream: event.stream, at: event.position, view: null, path: null }}><${StreamName} name=${event.stream} /><//><span class="dim"> version ${count(event.version)} · ${timeText(event.recorded_at)}</span></p>
    <div class="tools">
      <button class="quiet" aria-pressed=${isPinned} onClick=${() => go({ pin: isPinned ? null : event.position })}><${Icon} name="pin" size=${13} />${isPinned ? "Unpin" : "Pin"}</button>
      <${CopyButton} what="a test" text=${async () => asTest(event, await surroundings(event))}>as test<//>
      <${CopyButton} what="a command" text=${() => asCommand("read", event)}>as command<//>
      <${CopyButton} what="the link" text=${() => new URL(hrefOf({ at: event.position }), location.href).href}>link<//>
      <${Link} class="quiet" to=${{ screen: "whatif", at: null, stream: event.stream, without: event.position, edits: null, inserts: null, event: event.position, view: null, path: null }}><${Icon} name="whatif" size=${13} />what if without<//>
      <${Link} class="quiet" to=${{ screen: "branches", at: event.position, view: "undo", of: null, do: null }}><${Icon} name="undo" size=${13} />undo<//>
    </div>
    <h3>Data</h3>
    ${event.data !== null && typeof event.data === "object" && Object.keys(event.data).length
      ? html`<${Tree} key=${event.event_id} value=${event.data} label="Data" chosen=${path} onChoose=${setPath} openLevels=${3} />`
      : html`<p class="dim">${event.data && typeof event.data === "object" ? "none" : brief(event.data)}</p>`}
    <h3>Metadata</h3>
    <dl class="facts">
      ${event.user_id && html`<${Fact} name="user"><bdi>${shown(event.user_id)}</bdi><//>`}
      ${command && html`<${Fact} name="command"><bdi>${shown(command.type)}</bdi> <span class="dim">${brief(command.data ?? {}, 120)}</span><//>`}
      ${event.occurred_at && html`<${Fact} name="occurred">${timeText(event.occurred_at)}<//>`}
      ${event.source && html`<${Fact} name="source"><bdi>${shown(event.source)}</bdi><//>`}
      ${event.tags.length > 0 && html`<${Fact} name="tags"><span class="tags">${event.tags.map((tag) => html`<${Link} to=${{ screen: "events", tag: [tag], stream: null }}><bdi>${shown(tag)}</bdi><//>`)}</span><//>`}
      ${extras.map(([name, value]) => html`<${Fact} name=${shown(name)}><bdi>${brief(value, 160)}</bdi><//>`)}
      <${Fact} name="schema">version ${event.schema_version}<//>
      <${Fact} name="event"><${Id} value=${event.event_id} /><//>
      <${Fact} name="commit"><${Id} value=${event.commit_id} /><//>
      ${event.correlation_id !== event.commit_id && html`<${Fact} name="correlation"><${Id} value=${event.correlation_id} /><//>`}
      ${event.causation_id && html`<${Fact} name="causation"><${Id} value=${event.causation_id} /><//>`}
    </dl>
    ${mates.length > 0 && html`<h3>In the same commit</h3><${Events} events=${mates} />`}
    ${(event.causation_id || event.correlation_id !== event.commit_id) && html`<${Causes} key=${event.position} event=${event} />`}
  </article>`;
}
