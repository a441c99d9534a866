// How many events there are when: positions as times, and stretches without events folded.

const seconds = (iso) => Date.parse(iso) / 1000;
const KEPT_EMPTY = 2; // buckets that stay of a stretch without events

/** The server's buckets; with `isFolded`, the chart's x leaves out long stretches without events. */
export class Density {
  constructor({ starts, ends, positions, counts }, isFolded = false) {
    this.starts = starts.map(seconds);
    this.ends = ends.map(seconds);
    this.positions = positions;
    this.counts = counts;
    this.first = positions.length ? positions[0] - counts[0] + 1 : 1;
    this.last = positions.at(-1) ?? 0;
    this.total = counts.reduce((sum, one) => sum + one, 0);
    this.folds = []; // where, as x, something is left out
    this.kept = counts.map((_, index) => index);
    this.longestIdle = 0;
    let idle = 0;
    const kept = [];
    counts.forEach((many, index) => {
      idle = many ? 0 : idle + 1;
      this.longestIdle = Math.max(this.longestIdle, idle);
      if (idle <= KEPT_EMPTY) kept.push(index);
    });
    if (isFolded) this.kept = kept;
    this.width = starts.length ? this.ends[0] - this.starts[0] : 1;
    this.xs = isFolded ? this.kept.map((_, at) => this.starts[0] + at * this.width) : this.starts;
    this.kept.forEach((index, at) => at && index > this.kept[at - 1] + 1 && this.folds.push(this.xs[at]));
    this.isFolded = isFolded && this.folds.length > 0;
  }

  /** Where a time is in the chart. */
  xOf(time) {
    if (!this.isFolded) return time;
    const at = this.kept.findLastIndex((index) => this.starts[index] <= time);
    return at < 0 ? this.xs[0] : this.xs[at] + Math.min(this.width, time - this.starts[this.kept[at]]);
  }

  /** The time at a place in the chart. */
  timeAt(x) {
    if (!this.isFolded) return x;
    const at = Math.max(0, Math.min(this.kept.length - 1, Math.floor((x - this.xs[0]) / this.width)));
    return this.starts[this.kept[at]] + Math.min(this.width, Math.max(0, x - this.xs[at]));
  }

  timeOf(position) {
    const index = this.positions.findIndex((end) => end >= position);
    if (index < 0) return this.ends.at(-1);
    const share = this.counts[index] ? (position - (this.positions[index] - this.counts[index])) / this.counts[index] : 1;
    return this.starts[index] + Math.max(0, share) * (this.ends[index] - this.starts[index]);
  }

  positionOf(time) {
    const index = this.ends.findIndex((end) => end >= time);
    if (index < 0) return this.last;
    const share = (time - this.starts[index]) / (this.ends[index] - this.starts[index] || 1);
    return Math.max(1, Math.round(this.positions[index] - this.counts[index] * (1 - Math.max(0, share))));
  }
}
