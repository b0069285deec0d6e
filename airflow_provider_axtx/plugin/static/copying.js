// A trial's parameters as text, to be used elsewhere.

import { FORMATS } from "./format.js";
import { el } from "./ui.js";

const news = document.getElementById("news");

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Airflow may be served without TLS, where the page has no clipboard of its own.
  const field = el("textarea", { class: "unseen", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Return the buttons that copy a trial's parameters. */
export function copyButtons(trial) {
  const button = ([name, format]) => {
    const click = async (event) => {
      const { target } = event;
      await copy(format(trial.parameters));
      target.textContent = "copied";
      news.textContent = `The parameters of trial ${trial.index} are copied as ${name}.`;
      setTimeout(() => (target.textContent = name), 1500);
      target.focus();
    };
    return el("button", { type: "button", id: `copy-${name}`, "aria-label": `Copy the parameters as ${name}`, onclick: click }, name);
  };
  return el("div", { class: "actions small" }, "Copy as ", Object.entries(FORMATS).map(button));
}
