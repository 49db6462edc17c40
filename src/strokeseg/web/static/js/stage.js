// A plane with its surroundings: letters of the sides, numbers in the corners, slider.

import { el } from "./dom.js";
import { attach } from "./gestures.js";
import { Plane } from "./plane.js";
import { firstWindow } from "./windows.js";

/**
 * @param {import("./volume.js").Volume} volume opened
 * @param {{label: string, jump?: Function}} options
 * @returns {{element, plane, controls, views: Set<Function>, close: Function}} `views` are called after each change
 */
export function makeStage(volume, { label, jump = () => {} }) {
  const canvas = el("canvas", { class: "plane" });
  const corner = Object.fromEntries(["slice", "window", "pointer", "loading"].map((name) => [name, el("span", { class: `hud ${name}` })]));
  const letters = Object.entries(volume.meta.orientation ?? {}).map(([edge, letter]) =>
    letter && el("span", { class: `letter ${displayedEdge(edge, volume.meta.upright)}`, "aria-hidden": "true" }, letter));
  const surface = el("div", { class: "surface", tabindex: 0, role: "group", "aria-roledescription": "slice viewer",
    "aria-label": `${label}. Arrow keys change the slice, 1 to 4 the window, N goes to the next lesion.` },
    canvas, letters, Object.values(corner));
  const slider = el("input", { type: "range", min: 1, max: volume.count, step: 1, "aria-label": `${label}: slice`, class: "slider" });
  const plane = new Plane(canvas, volume, firstWindow(volume.meta));
  const views = new Set();
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const controls = { tool: coarse ? "scroll" : "window", paint: null, jump, hover: (point) => showPointer(point, plane, corner.pointer) };
  slider.addEventListener("input", () => plane.set({ index: Number(slider.value) - 1 }));
  const showLoading = () => {
    const loaded = volume.slices.filter(Boolean).length;
    corner.loading.textContent = loaded < volume.count ? `Loading ${loaded}/${volume.count}` : "";
  };
  plane.onView = (view) => {
    slider.value = String(view.index + 1);
    slider.setAttribute("aria-valuetext", `Slice ${view.index + 1} of ${volume.count}`);
    corner.slice.textContent = `Slice ${view.index + 1} / ${volume.count}${positionText(volume, view.index)}`;
    corner.window.textContent = `C ${view.centre}  W ${view.width}${view.zoom === 1 ? "" : `  ×${view.zoom.toFixed(1)}`}`;
    for (const onView of views) onView(view);
  };
  volume.onChange(showLoading);
  showLoading();
  attach(surface, plane, controls);
  plane.set({});
  const element = el("div", { class: "stage" }, surface, slider);
  return { element, surface, plane, controls, views, close: () => plane.close() };
}

/** The letters are those of the stored slices; if these are shown flipped, the letters change sides. */
function displayedEdge(edge, upright) {
  if (upright?.flip_columns) edge = { left: "right", right: "left" }[edge] ?? edge;
  if (upright?.flip_rows) edge = { top: "bottom", bottom: "top" }[edge] ?? edge;
  return edge;
}

function positionText(volume, index) {
  const position = volume.meta.slice_positions_mm?.[index];
  return typeof position === "number" && volume.scaled ? `  ${position.toFixed(1)} mm` : "";
}

function showPointer(point, plane, output) {
  const pixel = point && plane.toImage(point);
  const value = pixel && plane.volume.valueAt(plane.view.index, pixel.column, pixel.row);
  const unit = plane.volume.meta.calibrated ? "HU" : "grey level";
  output.textContent = value === null ? "" : `${value} ${unit}`;
}
