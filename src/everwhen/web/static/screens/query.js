// Questions: SQL over all events, or an expression about a state. The question is in the address.
import { html, useEffect, useRef, useState } from "../dom.js";
import { post } from "../api.js";
import { lacks } from "../components/allowed.js";
import { csvOf, download } from "../components/downloads.js";
import { Choice, CopyButton, Empty, Loading, ProblemBox, useSize } from "../components/parts.js";
import { SubjectChooser, subjectOf } from "../components/subject.js";
import { Tree, Value } from "../components/tree.js";
import { offer } from "../keys.js";
import { overview } from "../store.js";
import { brief, count, plural, shown } from "../text.js";
import { branch, go, param } from "../url.js";

const ROW = 26;
const LIMITS = ["100", "1000", "10000"];
const EXAMPLES = {
  sql: [
    ["events of each type", "SELECT type, count(*) AS events, max(recorded_at) AS newest\nFROM events GROUP BY type ORDER BY events DESC"],
    ["the busiest streams", "SELECT stream, max(version) AS version, count(DISTINCT commit_id) AS commits\nFROM events GROUP BY stream ORDER BY version DESC"],
    ["by the minute", "SELECT date_trunc('minute', recorded_at) AS minute, count(*) AS events\nFROM events GROUP BY minute ORDER BY minute"],
    ["what columns there are", "DESCRIBE events"],
  ],
  cel: [["the whole state", "state"], ["how many parts it has", "size(state)"]],
};

/** Asks when there is a new question; the older answer is forgotten. */
function useAnswer(path, asked) {
  const [found, setFound] = useState({});
  const [round, setRound] = useState(0);
  const key = asked && JSON.stringify([path, branch.value, asked]);
  useEffect(() => {
    if (!key) return setFound({});
    const abort = new AbortController();
    setFound((old) => ({ ...old, problem: null, loading: true }));
    post(path, asked, { abort: abort.signal }).then(
      (answer) => setFound({ answer, of: key }),
      (problem) => abort.signal.aborted || setFound({ problem, of: key }),
    );
    return () => abort.abort();
  }, [key, round]);
  return { ...found, again: () => setRound(round + 1) };
}

const isNumber = (type) => /^(u?int|float|double|half|decimal)/.test(type);

/** Rows in a table of which only those in sight are drawn; arrows go from cell to cell. */
function Rows({ columns, rows }) {
  const [box, size] = useSize();
  const [top, setTop] = useState(0);
  const [cell, setCell] = useState([0, 0]);
  useEffect(() => {
    setCell([0, 0]);
    box.current.scrollTop = 0;
  }, [rows]);
  const first = Math.max(0, Math.floor(top / ROW) - 15);
  const last = Math.min(rows.length, Math.ceil((top + (size.height || 500)) / ROW) + 15);
  const [y, x] = cell;
  const value = rows[y]?.[x];
  const toEvent = columns[x]?.name === "position" && Number.isInteger(value);
  const choose = (row, column) => {
    const to = [Math.max(0, Math.min(rows.length - 1, row)), Math.max(0, Math.min(columns.length - 1, column))];
    setCell(to);
    const element = box.current;
    if (to[0] * ROW < element.scrollTop) element.scrollTop = to[0] * ROW;
    else if ((to[0] + 3) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (to[0] + 3) * ROW - element.clientHeight;
    requestAnimationFrame(() => document.getElementById(`cell-${to[0]}-${to[1]}`)?.scrollIntoView({ block: "nearest", inline: "nearest" }));
  };
  const onKeyDown = (event) => {
    const to = { ArrowDown: [y + 1, x], ArrowUp: [y - 1, x], ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1], PageDown: [y + 20, x], PageUp: [y - 20, x], Home: [0, x], End: [rows.length - 1, x] }[event.key];
    if (event.key === "Enter" && toEvent) go({ screen: "timeline", at: value, view: null });
    else if (to) choose(...to);
    else return;
    event.preventDefault();
  };
  const onClick = (event) => {
    const found = event.target.closest("td")?.id.split("-");
    if (found) choose(Number(found[1]), Number(found[2]));
  };
  return html`<div class="scrolled" ref=${box} tabindex="0" role="region" aria-label="Rows" aria-describedby="cell" onScroll=${(event) => setTop(event.target.scrollTop)} onKeyDown=${onKeyDown} onClick=${onClick}>
    <table class="grid rows"><caption class="sr">${plural(rows.length, "row")}</caption>
      <thead><tr>${columns.map((column) => html`<th scope="col" class=${isNumber(column.type) ? "number" : ""}><bdi>${shown(column.name)}</bdi> <small>${shown(column.type)}</small></th>`)}</tr></thead>
      <tbody>${first > 0 && html`<tr aria-hidden="true" style=${{ height: `${first * ROW}px` }}><td colspan=${columns.length}></td></tr>`}
      ${rows.slice(first, last).map((row, index) => html`<tr key=${first + index} class=${first + index === y ? "on" : ""}>${row.map((part, column) => html`<td id=${`cell-${first + index}-${column}`} class=${`${isNumber(columns[column].type) ? "number" : ""} ${first + index === y && column === x ? "cell" : ""}`}>
        ${part === null ? html`<span class="dim">null</span>` : html`<bdi>${typeof part === "string" ? shown(part.slice(0, 160)) + (part.length > 160 ? "…" : "") : brief(part, 160)}</bdi>`}</td>`)}</tr>`)}
      ${last < rows.length && html`<tr aria-hidden="true" style=${{ height: `${(rows.length - last) * ROW}px` }}><td colspan=${columns.length}></td></tr>`}</tbody></table></div>
    <div class="whole" id="cell" tabindex="0" role="region" aria-label="Cell"><span class="line"><bdi class="path">${shown(columns[x]?.name ?? "")}</bdi>${rows.length > 0 && html`<span class="dim">row ${count(y + 1)}</span>`}${toEvent && html`<button class="quiet" onClick=${() => go({ screen: "timeline", at: value, view: null })}>to the event</button>`}</span>
      ${value !== undefined && (typeof value === "string" ? html`<pre>${shown(value).replaceAll("\\n", "\n")}</pre>` : value !== null && typeof value === "object" ? html`<pre>${shown(JSON.stringify(value, null, 1)).replaceAll("\\n", "\n")}</pre>` : html`<${Value} value=${value} />`)}</div>`;
}

function Answer({ lang, found }) {
  const { answer } = found;
  if (found.problem) return html`<${ProblemBox} problem=${found.problem} again=${found.again} />`;
  if (!answer) return found.loading ? html`<${Loading}>Asking…<//>` : html`<${Empty}><h2>Ask anything</h2><p>${lang === "sql" ? "All events are the table events." : "An expression in CEL about the state at the moment."}</p><//>`;
  const json = (value) => [JSON.stringify(value, null, 1) + "\n"];
  if (lang === "cel" && "value" in answer) return html`<div class="filters"><div class="line"><span>at position ${count(answer.position)}</span><span class="space"></span>
      <${CopyButton} what="the value" text=${() => JSON.stringify(answer.value, null, 1)}>copy<//><button class="quiet" onClick=${() => download("value.json", "application/json", ...json(answer.value))}>JSON</button></div></div>
    ${answer.value !== null && typeof answer.value === "object" && Object.keys(answer.value).length ? html`<${Tree} value=${answer.value} label="Value" openLevels=${2} />` : html`<div class="block single"><${Value} value=${answer.value} limit=${4000} /></div>`}`;
  if (!answer.rows) return null;
  const names = answer.columns.map((column) => column.name);
  return html`<div class="filters"><div class="line" role="status"><span>${plural(answer.rows.length, "row")}${answer.more ? ", and there are more" : ""} <span class="dim">in ${answer.seconds.toFixed(2)} s</span></span><span class="space"></span>
      <button class="quiet" onClick=${() => download("rows.csv", "text/csv", csvOf(names, answer.rows))}>CSV</button>
      <button class="quiet" onClick=${() => download("rows.json", "application/json", ...json(answer.rows.map((row) => Object.fromEntries(row.map((value, index) => [names[index], value])))))}>JSON</button></div></div>
    ${answer.rows.length ? html`<${Rows} columns=${answer.columns} rows=${answer.rows} />` : html`<${Empty}><h2>No rows</h2><//>`}`;
}

export function Screen() {
  const lang = param("view").value === "cel" ? "cel" : "sql";
  const asked = param("q").value;
  const most = LIMITS.includes(param("rows").value) ? param("rows").value : "1000";
  const subject = subjectOf();
  const [text, setText] = useState(asked ?? "");
  useEffect(() => setText(asked ?? ""), [asked, lang]);
  const reason = lacks("sql") ?? (lang === "sql" && overview.value.capabilities.sql === false ? "This store can't be asked in SQL." : null);
  const statement = reason ? null : asked;
  const found = useAnswer(`/queries/${lang}`, statement ? (lang === "sql" ? { statement, max_rows: Number(most) } : { expression: statement, fold: subject.fold, at: param("at").value ?? "head", ...(subject.of.stream ? { stream: subject.of.stream } : subject.of.category ? { category: subject.of.category } : {}) }) : null);
  const run = (event) => {
    event?.preventDefault();
    if (text.trim() === asked) found.again();
    else go({ q: text.trim() || null });
  };
  const field = useRef(null);
  useEffect(() => offer({ keys: ["q", "/"], title: "Write a question", group: "Query", run: () => field.current?.focus() }), []);
  return html`<div class="panes one"><section class="pane" aria-label="Query">
    ${lang === "cel" && html`<${SubjectChooser} subject=${subject} />`}
    <form class="console" onSubmit=${run}>
      <textarea ref=${field} aria-label=${lang === "sql" ? "Statement in SQL" : "Expression in CEL"} rows=${lang === "sql" ? 4 : 2} spellcheck="false" value=${text} disabled=${Boolean(reason)} onInput=${(event) => setText(event.target.value)}
        onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && run(event)} placeholder=${lang === "sql" ? "SELECT type, count(*) FROM events GROUP BY type" : "state.balance > 100"}></textarea>
      <div class="line">
        <${Choice} label="Language" options=${[["sql", "SQL"], ["cel", "CEL"]]} value=${lang} onChoose=${(lang) => go({ view: lang === "sql" ? null : lang, q: null })} />
        ${lang === "sql" && html`<label class="named"><span>at most</span><select aria-label="At most so many rows" onChange=${(event) => go({ rows: event.target.value === "1000" ? null : event.target.value })}>${LIMITS.map((one) => html`<option value=${one} selected=${one === most}>${count(Number(one))} rows</option>`)}</select></label>`}
        <span class="dim">${lang === "sql" ? "30 s, 512 MiB of memory, 16 MiB of answer; nothing can be written" : "a million steps, 16 MiB of answer"}</span><span class="space"></span>
        <button class="act" disabled=${Boolean(reason) || !text.trim()}>${found.loading ? "Asking…" : "Run"}</button><kbd>Ctrl ↵</kbd></div>
      ${reason ? html`<p class="reasons">${reason}</p>` : html`<div class="examples">${EXAMPLES[lang].map(([words, example]) => html`<button type="button" class="quiet" onClick=${() => go({ q: example })}>${words}</button>`)}</div>`}
    </form>
    <${Answer} lang=${lang} found=${found} /></section></div>`;
}
