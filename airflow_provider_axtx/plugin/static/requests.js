// Requests that record what a user wants.

import { queryOf } from "./format.js";

/** Return a new request id. `crypto.randomUUID` exists in secure contexts only, and Airflow may be served without TLS. */
export function requestId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send a change of the experiment; an error says what is wrong, in words. */
export async function send(method, state, path, body, id) {
  const query = queryOf({ conn_id: state.store });
  const url = `v1/experiments/${encodeURIComponent(state.name)}${path}${query ? `?${query}` : ""}`;
  const headers = { "Idempotency-Key": id };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method, credentials: "same-origin", headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.ok) return answer.json();
  throw new Error(await detailOf(answer));
}

async function detailOf(answer) {
  if (answer.status === 401) return "You are not logged in any more. Log in to Airflow and try again.";
  try {
    const { detail } = JSON.parse(await answer.text());
    return typeof detail === "string" ? detail : detail.map((one) => `${one.loc.join(".")}: ${one.msg}`).join("; ");
  } catch {
    return `The server answered ${answer.status}.`; // a proxy in between, and not in JSON
  }
}
