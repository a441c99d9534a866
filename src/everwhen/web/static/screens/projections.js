// Projections and reactions: how far each has come, what it has left out, and what can be done about it.
import { html, useEffect, useRef, useState } from "../dom.js";
import { post, urlOf, useAsked } from "../api.js";
import { Act, lacks, Reasons } from "../components/allowed.js";
import { Empty, Loading, ProblemBox, StreamName, TypeName } from "../components/parts.js";
import { offer } from "../keys.js";
import { complain, head, toast } from "../store.js";
import { count, durationText, plural, shown, timeText } from "../text.js";
import { branch, go, move, param } from "../url.js";

const LOOK_MS = 2000;
const AT_ONCE = 100;
const focused = (element) => element?.focus();
const SIGNS = { live: ["●", "good"], building: ["◐", "warns"], halted: ["✕", "bad"], beyond: ["✕", "bad"], memory: ["○", "dim"] };
const AS_SMALL = { year: "y", month: "mo", day: "d", hour: "h", minute: "min", second: "s" };
const small = (seconds) => durationText(seconds).replace(/([a-z]+?)s?$/, (_, unit) => AS_SMALL[unit]);
const POLICIES = { halt: "stops there", skip: "leaves the event out", park: "parks the event, and what follows in its stream" };

/** One's name in the address: the build too, where there are two of a name. */
const keyIn = (all) => (one) => (all.filter((other) => other.name === one.name).length > 1 ? `${one.kind}/${one.name}@${one.version}.${one.build}` : one.name);

/** Seconds of history between where it stands and the newest event. */
function useSecondsBehind(one) {
  const isBehind = one && one.lag > 0;
  const { data } = useAsked(isBehind ? urlOf("/positions", { at: String(one.position) }) : null, { keep: true });
  if (!one) return null;
  if (!isBehind) return 0;
  const since = Date.parse(data?.recorded_at ?? "");
  const until = Date.parse(head.value.recorded_at ?? "");
  return Number.isNaN(until - since) ? null : Math.max(0, (until - since) / 1000);
}

const State = ({ one }) => html`<span class=${`standing ${SIGNS[one.state][1]}`}><span aria-hidden="true">${SIGNS[one.state][0]}</span> ${one.is_rebuilding ? "rebuilding" : one.state}</span>`;

function Lag({ one, words }) {
  const seconds = useSecondsBehind(one);
  if (one.lag === null) return html`<span class="bad">beyond the end</span>`;
  if (one.lag === 0) return html`<span class="dim">${words ? "none" : "0"}</span>`;
  if (words) return html`${plural(one.lag, "event")}${seconds !== null && `, ${durationText(seconds)} of history`}`;
  return html`${count(one.lag)}${seconds !== null && html` <small>${small(seconds)}</small>`}`;
}

function Row({ one, of, chosen }) {
  const row = useRef(null);
  useEffect(() => {
    if (chosen) row.current.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  return html`<tr ref=${row} class=${chosen ? "on" : ""} onClick=${() => go({ projection: of }, { replace: true })}>
    <th scope="row"><button class="bare" aria-pressed=${chosen}><bdi>${shown(one.name)}</bdi></button>${one.kind === "reaction" && html` <small>reaction</small>`}${of !== one.name && html` <small>${one.version}.${one.build}</small>`}</th>
    <td><${State} one=${one} /></td>
    <td class="number">${count(one.position)}<meter min="0" max=${Math.max(1, one.position + one.lag)} value=${one.position} aria-label="Share of history"></meter></td>
    <td class="number"><${Lag} one=${one} /></td>
    <td class="number wide">${one.rate ? `${count(Math.round(one.rate))}/s` : html`<span class="dim">—</span>`}</td>
    <td class="number">${one.parked ? html`<span class="warns">${count(one.parked)}</span>` : html`<span class="dim">0</span>`}</td>
    <td>${one.on_error?.then ?? html`<span class="dim">—</span>`}</td></tr>`;
}

function List({ all, keyed, chosen }) {
  return html`<div class="scrolled" tabindex="0" role="region" aria-label="Projections and reactions"><table class="grid">
    <thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Position</th><th scope="col" class="number">Lag</th><th scope="col" class="number wide">Rate</th><th scope="col" class="number">Parked</th><th scope="col">On error</th></tr></thead>
    <tbody>${all.map((one) => html`<${Row} key=${`${one.kind}/${one.name}@${one.version}.${one.build}`} one=${one} of=${keyed(one)} chosen=${one === chosen} />`)}</tbody></table></div>`;
}

function Parked({ one, round }) {
  const [most, setMost] = useState(AT_ONCE);
  const { data, problem, again } = useAsked(one.parked ? urlOf(`/projections/${encodeURIComponent(one.name)}/parked`) : null);
  useEffect(() => {
    if (data) again();
  }, [one.parked, round]);
  if (!one.parked) return null;
  if (problem) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  const failed = data.parked.filter((event) => event.error !== null);
  const waiting = Map.groupBy(data.parked.filter((event) => event.error === null), (event) => event.stream);
  return html`<h3>${plural(data.parked.length, "parked event")}: ${count(failed.length)} failed, ${count(data.parked.length - failed.length)} waiting for them</h3>
    <ul class="parked">${failed.slice(0, most).map((event) => html`<li key=${event.position}>
      <button class="step" onClick=${() => go({ screen: "timeline", at: event.position, view: null })}><span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} /></button>
      <p class="failure">${shown(event.error)}</p>
      <p class="dim">${timeText(event.at)}${waiting.has(event.stream) && html` · ${plural(waiting.get(event.stream).length, "later event")} of its stream ${waiting.get(event.stream).length === 1 ? "waits" : "wait"}`}</p></li>`)}</ul>
    ${failed.length > most && html`<button class="quiet" onClick=${() => setMost(most + AT_ONCE)}>${count(failed.length - most)} more</button>`}`;
}

const elsewhere = () => (branch.value === "main" ? null : "Projections are run on the main branch; go there to change anything.");
const notOurs = (one) => (one.on_error ? null : one.kind === "reaction" ? "Reactions are retried by the application that runs them." : "This server doesn't run it: another process does, or nobody.");

/** Why it can't be retried, and why not rebuilt; null where it can. */
const reasonsFor = (one) => ({
  retry: elsewhere() ?? lacks("operate") ?? notOurs(one) ?? (one.parked ? null : "Nothing is parked."),
  rebuild: elsewhere() ?? lacks("operate") ?? notOurs(one) ?? (one.state === "memory" ? "It is in memory: it is built anew whenever the server starts." : one.is_rebuilding ? "It is being rebuilt." : null),
});

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;

function Detail({ one, again }) {
  const [asked, setAsked] = useState(null);
  const [round, setRound] = useState(0);
  useEffect(() => setAsked(null), [one.name, one.build]);
  const reasons = reasonsFor(one);
  const act = async (what) => {
    setAsked("running");
    try {
      const found = await post(`/projections/${encodeURIComponent(one.name)}/${what}`, undefined);
      toast(what === "retries" ? (found.parked ? `${plural(found.parked, "event")} are still parked` : "Nothing is parked any more") : `${shown(one.name)} is being rebuilt`, "", "done");
    } catch (error) {
      complain(error);
    }
    setAsked(null);
    setRound(round + 1);
    again();
  };
  const ask = (what) => !reasons[what === "retries" ? "retry" : "rebuild"] && (what === "retries" ? act(what) : setAsked(what));
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => offer(
    { keys: ["r"], title: "Retry what is parked", group: "Projections", run: () => latest.current("retries") },
    { keys: ["b"], title: "Rebuild it", group: "Projections", run: () => latest.current("rebuilds") },
  ), []);
  return html`<article class="detail" aria-label=${shown(one.name)}>
    <header><h2><bdi>${shown(one.name)}</bdi></h2><${State} one=${one} /></header>
    ${one.error && html`<div class="problem" role="group" aria-label="Error"><strong>${one.lag === null ? `It stands after the newest event, at ${count(one.position)}` : `It failed after position ${count(one.position)}`}</strong><p>${shown(one.error)}</p>${one.lag !== null && html`<button onClick=${() => go({ screen: "timeline", at: one.position + 1, view: null })}>To what follows</button>`}</div>`}
    <div class="tools">
      <${Act} reason=${reasons.retry} onClick=${() => ask("retries")}>Retry parked<//>
      <${Act} reason=${reasons.rebuild} onClick=${() => ask("rebuilds")}>Rebuild<//></div>
    ${asked === "rebuilds" && html`<p class="asked" role="alertdialog" aria-label="Rebuild it?">It is built anew beside what readers see, and takes its place when it has caught up. <button class="act" ref=${focused} onClick=${() => act("rebuilds")}>Rebuild</button> <button class="quiet" onClick=${() => setAsked(null)}>Leave it</button></p>`}
    <${Reasons} reasons=${[reasons.retry, reasons.rebuild]} />
    <dl class="facts">
      <${Fact} name="position"><button class="bare" onClick=${() => move(String(one.position))}>${count(one.position)}</button> of ${count(one.lag === null ? head.value.position : one.position + one.lag)}<//>
      <${Fact} name="lag"><${Lag} one=${one} words /><//>
      <${Fact} name="version">${one.version}, build ${one.build}${one.is_mixed && html` · <span class="warns">its functions have changed, but not its version</span>`}<//>
      <${Fact} name="on error">${one.on_error ? `${one.on_error.then}: ${POLICIES[one.on_error.then]}${one.on_error.retries ? `, after ${plural(one.on_error.retries, "retry", "retries")}` : ""}` : html`<span class="dim">known where it is run</span>`}<//>
      ${one.skipped > 0 && html`<${Fact} name="skipped">${plural(one.skipped, "event")}<//>`}
      ${one.owner && html`<${Fact} name="runner"><bdi class="id">${shown(one.owner)}</bdi><//>`}
      ${one.updated_at && html`<${Fact} name="heard of">${timeText(one.updated_at)}<//>`}
    </dl>
    <${Parked} key=${one.name} one=${one} round=${round} /></article>`;
}

export function Screen() {
  const { data, problem, again } = useAsked(urlOf("/projections"));
  const latest = useRef(null);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current.again(), LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  const all = data?.projections ?? [];
  const keyed = keyIn(all);
  const wanted = param("projection").value;
  const chosen = all.find((one) => keyed(one) === wanted) ?? all.find((one) => one.name === wanted) ?? all[0];
  latest.current = { again, all, keyed, chosen };
  const by = (steps) => () => {
    const { all, keyed, chosen } = latest.current;
    const found = all[Math.max(0, Math.min(all.length - 1, all.indexOf(chosen) + steps))];
    if (found) go({ projection: keyed(found) }, { replace: true });
  };
  useEffect(() => offer(
    { keys: ["j", "ArrowDown"], title: "Next projection", group: "Projections", run: by(1) },
    { keys: ["k", "ArrowUp"], title: "Previous projection", group: "Projections", run: by(-1) },
  ), []);
  if (!data) return problem ? html`<${ProblemBox} problem=${problem} again=${again} />` : html`<${Loading} />`;
  if (!all.length) return html`<${Empty}><h2>No projections</h2><p>None keeps its position in this store, and this server runs none.</p><//>`;
  return html`<div class="panes even">
    <section class="pane" aria-label="All">${problem && html`<${ProblemBox} problem=${problem} again=${again} />`}<${List} all=${all} keyed=${keyed} chosen=${chosen} /></section>
    <section class="pane side" aria-label="The chosen one"><div class="scrolled" tabindex="0" role="region" aria-label="Details"><${Detail} one=${chosen} again=${again} /></div></section></div>`;
}
