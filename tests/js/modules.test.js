import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

const STATIC = new URL("../../airflow_provider_axtx/plugin/static/", import.meta.url);
const names = readdirSync(STATIC).filter((name) => name.endsWith(".js"));
const text = (name) => readFileSync(new URL(name, STATIC), "utf8");

function exportsOf(name) {
  return new Set([...text(name).matchAll(/^export (?:async )?(?:function|const|class) (\w+)/gm)].map((found) => found[1]));
}

test("every module imports only what another one exports, and uses it", () => {
  for (const name of names) {
    for (const [, imported, from] of text(name).matchAll(/^import \{([^}]+)\} from "\.\/([^"]+)";/gm)) {
      const missing = imported.split(",").map((one) => one.trim()).filter((one) => !exportsOf(from).has(one));
      assert.deepEqual(missing, [], `${name} imports from ${from}`);
    }
  }
});

test("the page preloads every module, so that they are requested at once", () => {
  const page = text("index.html");
  assert.deepEqual(names.filter((name) => !page.includes(`"static/${name}"`)), []);
});

test("no module names another host", () => {
  for (const name of [...names, "index.html", "style.css"]) assert.doesNotMatch(text(name), /https?:\/\/(?!www\.w3\.org)/, name);
});
