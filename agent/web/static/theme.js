// Runs before the first paint: the theme that was chosen on this browser, and its language.
(() => {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("funasr-agent") ?? "{}") ?? {};
  } catch {
    kept = {}; // no storage, or something else in it: the defaults serve
  }
  const root = document.documentElement;
  if (kept.theme === "light" || kept.theme === "dark") root.dataset.theme = kept.theme;
  const chinese = (navigator.language ?? "").toLowerCase().startsWith("zh");
  const known = kept.interface === "zh" || kept.interface === "en";
  root.lang = (known ? kept.interface : chinese ? "zh" : "en") === "zh" ? "zh-CN" : "en";
})();
