// The sign-in page and the page on trust. Text always goes through textContent.

import { CHINESE, ENGLISH } from "./words.js";

const byId = (id) => document.getElementById(id);
const isChinese = stored("language", navigator.language).toLowerCase().startsWith("zh");

function stored(key, otherwise) {
  try {
    return localStorage.getItem(key) || otherwise;
  } catch {
    return otherwise; // storage is switched off
  }
}

function say(key, values = {}) {
  const words = (isChinese ? CHINESE : ENGLISH)[key];
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function translate() {
  const theme = stored("theme", "");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  if (!isChinese) return;
  document.documentElement.lang = "zh-CN";
  for (const element of document.querySelectorAll("[data-say]")) {
    element.textContent = CHINESE[element.dataset.say];
  }
  document.title = `${CHINESE[document.body.dataset.page === "trust" ? "trustTitle" : "title"]} – funasr-agent`;
}

/** Where to go after the sign-in: a path of this box, nothing else. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(wanted, location.origin);
  return wanted.startsWith("/") && url.origin === location.origin ? url.href : "/";
}

function complain(words) {
  byId("error").textContent = words;
  byId("error").hidden = false;
}

async function signIn(event) {
  event.preventDefault();
  byId("submit").disabled = true;
  byId("error").hidden = true;
  try {
    const answer = await fetch("/sign-in", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: byId("token").value.trim() }),
    });
    if (answer.ok) location.replace(next());
    else if (answer.status === 429) complain(say("wait", { s: answer.headers.get("Retry-After") }));
    else if (answer.status === 403) complain(say("plain"));
    else complain(say("wrong"));
  } catch {
    complain(say("gone"));
  }
  byId("submit").disabled = false;
  byId("token").select();
}

async function signInPage(about) {
  byId("name").textContent = about.name;
  if (about.signed_in) return location.replace(next());
  if (!about.can_sign_in) {
    complain(say("plain"));
    byId("submit").disabled = true;
  } else if (new URLSearchParams(location.search).get("refused") === "token") {
    complain(say("wrong"));
  }
  byId("form").addEventListener("submit", signIn);
  byId("show").addEventListener("change", ({ target }) => {
    byId("token").type = target.checked ? "text" : "password";
  });
  byId("token").focus();
}

function trustPage(about) {
  byId("own").hidden = !about.own_authority;
  byId("foreign").hidden = about.own_authority;
  byId("sha256").textContent = about.sha256 ?? "";
  byId("authority").textContent = about.authority_sha256;
}

translate();
const about = await (await fetch("/sign-in/about")).json();
if (document.body.dataset.page === "trust") trustPage(about);
else await signInPage(about);
document.body.dataset.ready = "true";
