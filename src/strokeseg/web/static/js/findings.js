// The measurements in words and numbers; missing ones are shown as not measured.

import { el } from "./dom.js";
import { interval, locationText, ml, number, percent, sliceRange, UNKNOWN } from "./text.js";

const SEVERITY = { warning: "Warning", repaired: "Repaired", info: "Note" };

/** The finding in one line, and the measurements below it. */
export function findingsView(result) {
  const { findings } = result;
  const volume = interval(findings.volume_interval_ml, "ml");
  const level = findings.interval_level && `${Math.round(findings.interval_level * 100)} % interval`;
  const shift = findings.midline_shift_mm === null ? UNKNOWN
    : number(findings.midline_shift_mm, "mm") + (findings.midline_shift_side ? ` to the ${findings.midline_shift_side}` : "");
  const rows = [
    ["Volume", ml(findings.volume_ml), volume && `${volume}, ${level}`],
    ["Probability of hemorrhage", percent(findings.confidence), null],
    findings.hemorrhage && ["Side", findings.side === "unsure" ? "uncertain" : findings.side ?? UNKNOWN, null],
    ["Midline shift", shift, null],
    findings.hemorrhage && ["Intraventricular hemorrhage", ventricleText(findings), null],
  ].filter(Boolean);
  const negative = el("p", { class: "muted" }, "Nothing is outlined. This does not rule out a hemorrhage: see the model's limits.");
  return el("section", { class: "findings", "aria-labelledby": "verdict" },
    el("h2", { id: "verdict", class: findings.hemorrhage ? "verdict positive" : "verdict none" },
      findings.hemorrhage ? "Hemorrhage detected" : "No hemorrhage detected"),
    !findings.hemorrhage && negative,
    el("dl", { class: "figures" }, rows.map(([name, value, more]) => el("div", {}, el("dt", {}, name),
      el("dd", { class: value === UNKNOWN ? "unknown" : null }, value, more && el("small", {}, more))))));
}

function ventricleText(findings) {
  if (findings.intraventricular === null) return UNKNOWN;
  if (!findings.intraventricular) return "no";
  return findings.intraventricular_ml === null ? "yes" : ml(findings.intraventricular_ml);
}

/**
 * The list of lesions; each one jumps to its slice.
 * @param {(id: number) => void} jump @param {(lesion) => Node|null} actions buttons for a lesion during a correction
 */
export function lesionList(result, jump, actions = () => null) {
  const { lesions } = result.findings;
  if (!lesions.length) return null;
  const measured = lesions.some((lesion) => lesion.volume_ml !== null);
  const size = (lesion) => (measured ? ml(lesion.volume_ml) : `${lesion.pixels} px`);
  const details = (lesion) => [
    lesion.side && (lesion.side === "unsure" ? "side uncertain" : lesion.side),
    lesion.place && (lesion.place === "unsure" ? "location uncertain" : locationText(lesion.place)),
    lesion.max_diameter_mm !== null && `${number(lesion.max_diameter_mm, "mm")} wide`,
    lesion.mean_hu !== null && `${number(lesion.mean_hu, "HU", 0)}`,
    lesion.abc2_ml !== null && `ABC/2 ${ml(lesion.abc2_ml)}`,
    lesion.probability !== null && `probability ${lesion.probability.toFixed(2)}`,
  ].filter(Boolean).join(", ");
  return el("section", { class: "lesions", "aria-labelledby": "lesions-title" },
    el("h2", { id: "lesions-title" }, `Lesions (${lesions.length})`),
    el("ol", {}, lesions.map((lesion) => el("li", { data: { lesion: lesion.id } },
      el("button", { type: "button", class: "lesion", on: { click: () => jump(lesion.id) } },
        el("span", { class: "id" }, lesion.id), el("span", { class: "size" }, size(lesion)),
        el("span", { class: "where" }, sliceRange(lesion.slices)),
        el("span", { class: "details" }, details(lesion))),
      actions(lesion)))));
}

/** The remarks, warnings first; slices that a remark names are links. */
export function remarksView(remarks, goTo = null) {
  if (!remarks.length) return null;
  const order = Object.keys(SEVERITY);
  const sorted = [...remarks].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
  return el("section", { class: "remarks", "aria-labelledby": "remarks-title" },
    el("h2", { id: "remarks-title" }, "Remarks"),
    el("ul", {}, sorted.map((remark) => el("li", { class: remark.severity },
      el("span", { class: "tag" }, SEVERITY[remark.severity] ?? remark.severity),
      el("span", {}, remark.message, " ", goTo && remark.slices.slice(0, 8).map((index) =>
        el("button", { type: "button", class: "link", on: { click: () => goTo(index) } }, `slice ${index + 1}`)))))));
}

/** The model, its licence and its known limits. */
export function modelView(result, cards) {
  const { model } = result;
  const card = cards.find((each) => each.name === model.name);
  return el("section", { class: "model", "aria-labelledby": "model-title" },
    el("h2", { id: "model-title" }, "Model"),
    el("p", {}, `${model.name} ${model.version}, ${model.precision}, ${model.engine}, threshold ${model.threshold}. `,
      el("code", {}, model.sha256.slice(0, 12))),
    card?.limits && el("details", {}, el("summary", {}, "Limits and licence"),
      el("ul", {}, card.limits.map((limit) => el("li", {}, limit))), card.licence && el("p", {}, card.licence)),
    el("p", { class: "disclaimer" }, result.disclaimer));
}
