// Requests to the box whose failures are words.

import { t } from "./i18n.js";
import { errorWords } from "./said.js";

/** The JSON of an answer; throws an Error with the box's own words. */
export async function api(path, { method = "GET", body = null } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      cache: "no-store",
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Error(t("The box can't be reached."));
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok) return told;
  throw new Error(told?.error ? errorWords(told.error) : t("The box answered {status}.", { status: answer.status }));
}
