// All of history in a strip: how many events when, where we are in it, and a slider over positions.
import { html, signal, useEffect, useMemo, useRef, useState } from "../dom.js";
import uPlot from "../vendor/uplot.js";
import { urlOf, useAsked } from "../api.js";
import { head, here, pin, step, ticks } from "../store.js";
import { count, durationText, plural, shown, timeText } from "../text.js";
import { branch, go, move, param } from "../url.js";
import { Density } from "./density.js";
import { Icon } from "./icons.js";
import { useSize } from "./parts.js";
import { Dialog } from "./overlays.js";

const BUCKETS = 180;
const STALE_MS = 15000;
const asIso = (at) => new Date(at * 1000).toISOString().replace(".000Z", "Z");

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

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const resolved = (name) => {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY = 86400;
/** A time on the axis, in one line and in UTC: as fine as the steps between the marks. */
function axisText(at, every) {
  const iso = new Date(at * 1000).toISOString();
  const month = MONTHS[Number(iso.slice(5, 7)) - 1];
  if (every >= 360 * DAY) return iso.slice(0, 4);
  if (every >= 28 * DAY) return `${month} ${iso.slice(0, 4)}`;
  if (every >= DAY) return `${Number(iso.slice(8, 10))} ${month}`;
  const time = every >= 60 ? iso.slice(11, 16) : every >= 1 ? iso.slice(11, 19) : iso.slice(11, 23);
  return time === "00:00" ? `${Number(iso.slice(8, 10))} ${month}` : time;
}

/** The text, or none where the chart would cut it. */
function textWithin(plot, at, text) {
  const { min, max } = plot.scales.x;
  const left = ((at - min) / (max - min)) * plot.width;
  const half = text.length * 3.2;
  return left < half || left > plot.width - half ? "" : text;
}

/** uPlot's options: bars over time, of heights that let few events be seen beside many. */
function optionsOf(width, height, density, onRange) {
  return {
    width, height, padding: [4, 0, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
    select: { show: true },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, Math.max(1, most)] } },
    series: [{}, { fill: () => resolved("--bars"), width: 0, paths: uPlot.paths.bars({ size: [0.86, 40, 1], align: 1 }), points: { show: false } }],
    axes: [
      { stroke: () => resolved("--dim"), font: `11px ${colour("--sans") || "system-ui"}`, grid: { show: false }, ticks: { show: true, size: 4, width: 1, stroke: () => resolved("--line") }, size: 24, gap: 2, space: 84, values: (plot, at, _, __, every) => at.map((one) => textWithin(plot, one, axisText(density.timeAt(one), density.isFolded ? (density.ends.at(-1) - density.starts[0] > 200 * DAY ? 28 * DAY : Math.min(every, DAY)) : every))) },
      { show: false },
    ],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "UTC"),
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select;
          if (wide > 3) onRange(density.timeAt(plot.posToVal(left, "x")), density.timeAt(plot.posToVal(left + wide, "x")));
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    },
  };
}

function Chart({ density, height, signs, limits, onRange, onPoint }) {
  const [box, size] = useSize();
  const [plot, setPlot] = useState(null);
  const [tip, setTip] = useState(null);
  const calls = useRef({});
  calls.current = { onRange, onPoint };
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme((old) => old + 1);
    query.addEventListener("change", changed);
    const watching = new MutationObserver(changed);
    watching.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => (query.removeEventListener("change", changed), watching.disconnect());
  }, []);
  useEffect(() => {
    if (!size.width || !density.starts.length) return;
    const made = new uPlot(optionsOf(size.width, height, density, (from, to) => calls.current.onRange(from, to)),
      [density.xs, density.kept.map((index) => Math.sqrt(density.counts[index]))], box.current.firstElementChild);
    let pressed = 0;
    made.over.addEventListener("mousedown", (event) => (pressed = event.clientX));
    made.over.addEventListener("click", (event) => Math.abs(event.clientX - pressed) < 4 && calls.current.onPoint(density.timeAt(made.posToVal(made.cursor.left, "x"))));
    made.over.addEventListener("mouseleave", () => setTip(null));
    made.over.addEventListener("mousemove", () => {
      const time = density.timeAt(made.posToVal(made.cursor.left, "x"));
      const index = density.ends.findIndex((end) => end >= time);
      setTip(index < 0 ? null : { left: made.cursor.left, index });
    });
    setPlot(made);
    return () => made.destroy();
  }, [density, size.width, height, scheme]);
  const leftAt = (time) => plot.valToPos(density.xOf(time), "x");
  const leftOf = (position) => leftAt(density.timeOf(position));
  const isInside = (position) => position >= density.first - 1 && position <= density.last;
  return html`<div class="chart" ref=${box} style=${{ height: `${height}px` }}>
    <div role="img" aria-label=${`Events over time: ${plural(density.total, "event")} from ${asIso(density.starts[0] ?? 0)} to ${asIso(density.ends.at(-1) ?? 0)}`}></div>
    ${plot && size.width > 0 && html`<div class="marks" aria-hidden="true" style=${{ height: `${height - 24}px` }}>
      ${ticks.value.slice(0, 400).filter((tick) => isInside(tick.position)).map((tick) => html`<i class="tick" key=${tick.position} style=${{ left: `${leftOf(tick.position)}px` }}></i>`)}
      ${density.folds.map((x) => html`<i class="fold" key=${x} style=${{ left: `${plot.valToPos(x, "x")}px` }}></i>`)}
      ${signs.filter((one) => isInside(one.position)).map((one) => html`<i class=${`sign-mark ${one.kind}`} key=${one.kind + one.name} style=${{ left: `${leftOf(one.position)}px` }} title=${`${one.kind} ${shown(one.name)}`}></i>`)}
      ${limits.map(([name, time]) => html`<i class="limit" key=${name} style=${{ left: `${leftAt(time)}px` }}><b>${name}</b></i>`)}
      ${pin.value !== null && isInside(pin.value) && html`<i class="pinned" style=${{ left: `${leftOf(pin.value)}px` }}></i>`}
      ${here.value !== null && isInside(here.value) && html`<i class="playhead" style=${{ left: `${leftOf(here.value)}px` }}></i>`}
    </div>`}
    ${tip && density.counts[tip.index] !== undefined && html`<div class="tip" aria-hidden="true" style=${{ left: `${Math.min(Math.max(90, tip.left), size.width - 90)}px` }}>
      ${plural(density.counts[tip.index], "event")} · ${timeText(asIso(Math.round(density.starts[tip.index])))}</div>`}
  </div>`;
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
      ? html`<${Chart} density=${density} height=${height} signs=${signs} limits=${limits} onRange=${zoom} onPoint=${goTo} />`
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
