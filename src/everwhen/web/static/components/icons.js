// The few signs of the page, drawn with the text's colour.
import { html } from "../dom.js";

const PATHS = {
  first: "M4 3v10M13 3.5 6.5 8l6.5 4.5z",
  back: "M10.5 3 5.5 8l5 5",
  on: "M5.5 3l5 5-5 5",
  last: "M12 3v10M3 3.5 9.5 8 3 12.5z",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9M10.3 10.3 14 14",
  light: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M3 13l1.2-1.2M11.8 4.2 13 3",
  dark: "M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3z",
  auto: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2zM8 2v12",
  help: "M5.6 6a2.4 2.4 0 1 1 3.4 2.2c-.7.3-1 .8-1 1.6M8 12.6v.1",
  pin: "M6 2h4l-.5 4.5L12 9H4l2.5-2.5zM8 9v5",
  copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M4 6l4 4 4-4",
  timeline: "M2 13h12M3.5 13V9M6.5 13V4M9.5 13V7M12.5 13V5.5",
  events: "M2.5 4h.1M5.5 4H14M2.5 8h.1M5.5 8H14M2.5 12h.1M5.5 12H14",
  state: "M3 3v8.5h3M3 5.5h3M8 5.5h6M8 11.5h6",
  find: "M2 8h3l2-5 3 10 2-5h2",
  branches: "M4.5 5.5v5M4.5 2.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3M4.5 10.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3M11.5 3.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3M11.5 6.5c0 2.5-2 2.3-5.5 3.2",
  projections: "M2.5 3.5h11M2.5 8h7.5M2.5 12.5h4M13 8v4.5M10.8 10.5 13 12.7l2.2-2.2",
  query: "M2.5 3.5 6.5 8l-4 4.5M8 12.5h6",
  audit: "M8 1.8 13.5 4v4c0 3.2-2.3 5.3-5.5 6.3C4.8 13.3 2.5 11.2 2.5 8V4zM5.6 8l1.7 1.7 3.2-3.4",
  debug: "M8 5a3.2 3.2 0 0 1 3.2 3.2v2a3.2 3.2 0 0 1-6.4 0v-2A3.2 3.2 0 0 1 8 5zM6.2 5.4 5 3M9.8 5.4 11 3M4.8 9H2M14 9h-2.8M5 12l-2 1.5M11 12l2 1.5",
  whatif: "M2 8h4c2.5 0 2.5-4.5 5-4.5h2.5M9 8.5c.8 2 1 4 2.5 4H13.5M12 2l1.8 1.5L12 5M12 11l1.8 1.5L12 14",
  plus: "M8 3v10M3 8h10",
  undo: "M3 3.5V7h3.5M3.3 7A5.5 5.5 0 1 1 2.9 10",
  edit: "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3zM9 4.7 11.3 7",
  logo: "M8 1.5a6.5 6.5 0 1 1-5.6 3.2M2 1.5v3.6h3.6M8 4.5V8l2.6 1.6",
};

/** A sign; what it means stands beside it, or on its button. */
export const Icon = ({ name, size = 16 }) => html`<svg
  class="icon" width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true" focusable="false"
  fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"
><path d=${PATHS[name] ?? PATHS.events} /></svg>`;
