// What happened, and what it changed: history in a strip, events around the moment, the moment itself.
import { html, useEffect, useRef } from "../dom.js";
import { offer } from "../keys.js";
import { here } from "../store.js";
import { EventDetail } from "../components/event_detail.js";
import { Filters, filtersOf } from "../components/filters.js";
import { EventList, stepIn } from "../components/event_list.js";
import { useEventWindow } from "../components/event_window.js";

/** Keys that step through a list of events. */
export function useSteps(found) {
  const latest = useRef(found);
  latest.current = found;
  const by = (steps, byCommit) => () => stepIn(latest.current, steps, byCommit);
  useEffect(() => offer(
    { keys: ["j", "ArrowDown"], title: "Next event", group: "Events", run: by(1) },
    { keys: ["k", "ArrowUp"], title: "Previous event", group: "Events", run: by(-1) },
    { keys: ["J"], title: "Next commit", group: "Events", run: by(1, true) },
    { keys: ["K"], title: "Previous commit", group: "Events", run: by(-1, true) },
    { keys: ["PageDown"], title: "20 events on", group: "Events", run: by(20) },
    { keys: ["PageUp"], title: "20 events back", group: "Events", run: by(-20) },
  ), []);
}

export const matesOf = ({ events, index }) => events.filter((event) => event !== events[index] && event.commit_id === events[index]?.commit_id);

export function Screen() {
  const found = useEventWindow(filtersOf(), here.value);
  useSteps(found);
  return html`<div class="panes">
    <section class="pane" aria-label="Events"><${Filters} /><${EventList} found=${found} /></section>
    <section class="pane side" aria-label="The event"><div class="scrolled" tabindex="0" role="region" aria-label="Event"><${EventDetail} event=${found.events[found.index]} mates=${matesOf(found)} /></div></section>
  </div>`;
}
