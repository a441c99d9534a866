// A window of events around a moment: never the whole list. It grows at its ends and forgets beyond.
import { useEffect, useMemo, useRef, useState } from "../dom.js";
import { ask, urlOf } from "../api.js";
import { head } from "../store.js";
import { branch } from "../url.js";

const SPAN = 50;
const MOST = 130; // rows, of some 20 elements each

class EventWindow {
  constructor(filters, of, most, changed) {
    this.most = most;
    this.span = Math.min(SPAN, most >> 1);
    this.filters = filters;
    this.of = of;
    this.changed = changed;
    this.events = [];
    this.from = null; // nothing that matches is missing between these two positions
    this.to = null;
    this.atStart = this.atEnd = false;
    this.problem = null;
    this.loading = null;
    this.abort = null;
  }

  page(options, abort) {
    return ask(urlOf("/events", { ...this.filters, ...options, limit: this.span }, this.of), { abort: abort.signal });
  }

  async run(what, work) {
    if (this.loading === what && what !== "around") return;
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    this.loading = what;
    try {
      await work(abort);
      if (abort.signal.aborted) return;
      this.problem = null;
    } catch (problem) {
      if (problem.name === "AbortError" || abort.signal.aborted) return;
      this.problem = problem;
    }
    this.loading = null;
    this.changed();
  }

  around(position) {
    return this.run("around", async (abort) => {
      const [before, after] = await Promise.all([
        this.page({ before: position + 1, order: "backwards" }, abort),
        this.page({ after: position }, abort),
      ]);
      this.events = [...before.events.reverse(), ...after.events];
      this.atStart = before.next === null;
      this.atEnd = after.next === null;
      this.from = this.atStart ? 0 : before.end;
      this.to = Math.max(position, after.events.at(-1)?.position ?? 0, this.atEnd ? 0 : after.end);
    });
  }

  later(upTo = Infinity) {
    return this.run("later", async (abort) => {
      const page = await this.page({ after: this.to }, abort);
      this.events = [...this.events, ...page.events];
      this.atEnd = page.next === null;
      this.to = Math.max(this.to, page.events.at(-1)?.position ?? 0, this.atEnd ? (Number.isFinite(upTo) ? upTo : 0) : page.end);
      if (this.events.length > this.most) {
        this.events = this.events.slice(-this.most);
        this.from = this.events[0].position;
        this.atStart = false;
      }
    });
  }

  earlier() {
    return this.run("earlier", async (abort) => {
      const page = await this.page({ before: this.from, order: "backwards" }, abort);
      this.events = [...page.events.reverse(), ...this.events];
      this.atStart = page.next === null;
      this.from = this.atStart ? 0 : page.end;
      if (this.events.length > this.most) {
        this.events = this.events.slice(0, this.most);
        this.to = this.events.at(-1).position;
        this.atEnd = false;
      }
    });
  }

  again() {
    this.problem = null;
    this.show(this.wanted);
  }

  /** Have what there is around that position. */
  show(position) {
    if (this.problem && this.wanted === position) return;
    if (this.loading === "around" && this.wanted === position) return;
    this.wanted = position;
    if (this.to === null || position < this.from || position > this.to + (this.atEnd ? 4 * this.span : 0)) return void this.around(position);
    if (position > this.to) return void this.later(position);
    const index = this.indexOf(position);
    if (this.loading) return;
    const isShort = { before: !this.atStart && index < this.span / 3, after: !this.atEnd && this.events.length - index < this.span / 3 };
    if (isShort.before && (index < 0 || !isShort.after)) this.earlier();
    else if (isShort.after) this.later();
  }

  /** The index of the newest event at or before a position; -1 before the first. */
  indexOf(position) {
    let low = 0;
    let high = this.events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].position <= position) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The window of at most `most` events that match the filters around a position, and the index of the one there. */
export function useEventWindow(filters, position, most = MOST) {
  const [, setRound] = useState(0);
  const key = JSON.stringify([filters, branch.value, most]);
  const found = useMemo(() => new EventWindow(filters, branch.value, most, () => setRound((round) => round + 1)), [key]);
  const shown = useRef(found);
  useEffect(() => () => found.abort?.abort(), [found]);
  useEffect(() => {
    if (position !== null) found.show(position);
  });
  if (found.to !== null) shown.current = found;
  const data = found.to === null && !found.problem ? shown.current : found;
  return { ...pick(data), window: found, index: data.indexOf(position ?? head.value.position), stale: data !== found };
}

const pick = ({ events, atStart, atEnd, loading, problem, to }) => ({ events, atStart, atEnd, loading, problem, isFilled: to !== null });
