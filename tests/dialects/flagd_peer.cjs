// Answers of flagd's JavaScript library, and of JsonLogic's reference implementation, to what comes in line by line.
// Packages are looked for in the folder that FLAGKIT_NODE_MODULES names (it holds node_modules).
const find = require("module").createRequire(process.env.FLAGKIT_NODE_MODULES + "/package.json");
const quiet = { error() {}, warn() {}, info() {}, debug() {} };

function flags({ definitions, contexts }) {
  const { FlagdCore } = find("@openfeature/flagd-core");
  const core = new FlagdCore(undefined, quiet);
  core.setConfigurations(JSON.stringify(definitions));
  return contexts.map((context) =>
    Object.keys(definitions.flags).map((key) => {
      const found = core.resolveStringEvaluation(key, "default", context, quiet);
      return [found.variant ?? null, found.reason, found.errorCode ?? null];
    }),
  );
}

// Numbers that JSON cannot hold go as text.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "number") return Number.isFinite(value) ? value + 0 : String(value);
  return value;
}

function logic({ rules, data }) {
  const reference = find("json-logic-js");
  return rules.map((rule) => plain(reference.apply(rule, data)));
}

let text = "";
process.stdin.on("data", (piece) => (text += piece));
process.stdin.on("end", () => {
  for (const line of text.split("\n")) {
    if (!line) continue;
    const asked = JSON.parse(line);
    console.log(JSON.stringify(asked.rules ? logic(asked) : flags(asked)));
  }
});
