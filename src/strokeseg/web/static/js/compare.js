// Two studies of one patient side by side, and what changed between them.

import { address, ApiError, call, getJson, pause } from "./api.js";
import { button, el, fill } from "./dom.js";
import { remarksView } from "./findings.js";
import { makeStage } from "./stage.js";
import * as store from "./store.js";
import { interval, ml, number, signed, verdict, when } from "./text.js";
import { toolbar } from "./toolbar.js";
import { Volume } from "./volume.js";

const POLL_MS = 500;
const KINDS = { same: "Unchanged", grown: "Grown", shrunk: "Shrunk", new: "New", gone: "Gone", merged: "Merged", split: "Split",
  regrouped: "Regrouped", cut: "Cut off at the end of a scan", "not-covered": "Not covered by both scans" };

/** Show the comparison of two studies in `main` until `signal` is aborted. */
export async function showComparison(main, earlierId, laterId, signal) {
  document.title = "Comparison · StrokeSeg";
  const pair = await Promise.all([store.study(earlierId), store.study(laterId)]);
  const panel = el("div", { class: "panel" }, el("section", {}, el("h2", {}, "What changed"), el("p", { class: "muted", role: "status" }, "Comparing the scans …")));
  const viewer = el("div", { class: "viewer" });
  fill(main, el("div", { class: "study comparison" },
    el("div", { class: "title" }, el("a", { class: "back", href: "#/" }, "Worklist"), el("h1", {}, "Comparison"),
      el("a", { class: "button", href: `#/compare/${laterId}/${earlierId}` }, "Swap earlier and later")),
    el("div", { class: "columns" }, viewer, panel)));
  const link = { shift: null, on: true };
  await showPair(viewer, pair, link, signal);
  try {
    const comparison = await requestComparison(earlierId, laterId, signal);
    const change = await getJson(`comparisons/${comparison.id}/result`, { signal });
    link.shift = change.alignment.shift_mm[2];
    fill(panel, changeView(change, comparison));
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(panel, el("section", { class: "card refused", role: "alert" }, el("h2", {}, "These studies cannot be compared"),
      el("p", {}, error.message), error.remedy && el("p", { class: "remedy" }, error.remedy), el("p", {}, el("code", {}, error.code))));
  }
}

/** Request the comparison and wait for it. @throws {ApiError} with the code of the refusal */
async function requestComparison(earlier, later, signal) {
  const path = `studies/${encodeURIComponent(earlier)}/compare/${encodeURIComponent(later)}`;
  let comparison = await (await call(path, { method: "POST", signal })).json();
  while (!["done", "refused", "failed", "cancelled"].includes(comparison.status)) {
    await pause(POLL_MS, signal);
    comparison = await getJson(`comparisons/${comparison.id}`, { signal });
  }
  if (comparison.status === "done") return comparison;
  throw new ApiError(comparison.error?.detail ?? "The comparison failed.", { code: comparison.error?.code, remedy: comparison.error?.remedy });
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

/** Start on the slice where the later scan's largest lesion, number 1, is largest. */
function showLargest(stage) {
  const largest = stage.plane.volume.findLargestSlice(1);
  if (largest) stage.plane.set({ index: largest.slice });
}

/** Move both sides together: to the same height in the head if known, otherwise to the same relative position. */
function linkStages(stages, link) {
  let following = false;
  stages.forEach((stage, side) => stage.views.add((view) => {
    if (following) return;
    following = true;
    const other = stages[1 - side];
    const { centre, width, zoom, x, y, opacity, outline } = view;
    const change = { centre, width, zoom, x, y, opacity, outline };
    if (link.on) change.index = findPartner(stage.plane, other.plane, side ? -1 : 1, link.shift);
    other.plane.set(change);
    following = false;
  }));
}

function findPartner(from, to, direction, shift) {
  const [own, others] = [from.volume.meta.slice_positions_mm, to.volume.meta.slice_positions_mm];
  const { index } = from.view;
  if (shift === null || !own?.length || !others?.length) {
    return from.volume.count < 2 ? 0 : (index / (from.volume.count - 1)) * (to.volume.count - 1);
  }
  const target = own[index] + direction * shift;
  return others.reduce((best, position, at) => (Math.abs(position - target) < Math.abs(others[best] - target) ? at : best), 0);
}

function changeView(document_, comparison) {
  const { change } = document_;
  const conclusion = change.growth === null ? "Growth unknown" : change.growth ? "The hemorrhage has grown" : "No growth";
  const uncertain = change.growth_sure === false && el("p", { class: "muted" }, "The intervals also allow the opposite conclusion.");
  const range = interval(change.change_interval_ml, "ml");
  const rows = [["Earlier volume", ml(change.earlier_ml)], ["Later volume", ml(change.later_ml)],
    ["Change", signed(change.change_ml, ml(change.change_ml)), range],
    ["Change in percent", signed(change.change_percent, number(change.change_percent, "%", 0))]];
  const files = Object.values(document_.files);
  return [
    el("section", { class: "findings" }, el("h2", { class: change.growth ? "verdict positive" : "verdict" }, conclusion), uncertain,
      el("dl", { class: "figures" }, rows.map(([name, value, more]) => el("div", {}, el("dt", {}, name),
        el("dd", {}, value, more && el("small", {}, more)))))),
    change.lesions.length > 0 && el("section", {}, el("h2", {}, "Lesions"), el("div", { class: "sheet", tabindex: 0, role: "region", "aria-label": "Changes of each lesion" }, lesionTable(change.lesions))),
    remarksView(document_.remarks),
    el("section", {}, el("h2", {}, "Files"), el("ul", { class: "files" }, [...new Set(["change.json", ...files])].map((name) =>
      el("li", {}, el("a", { href: address(`comparisons/${comparison.id}/files/${encodeURIComponent(name)}`), download: name }, name)))),
    button("Print", () => window.print())),
    el("p", { class: "disclaimer" }, document_.disclaimer)];
}

function lesionTable(lesions) {
  const ids = (list) => list.join(", ") || "–";
  return el("table", { class: "changes" },
    el("thead", {}, el("tr", {}, ["Change", "Earlier", "Later", "Difference"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, lesions.map((lesion) => el("tr", {}, el("th", { scope: "row" }, KINDS[lesion.kind] ?? lesion.kind),
      el("td", {}, `${ids(lesion.earlier)}: ${ml(lesion.earlier_ml)}`), el("td", {}, `${ids(lesion.later)}: ${ml(lesion.later_ml)}`),
      el("td", {}, signed(lesion.change_ml, ml(lesion.change_ml)))))));
}
