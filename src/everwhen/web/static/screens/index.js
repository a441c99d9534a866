// The screens, in the order of their tabs. Each is {name, title, key, hasStrip, Screen}.
import * as timeline from "./timeline.js";
import * as events from "./events.js";
import * as state from "./state.js";
import * as find from "./find.js";
import * as branches from "./branches.js";
import * as whatif from "./whatif.js";
import * as projections from "./projections.js";
import * as query from "./query.js";
import * as audit from "./audit.js";
import * as debug from "./debug.js";

export const SCREENS = [timeline, events, state, find, branches, whatif, projections, query, audit, debug];
