// All of history in a strip: how many events when, where we are in it, and a slider over positions.
import { html, signal, useEffect, useMemo, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { head, here, pin, step, ticks } from "../store.js";
import { count, durationText, shown, timeText } from "../text.js";
import { branch, go, move, param } from "../url.js";
import { Density } from "./density.js";
import { asIso, DensityChart } from "./density_chart.js";
import { Icon } from "./icons.js";
import { Dialog } from "./overlays.js";

const BUCKETS = 180;
const STALE_MS = 15000;

/** The head as it was a while ago: what is asked of all of history isn't asked anew by each event. */
const slowHead = signal(0);
let slowTimer = 0;
function useSlowHead() {
  const now = head.value.position;
  useEffect(() => {
    if (!slowHead.value) slowHead.value = now;
    else if (now !== slowHead.value) slowTimer ||= setTimeout(() => ((slowTimer = 0), (slowHead.value = head.value.position)), STALE_MS);
  }, [now]);
  return slowHead.value;
}

/** What lies over the bars: where we are, what is pinned and found, bookmarks, forks and limits. */
function Marks({ density, signs, limits, leftAt, xOf }) {
  const isInside = (position) => position !== null && position >= density.first - 1 && position <= density.last;
  const at = (left) => ({ left: `${left}px` });
  const leftOf = (position) => at(leftAt(density.timeOf(position)));
  return html`${ticks.value.slice(0, 400).filter((tick) => isInside(tick.position)).map((tick) => html`<i class="tick" key=${tick.position} style=${leftOf(tick.position)}></i>`)}
    ${density.folds.map((x) => html`<i class="fold" key=${x} style=${at(xOf(x))}></i>`)}
    ${signs.filter((one) => isInside(one.position)).map((one) => html`<i class=${`sign-mark ${one.kind}`} key=${one.kind + one.name} style=${leftOf(one.position)} title=${`${one.kind} ${shown(one.name)}`}></i>`)}
    ${limits.map(([name, time]) => html`<i class="limit" key=${name} style=${at(leftAt(time))}><b>${name}</b></i>`)}
    ${isInside(pin.value) && html`<i class="pinned" style=${leftOf(pin.value)}></i>`}
    ${isInside(here.value) && html`<i class="playhead" style=${leftOf(here.value)}></i>`}`;
}

function AsTable({ density, onClose }) {
  const rows = density.starts.map((start, index) => [start, density.counts[index]]).filter(([, many]) => many);
  return html`<${Dialog} label="Events over time" class="table" onClose=${onClose}>
    <header><h2>Events over time</h2><button class="plain" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
    <div class="scrolled" tabindex="0" role="region" aria-label="Table"><table><thead><tr><th>from</th><th>events</th></tr></thead>
      <tbody>${rows.map(([start, many]) => html`<tr><td>${timeText(asIso(Math.round(start)))}</td><td>${count(many)}</td></tr>`)}</tbody></table></div><//>`;
}

const MOST_SIGNS = 200;
/** Bookmarks, and where branches fork off this one: {kind, name, position}. */
function useSigns() {
  const marks = useAsked(urlOf("/bookmarks"), { after: 300 }).data?.bookmarks ?? [];
  const branches = useAsked(urlOf("/branches", {}, "main"), { after: 300 }).data?.branches ?? [];
  return useMemo(() => [
    ...marks.map((one) => ({ kind: "bookmark", name: one.name, position: one.position })),
    ...branches.filter((one) => (one.parent ?? "main") === branch.value).map((one) => ({ kind: "fork", name: one.name, position: one.fork_position })),
  ].slice(0, MOST_SIGNS), [marks, branches, branch.value]);
}

// What a click on the chart does: go to the moment, or leave out what was recorded or occurred later.
const CLICKS = [["at", "Go to"], ["as_at", "Recorded by"], ["as_of", "Occurred by"]];
const CLICK_TITLES = { as_at: "recorded by", as_of: "occurred by" };

/** The strip. Click to go to a time, drag to look closer. */
export function Strip({ height = 84 }) {
  const from = param("from").value;
  const to = param("to").value;
  const slow = useSlowHead();
  const asked = useAsked(slow ? urlOf("/density", { from, to, buckets: BUCKETS }) + (to ? "" : `#${slow}`) : null);
  const isFolded = param("idle").value === "folded";
  const density = useMemo(() => asked.data && new Density(asked.data, isFolded), [asked.data, isFolded]);
  const signs = useSigns();
  const click = param("click").value ?? "at";
  const limits = ["as_at", "as_of"].map((name) => [CLICK_TITLES[name], Date.parse(param(name).value ?? "") / 1000]).filter(([, time]) => !Number.isNaN(time));
  const [asTable, setAsTable] = useState(false);
  const last = head.value.position;
  const low = from && density ? Math.max(1, density.first) : 1;
  const high = to && density ? density.last : last;
  const position = here.value ?? last;
  const zoom = (start, end) => go({ from: asIso(Math.floor(start)), to: asIso(Math.ceil(end)) });
  const goTo = (time) => {
    if (click !== "at") return go({ [click]: asIso(Math.round(time)) });
    move(String(density.positionOf(time)));
    // Roughly at once, exactly when the server has said so.
    fetch(urlOf("/positions", { at: new Date(time * 1000).toISOString() })).then((answer) => answer.ok && answer.json()).then((found) => found && move(String(found.position)), () => {});
  };
  return html`<section class="strip" aria-label="Timeline">
    ${density && density.starts.length > 0
      ? html`<${DensityChart} density=${density} height=${height} onRange=${zoom} onPoint=${goTo}>${(leftAt, xOf) => html`<${Marks} density=${density} signs=${signs} limits=${limits} leftAt=${leftAt} xOf=${xOf} />`}<//>`
      : !asked.problem && html`<div class="chart" style=${{ height: `${height}px` }}></div>`}
    <div class="scrubber">
      <span>${count(low)}</span>
      <input type="range" aria-label="Position" aria-valuetext=${`position ${count(position)} of ${count(last)}`} min=${Math.min(low, high)} max=${Math.max(1, high)} value=${Math.min(Math.max(position, low), high)} onInput=${(event) => step(Number(event.target.value))} />
      <span>${count(high)}</span>
      <span class="tools">
        ${density?.starts.length > 0 && html`<small>${durationText(density.ends.at(-1) - density.starts[0])}</small>`}
        ${density?.longestIdle > 2 && html`<button class="quiet" aria-pressed=${isFolded} title="Leave out long stretches without events" onClick=${() => go({ idle: isFolded ? null : "folded" })}>Fold idle time</button>`}
        <select aria-label="A click on the chart" title="What a click on the chart does" onChange=${(event) => go({ click: event.target.value === "at" ? null : event.target.value, ...(event.target.value === "at" ? { as_at: null, as_of: null } : {}) })}>
          ${CLICKS.map(([name, title]) => html`<option key=${name} value=${name} selected=${name === click}>${title}</option>`)}</select>
        ${(from || to) && html`<button class="quiet" onClick=${() => go({ from: null, to: null })}>Show all of history</button>`}
        ${density?.starts.length > 0 && html`<button class="quiet" onClick=${() => setAsTable(true)}>As a table</button>`}
      </span>
    </div>
    ${asTable && html`<${AsTable} density=${density} onClose=${() => setAsTable(false)} />`}
  </section>`;
}
