// What merging a branch would do, commit by commit; and then that very plan, done.
import { html } from "../dom.js";
import { ask, urlOf } from "../api.js";
import { toast } from "../store.js";
import { brief, count, plural, shown } from "../text.js";
import { go, param } from "../url.js";
import { lacks } from "./allowed.js";
import { Choice, Empty, Link, Loading, ProblemBox, StreamName, TypeName } from "./parts.js";
import { useCarriedOut, usePosted, written } from "./plans.js";
import { Value } from "./tree.js";

const OUTCOMES = { same: ["✓", "as it was"], redecided: ["~", "decided again"], rejected: ["!", "refused now"], conflict: ["≠", "in conflict"] };
const STRATEGIES = [["fail", "Ask me"], ["ours", "Leave out"], ["theirs", "Take as they were"], ["redecide", "Decide again"]];
const meaning = (strategy, from, into) => ({
  fail: "Commits that don't come out the same are for you to settle; nothing is merged before that.",
  ours: html`Commits that don't come out the same are left out: <bdi>${shown(into)}</bdi> stays as it is there.`,
  theirs: html`Commits that don't come out the same are taken over as they were on <bdi>${shown(from)}</bdi>.`,
  redecide: html`Commands are decided again on <bdi>${shown(into)}</bdi> as it is now; one that is refused there is left out.`,
})[strategy];

function Conflicts({ item, from, into }) {
  return html`<div class="sideways" tabindex="0" role="region" aria-label=${`Conflicts of position ${item.position}`}><table class="conflicts"><thead><tr><th>changed by both</th><th>where they parted</th><th>now on <bdi>${shown(into)}</bdi></th><th>on <bdi>${shown(from)}</bdi></th></tr></thead>
    <tbody>${item.conflicts.slice(0, 50).map((one) => html`<tr key=${one.path}><th scope="row"><bdi class="path">${shown(one.path) || "the state"}</bdi></th><td><${Value} value=${one.base} limit=${80} /></td><td><${Value} value=${one.ours} limit=${80} /></td><td><${Value} value=${one.theirs} limit=${80} /></td></tr>`)}</tbody></table>
    ${item.conflicts.length > 50 && html`<p class="dim">and ${plural(item.conflicts.length - 50, "other part")}</p>`}</div>`;
}

function Item({ item, from, into }) {
  const [sign, word] = OUTCOMES[item.outcome];
  return html`<li class=${`planned ${item.outcome} ${item.is_settled ? "" : "unsettled"}`}>
    <p class="line"><span class=${`outcome ${item.outcome}`}><span aria-hidden="true">${sign}</span> ${word}</span>
      <${Link} class="position" to=${{ branch: from, screen: "timeline", at: item.position, view: null }}>${count(item.position)}<//>
      ${item.command ? html`<bdi class="type">${shown(item.command)}</bdi>` : html`<span class="dim">no command, only events</span>`}
      ${!item.is_settled && html`<strong class="warns">needs your decision</strong>`}</p>
    ${item.reason && !item.conflicts.length && html`<p class="reason">${shown(item.reason)}</p>`}
    ${item.conflicts.length > 0 && html`<${Conflicts} item=${item} from=${from} into=${into} />`}
    ${item.writes.length > 0 ? html`<ul class="writes">${item.writes.slice(0, 20).map((one) => html`<li><span class="sign" aria-hidden="true">+</span><${TypeName} name=${one.type} /><${StreamName} name=${one.stream} /><bdi class="value">${brief(one.data, 100)}</bdi></li>`)}${item.writes.length > 20 && html`<li class="dim">and ${plural(item.writes.length - 20, "other event")}</li>`}</ul>`
      : item.is_settled && html`<p class="dim">Nothing of it is written.</p>`}</li>`;
}

/** Why it can't go on, in words that say what to do. */
function Unsettled({ plan, from, into, onChoose }) {
  return html`<div class="notice" role="status"><strong>${plan.unsettled === 1 ? "One commit needs" : `${plural(plan.unsettled, "commit")} need`} your decision</strong>
    <p>Since the two parted, <bdi>${shown(into)}</bdi> has changed, and what <bdi>${shown(from)}</bdi> did there no longer comes out the same. Nothing has been written, and nothing is lost. Choose what happens to ${plan.unsettled === 1 ? "it" : "them"}, and look at the plan again:</p>
    <p class="line">${STRATEGIES.slice(1).map(([name, title]) => html`<button class="quiet" onClick=${() => onChoose(name)}>${title}</button>`)}</p></div>`;
}

function Counts({ plan }) {
  return html`<span class="counts">${Object.entries(plan.counts).map(([name, many]) => html`<span class=${`outcome ${name}`}><span aria-hidden="true">${OUTCOMES[name][0]}</span> ${count(many)} ${OUTCOMES[name][1]}</span>`)}</span>`;
}

/** Merging `one` into `other`. */
export function MergeView({ one, other }) {
  const strategy = param("strategy").value ?? "fail";
  const reason = lacks("operate");
  const choose = (name) => go({ strategy: name === "fail" ? null : name });
  const url = urlOf("/merges", {}, one.name);
  const asked = { into: other.name, strategy };
  const { data: plan, problem, loading, again } = usePosted(reason ? null : `${url}#${written.value}`, { ...asked, dry_run: true, limit: 200 });
  const writes = plan?.items.some((item) => item.writes.length) || plan?.more > 0;
  const { run, working, done, failed, clear } = useCarriedOut(async () => {
    const receipt = await ask(url, { method: "POST", body: { ...asked, plan: plan.id } });
    toast(receipt ? `${one.name} is merged into ${other.name}` : "There was nothing to write", "", "done");
    return { receipt, from: one.name, into: other.name };
  });
  const lookAgain = () => {
    clear();
    again();
  };
  if (reason) return html`<${Empty}><h2>You can look, but not merge</h2><p>${reason}</p><p>“Compare events” and “Compare states” show what a merge would be about.</p><//>`;
  const isDone = done && done.from === one.name && done.into === other.name;
  return html`<div class="pair-head line">
      <span>what doesn't come out the same</span><${Choice} label="What doesn't come out the same" options=${STRATEGIES} value=${strategy} onChoose=${choose} />
      <span class="dim meaning">${meaning(strategy, one.name, other.name)}</span></div>
    <div class="scrolled" tabindex="0" role="region" aria-label="Plan of the merge"><div class="block">
      ${isDone && html`<div class="notice done" role="status"><strong><bdi>${shown(one.name)}</bdi> is merged into <bdi>${shown(other.name)}</bdi></strong>
        ${done.receipt ? html`<p>All of it is one commit, which ends at position <${Link} to=${{ branch: other.name, screen: "timeline", at: done.receipt.position, view: null }}>${count(done.receipt.position)}<//>.</p>` : html`<p>Nothing had to be written.</p>`}</div>`}
      ${failed && html`<${ProblemBox} problem=${failed} again=${lookAgain} />`}
      ${problem ? html`<${ProblemBox} problem=${problem} again=${again} />` : loading || !plan ? html`<${Loading}>Planning…<//>`
        : !plan.items.length ? html`<${Empty}><h2>Nothing to merge</h2><p><bdi>${shown(other.name)}</bdi> has all that was written on <bdi>${shown(one.name)}</bdi>.</p><//>`
        : html`<p class="line"><b>${plural(plan.items.length + plan.more, "commit")}</b><${Counts} plan=${plan} /><span class="space"></span>
            <button class="act" disabled=${working || plan.unsettled > 0 || !writes} onClick=${run}>${working ? "Merging…" : html`Merge into <bdi>${shown(other.name)}</bdi> as planned`}</button></p>
          ${plan.unsettled > 0 && html`<${Unsettled} plan=${plan} from=${one.name} into=${other.name} onChoose=${choose} />`}
          ${plan.unsettled === 0 && !writes && html`<div class="notice"><strong>Nothing would be written</strong><p>Every commit is left out, so there is nothing to merge this way.</p></div>`}
          <ol class="plan" aria-label="Commits">${[...plan.items].sort((a, b) => a.is_settled - b.is_settled).map((item) => html`<${Item} key=${item.commit_id} item=${item} from=${one.name} into=${other.name} />`)}</ol>
          ${plan.more > 0 && html`<p class="dim">and ${plural(plan.more, "other commit")}</p>`}`}
    </div></div>`;
}
