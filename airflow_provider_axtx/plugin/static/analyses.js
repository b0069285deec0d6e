// Ax's analysis cards, which a task has made.

import { el, load, pageUrl, time } from "./ui.js";

/** Show Ax's analysis cards; each is loaded when it is opened, into a frame that cannot access this page. */
export async function drawAnalyses(place, state) {
  const { analysed_at: at } = state.data;
  const { name, store: conn_id } = state;
  if (place.dataset.at === String(at) || at === null) return;
  place.dataset.at = String(at);
  const { data } = await load("analyses", { name, conn_id });
  const cards = data.cards.map((card, position) => {
    const open = (event) => {
      if (!event.target.open || event.target.querySelector("iframe")) return;
      const src = `card${pageUrl({ name, position, conn_id })}`;
      event.target.append(el("iframe", { src, sandbox: "allow-scripts", title: card.title, class: card.kind }));
    };
    const where = card.section.length ? el("span", { class: "muted small" }, `${card.section.join(" / ")}: `) : null;
    const about = el("p", { class: "muted small" }, card.subtitle);
    return el("details", { class: "card", ontoggle: open }, el("summary", {}, where, card.title), about);
  });
  place.replaceChildren(el("header", { class: "top" }, el("h2", {}, "Analyses"), el("span", { class: "muted small" }, time(at))), ...cards);
}
