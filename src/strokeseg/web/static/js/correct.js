// The tools for a correction, and saving it as a new version.

import { announce, button, dialog, el, field, settings } from "./dom.js";
import { Edit } from "./edit.js";
import { me } from "./session.js";

/** The correction in progress; asks before the page is left while it is unsaved. */
let active = null;
window.addEventListener("beforeunload", (event) => active?.dirty && event.preventDefault());

/** Ask whether unsaved corrections may be discarded. @returns {Promise<boolean>} */
export function mayLeave() {
  if (!active?.dirty) return Promise.resolve(true);
  return new Promise((resolve) => {
    let mayGo = false;
    const choose = (value) => () => {
      mayGo = value;
      shown.close();
    };
    const shown = dialog("Leave the corrections unsaved?", el("p", {}, "Changes since the last save will be lost."),
      el("div", { class: "actions" }, button("Stay", choose(false)), button("Leave without saving", choose(true), { class: "danger" })));
    shown.addEventListener("close", () => resolve(mayGo));
    shown.showModal();
  });
}

/**
 * Start a correction.
 * @param {{id: string, volume, stage, onChange: Function, onEnd: (study: Object|null) => void}} options `onChange` is called
 *   after each change; `onEnd` with the study after saving, with null after leaving
 * @returns {{bar: Node, edit: Edit, close: Function}} `close` leaves without asking
 */
export function correct({ id, volume, stage, onChange, onEnd }) {
  const controls = {};
  const edit = new Edit(volume, () => {
    show();
    onChange();
  });
  active = edit;
  const previousTool = stage.controls.tool;
  const use = (erasing) => {
    edit.erasing = erasing;
    stage.controls.tool = "paint";
    stage.controls.paint = edit.paintHandlers(stage.plane);
    stage.controls.showTool();
    show();
  };
  const close = () => {
    active = null;
    stage.controls.paint = null;
    stage.controls.tool = previousTool;
    stage.controls.showTool();
    stage.surface.removeEventListener("keydown", keys);
  };
  const leave = async () => {
    if (!(await mayLeave())) return;
    edit.discard();
    close();
    onEnd(null);
  };
  const saved = (study) => {
    close();
    onEnd(study);
  };
  controls.brush = button("Brush", () => use(false));
  controls.erase = button("Erase", () => use(true));
  controls.undo = button("Undo", () => edit.undo(), { title: "Ctrl+Z" });
  controls.redo = button("Redo", () => edit.redo(), { title: "Ctrl+Y" });
  controls.save = button("Save as a new version", () => saveDialog(id, edit, saved), { class: "primary" });
  const keys = (event) => {
    if (!(event.ctrlKey || event.metaKey) || !["z", "y", "Z"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "z") edit.undo();
    else edit.redo();
  };
  const show = () => {
    const painting = stage.controls.tool === "paint";
    controls.brush.setAttribute("aria-pressed", String(painting && !edit.erasing));
    controls.erase.setAttribute("aria-pressed", String(painting && edit.erasing));
    controls.undo.disabled = !edit.done.length;
    controls.redo.disabled = !edit.undone.length;
    controls.save.disabled = !edit.dirty;
  };
  stage.surface.addEventListener("keydown", keys);
  const bar = el("div", { class: "toolbar correction", role: "toolbar", "aria-label": "Correction tools" },
    el("strong", {}, "Correction"),
    el("div", { class: "group segments", role: "group", "aria-label": "Paint" }, controls.brush, controls.erase), brushSize(edit, volume),
    el("div", { class: "group" }, controls.undo, controls.redo), el("div", { class: "group" }, controls.save, button("Leave", leave)));
  use(false);
  announce("Correction started. Accept or reject lesions in the list.");
  return { bar, edit, close };
}

function brushSize(edit, volume) {
  const unit = volume.scaled ? "mm" : "px";
  const shown = el("output", {}, `${edit.diameter} ${unit}`);
  const size = el("input", { type: "range", min: 1, max: volume.scaled ? 30 : 60, step: 1, value: String(edit.diameter),
    "aria-label": "Brush size" });
  size.addEventListener("input", () => {
    edit.diameter = Number(size.value);
    shown.textContent = `${size.value} ${unit}`;
    size.setAttribute("aria-valuetext", shown.textContent);
  });
  return el("div", { class: "group" }, el("label", { class: "inline" }, "Size", size), shown);
}

function saveDialog(id, edit, saved) {
  const author = el("input", { name: "author", required: true, maxlength: 100, autocomplete: "name",
    value: settings.get("author") ?? (me.auth === "off" ? "" : me.user) });
  const note = el("textarea", { name: "note", rows: 3, maxlength: 1000 });
  const accepted = el("input", { type: "checkbox", name: "accepted" });
  const message = el("p", { class: "problem", role: "alert" });
  const submit = el("button", { class: "primary" }, "Save");
  const form = el("form", { method: "dialog" },
    edit.describeDecisions() && el("p", { class: "muted" }, edit.describeDecisions()),
    field("Your name", author), field("Note", note, "What you changed, and why. No patient names."),
    el("label", { class: "check" }, accepted, "Accepted: correct in all slices, may be used for training"), message,
    el("div", { class: "actions" }, button("Back", () => shown.close()), submit));
  const shown = dialog("Save as a new version",
    el("p", {}, "The network's result and all earlier versions stay unchanged. Measurements and files are created for the new version."), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const values = { author: author.value.trim(), note: note.value.trim(), accepted: accepted.checked };
      const study = await edit.save(id, values);
      settings.set("author", values.author);
      shown.close();
      saved(study);
    } catch (error) {
      message.textContent = `${error.message} ${error.remedy ?? ""} Your changes are kept: try again.`;
      submit.disabled = false;
    }
  });
  shown.showModal();
}

/** The buttons for a lesion during a correction. */
export function lesionActions(edit, lesion) {
  const rejected = edit.rejected.has(lesion.id);
  const accepted = edit.accepted.has(lesion.id);
  return el("span", { class: "lesion-actions" },
    button("Accept", () => edit.accept(lesion.id), { "aria-pressed": String(accepted), disabled: rejected, "aria-label": `Accept lesion ${lesion.id}` }),
    button("Reject", () => edit.reject(lesion.id), { "aria-pressed": String(rejected), disabled: rejected, "aria-label": `Reject lesion ${lesion.id}` }));
}
