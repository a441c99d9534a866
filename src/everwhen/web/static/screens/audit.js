// Who did what; what is signed, and the proof of an event, checked here; what is no longer there.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { ask, urlOf, useAsked } from "../api.js";
import { download } from "../components/downloads.js";
import { Choice, Empty, Loading, ProblemBox, StreamName, TypeName } from "../components/parts.js";
import { Tree } from "../components/tree.js";
import { offer } from "../keys.js";
import { verified } from "../proofs.js";
import { complain, here } from "../store.js";
import { brief, count, isErased, isSealed, listTime, shown, timeText } from "../text.js";
import { go, param } from "../url.js";

const FIELDS = ["user", "action", "resource", "result", "text"];
const ACTIONS = ["Create", "Read", "Update", "Delete", "Login", "Logout", "PermissionGrant", "PermissionRevoke", "ConfigChange", "SecurityEvent"];
const RESULTS = { Success: ["✓", "good"], Failure: ["✕", "bad"], PartialSuccess: ["◐", "warns"] };
const VIEWS = [["entry", "Entry"], ["proof", "Proof"], ["gone", "Given up"]];

function Result({ result }) {
  const [sign, kind] = RESULTS[result] ?? ["", ""];
  return html`<span class=${`standing ${kind}`}><span aria-hidden="true">${sign}</span> ${result === "PartialSuccess" ? "partial" : result.toLowerCase()}</span>`;
}

function Asked() {
  const apply = (event) => {
    event.preventDefault();
    go({ ...Object.fromEntries(new FormData(event.target)), entry: null });
  };
  const input = (name, hint) => html`<label class="field"><span class="sr">${hint}</span><input name=${name} key=${name + param(name).value} id=${name === "user" ? "filter" : undefined} defaultValue=${param(name).value ?? ""} placeholder=${hint} autocomplete="off" spellcheck="false" /></label>`;
  const select = (name, hint, options) => html`<select name=${name} aria-label=${hint} onChange=${(event) => go({ [name]: event.target.value || null, entry: null })}><option value="">${hint}</option>${options.map((one) => html`<option value=${one} selected=${param(name).value === one}>${one}</option>`)}</select>`;
  return html`<div class="filters"><form onSubmit=${apply}>${input("user", "Who")}${input("resource", "What, and all below it")}${input("text", "In the reason and details")}
    ${select("action", "any action", ACTIONS)}${select("result", "any result", Object.keys(RESULTS))}
    <select aria-label="Order" onChange=${(event) => go({ order: event.target.value || null, entry: null })}><option value="">newest first</option><option value="forwards" selected=${isForwards()}>oldest first</option></select><button class="quiet">Filter</button>
    ${FIELDS.some((name) => param(name).value) && html`<button type="button" class="quiet" onClick=${() => go(Object.fromEntries([...FIELDS, "entry"].map((name) => [name, null])))}>All</button>`}</form></div>`;
}

const isForwards = () => param("order").value === "forwards";

/** Pages of entries, as far as they were asked for. */
function useEntries() {
  const asked = urlOf("/audit", { ...Object.fromEntries([...FIELDS, "order"].map((name) => [name, param(name).value])), limit: 100 }, "main");
  const first = useAsked(asked);
  const [rest, setRest] = useState({ of: null, entries: [], next: null });
  const key = String(asked);
  const isMore = rest.of === first.data;
  const next = isMore ? rest.next : first.data?.next;
  const more = async () => {
    const url = new URL(asked);
    url.searchParams.set("cursor", next);
    try {
      const found = await ask(url);
      setRest({ of: first.data, entries: [...(isMore ? rest.entries : []), ...found.entries], next: found.next });
    } catch (error) {
      complain(error);
    }
  };
  return { ...first, key, entries: [...(first.data?.entries ?? []), ...(isMore ? rest.entries : [])], next, more };
}

function Entries({ found, chosen }) {
  const table = useRef(null);
  useEffect(() => table.current?.querySelector(".on")?.scrollIntoView({ block: "nearest" }), [chosen]);
  if (found.problem) return html`<${ProblemBox} problem=${found.problem} again=${found.again} />`;
  if (!found.data) return html`<${Loading} />`;
  if (!found.entries.length) return html`<${Empty}><h2>No entries</h2><p>Nothing fits, or nothing was done.</p><//>`;
  return html`<div class="scrolled" tabindex="0" role="region" aria-label="Entries"><table class="grid" ref=${table}>
    <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Action</th><th scope="col">What</th><th scope="col">Result</th></tr></thead>
    <tbody>${found.entries.map((entry) => html`<tr key=${entry.position} class=${entry === chosen ? "on" : ""} onClick=${() => go({ entry: entry.position, view: null }, { replace: true })}>
      <td class="dim">${listTime(entry.recorded_at)}</td><td>${entry.user ? html`<bdi>${shown(entry.user)}</bdi>` : html`<span class="dim">nobody</span>`}</td><td>${entry.action}</td>
      <td class="what"><button class="bare" aria-pressed=${entry === chosen}><bdi>${shown(entry.resource)}</bdi></button></td><td><${Result} result=${entry.result} /></td></tr>`)}</tbody></table>
    ${found.next !== null && html`<p class="block"><button class="quiet" onClick=${found.more}>${isForwards() ? "Newer" : "Older"} entries</button></p>`}</div>`;
}

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
const told = (value) => (isSealed(value) || isErased(value) ? html`<em class="sealed">${brief(value)}</em>` : html`<bdi>${typeof value === "string" ? shown(value) : brief(value)}</bdi>`);

function Entry({ entry }) {
  if (!entry) return html`<${Empty}>Choose an entry to see all of it.<//>`;
  const rest = ["ip_address", "user_agent", "session", "correlation", "subject"].filter((name) => entry[name]);
  return html`<article class="detail" aria-label="Entry"><header><h2>${entry.action} <bdi>${shown(entry.resource)}</bdi></h2><${Result} result=${entry.result} /></header>
    <p class="lead">by ${entry.user ? html`<bdi>${shown(entry.user)}</bdi>` : "nobody in particular"} <span class="dim">${timeText(entry.recorded_at)}</span></p>
    ${entry.reason && html`<p class="failure">${told(entry.reason)}</p>`}
    <div class="tools"><button class="quiet" onClick=${() => go({ screen: "timeline", at: entry.position, view: null })}>To its event</button><button class="quiet" onClick=${() => go({ at: entry.position, view: "proof" })}>Its proof</button></div>
    <h3>Details</h3>${Object.keys(entry.details ?? {}).length ? html`<${Tree} key=${entry.id} value=${entry.details} label="Details" openLevels=${3} />` : html`<p class="dim">none</p>`}
    <dl class="facts">${rest.map((name) => html`<${Fact} key=${name} name=${name.replace("_", " ")}>${told(entry[name])}<//>`)}<${Fact} name="position">${count(entry.position)}<//><${Fact} name="entry"><bdi class="id">${shown(entry.id)}</bdi><//></dl></article>`;
}

function Steps({ checked }) {
  const { entry, holds } = checked;
  return html`<section aria-label="The check" role="status"><h3 class=${`verdict ${holds ? "good" : "bad"}`}>${holds ? "✓ Proven: this commit is in the signed history" : "✕ Not proven"}</h3>
    <ol class="checks">${checked.steps.map((step) => html`<li key=${step.title} class=${step.holds ? "good" : "bad"}><span aria-hidden="true">${step.holds ? "✓" : "✕"}</span><div><strong>${step.title}</strong><span class="sr">${step.holds ? "holds" : "fails"}</span><p><bdi>${shown(step.detail)}</bdi></p></div></li>`)}</ol>
    ${holds && entry.slices.map((slice) => html`<h3><${StreamName} name=${slice.stream} /> as it was signed</h3><pre class="signed" tabindex="0">${shown(slice.body.slice(0, 4000))}${slice.body.length > 4000 ? "…" : ""}</pre>`)}</section>`;
}

const ownKey = (text) => (text ? text.split(/\s+/).filter(Boolean).map((vkey) => ({ vkey })) : null);

function Proof() {
  const at = here.value;
  const log = useAsked(urlOf("/signed-log", {}, "main"));
  const event = useAsked(at ? urlOf(`/events/${at}`, {}, "main") : null, { keep: true }).data;
  const [checked, setChecked] = useState(null);
  const [problem, setProblem] = useState(null);
  const own = ownKey(param("vkey").value);
  const keys = own ?? log.data?.keys ?? [];
  useEffect(() => (setChecked(null), setProblem(null)), [at, param("vkey").value]);
  const fetched = () => ask(urlOf(`/proofs/${at}`, {}, "main"), { accept: "text/plain" });
  const trying = (doing) => async () => {
    setChecked(null);
    setProblem(null);
    try {
      await doing();
    } catch (error) {
      setProblem(error);
    }
  };
  const check = trying(async () => setChecked(await verified(await fetched(), keys, at)));
  const save = trying(async () => download(`${at}.tlog-proof`, "text/plain", await fetched()));
  const choose = async (event) => {
    const [file] = event.target.files;
    if (file) await trying(async () => setChecked(await verified(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer()), keys)))();
    event.target.value = "";
  };
  const latest = useRef(check);
  latest.current = check;
  useEffect(() => offer({ keys: ["c"], title: "Check the proof of this event", group: "Audit", run: () => latest.current() }), []);
  if (log.problem) return html`<${ProblemBox} problem=${log.problem} again=${log.again} />`;
  if (!log.data) return html`<${Loading} />`;
  if (!log.data.size) return html`<${Empty}><h2>Nothing is signed yet</h2><p><code>everwhen sign</code> signs what there is.</p><//>`;
  return html`<article class="detail" aria-label="Proof">
    <header><h2>Newest checkpoint</h2><button class="quiet" onClick=${trying(async () => download("checkpoint", "text/plain", await ask(urlOf("/checkpoint", {}, "main"), { accept: "text/plain" })))}>Download</button></header>
    <dl class="facts"><${Fact} name="log"><bdi>${shown(log.data.origin)}</bdi><//><${Fact} name="size">${count(log.data.size)} commits<//><${Fact} name="root"><bdi class="id">${shown(log.data.root)}</bdi><//>
      ${log.data.signed_at && html`<${Fact} name="written">${timeText(log.data.signed_at)} <span class="dim">(nobody has signed this time)</span><//>`}
      ${log.data.keys.map((one) => html`<${Fact} key=${one.vkey} name="key"><bdi class="id">${shown(one.vkey)}</bdi>${(one.first > 0 || one.last !== null) && html` <span class="dim">signs ${count(one.first)} to ${one.last === null ? "…" : count(one.last)}</span>`}<//>`)}</dl>
    <h3>Proof of the event at ${count(at ?? 0)}</h3>
    ${event && html`<p class="line"><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} /><span class="dim">${timeText(event.recorded_at)}</span></p>`}
    <form class="trust" onSubmit=${(event) => (event.preventDefault(), go({ vkey: new FormData(event.target).get("vkey").trim() || null }))}>
      <label class="field"><span class="sr">The log's public key</span><input name="vkey" key=${param("vkey").value} defaultValue=${param("vkey").value ?? ""} placeholder="A public key of the log that you have yourself: name+id+base64" autocomplete="off" spellcheck="false" /></label><button class="quiet">Trust it</button></form>
    <p class="dim">${own ? "Checked by the key that you gave." : "Checked by the keys that this server names: that shows that its log is sound, not whose it is. Give a key that you have from the log's owner to know that, too."}</p>
    <div class="tools"><button class="act" disabled=${!at} onClick=${check}>Check it in this browser</button><button class="quiet" onClick=${save}>Download it</button>
      <label class="quiet file">Check a file<input type="file" accept=".tlog-proof" onChange=${choose} /></label></div>
    ${problem && html`<${ProblemBox} problem=${problem} />`}${checked && html`<${Steps} checked=${checked} />`}</article>`;
}

function Gone() {
  const url = urlOf("/events", { type: ["HistoryRetired", "SubjectErased"], order: "backwards", limit: 200 });
  const { data, problem, again } = useAsked(url);
  if (problem) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  if (!data.events.length) return html`<${Empty}><h2>Nothing is given up</h2><p>No history was retired, and nobody was forgotten.</p><//>`;
  return html`<ul class="blame block">${data.events.map((event) => html`<li key=${event.position}><button class="step" onClick=${() => go({ screen: "timeline", at: event.position, view: null })}><span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><span class="dim">${timeText(event.recorded_at)}</span></button>
    <p>${event.type === "SubjectErased" ? html`The personal data of <bdi>${shown(event.data.subject)}</bdi> can't be read any more: its keys are destroyed.` : html`Positions ${count(event.data.first)} to ${count(event.data.last)} are no longer kept, as the store's policy says: ${count(event.data.events)} events${event.data.lost ? `; of ${count(event.data.lost)} streams no snapshot holds what they came to` : ""}.`}</p>
    ${event.user_id && html`<p class="dim">by <bdi>${shown(event.user_id)}</bdi></p>`}</li>`)}</ul>`;
}

export function Screen() {
  const found = useEntries();
  const view = param("view").value ?? "entry";
  const wanted = Number(param("entry").value);
  const chosen = useMemo(() => found.entries.find((one) => one.position === wanted) ?? found.entries[0], [found.entries.length, found.data, wanted]);
  const latest = useRef(null);
  latest.current = { found, chosen };
  const by = (steps) => () => {
    const { found, chosen } = latest.current;
    const next = found.entries[Math.max(0, found.entries.indexOf(chosen) + steps)];
    if (next) go({ entry: next.position, view: null }, { replace: true });
    else if (found.next) found.more();
  };
  useEffect(() => offer(
    { keys: ["j", "ArrowDown"], title: "Next entry", group: "Audit", run: by(1) },
    { keys: ["k", "ArrowUp"], title: "Previous entry", group: "Audit", run: by(-1) },
    { keys: ["r"], title: "Oldest first, or newest first", group: "Audit", run: () => go({ order: isForwards() ? null : "forwards", entry: null }) },
    { keys: ["o"], title: "The proof of this moment's event", group: "Audit", run: () => go({ view: "proof" }) },
    { keys: ["x"], title: "What is given up", group: "Audit", run: () => go({ view: "gone" }) },
  ), []);
  return html`<div class="panes even"><section class="pane" aria-label="Audit log"><${Asked} /><${Entries} found=${found} chosen=${chosen} /></section>
    <section class="pane side" aria-label="About it"><div class="filters"><${Choice} label="About" options=${VIEWS} value=${view} onChoose=${(view) => go({ view: view === "entry" ? null : view })} /></div>
      <div class="scrolled" tabindex="0" role="region" aria-label="Details">${view === "proof" ? html`<${Proof} />` : view === "gone" ? html`<${Gone} />` : html`<${Entry} entry=${chosen} />`}</div></section></div>`;
}
