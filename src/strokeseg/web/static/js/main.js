// The page: which part of it is shown, by the address after the #, and whether the server can be reached.

import { showComparison } from "./compare.js";
import { mayLeave } from "./correct.js";
import { button, el, fill } from "./dom.js";
import { begin } from "./session.js";
import * as store from "./store.js";
import { showStudy } from "./study.js";
import { showWorklist } from "./worklist.js";

const main = document.getElementById("main");
let page = null;
let here = null;

const openStudy = (study) => {
  if (location.hash.startsWith("#/studies/") || location.hash.startsWith("#/compare/")) return;
  location.hash = `#/studies/${study.id}`;
};

/** Show what the address says; unsaved corrections are asked about first, and a "stay" puts the address back. */
async function route() {
  const wanted = location.hash || "#/";
  if (wanted === here) return;
  if (!(await mayLeave())) {
    history.replaceState(null, "", here);
    return;
  }
  page?.abort();
  page = new AbortController();
  const moved = here !== null;
  here = wanted;
  const parts = wanted.slice(2).split("/").map(decodeURIComponent);
  main.className = parts[0] || "list";
  document.getElementById("printout")?.remove();
  if (moved) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  const { signal } = page;
  try {
    if (parts[0] === "studies" && parts[1]) await showStudy(main, parts[1], signal);
    else if (parts[0] === "compare" && parts[2]) await showComparison(main, parts[1], parts[2], signal);
    else await showWorklist(main, signal, openStudy);
  } catch (error) {
    if (!signal.aborted) showProblem(error);
  }
}

function showProblem(error) {
  const again = () => {
    here = null;
    route();
  };
  fill(main, el("section", { class: "card problem-card" },
    el("h1", {}, error.status === 404 ? "This study is not here" : "This cannot be shown"),
    el("p", {}, error.message, " ", error.code && el("code", {}, error.code)), error.remedy && el("p", {}, error.remedy),
    el("div", { class: "actions" }, button("Try again", again), el("a", { class: "button", href: "#/" }, "To the worklist"))));
}

function showConnection(connected) {
  const banner = document.getElementById("banner");
  banner.hidden = connected;
  banner.textContent = connected ? "" : "No connection to the server. What is on the screen stays; the page tries again by itself.";
  document.getElementById("connection").textContent = connected ? "" : "Offline";
  if (connected && main.querySelector(".problem-card")) {
    here = null;
    route();
  }
}

// A file that misses the drop zone must not replace the page.
for (const type of ["dragover", "drop"]) window.addEventListener(type, (event) => event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
store.listen("connection", showConnection);
window.addEventListener("hashchange", route);

try {
  await begin();
} catch (error) {
  if (error.code !== "offline" && error.status !== 404) showProblem(error);
}
store.connect();
await route();
