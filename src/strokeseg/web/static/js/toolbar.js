// The toolbar above a plane: drag tools, windows, overlay.

import { button, el } from "./dom.js";
import { isWindow, WINDOWS } from "./windows.js";

const TOOLS = [["window", "Window", "Drag to change the window"], ["scroll", "Scroll", "Drag to change the slice"],
  ["pan", "Move", "Drag to move the image"], ["zoom", "Zoom", "Drag to zoom"], ["ruler", "Ruler", "Drag to measure a length"]];

/** @param {{plane, controls, views}[]} stages that the tools act on together */
export function toolbar(stages, more = []) {
  const [lead] = stages;
  const setAll = (change) => stages.forEach((stage) => stage.plane.set(change));
  return el("div", { class: "toolbar", role: "toolbar", "aria-label": "Viewer tools" },
    toolChoice(stages), windowChoice(lead, setAll), overlay(lead, setAll),
    el("div", { class: "group" }, button("Reset", () => {
      for (const stage of stages) {
        stage.plane.rulers = [];
        stage.plane.set({ zoom: 1, x: 0, y: 0 });
      }
    })), more);
}

function toolChoice(stages) {
  const choices = TOOLS.map(([tool, label, title]) => button(label, () => {
    for (const stage of stages) stage.controls.tool = tool;
    show();
  }, { title, data: { tool } }));
  const show = () => {
    for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.dataset.tool === stages[0].controls.tool));
  };
  stages[0].controls.showTool = show;
  show();
  return el("div", { class: "group segments", role: "group", "aria-label": "Tool" }, choices);
}

function windowChoice(lead, setAll) {
  const choices = WINDOWS.map((preset, number) => button(preset.name, () => setAll({ centre: preset.centre, width: preset.width }),
    { title: `Centre ${preset.centre}, width ${preset.width} (key ${number + 1})`, data: { preset: preset.name.toLowerCase() } }));
  const show = (view) => choices.forEach((choice, number) =>
    choice.setAttribute("aria-pressed", String(isWindow(view, WINDOWS[number]))));
  lead.views.add(show);
  show(lead.plane.view);
  return el("div", { class: "group segments", role: "group", "aria-label": "Window" }, choices);
}

function overlay(lead, setAll) {
  const opacity = el("input", { type: "range", min: 0, max: 100, step: 5, "aria-label": "Overlay opacity", class: "opacity" });
  const outline = el("input", { type: "checkbox" });
  opacity.addEventListener("input", () => setAll({ opacity: Number(opacity.value) / 100 }));
  outline.addEventListener("change", () => setAll({ outline: outline.checked }));
  const show = (view) => {
    opacity.value = String(Math.round(view.opacity * 100));
    outline.checked = view.outline;
  };
  lead.views.add(show);
  show(lead.plane.view);
  return el("div", { class: "group overlay" }, el("label", { class: "inline" }, "Overlay", opacity),
    el("label", { class: "check inline" }, outline, "Outline"));
}
