// The screens, in the order of their tabs. Their files are loaded when they are opened: see loading.js.
const STATES = "states.css";
const BRANCHES = "branches.css";
const PANELS = "panels.css";

export const SCREENS = [
  { name: "timeline", title: "Timeline", key: "1", hasStrip: true, load: () => import("./timeline.js"), styles: [] },
  { name: "events", title: "Events", key: "2", hasStrip: true, load: () => import("./events.js"), styles: [] },
  { name: "state", title: "State", key: "3", hasStrip: true, load: () => import("./state.js"), styles: [STATES] },
  { name: "find", title: "Find when", key: "4", hasStrip: true, load: () => import("./find.js"), styles: [STATES] },
  { name: "branches", title: "Branches", key: "5", hasStrip: false, load: () => import("./branches.js"), styles: [STATES, BRANCHES] },
  { name: "whatif", title: "What if", key: "6", hasStrip: true, load: () => import("./whatif.js"), styles: [STATES, BRANCHES] },
  { name: "projections", title: "Projections", key: "7", hasStrip: false, load: () => import("./projections.js"), styles: [STATES, PANELS] },
  { name: "query", title: "Query", key: "8", hasStrip: false, load: () => import("./query.js"), styles: [STATES, PANELS] },
  { name: "audit", title: "Audit", key: "9", hasStrip: false, load: () => import("./audit.js"), styles: [STATES, PANELS] },
  { name: "debug", title: "Debugger", key: "0", hasStrip: true, load: () => import("./debug.js"), styles: [STATES, PANELS] },
];
