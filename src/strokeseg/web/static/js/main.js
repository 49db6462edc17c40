// The page: shows the view that the address names after the #, and whether the server can be reached.

import { showComparison } from "./compare.js";
import { mayLeave } from "./correct.js";
import { button, el, fill } from "./dom.js";
import { start } from "./session.js";
import * as store from "./store.js";
import { showStudy } from "./study.js";
import { showWorklist } from "./worklist.js";

const main = document.getElementById("main");
let page = null;
let currentHash = null;

const openStudy = (study) => {
  if (location.hash.startsWith("#/studies/") || location.hash.startsWith("#/compare/")) return;
  location.hash = `#/studies/${study.id}`;
};

/** Show the view of the address; if unsaved corrections are to be kept, restore the previous address. */
async function route() {
  const hash = location.hash || "#/";
  if (hash === currentHash) return;
  if (!(await mayLeave())) {
    history.replaceState(null, "", currentHash);
    return;
  }
  page?.abort();
  page = new AbortController();
  const isNavigation = currentHash !== null;
  currentHash = hash;
  const parts = hash.slice(2).split("/").map(decodeURIComponent);
  main.className = parts[0] || "list";
  document.getElementById("printout")?.remove();
  if (isNavigation) main.focus({ preventScroll: true });
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
  const retry = () => {
    currentHash = null;
    route();
  };
  fill(main, el("section", { class: "card problem-card" },
    el("h1", {}, error.status === 404 ? "Study not found" : "Cannot be displayed"),
    el("p", {}, error.message, " ", error.code && el("code", {}, error.code)), error.remedy && el("p", {}, error.remedy),
    el("div", { class: "actions" }, button("Try again", retry), el("a", { class: "button", href: "#/" }, "Back to the worklist"))));
}

function showConnection(connected) {
  const banner = document.getElementById("banner");
  banner.hidden = connected;
  banner.textContent = connected ? "" : "No connection to the server. The page reconnects automatically.";
  document.getElementById("connection").textContent = connected ? "" : "Offline";
  if (connected && main.querySelector(".problem-card")) {
    currentHash = null;
    route();
  }
}

// A file dropped beside the drop zone must not replace the page.
for (const type of ["dragover", "drop"]) window.addEventListener(type, (event) => event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
store.listen("connection", showConnection);
window.addEventListener("hashchange", route);

try {
  await start();
} catch (error) {
  if (error.code !== "offline" && error.status !== 404) showProblem(error);
}
store.connect();
await route();
