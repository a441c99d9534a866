// Branches as lanes; one of them looked at, two compared, one merged into another; events undone.
import { html, useLayoutEffect, useMemo, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { BranchGraph, lanesOf } from "../components/branch_graph.js";
import { BranchDetails, DeleteBranch, MakeBranch } from "../components/branch_details.js";
import { EventsCompared, StatesCompared } from "../components/branch_compare.js";
import { MergeView } from "../components/merge_plan.js";
import { lacks } from "../components/allowed.js";
import { Choice, Empty, Loading, ProblemBox } from "../components/parts.js";
import { written } from "../components/plans.js";
import { UndoView } from "../components/undo_plan.js";
import { offer } from "../keys.js";
import { head, toast } from "../store.js";
import { shown } from "../text.js";
import { branch, go, param } from "../url.js";

const VIEWS = [["branch", "Branch"], ["events", "Compare events"], ["states", "Compare states"], ["merge", "Merge"], ["undo", "Undo"]];
const ROOT = "main";

/** Which two branches are meant: the one that was picked, and one to compare it with. */
function pickedOf(lanes) {
  const find = (wanted) => lanes.find((lane) => lane.name === wanted);
  const one = find(param("pick").value) ?? find(branch.value) ?? lanes[0];
  const other = [find(param("with").value), find(one.parent), lanes.find((lane) => lane.parent === one.name), lanes[0]].find((lane) => lane && lane !== one);
  return { one, other };
}

const Names = ({ label, lanes, value, onChoose }) => html`<select aria-label=${label} onChange=${(event) => onChoose(event.target.value)}>
  ${lanes.map((lane) => html`<option key=${lane.name} value=${lane.name} selected=${lane.name === value}>${shown(lane.name)}</option>`)}</select>`;

function Pair({ view, one, other, lanes }) {
  const words = view === "merge" ? ["merge", "into"] : ["compare", "with"];
  return html`<span class="pair-names">${words[0]} <${Names} label="Branch" lanes=${lanes} value=${one.name} onChoose=${(name) => go({ pick: name, ...(name === other.name ? { with: one.name } : {}) })} />
    ${words[1]} <${Names} label="Other branch" lanes=${lanes.filter((lane) => lane !== one)} value=${other.name} onChoose=${(name) => go({ with: name })} />
    <button class="quiet" title="Swap them (x)" onClick=${() => go({ pick: other.name, with: one.name })}>⇄<span class="sr">Swap them</span></button></span>`;
}

function Contents({ view, one, other, lanes, merges, ...on }) {
  if (view === "undo") return html`<${UndoView} />`;
  if (view === "branch") return html`<${BranchDetails} lane=${one} lanes=${lanes} merges=${merges} ...${on} />`;
  if (!other) return html`<${Empty}><h2>There is one branch only</h2><p>Make another one, to have two to compare.</p><//>`;
  const key = `${one.name}/${other.name}`;
  if (view === "merge") return html`<${MergeView} key=${key} one=${one} other=${other} />`;
  return view === "states" ? html`<${StatesCompared} one=${one} other=${other} />` : html`<${EventsCompared} key=${key} one=${one} other=${other} />`;
}

export function Screen() {
  const newest = `#${written.value}`;
  const { data, problem, again } = useAsked(urlOf("/branches", {}, ROOT) + newest);
  const merges = useAsked(urlOf("/merges", {}, ROOT) + newest).data?.merges ?? [];
  const [asks, setAsks] = useState(null);
  const lanes = useMemo(() => data && lanesOf({ name: ROOT, head: branch.value === ROOT ? Math.max(data.head, head.value.position) : data.head }, data.branches), [data, head.value, branch.value]);
  const view = VIEWS.some(([name]) => name === param("view").value) ? param("view").value : "branch";
  const { one, other } = lanes ? pickedOf(lanes) : {};
  const choose = (name) => go({ pick: name === branch.value ? null : name, ...(name === other?.name ? { with: null } : {}) }, { replace: true });
  const open = (name) => go({ branch: name, pick: null, at: null });
  const show = (view) => go({ view: view === "branch" ? null : view });
  const asksFor = (what) => () => {
    const reason = lacks("operate");
    if (reason) toast("You can't change branches", reason);
    else if (what === "make" || one?.parent !== undefined) setAsks(what);
  };
  const index = lanes ? lanes.indexOf(one) : -1;
  useLayoutEffect(() => {
    const stepped = (by) => () => lanes?.[index + by] && choose(lanes[index + by].name);
    return offer(
      ...(view === "undo" ? [] : [{ keys: ["j", "ArrowDown"], title: "Next branch", group: "Branches", run: stepped(1) }, { keys: ["k", "ArrowUp"], title: "Previous branch", group: "Branches", run: stepped(-1) }]),
      { keys: ["o"], title: "Go to the branch", group: "Branches", run: () => one && open(one.name) },
      { keys: ["i"], title: "About the branch", group: "Branches", run: () => show("branch") },
      { keys: ["c"], title: "Compare events of two branches", group: "Branches", run: () => show("events") },
      { keys: ["s"], title: "Compare states of two branches", group: "Branches", run: () => show("states") },
      { keys: ["m"], title: "Plan a merge", group: "Branches", run: () => show("merge") },
      { keys: ["u"], title: "Plan an undo of the event", group: "Branches", run: () => show("undo") },
      { keys: ["x"], title: "Swap the two branches", group: "Branches", run: () => other && go({ pick: other.name, with: one.name }) },
      { keys: ["n"], title: "New branch at this moment", group: "Branches", run: asksFor("make") },
      { keys: ["Delete"], title: "Delete the branch", group: "Branches", run: asksFor("delete") },
    );
  });
  if (problem && !data) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!lanes) return html`<${Loading} />`;
  return html`<${BranchGraph} lanes=${lanes} merges=${merges} chosen=${one.name} other=${["events", "states", "merge"].includes(view) ? other?.name : null} onChoose=${choose} onOpen=${open} />
    <section class="pane under" aria-label="About branches">
      <div class="filters line"><${Choice} label="About branches" options=${VIEWS} value=${view} onChoose=${show} />
        ${other && ["events", "states", "merge"].includes(view) && html`<${Pair} view=${view} one=${one} other=${other} lanes=${lanes} />`}</div>
      <${Contents} view=${view} one=${one} other=${other} lanes=${lanes} merges=${merges} onMake=${asksFor("make")} onDelete=${asksFor("delete")} onOpen=${open} />
    </section>
    ${asks === "make" && html`<${MakeBranch} onClose=${() => setAsks(null)} />`}
    ${asks === "delete" && html`<${DeleteBranch} lane=${one} lanes=${lanes} onClose=${() => setAsks(null)} />`}`;
}
