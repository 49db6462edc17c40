// The drop zone, and the uploads in progress.

import { announce, button, el, field, fill } from "./dom.js";
import { getChosenEntries, getDroppedEntries, getStudyName, totalBytes } from "./files.js";
import * as store from "./store.js";
import { bytes } from "./text.js";
import { send } from "./upload.js";

const PICTURES = /\.(png|jpe?g|bmp|tiff?|webp)$/i;
/** Uploads continue while another view is shown. */
const uploadList = el("ul", { class: "uploads", "aria-label": "Uploads" });

/** @param {(study: Object) => void} onUploaded is called after each upload */
export function dropZone(onUploaded) {
  const files = el("input", { type: "file", multiple: true, hidden: true, id: "choose-files" });
  const folder = el("input", { type: "file", webkitdirectory: true, hidden: true, id: "choose-folder" });
  const options = optionFields();
  const take = (entries) => entries.length && upload(entries, options.values(), onUploaded);
  for (const input of [files, folder]) {
    input.addEventListener("change", () => {
      take(getChosenEntries(input.files));
      input.value = "";
    });
  }
  const zone = el("section", { class: "drop", "aria-labelledby": "drop-title" },
    el("div", { class: "drop-text" },
      el("h1", { id: "drop-title" }, "Drop a head CT here"),
      el("p", {}, "A DICOM folder or zip, NIfTI, NRRD, MetaImage, or pictures. The files stay on this server.")),
    el("div", { class: "drop-actions" },
      button("Choose files", () => files.click(), { class: "primary" }),
      button("Choose a folder", () => folder.click())),
    files, folder, options.element);
  listenForDrops(zone, take);
  return el("div", { class: "drop-place" }, zone, uploadList);
}

function listenForDrops(zone, take) {
  const over = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    zone.classList.add("over");
  };
  zone.addEventListener("dragenter", over);
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", (event) => zone.contains(event.relatedTarget) || zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(await getDroppedEntries(event.dataTransfer));
  });
}

function optionFields() {
  const name = el("input", { name: "name", maxlength: 200, autocomplete: "off" });
  const urgent = el("input", { type: "checkbox", name: "urgent" });
  const spacing = el("input", { name: "spacing", placeholder: "5,0.45,0.45", autocomplete: "off" });
  const window_ = el("input", { name: "window", placeholder: "40,80", autocomplete: "off" });
  const order = el("select", { name: "order" },
    el("option", { value: "" }, "Found from the anatomy"),
    el("option", { value: "lowest-first" }, "First picture is the lowest"),
    el("option", { value: "highest-first" }, "First picture is the highest"));
  const point = el("select", { name: "operating_point" },
    el("option", { value: "" }, "Balanced"),
    el("option", { value: "sensitive" }, "Sensitive: fewer missed hemorrhages"),
    el("option", { value: "specific" }, "Specific: fewer false alarms"));
  const series = el("input", { name: "series", autocomplete: "off" });
  const element = el("details", { class: "drop-options" }, el("summary", {}, "Options"),
    el("div", { class: "fields" },
      field("Name of the study", name, "Default: the file name."),
      field("Spacing of pictures, mm", spacing, "Slice, row, column. Without it volumes cannot be measured."),
      field("Window of pictures", window_, "Centre, width. Default: estimated."),
      field("Order of pictures", order, "Whether a stack starts at the skull base or at the vertex."),
      field("Operating point", point, "The model card states what each was measured to do."),
      field("DICOM series", series, "UID or its beginning; needed if there are several."),
      el("label", { class: "check" }, urgent, "Urgent: process before other studies")));
  const values = () => ({ name: name.value.trim(), spacing: spacing.value.trim(), window: window_.value.trim(),
    order: order.value, operating_point: point.value,
    series: series.value.trim(), priority: urgent.checked ? "urgent" : "" });
  return { element, values };
}

/** Upload files and show the progress; a failed upload stays visible and can be retried. */
export async function upload(entries, fields, onUploaded) {
  const controller = new AbortController();
  const name = fields.name || getStudyName(entries);
  const pictures = entries.every((entry) => PICTURES.test(entry.path));
  const options = { ...fields, name };
  if (!pictures) Object.assign(options, { spacing: "", window: "", order: "" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
  const message = el("span", { class: "said" }, bytes(totalBytes(entries)));
  const actions = el("span", { class: "actions" }, button("Cancel", () => controller.abort(), { class: "quiet" }));
  const row = el("li", { class: "upload" }, el("span", { class: "name" }, name), bar, message, actions);
  uploadList.append(row);
  announce(`Upload of ${name} started`);
  try {
    const study = await send(entries, options, (state) => showState(state, bar, message), controller.signal);
    row.remove();
    store.update(study);
    announce(`${name} was uploaded`);
    onUploaded(study);
  } catch (error) {
    bar.remove();
    if (error.name === "AbortError") return row.remove();
    row.classList.add("failed");
    fill(message, `${error.message} `, error.remedy && el("em", {}, error.remedy), " ", el("code", {}, error.code));
    fill(actions,
      button("Try again", () => {
        row.remove();
        upload(entries, fields, onUploaded);
      }),
      button("Dismiss", () => row.remove(), { class: "quiet" }));
    announce(`${name}: ${error.message}`);
  }
}

function showState(state, bar, message) {
  bar.value = state.total ? state.sent / state.total : 0;
  const share = `${bytes(state.sent)} of ${bytes(state.total)}`;
  message.textContent = state.waiting ? `Connection lost at ${share}; trying again …` : share;
}
