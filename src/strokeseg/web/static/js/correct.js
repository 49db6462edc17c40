// The tools of a correction, and how it is saved as a new version.

import { announce, button, dialog, el, field, memory } from "./dom.js";
import { Edit } from "./edit.js";
import { me } from "./session.js";

/** What asks before the page is left; set while something is unsaved. */
let leaving = null;
window.addEventListener("beforeunload", (event) => leaving?.dirty && event.preventDefault());

/** Ask whether unsaved corrections may go. @returns {Promise<boolean>} */
export function mayLeave() {
  if (!leaving?.dirty) return Promise.resolve(true);
  return new Promise((resolve) => {
    let answer = false;
    const done = (value) => () => {
      answer = value;
      shown.close();
    };
    const shown = dialog("Leave the corrections unsaved?", el("p", {}, "What was painted since the last save would be lost."),
      el("div", { class: "actions" }, button("Stay", done(false)), button("Leave without saving", done(true), { class: "danger" })));
    shown.addEventListener("close", () => resolve(answer));
    shown.showModal();
  });
}

/**
 * Begin a correction.
 * @param {{id: string, volume, stage, changed: Function, ended: (study: Object|null) => void}} given `changed` after each
 *   change; `ended` with the study after a save, with null after the correction was left
 * @returns {{bar: Node, edit: Edit, close: Function}} `close` leaves without asking
 */
export function correct({ id, volume, stage, changed, ended }) {
  const controls = {};
  const edit = new Edit(volume, () => {
    show();
    changed();
  });
  leaving = edit;
  const before = stage.hands.tool;
  const use = (erasing) => {
    edit.erasing = erasing;
    stage.hands.tool = "paint";
    stage.hands.paint = edit.hands(stage.plane);
    stage.hands.showTool();
    show();
  };
  const close = () => {
    leaving = null;
    stage.hands.paint = null;
    stage.hands.tool = before;
    stage.hands.showTool();
    stage.surface.removeEventListener("keydown", keys);
  };
  const leave = async () => {
    if (!(await mayLeave())) return;
    edit.discard();
    close();
    ended(null);
  };
  const saved = (study) => {
    close();
    ended(study);
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
    const painting = stage.hands.tool === "paint";
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
  announce("Correction has begun. Lesions can be accepted or rejected in the list.");
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
    value: memory.get("author") ?? (me.auth === "off" ? "" : me.user) });
  const note = el("textarea", { name: "note", rows: 3, maxlength: 1000 });
  const accepted = el("input", { type: "checkbox", name: "accepted" });
  const said = el("p", { class: "problem", role: "alert" });
  const submit = el("button", { class: "primary" }, "Save");
  const form = el("form", { method: "dialog" },
    edit.verdicts() && el("p", { class: "muted" }, edit.verdicts()),
    field("Your name", author), field("Note", note, "What was changed, and why. No names of patients."),
    el("label", { class: "check" }, accepted, "Accepted: right in all slices, may be used for training"), said,
    el("div", { class: "actions" }, button("Back", () => shown.close()), submit));
  const shown = dialog("Save as a new version",
    el("p", {}, "The machine's answer and all earlier versions stay as they are. Measures and files are made anew."), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const given = { author: author.value.trim(), note: note.value.trim(), accepted: accepted.checked };
      const study = await edit.save(id, given);
      memory.set("author", given.author);
      shown.close();
      saved(study);
    } catch (error) {
      said.textContent = `${error.message} ${error.remedy ?? ""} Nothing is lost: try again.`;
      submit.disabled = false;
    }
  });
  shown.showModal();
}

/** What can be done with a lesion while correcting. */
export function lesionActions(edit, lesion) {
  const rejected = edit.rejected.has(lesion.id);
  const accepted = edit.accepted.has(lesion.id);
  return el("span", { class: "lesion-actions" },
    button("Accept", () => edit.accept(lesion.id), { "aria-pressed": String(accepted), disabled: rejected, "aria-label": `Accept lesion ${lesion.id}` }),
    button("Reject", () => edit.reject(lesion.id), { "aria-pressed": String(rejected), disabled: rejected, "aria-label": `Reject lesion ${lesion.id}` }));
}
