// Bars of how many events there were when, over an axis of time: to be pointed at, and dragged over.
import { html, useMemo, useRef, useState } from "../dom.js";
import { plural, timeText } from "../text.js";
import { useSize } from "./parts.js";

const AXIS = 24; // pixels below the bars
const TOP = 4; // pixels above the highest bar
const APART = 84; // pixels between two marks of the axis, at least
const DRAGGED = 4; // pixels; what moves less is a click
const DAY = 86400;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 5 * DAY, 10 * DAY];
const IN_MONTHS = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 12000];

/** Seconds since 1970 as the server takes them. */
export const asIso = (at) => new Date(at * 1000).toISOString().replace(".000Z", "Z");

/** A time on the axis, in one line and in UTC: as fine as the steps between the marks. */
function axisText(at, every) {
  const iso = new Date(Math.round(at * 1000)).toISOString();
  const month = MONTHS[Number(iso.slice(5, 7)) - 1];
  if (every >= 360 * DAY) return iso.slice(0, 4);
  if (every >= 28 * DAY) return `${month} ${iso.slice(0, 4)}`;
  if (every >= DAY) return `${Number(iso.slice(8, 10))} ${month}`;
  const time = every >= 60 ? iso.slice(11, 16) : every >= 1 ? iso.slice(11, 19) : iso.slice(11, 23);
  return time === "00:00" ? `${Number(iso.slice(8, 10))} ${month}` : time;
}

/** Round times between two, at most so many: [time, text]. */
function roundTimes(low, high, most) {
  const every = SECONDS.find((one) => (high - low) / one <= most);
  if (every) {
    const first = Math.ceil(low / every);
    return Array.from({ length: Math.floor(high / every) - first + 1 }, (_, index) => (first + index) * every).map((at) => [at, axisText(at, every)]);
  }
  const months = IN_MONTHS.find((one) => (high - low) / (one * 28 * DAY) <= most) ?? IN_MONTHS.at(-1);
  const times = [];
  for (let number = Math.ceil((new Date(low * 1000).getUTCFullYear() * 12) / months) * months; ; number += months) {
    const at = Date.UTC(Math.floor(number / 12), number % 12) / 1000;
    if (at > high) return times;
    if (at >= low) times.push([at, axisText(at, months * 30.4 * DAY)]);
  }
}

/** Marks of the axis, as [x, text] of the density. Where idle time is folded, each is that of a bar. */
function marksOf({ isFolded, kept, starts, ends, xs, width }, low, high, most) {
  if (!isFolded) return roundTimes(low, high, most);
  const span = ends.at(-1) - starts[0];
  const every = span > 200 * DAY ? 28 * DAY : span > 2 * DAY ? DAY : span > 600 ? 60 : 1;
  const bars = Math.max(1, Math.ceil((high - low) / width / most));
  return kept.flatMap((index, at) => (at % bars ? [] : [[xs[at], axisText(starts[index], every)]]));
}

/** Bars of heights that let few events be seen beside many, in whole pixels. */
function barsOf({ xs, kept, counts, width }, xOf, height) {
  const most = Math.sqrt(Math.max(1, ...counts));
  let path = "";
  xs.forEach((x, at) => {
    const many = counts[kept[at]];
    if (!many) return;
    const left = Math.round(xOf(x));
    const right = Math.round(xOf(x + width));
    const gap = right - left > 3 ? 1 : 0;
    path += `M${left} ${height}h${Math.max(1, right - left - gap)}v${-Math.max(1, Math.round((Math.sqrt(many) / most) * (height - TOP)))}H${left}z`;
  });
  return path;
}

function Drawn({ density, wide, height, xOf, low, high }) {
  const bottom = height - AXIS;
  const marks = marksOf(density, low, high, Math.max(1, Math.floor(wide / APART)));
  const isWithin = (x, text) => x > text.length * 3.2 && x < wide - text.length * 3.2;
  return html`<svg width=${wide} height=${height} role="img" aria-label=${`Events over time: ${plural(density.total, "event")} from ${asIso(density.starts[0])} to ${asIso(density.ends.at(-1))}`}>
    <path class="bars" d=${barsOf(density, xOf, bottom)} />
    ${marks.map(([at, text]) => [Math.round(xOf(at)) + 0.5, text]).map(([x, text]) => html`<path class="notch" d=${`M${x} ${bottom}v4`} />${isWithin(x, text) && html`<text x=${x} y=${bottom + 17}>${text}</text>`}`)}</svg>`;
}

/** The chart; `children` gets what tells where, from the left, a time and an x of the density are. */
export function DensityChart({ density, height, onRange, onPoint, children }) {
  const [box, { width: wide }] = useSize();
  const [pointer, setPointer] = useState(null);
  const pressed = useRef(null);
  const low = density.xs[0];
  const high = Math.max(density.xs.at(-1) + density.width, low + 0.001);
  const xOf = (x) => ((x - low) / (high - low)) * wide;
  const timeAt = (left) => density.timeAt(low + (left / wide) * (high - low));
  const drawn = useMemo(() => wide > 0 && html`<${Drawn} density=${density} wide=${wide} height=${height} xOf=${xOf} low=${low} high=${high} />`, [density, wide, height]);
  const leftOf = ({ clientX, currentTarget }) => {
    const seen = currentTarget.getBoundingClientRect(); // of other pixels than `wide`, where the page is zoomed
    return Math.max(0, Math.min(wide, ((clientX - seen.left) / seen.width) * wide));
  };
  const press = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    pressed.current = leftOf(event);
  };
  const release = (event) => {
    const from = pressed.current;
    pressed.current = null;
    setPointer(null);
    if (from === null) return;
    const to = leftOf(event);
    if (Math.abs(to - from) < DRAGGED) onPoint(timeAt(to));
    else onRange(timeAt(Math.min(from, to)), timeAt(Math.max(from, to)));
  };
  const leave = () => {
    pressed.current = null;
    setPointer(null);
  };
  const from = pressed.current;
  const index = pointer === null ? -1 : density.ends.findIndex((end) => end >= timeAt(pointer));
  return html`<div class="chart" ref=${box} style=${{ height: `${height}px` }}>${drawn}
    ${wide > 0 && html`<div class="marks" aria-hidden="true" style=${{ height: `${height - AXIS}px` }}>${children((time) => xOf(density.xOf(time)), xOf)}
      ${pointer !== null && html`<i class="pointer" style=${{ left: `${pointer}px` }}></i>`}
      ${pointer !== null && from !== null && Math.abs(pointer - from) >= DRAGGED && html`<i class="dragged" style=${{ left: `${Math.min(from, pointer)}px`, width: `${Math.abs(pointer - from)}px` }}></i>`}</div>
      <div class="pointed" style=${{ height: `${height - AXIS}px` }} onPointerDown=${press} onPointerUp=${release} onPointerCancel=${leave} onPointerLeave=${leave} onPointerMove=${(event) => setPointer(leftOf(event))}></div>`}
    ${density.counts[index] !== undefined && html`<div class="tip" aria-hidden="true" style=${{ left: `${Math.min(Math.max(90, pointer), wide - 90)}px` }}>
      ${plural(density.counts[index], "event")} · ${timeText(asIso(Math.round(density.starts[index])))}</div>`}
  </div>`;
}
