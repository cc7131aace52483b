// What the page does when the box no longer knows its browser.

/** True when an answer says that the browser is not signed in; the sign-in page then opens. */
export function leaveIfSignedOut(answer) {
  if (answer.status !== 401) return false;
  const here = location.pathname + location.search + location.hash;
  location.assign(here === "/" ? "/sign-in" : `/sign-in?next=${encodeURIComponent(here)}`);
  return true;
}

/** Take this browser's sign-in back and show the sign-in page. */
export async function signOut() {
  await fetch("/sign-in", { method: "DELETE" });
  location.assign("/sign-in");
}
