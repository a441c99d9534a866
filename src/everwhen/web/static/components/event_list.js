// Events around the moment, as a list: compact, in full, by commit, or in a lane for each stream.
import { html, useCallback, useEffect, useLayoutEffect, useRef } from "../dom.js";
import { here, pin, step, ticks } from "../store.js";
import { brief, count, hue, categoryOf, isErased, isSealed, plural, shown, listTime } from "../text.js";
import { move } from "../url.js";
import { Empty, Loading, ProblemBox, StreamName, TypeName } from "./parts.js";

/** An event's data in a line: names and values, none of it in full. */
export function Summary({ data, limit = 160 }) {
  if (data === null || typeof data !== "object" || Array.isArray(data)) return brief(data, limit);
  let left = limit;
  const parts = [];
  for (const [name, value] of Object.entries(data)) {
    if (left <= 0 || parts.length >= 6) {
      parts.push("…");
      break;
    }
    const text = typeof value === "string" && value.length < 60 ? shown(value) : brief(value, Math.max(12, left));
    left -= name.length + text.length + 2;
    const kind = isSealed(value) || isErased(value) ? "sealed" : "";
    parts.push(html`<b>${shown(name)}</b> <bdi class=${kind}>${text === "" ? "“”" : text}</bdi>`);
  }
  return parts;
}

const marksOf = (event) => {
  const found = [];
  if (pin.value === event.position) found.push("pinned");
  if (ticks.value.some((tick) => tick.position === event.position)) found.push("hit");
  return found;
};

/** `why` has the command and the user before the data. */
function Row({ event, chosen, mates, why = false }) {
  const marks = marksOf(event);
  const command = why && event.extras?.command?.type;
  return html`<li id=${`event-${event.position}`} role="option" aria-selected=${chosen} class=${`row ${mates} ${marks.join(" ")}`} data-position=${event.position}>
    <span class="position">${count(event.position)}${marks.length > 0 && html`<span class="sr"> ${marks.join(", ")}</span>`}</span>
    <time>${listTime(event.recorded_at)}</time>
    <${StreamName} name=${event.stream} />
    <${TypeName} name=${event.type} />
    <span class="summary">${command && html`<em>${shown(command)}</em> `}${why && event.user_id && html`<em>${shown(event.user_id)}</em> `}<${Summary} data=${event.data} /></span>
  </li>`;
}

function FullRow({ event, chosen, mates }) {
  return html`<li id=${`event-${event.position}`} role="option" aria-selected=${chosen} class=${`row full ${mates} ${marksOf(event).join(" ")}`} data-position=${event.position}>
    <span class="position">${count(event.position)}</span>
    <time>${listTime(event.recorded_at)}</time>
    <${StreamName} name=${event.stream} />
    <${TypeName} name=${event.type} />
    <span class="who">${event.user_id && html`<bdi>${shown(event.user_id)}</bdi>`}</span>
    <span class="fields">${Object.entries(event.data ?? {}).slice(0, 12).map(([name, value]) => html`<b>${shown(name)}</b> <bdi>${brief(value, 200)}</bdi> `)}</span>
  </li>`;
}

/** A commit with a line of its own where it has several events. */
function Commit({ events, chosen }) {
  const [first] = events;
  if (events.length === 1) return html`<${Row} event=${first} chosen=${first.position === chosen} mates="alone" why=${true} />`;
  const command = first.extras?.command?.type;
  return html`<li role="presentation" class="commit"><div class="commit-head" role="presentation">
      <span>${plural(events.length, "event")}</span>${command && html`<bdi class="type">${shown(command)}</bdi>`}
      ${first.user_id && html`<bdi>${shown(first.user_id)}</bdi>`}</div>
    <ul role="presentation">${events.map((event) => html`<${Row} key=${event.position} event=${event} chosen=${event.position === chosen} mates="" />`)}</ul></li>`;
}

const byCommit = (events) => events.reduce((groups, event) => {
  const last = groups.at(-1);
  if (last?.[0].commit_id === event.commit_id) last.push(event);
  else groups.push([event]);
  return groups;
}, []);

const LANES = 7;
/** The streams with most events in the window have a lane each; the others share the last one. */
export function lanesOf(events, chosen) {
  const counts = new Map();
  for (const event of events) counts.set(event.stream, (counts.get(event.stream) ?? 0) + 1);
  const own = [...counts].sort((a, b) => (b[0] === chosen?.stream) - (a[0] === chosen?.stream) || b[1] - a[1]).slice(0, LANES).map(([name]) => name);
  return { own, others: counts.size - own.length };
}

function LaneRow({ event, chosen, own, others }) {
  const index = own.indexOf(event.stream);
  const lane = index < 0 ? own.length : index;
  return html`<li id=${`event-${event.position}`} role="option" aria-selected=${chosen} class="row lane-row" style=${{ "--hue": hue(categoryOf(event.stream)) }} data-position=${event.position}>
    <span class="position">${count(event.position)}</span>
    <span class="lanes">${[...own, ...(others ? [null] : [])].map((name, at) => html`<span class=${at === lane ? "on" : ""}>${at === lane && html`<bdi class="stream"><span class=${name === null ? "dim" : "sr"}>${shown(event.stream)} </span>${shown(event.type)}</bdi>`}</span>`)}</span>
  </li>`;
}

/** What tells a stream from the others of its category, whose colour is beside it. */
const nameInCategory = (name) => name.slice(categoryOf(name).length + 1) || name;

function LaneHeads({ own, others }) {
  return html`<div class="row lane-heads" aria-hidden="true"><span class="position">position</span><span class="lanes">
    ${own.map((name) => html`<span title=${shown(name)}><bdi class="stream" style=${{ "--hue": hue(categoryOf(name)) }}>${shown(nameInCategory(name))}</bdi></span>`)}${others > 0 && html`<span>${plural(others, "other")}</span>`}</span></div>`;
}

/** The list. `found` is what useEventWindow gives. */
export function EventList({ found, view = "compact", label = "Events" }) {
  const list = useRef(null);
  const { events, index, window } = found;
  const chosen = events[index];
  const anchor = useRef(null);
  // Rows that come before others don't move those that are looked at.
  useLayoutEffect(() => {
    const box = list.current;
    const kept = anchor.current && box?.querySelector(`[data-position="${anchor.current.position}"]`);
    if (kept) box.scrollTop += kept.offsetTop - anchor.current.top;
    anchor.current = null;
  }, [events]);
  useEffect(() => {
    const box = list.current;
    const row = chosen && box?.querySelector(`[data-position="${chosen.position}"]`);
    if (!row) return;
    const head = box.querySelector(".lane-heads")?.offsetHeight ?? 0;
    const top = row.offsetTop;
    const isFar = top < box.scrollTop - 200 || top > box.scrollTop + box.clientHeight + 200;
    if (isFar) box.scrollTop = top - box.clientHeight / 2;
    else if (top - head < box.scrollTop + 24) box.scrollTop = top - head - 24;
    else if (top + row.offsetHeight > box.scrollTop + box.clientHeight - 24) box.scrollTop = top + row.offsetHeight - box.clientHeight + 24;
  }, [chosen?.position, view, found.isFilled]);
  const onScroll = useCallback(() => {
    const box = list.current;
    if (!box || window.loading) return;
    const first = box.querySelector("[data-position]");
    const keep = () => (anchor.current = first && { position: first.dataset.position, top: first.offsetTop });
    if (box.scrollTop < 200 && !window.atStart) window.earlier().then(keep());
    else if (box.scrollTop + box.clientHeight > box.scrollHeight - 200 && !window.atEnd) window.later().then(keep());
  }, [window]);
  const onClick = (event) => {
    const row = event.target.closest("[data-position]");
    if (row) move(row.dataset.position);
  };
  if (found.problem && !events.length) return html`<${ProblemBox} problem=${found.problem} again=${() => window.again()} />`;
  if (!found.isFilled) return html`<${Loading} />`;
  if (!events.length) return found.atStart && found.atEnd ? html`<${Empty}>No event matches.<//>` : html`<${Loading}>Looking further…<//>`;
  const commit = chosen?.commit_id;
  const mates = (event) => (event.commit_id === commit && event !== chosen ? "mate" : "");
  const lanes = view === "lanes" && lanesOf(events, chosen);
  return html`<ol ref=${list} class=${`events view-${view}`} role="listbox" tabindex="0" aria-label=${label} aria-busy=${found.stale}
    aria-activedescendant=${chosen ? `event-${chosen.position}` : undefined} onClick=${onClick} onScroll=${onScroll}>
    ${lanes && html`<li role="presentation" class="sticky"><${LaneHeads} ...${lanes} /></li>`}
    ${found.atStart && html`<li role="presentation" class="edge">the beginning</li>`}
    ${view === "commits"
      ? byCommit(events).map((group) => html`<${Commit} key=${group[0].position} events=${group} chosen=${chosen?.position} />`)
      : events.map((event) => {
          const Kind = lanes ? LaneRow : view === "full" ? FullRow : Row;
          return html`<${Kind} key=${event.position} event=${event} chosen=${event === chosen} mates=${mates(event)} ...${lanes || {}} />`;
        })}
    ${found.atEnd && html`<li role="presentation" class="edge">${"now"}</li>`}
  </ol>`;
}

/** Step to the next event that is listed; `byCommit` to the next commit's first. */
export function stepIn(found, by, byCommit = false) {
  const { events } = found.window;
  const index = found.window.indexOf(here.value);
  let to = index + by;
  if (index < 0 && by < 0) return;
  if (byCommit) {
    const commit = events[index]?.commit_id;
    while (events[to]?.commit_id === commit && to >= 0 && to < events.length) to += by;
    while (by < 0 && to > 0 && events[to - 1].commit_id === events[to]?.commit_id) to--;
  }
  const target = events[to];
  if (target) move(String(target.position));
  else if (by > 0 && found.window.atEnd) move("head");
  else step(here.value + by);
}
