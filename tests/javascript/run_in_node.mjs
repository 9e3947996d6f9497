// node run_in_node.mjs SCENARIO [ARGUMENT as JSON …]: prints what the scenario returns as JSON.
import * as leanvibe from "../../protocol/javascript/leanvibe.js";
import * as scenarios from "./scenarios.mjs";

const [name, ...given] = process.argv.slice(2);
const result = await scenarios[name](leanvibe, ...given.map((one) => JSON.parse(one)));
process.stdout.write(JSON.stringify(result));
