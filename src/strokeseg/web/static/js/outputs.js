// The files of a study, all of them as a zip, and a report to print.

import { address, atVersion, getJson } from "./api.js";
import { button, el } from "./dom.js";
import { printout } from "./printout.js";
import { bytes, versionName, when } from "./text.js";

const NAMES = {
  "result.json": "Result as JSON", "report.html": "Report, works offline", "mask.nii.gz": "Outline, NIfTI", "ct.nii.gz": "CT, NIfTI",
  "lesions.nii.gz": "Lesions by number, NIfTI", "scene.glb": "3D scene, glTF", "seg.dcm": "DICOM Segmentation",
  "sr.dcm": "DICOM Structured Report", "brain.stl": "Brain, STL", "lesions.seg.nrrd": "3D Slicer segmentation",
};

/** @returns {Promise<Node>} the files of a version */
export async function downloads(study, result, volume, version, signal) {
  const path = `studies/${encodeURIComponent(study.id)}`;
  const { items } = await getJson(`${path}/files${atVersion(version)}`, { signal });
  const href = (name) => address(`${path}/files/${encodeURIComponent(name)}${atVersion(version)}`);
  return el("section", { class: "downloads", "aria-labelledby": "downloads-title" },
    el("h2", { id: "downloads-title" }, "Files"),
    el("div", { class: "actions" },
      el("a", { class: "button primary", href: address(`${path}/download${atVersion(version)}`), download: "" }, "Download all as zip"),
      button("Print report", () => printout(study, result, volume, version))),
    el("details", {}, el("summary", {}, `${items.length} files`),
      el("ul", { class: "files" }, items.map((item) => el("li", {},
        el("a", { href: href(item.name), download: item.name }, item.name),
        el("span", { class: "muted" }, NAMES[item.name] ?? item.format ?? ""), el("span", { class: "size" }, bytes(item.bytes)))))));
}

/** All versions, the network's result first; `choose` shows one. */
export function versionList(study, current, choose) {
  return el("section", { class: "versions", "aria-labelledby": "versions-title" },
    el("h2", { id: "versions-title" }, "Versions"),
    el("ol", {}, (study.versions ?? []).map((entry) => el("li", {},
      el("button", { type: "button", class: "version", "aria-current": entry.version === current ? "true" : null,
        on: { click: () => choose(entry.version) } },
      el("strong", {}, versionName(entry.version)),
      el("span", { class: "muted" }, [entry.author, when(entry.created)].filter(Boolean).join(", ")),
      entry.note && el("span", { class: "note" }, entry.note))))));
}
