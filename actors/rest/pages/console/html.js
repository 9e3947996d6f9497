/** The one place where htm meets Preact: templates that become nodes, never markup. */

import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export const html = htm.bind(h);
