// Two branches beside one another: what only one of them has, and the states that came of it.
import { html, useState } from "../dom.js";
import { urlOf, useAsked } from "../api.js";
import { count, plural, shown } from "../text.js";
import { EventLinks } from "./branch_details.js";
import { Empty, Loading, ProblemBox } from "./parts.js";
import { written } from "./plans.js";
import { StatePair } from "./state_pair.js";
import { SubjectChooser, subjectOf } from "./subject.js";

const MOST = 1000;

function Side({ name, events, more, mark, onMore }) {
  return html`<section class="half" aria-label=${`Only on ${shown(name)}`}><h2 class="minor">only on <bdi>${shown(name)}</bdi> <small>${count(events.length + more)}</small></h2>
    <div class="scrolled" tabindex="0" role="region" aria-label=${`Events only on ${shown(name)}`}>
      ${events.length ? html`<${EventLinks} events=${events} of=${name} mark=${mark} label=${`Events only on ${shown(name)}`} />` : html`<p class="dim nothing">Nothing: it ends where they part.</p>`}
      ${more > 0 && html`<p class="dim nothing">and ${plural(more, "other")} ${onMore && html`<button class="quiet" onClick=${onMore}>Show more</button>`}</p>`}</div></section>`;
}

/** The events that only one of two branches has. */
export function EventsCompared({ one, other }) {
  const [limit, setLimit] = useState(50);
  const { data, problem, again } = useAsked(urlOf("/compare", { with: other.name, limit }, one.name) + `#${written.value}`);
  if (problem) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  const first = data.first_divergence;
  const words = first ? (first.here !== null && first.there !== null ? html`They tell the same until ${count(Math.min(first.here, first.there))}, and differ there for the first time.` : html`Only <bdi>${shown(first.here === null ? other.name : one.name)}</bdi> goes on after that.`) : "Event by event, they tell the same.";
  const onMore = limit < MOST ? () => setLimit(MOST) : null;
  return html`<div class="pair-head line"><span role="status">Both share everything up to position <b>${count(data.shared_until)}</b>. ${words}</span></div>
    ${!data.only_here.length && !data.only_there.length ? html`<${Empty}><h2>They are the same</h2><p>Neither branch has an event that the other one hasn't.</p><//>`
      : html`<div class="halves">
        <${Side} name=${one.name} events=${data.only_here} more=${data.more_here} mark=${first?.here} onMore=${onMore} />
        <${Side} name=${other.name} events=${data.only_there} more=${data.more_there} mark=${first?.there} onMore=${onMore} /></div>`}`;
}

/** The states of two branches at their ends. */
export function StatesCompared({ one, other }) {
  const subject = subjectOf();
  const path = `/states/${encodeURIComponent(subject.fold)}`;
  const newest = `#${written.value}`;
  const here = useAsked(urlOf(path, { ...subject.of, max_entries: 200 }, one.name) + newest);
  const there = useAsked(urlOf(path, { ...subject.of, max_entries: 200 }, other.name) + newest);
  const diff = useAsked(urlOf(path + "/diff", { ...subject.of, from: "head", to: "head", other_branch: other.name }, one.name) + newest);
  const asked = [here, there, diff];
  const problem = asked.find((each) => each.problem);
  const side = (lane, found) => ({ value: found.data.state, label: `State on ${shown(lane.name)}`, title: html`<bdi>${shown(lane.name)}</bdi>`, note: `at ${count(found.data.position)}` });
  const cut = new Map(asked.slice(0, 2).flatMap((each) => each.data?.cut ?? []).map((each) => [each.path, each.entries]));
  return html`<${SubjectChooser} subject=${subject} />
    ${problem ? html`<${ProblemBox} problem=${problem.problem} again=${problem.again} />`
      : asked.some((each) => !each.data) ? html`<${Loading} />`
      : html`<${StatePair} name=${subject.fold + (subject.of.stream ?? "") + one.name + other.name} before=${side(one, here)} after=${side(other, there)} changes=${diff.data.changes} more=${diff.data.more_changes} cut=${cut} none="The states are the same." />`}`;
}
