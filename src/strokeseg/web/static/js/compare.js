// Two studies of one head, side by side, and what changed between them.

import { address, ApiError, call, getJson, pause } from "./api.js";
import { button, el, fill } from "./dom.js";
import { remarksView } from "./findings.js";
import { makeStage } from "./stage.js";
import * as store from "./store.js";
import { change as signed, interval, ml, number, verdict, when } from "./text.js";
import { toolbar } from "./toolbar.js";
import { Volume } from "./volume.js";

const POLL_MS = 500;
const KINDS = { same: "Unchanged", grown: "Grown", shrunk: "Shrunk", new: "New", gone: "Gone", merged: "Merged", split: "Split",
  regrouped: "Regrouped", cut: "Cut off by a scan's end", "not-covered": "Not on both scans" };

/** Show the comparison of two studies in `main` until `signal` ends. */
export async function showComparison(main, earlierId, laterId, signal) {
  document.title = "Comparison · StrokeSeg";
  const pair = await Promise.all([store.study(earlierId), store.study(laterId)]);
  const panel = el("div", { class: "panel" }, el("section", {}, el("h2", {}, "What changed"), el("p", { class: "muted", role: "status" }, "The heads are laid on each other …")));
  const viewer = el("div", { class: "viewer" });
  fill(main, el("div", { class: "study comparison" },
    el("div", { class: "title" }, el("a", { class: "back", href: "#/" }, "Worklist"), el("h1", {}, "Comparison"),
      el("a", { class: "button", href: `#/compare/${laterId}/${earlierId}` }, "Swap earlier and later")),
    el("div", { class: "columns" }, viewer, panel)));
  const link = { shift: null, on: true };
  await showPair(viewer, pair, link, signal);
  try {
    const found = await compared(earlierId, laterId, signal);
    const change = await getJson(`comparisons/${found.id}/result`, { signal });
    link.shift = change.alignment.shift_mm[2];
    fill(panel, changeView(change, found));
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(panel, el("section", { class: "card refused", role: "alert" }, el("h2", {}, "These two cannot be compared"),
      el("p", {}, error.message), error.remedy && el("p", { class: "remedy" }, error.remedy), el("p", {}, el("code", {}, error.code))));
  }
}

/** Ask for the comparison and wait for it. @throws {ApiError} with the code it was refused with */
async function compared(earlier, later, signal) {
  const path = `studies/${encodeURIComponent(earlier)}/compare/${encodeURIComponent(later)}`;
  let found = await (await call(path, { method: "POST", signal })).json();
  while (!["done", "refused", "failed", "cancelled"].includes(found.status)) {
    await pause(POLL_MS, signal);
    found = await getJson(`comparisons/${found.id}`, { signal });
  }
  if (found.status === "done") return found;
  throw new ApiError(found.error?.detail ?? "The comparison failed.", { code: found.error?.code, remedy: found.error?.remedy });
}

async function showPair(viewer, pair, link, signal) {
  const volumes = await Promise.all(pair.map((study) => new Volume(study.id, signal).open()));
  const stages = volumes.map((volume, side) => makeStage(volume, { label: side ? "Later scan" : "Earlier scan" }));
  volumes.forEach((volume, side) => {
    volume.load();
    if (!pair[side].has_result) return;
    volume.loadLabels(pair[side].version).then(() => side && showLargest(stages[1]), () => {});
  });
  linkStages(stages, link);
  const linked = el("input", { type: "checkbox", checked: true });
  linked.addEventListener("change", () => {
    link.on = linked.checked;
  });
  const tools = toolbar(stages, [el("label", { class: "check inline" }, linked, "Scroll together")]);
  fill(viewer, el("div", { class: "dark" }, el("div", { class: "tools" }, tools),
    el("div", { class: "pair" }, pair.map((study, side) => el("figure", {},
      el("figcaption", {}, el("strong", {}, side ? "Later" : "Earlier"), " ", el("a", { href: `#/studies/${study.id}` }, study.name),
        el("span", { class: "muted" }, ` ${when(study.created)} ${verdict(study)}`)), stages[side].element)))));
  signal.addEventListener("abort", () => stages.forEach((stage) => stage.close()));
}

/** Begin where the later scan's largest lesion is largest; its number is 1. */
function showLargest(stage) {
  const place = stage.plane.volume.lesionPlace(1);
  if (place) stage.plane.set({ index: place.slice });
}

/** Move one side with the other: to the same height in the head where that is known, else to the same share of the way. */
function linkStages(stages, link) {
  let following = false;
  stages.forEach((stage, side) => stage.views.add((view) => {
    if (following) return;
    following = true;
    const other = stages[1 - side];
    const { centre, width, zoom, x, y, opacity, outline } = view;
    const change = { centre, width, zoom, x, y, opacity, outline };
    if (link.on) change.index = partner(stage.plane, other.plane, side ? -1 : 1, link.shift);
    other.plane.set(change);
    following = false;
  }));
}

function partner(from, to, direction, shift) {
  const [own, others] = [from.volume.meta.slice_positions_mm, to.volume.meta.slice_positions_mm];
  const { index } = from.view;
  if (shift === null || !own?.length || !others?.length) {
    return from.volume.count < 2 ? 0 : (index / (from.volume.count - 1)) * (to.volume.count - 1);
  }
  const wanted = own[index] + direction * shift;
  return others.reduce((best, position, at) => (Math.abs(position - wanted) < Math.abs(others[best] - wanted) ? at : best), 0);
}

function changeView(document_, found) {
  const { change } = document_;
  const grown = change.growth === null ? "Growth cannot be told" : change.growth ? "The bleeding has grown" : "No growth";
  const sure = change.growth_sure === false && el("p", { class: "muted" }, "The intervals allow the opposite answer too.");
  const range = interval(change.change_interval_ml, "ml");
  const rows = [["Earlier volume", ml(change.earlier_ml)], ["Later volume", ml(change.later_ml)],
    ["Change", signed(change.change_ml, ml(change.change_ml)), range],
    ["Change in percent", signed(change.change_percent, number(change.change_percent, "%", 0))]];
  const files = Object.values(document_.files);
  return [
    el("section", { class: "findings" }, el("h2", { class: change.growth ? "verdict bleeding" : "verdict" }, grown), sure,
      el("dl", { class: "figures" }, rows.map(([name, value, more]) => el("div", {}, el("dt", {}, name),
        el("dd", {}, value, more && el("small", {}, more)))))),
    change.lesions.length > 0 && el("section", {}, el("h2", {}, "Lesions"), el("div", { class: "sheet", tabindex: 0, role: "region", "aria-label": "Changes of each lesion" }, lesionTable(change.lesions))),
    remarksView(document_.remarks),
    el("section", {}, el("h2", {}, "Take away"), el("ul", { class: "files" }, [...new Set(["change.json", ...files])].map((name) =>
      el("li", {}, el("a", { href: address(`comparisons/${found.id}/files/${encodeURIComponent(name)}`), download: name }, name)))),
    button("Print", () => window.print())),
    el("p", { class: "disclaimer" }, document_.disclaimer)];
}

function lesionTable(lesions) {
  const ids = (list) => list.join(", ") || "–";
  return el("table", { class: "changes" },
    el("thead", {}, el("tr", {}, ["What", "Earlier", "Later", "Change"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, lesions.map((lesion) => el("tr", {}, el("th", { scope: "row" }, KINDS[lesion.kind] ?? lesion.kind),
      el("td", {}, `${ids(lesion.earlier)}: ${ml(lesion.earlier_ml)}`), el("td", {}, `${ids(lesion.later)}: ${ml(lesion.later_ml)}`),
      el("td", {}, signed(lesion.change_ml, ml(lesion.change_ml)))))));
}
