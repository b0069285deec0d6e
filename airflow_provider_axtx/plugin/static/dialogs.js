// Dialogs with fields: the browser's own, so that the keyboard stays within them and Escape closes them.

import { el } from "./ui.js";

let fields = 0;

function field(name, label, input) {
  fields += 1;
  input.id = `field-${fields}`;
  input.name = name;
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input);
}

/** Return a field for text or a number; `lines` makes it a field of several lines. */
export function textField(name, label, { lines = 0, value = "", ...properties } = {}) {
  const input = el(lines ? "textarea" : "input", lines ? { rows: lines, ...properties } : { type: "text", autocomplete: "off", ...properties });
  input.value = value;
  return field(name, label, input);
}

/** Return a field to choose one of some JSON values; its value is JSON text. */
export function choiceField(name, label, values, chosen) {
  const options = values.map((one) => el("option", { value: JSON.stringify(one), selected: one === chosen }, String(one)));
  return field(name, label, el("select", {}, options));
}

/**
 * Ask the user. `submit` is called with the fields' values by name; the dialog closes when it succeeds, and shows its
 * error otherwise. Resolves to true when something was sent. `applies` is called with a field's name and all values: a
 * field that does not apply to them is hidden.
 */
export function ask({ title, text, confirm, fields: shown, submit, applies = () => true, danger = false }) {
  return new Promise((resolve) => {
    const before = document.activeElement?.id;
    const problem = el("p", { class: "warning", role: "alert", hidden: true });
    const ok = el("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm);
    let sent = false;
    const named = () => [...form.elements].filter((one) => one.name);
    const valuesOf = () => Object.fromEntries(named().map((one) => [one.name, one.value]));
    const showFields = () => {
      const values = valuesOf();
      for (const one of named()) {
        // The browser does not send a form with a hidden field that is required and empty, unless the field is disabled.
        one.disabled = !applies(one.name, values);
        one.parentElement.hidden = one.disabled;
      }
    };
    const onsubmit = async (event) => {
      event.preventDefault();
      ok.disabled = true;
      try {
        await submit(valuesOf());
        sent = true;
        dialog.close();
      } catch (error) {
        problem.hidden = false;
        problem.textContent = error.message;
        ok.disabled = false;
      }
    };
    const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = el("form", { onsubmit, oninput: showFields }, el("h2", { id: "dialog-title" }, title), el("p", { id: "dialog-text" }, text), shown, problem, el("div", { class: "actions" }, cancel, ok));
    const onclose = () => {
      dialog.remove();
      if (before) document.getElementById(before)?.focus({ preventScroll: true });
      resolve(sent);
    };
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text", onclose }, form);
    document.body.append(dialog);
    showFields();
    dialog.showModal();
  });
}
