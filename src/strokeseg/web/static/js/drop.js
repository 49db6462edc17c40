// The place where a scan is dropped, and what is on its way to the server.

import { announce, button, el, field, fill } from "./dom.js";
import { chosen, dropped, nameOf, total } from "./files.js";
import { know } from "./store.js";
import { bytes } from "./text.js";
import { send } from "./upload.js";

const PICTURES = /\.(png|jpe?g|bmp|tiff?|webp)$/i;
/** Uploads go on while another page of the application is shown. */
const running = el("ul", { class: "uploads", "aria-label": "Uploads" });

/** @param {(study: Object) => void} arrived is called when a study has arrived */
export function dropZone(arrived) {
  const files = el("input", { type: "file", multiple: true, hidden: true, id: "choose-files" });
  const folder = el("input", { type: "file", webkitdirectory: true, hidden: true, id: "choose-folder" });
  const options = optionFields();
  const take = (entries) => entries.length && upload(entries, options.values(), arrived);
  for (const input of [files, folder]) {
    input.addEventListener("change", () => {
      take(chosen(input.files));
      input.value = "";
    });
  }
  const zone = el("section", { class: "drop", "aria-labelledby": "drop-title" },
    el("div", { class: "drop-text" },
      el("h1", { id: "drop-title" }, "Drop a head CT here"),
      el("p", {}, "A DICOM folder or zip, NIfTI, NRRD, MetaImage, or pictures. It stays on this server.")),
    el("div", { class: "drop-actions" },
      button("Choose files", () => files.click(), { class: "primary" }),
      button("Choose a folder", () => folder.click())),
    files, folder, options.element);
  listenForDrops(zone, take);
  return el("div", { class: "drop-place" }, zone, running);
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
    take(await dropped(event.dataTransfer));
  });
}

function optionFields() {
  const name = el("input", { name: "name", maxlength: 200, autocomplete: "off" });
  const urgent = el("input", { type: "checkbox", name: "urgent" });
  const spacing = el("input", { name: "spacing", placeholder: "5,0.45,0.45", autocomplete: "off" });
  const window_ = el("input", { name: "window", placeholder: "40,80", autocomplete: "off" });
  const series = el("input", { name: "series", autocomplete: "off" });
  const element = el("details", { class: "drop-options" }, el("summary", {}, "Options"),
    el("div", { class: "fields" },
      field("Name of the study", name, "As you know it; the file's name otherwise."),
      field("Spacing of pictures, mm", spacing, "Slice, row, column. Without it no volume is given."),
      field("Window of pictures", window_, "Centre, width. Estimated otherwise."),
      field("DICOM series", series, "The UID or its beginning, where there are several."),
      el("label", { class: "check" }, urgent, "Urgent: before all others")));
  const values = () => ({ name: name.value.trim(), spacing: spacing.value.trim(), window: window_.value.trim(),
    series: series.value.trim(), priority: urgent.checked ? "urgent" : "" });
  return { element, values };
}

/** Show one upload from its start to its end; what fails stays in sight, with a way to try again. */
export async function upload(entries, fields, arrived) {
  const stopper = new AbortController();
  const name = fields.name || nameOf(entries);
  const pictures = entries.every((entry) => PICTURES.test(entry.path));
  const sent = { ...fields, name };
  if (!pictures) Object.assign(sent, { spacing: "", window: "" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
  const said = el("span", { class: "said" }, bytes(total(entries)));
  const actions = el("span", { class: "actions" }, button("Cancel", () => stopper.abort(), { class: "quiet" }));
  const row = el("li", { class: "upload" }, el("span", { class: "name" }, name), bar, said, actions);
  running.append(row);
  announce(`Upload of ${name} has begun`);
  try {
    const study = await send(entries, sent, (state) => showState(state, bar, said), stopper.signal);
    row.remove();
    know(study);
    announce(`${name} has arrived`);
    arrived(study);
  } catch (error) {
    bar.remove();
    if (error.name === "AbortError") return row.remove();
    row.classList.add("failed");
    fill(said, `${error.message} `, error.remedy && el("em", {}, error.remedy), " ", el("code", {}, error.code));
    fill(actions,
      button("Try again", () => {
        row.remove();
        upload(entries, fields, arrived);
      }),
      button("Dismiss", () => row.remove(), { class: "quiet" }));
    announce(`${name}: ${error.message}`);
  }
}

function showState(state, bar, said) {
  bar.value = state.total ? state.sent / state.total : 0;
  const share = `${bytes(state.sent)} of ${bytes(state.total)}`;
  said.textContent = state.waiting ? `Connection lost at ${share}; trying again …` : share;
}
