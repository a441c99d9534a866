// A debugger of history: stops, steps both ways, values, and prints that are put in afterwards.
import { html, useEffect, useRef, useState } from "../dom.js";
import { ask, post, urlOf } from "../api.js";
import { Events } from "../components/event_detail.js";
import { Choice, Empty, Loading, ProblemBox } from "../components/parts.js";
import { SubjectChooser, subjectOf } from "../components/subject.js";
import { Tree, Value } from "../components/tree.js";
import { offer } from "../keys.js";
import { here, toast } from "../store.js";
import { count, plural, shown, timeText } from "../text.js";
import { branch, go, move, param, params } from "../url.js";

const KINDS = [["event", "event"], ["when", "condition"], ["path", "change of"]];
const HINTS = { event: "BetPlaced on game-1 if event.amount > 5", when: "balance < 0", path: "players.hedy.balance" };
const MOVES = [
  ["reverse", "⇤ Back to a stop", "C", "Back to the previous stop"],
  ["back", "◂ Back", "k", "One event back"],
  ["step", "Step ▸", "j", "One event on"],
  ["continue", "Continue ⇥", "c", "On to the next stop"],
];
const WHICH = ["next", "previous", "first", "last"];
const WRITES = [
  ["last-write", "⇤ Last write", "[", "Last write of the path before here"],
  ["next-write", "Next write ⇥", "]", "Next write of the path"],
];

/** A stop in the address is kind:text, and what it prints after =>. */
const stopOf = (text) => {
  const [, kind, rest] = /^(event|when|path):([\s\S]*)$/.exec(text) ?? [null, "event", text];
  const [what, message] = rest.split(/ => ([\s\S]*)/);
  return { [kind]: what, ...(message ? { message } : {}) };
};
const about = (subject) => ({ fold: subject.fold, ...(subject.of.stream ? { stream: subject.of.stream } : subject.of.category ? { category: subject.of.category } : {}) });

/** A session on the server, begun when it is needed: it stands where the page does, with the page's stops. */
function useSession(subject, stops, values) {
  const session = useRef({});
  const [told, setTold] = useState({ output: [], values: {} });
  const key = JSON.stringify([branch.value, about(subject)]);
  const tell = (changes) => setTold((old) => ({ ...old, ...changes }));
  const end = () => {
    if (session.current.url) fetch(session.current.url, { method: "DELETE", keepalive: true, credentials: "same-origin" }).catch(() => {});
    session.current = {};
  };
  useEffect(() => {
    setTold({ output: [], values: {} });
    addEventListener("pagehide", end);
    return () => {
      removeEventListener("pagehide", end);
      end();
    };
  }, [key]);
  const to = (what, body) => ask(new URL(`${session.current.url}/${what}`), { method: "POST", body });
  const placed = async () => {
    const of = session.current;
    if (!of.url) {
      const opened = await post("/debug-sessions", { ...about(subject), at: String(here.value) });
      Object.assign(of, { url: String(urlOf(`/debug-sessions/${opened.id}`)), stop: opened.stop, at: here.value, stops: "" });
    } else if (of.at !== here.value) Object.assign(of, { stop: (await to("moves", { move: "goto", at: String(here.value) })).stop, at: here.value });
    if (of.stops !== JSON.stringify(stops)) {
      tell({ breakpoints: (await to("breakpoints", { breakpoints: stops.map(stopOf) })).breakpoints });
      of.stops = JSON.stringify(stops);
    }
  };
  const evaluated = async () => {
    const found = {};
    for (const expression of values) found[expression] = await to("evaluations", { expression }).catch((problem) => ({ problem }));
    return found;
  };
  const run = async (doing) => {
    if (session.current.isBusy) return;
    const of = session.current;
    of.isBusy = true;
    tell({ problem: null, busy: true });
    try {
      await placed();
      await doing?.();
      tell({ stop: of.stop, values: await evaluated() });
    } catch (problem) {
      if (problem.status === 404) session.current = {};
      tell({ problem });
    }
    of.isBusy = false;
    tell({ busy: false });
  };
  const moved = (given) => run(async () => {
    const found = await to("moves", given);
    setTold((old) => ({ ...old, output: [...old.output, ...found.output].slice(-500) }));
    if (!found.stop) return toast("There is no such place", "", "done");
    Object.assign(session.current, { stop: found.stop, at: found.stop.position });
    move(String(found.stop.position));
  });
  useEffect(() => {
    if (here.value !== null && here.value !== session.current.at) run();
  }, [here.value, key]);
  useEffect(() => {
    if (session.current.url) run();
  }, [JSON.stringify([stops, values])]);
  return { ...told, moved };
}

function Adding({ label, hint, button, id, onAdd, children }) {
  const add = (event) => {
    event.preventDefault();
    const text = event.target.elements.text.value.trim();
    if (text) onAdd(text, event.target.elements);
    event.target.reset();
  };
  return html`<form class="trust" onSubmit=${add}>${children}<label class="field"><span class="sr">${label}</span><input name="text" id=${id} placeholder=${hint} autocomplete="off" spellcheck="false" /></label><button class="quiet">${button}</button></form>`;
}

/** To where a condition holds, or a path is written. */
function Seeking({ busy, onMove }) {
  const [which, setWhich] = useState(WHICH[0]);
  const input = useRef(null);
  const sought = () => {
    const text = input.current.value.trim();
    if (text) go({ seek: text });
    else input.current.focus();
    return text;
  };
  const find = (event) => {
    event.preventDefault();
    const expression = sought();
    if (expression) onMove({ move: "find", expression, which });
  };
  const write = (move) => {
    const path = sought();
    if (path) onMove({ move, path });
  };
  const latest = useRef(write);
  latest.current = write;
  useEffect(() => offer(
    { keys: ["f"], title: "Find where a condition holds", group: "Debugger", run: () => input.current.focus() },
    ...WRITES.map(([move, , key, title]) => ({ keys: [key], title, group: "Debugger", run: () => latest.current(move) })),
  ), []);
  return html`<form class="trust seek" onSubmit=${find}><label class="field"><span class="sr">A condition or a path</span><input ref=${input} name="seek" key=${param("seek").value} defaultValue=${param("seek").value ?? ""} placeholder="balance < 0, or a path such as balance" autocomplete="off" spellcheck="false" /></label>
    <select aria-label="Which" onChange=${(event) => setWhich(event.target.value)}>${WHICH.map((one) => html`<option key=${one} selected=${one === which}>${one}</option>`)}</select><button class="quiet" disabled=${busy} title="Find where the condition holds (f)">Find</button>
    ${WRITES.map(([move, words, key, title]) => html`<button type="button" class="quiet" disabled=${busy} title=${`${title} (${key})`} onClick=${() => write(move)}>${words}</button>`)}</form>`;
}

const without = (name, one) => go({ [name]: params(name).filter((other) => other !== one) });
const Remove = ({ name, one }) => html`<button class="quiet" aria-label=${`Remove ${shown(one)}`} onClick=${() => without(name, one)}>remove</button>`;

function Stops({ stops, hits }) {
  const [kind, setKind] = useState("event");
  const add = (text, { message }) => go({ break: [...new Set([...stops, `${kind}:${text}${message.value.trim() ? ` => ${message.value.trim()}` : ""}`])] });
  return html`<h2 class="over">Stops</h2><ul class="watches">${stops.map((one, index) => {
    const { message, ...rest } = stopOf(one);
    const [[of, what]] = Object.entries(rest);
    return html`<li key=${one} class=${hits.includes(index + 1) ? "hit" : ""}><span class="dim">${hits.includes(index + 1) ? "● " : ""}${KINDS.find(([name]) => name === of)[1]}</span><code>${shown(what)}${message && html` <span class="dim">prints</span> ${shown(message)}`}</code><${Remove} name="break" one=${one} /></li>`;
  })}</ul>
  <${Adding} id="stop" label="Where to stop" hint=${HINTS[kind]} button="Add" onAdd=${add}>
    <select aria-label="Kind of stop" onChange=${(event) => setKind(event.target.value)}>${KINDS.map(([name, words]) => html`<option value=${name} selected=${name === kind}>${words}</option>`)}</select>
    <label class="field message"><span class="sr">Print instead of stopping</span><input name="message" placeholder="prints {event.amount}, and goes on" autocomplete="off" spellcheck="false" /></label><//>`;
}

function Values({ expressions, values }) {
  return html`<h2 class="over">Values</h2><ul class="watches">${expressions.map((one) => html`<li key=${one}><code>${shown(one)}</code>
    ${values[one]?.problem ? html`<span class="failure">${shown(values[one].problem.message)}</span>` : one in values ? (values[one].value !== null && typeof values[one].value === "object" ? html`<${Tree} value=${values[one].value} label=${shown(one)} />` : html`<${Value} value=${values[one].value} />`) : html`<span class="dim">…</span>`}<${Remove} name="eval" one=${one} /></li>`)}</ul>
  <${Adding} id="value" label="A path or an expression" hint="A path or an expression" button="Evaluate" onAdd=${(text) => go({ eval: [...new Set([...expressions, text])] })} />`;
}

/** What an expression would have printed after each event, had it been there. */
function Prints({ subject }) {
  const expression = param("print").value;
  const types = params("type");
  const [found, setFound] = useState({ lines: [] });
  const key = JSON.stringify([about(subject), expression, types, branch.value]);
  const [more, setMore] = useState(0);
  useEffect(() => setMore(0), [key]);
  useEffect(() => {
    if (!expression) return;
    const abort = new AbortController();
    const before = more ? found.lines : [];
    setFound({ lines: before, loading: true });
    post("/prints", { ...about(subject), expression, types, from: more ? String(found.until) : "start", to: "head" }, { abort: abort.signal }).then(
      (answer) => setFound({ ...answer, lines: [...before, ...answer.lines.filter((line) => line.position > (before.at(-1)?.position ?? 0))] }),
      (problem) => abort.signal.aborted || setFound({ lines: before, problem }));
    return () => abort.abort();
  }, [key, more]);
  const submit = (event) => {
    event.preventDefault();
    const { text, types } = event.target.elements;
    go({ print: text.value.trim() || null, type: types.value.split(/[\s,]+/).filter(Boolean) });
  };
  return html`<form class="trust" key=${key} onSubmit=${submit}><label class="field"><span class="sr">Print what</span><input name="text" id="print" defaultValue=${expression ?? ""} placeholder="An expression, such as before.balance" autocomplete="off" spellcheck="false" /></label>
      <label class="field message"><span class="sr">After events of these types</span><input name="types" defaultValue=${types.join(" ")} placeholder="after any event" autocomplete="off" spellcheck="false" /></label><button class="act">Print</button></form>
    <p class="dim">Printed after each event, as if the line had been there all along. It knows the state, before and event.</p>
    ${found.problem && html`<${ProblemBox} problem=${found.problem} />`}
    <ul class="printed">${found.lines.map((line) => html`<li key=${line.position}><button class="step" onClick=${() => move(String(line.position))}><span class="position">${count(line.position)}</span><code>${shown(line.text)}</code></button></li>`)}</ul>
    ${found.loading ? html`<${Loading} />` : expression && !found.problem && html`<p class="dim line">${plural(found.lines.length, "line")}${found.more && html` up to ${count(found.until)} <button class="quiet" onClick=${() => setMore(more + 1)}>more</button>`}</p>`}`;
}

export function Screen() {
  const subject = subjectOf();
  const stops = params("break");
  const expressions = params("eval");
  const view = param("view").value === "print" ? "print" : "here";
  const { stop, output, values, problem, busy, moved } = useSession(subject, stops, expressions);
  const latest = useRef(moved);
  latest.current = moved;
  const focus = (id) => document.getElementById(id)?.focus();
  useEffect(() => offer(
    ...MOVES.map(([name, , key, title]) => ({ keys: key === "j" ? ["j", "ArrowDown"] : key === "k" ? ["k", "ArrowUp"] : [key], title, group: "Debugger", run: () => latest.current({ move: name }) })),
    { keys: ["b"], title: "Add a stop", group: "Debugger", run: () => focus("stop") },
    { keys: ["e"], title: "Evaluate", group: "Debugger", run: () => focus("value") },
    { keys: ["o"], title: "Print in the past", group: "Debugger", run: () => (go({ view: "print" }), requestAnimationFrame(() => focus("print"))) },
  ), []);
  return html`<div class="panes even"><section class="pane" aria-label="Stops"><${SubjectChooser} subject=${subject} />
      <div class="filters"><div class="line">${MOVES.map(([name, words, key, title]) => html`<button class="quiet" disabled=${busy} title=${`${title} (${key})`} onClick=${() => moved({ move: name })}>${words}</button>`)}</div><${Seeking} busy=${busy} onMove=${moved} /></div>
      <div class="scrolled block" tabindex="0" role="region" aria-label="Debugger">
        ${problem && html`<${ProblemBox} problem=${problem} />`}
        <div role="status">${stop && html`<p class="stopped"><strong>${shown(stop.reason)}</strong> at ${count(stop.position)} ${stop.event && html`<span class="dim">${timeText(stop.event.recorded_at)}</span>`}</p>`}${stop?.error && html`<p class="failure">${shown(stop.error)}</p>`}</div>
        ${stop?.event && html`<${Events} events=${[stop.event]} />`}
        <${Stops} stops=${stops} hits=${stop?.hits ?? []} />
        ${output.length > 0 && html`<h2 class="over">Printed</h2><ul class="printed">${output.map((line, index) => html`<li key=${index}><button class="step" onClick=${() => move(String(line.position))}><span class="position">${count(line.position)}</span><code>${shown(line.text)}</code></button></li>`)}</ul>`}
      </div></section>
    <section class="pane side" aria-label="Values and prints"><div class="filters"><${Choice} label="About" options=${[["here", "Values here"], ["print", "Print in the past"]]} value=${view} onChoose=${(view) => go({ view: view === "here" ? null : view })} /></div>
      <div class="scrolled block" tabindex="0" role="region" aria-label="Details">${view === "print" ? html`<${Prints} subject=${subject} />` : html`<${Values} expressions=${expressions} values=${values} />${expressions.length === 0 && html`<${Empty}>What is evaluated here is evaluated anew at each stop.<//>`}`}</div></section></div>`;
}
