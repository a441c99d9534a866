// The screens, in the order of their tabs. Each is {name, title, key, hasStrip, Screen}.
import * as timeline from "./timeline.js";

export const SCREENS = [timeline];
