// A printed report: the measurements as on the screen, and the slice where each lesion is largest.

import { el } from "./dom.js";
import { findingsView, lesionList, modelView, remarksView } from "./findings.js";
import { traceEdges } from "./plane.js";
import { versionName, when } from "./text.js";
import { firstWindow, paintGrey } from "./windows.js";

const MAX_IMAGES = 6;
const IMAGE_PX = 480;

/** Create the report and open the browser's print dialog. */
export function printout(study, result, volume, version) {
  document.getElementById("printout")?.remove();
  const entry = (study.versions ?? []).find((each) => each.version === version);
  const title = entry?.author ? `${versionName(version)} by ${entry.author}` : versionName(version);
  const page = el("article", { id: "printout" },
    el("header", {}, el("h1", {}, study.name), el("p", {}, `Received ${when(study.created)}. ${title}. Printed ${when(new Date().toISOString())}.`)),
    findingsView(result), lesionList(result, () => {}),
    el("section", { class: "pictures" }, chooseSlices(result, volume).map((index) => sliceFigure(volume, index))),
    remarksView(result.remarks), modelView(result, []));
  document.body.append(page);
  window.print();
}

/** The slice where each lesion is largest, lowest first; the middle slice if there are none. */
function chooseSlices(result, volume) {
  const largest = result.findings.lesions.map((lesion) => volume.findLargestSlice(lesion.id)?.slice).filter((slice) => slice !== undefined);
  const chosen = [...new Set(largest)].slice(0, MAX_IMAGES).filter((index) => volume.slices[index]);
  return chosen.length ? chosen.sort((a, b) => a - b) : [Math.floor(volume.count / 2)].filter((index) => volume.slices[index]);
}

function sliceFigure(volume, index) {
  const { rows, columns, upright } = volume.meta;
  const grey = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const data = new ImageData(columns, rows);
  paintGrey(volume.slices[index], firstWindow(volume.meta), data.data);
  grey.getContext("2d").putImageData(data, 0, 0);
  const { width, height } = volume.pixel;
  const scale = IMAGE_PX / Math.max(columns * width, rows * height);
  const canvas = Object.assign(document.createElement("canvas"), { width: columns * width * scale, height: rows * height * scale });
  const context = canvas.getContext("2d");
  context.scale(width * scale, height * scale);
  if (upright?.flip_columns) context.transform(-1, 0, 0, 1, columns, 0);
  if (upright?.flip_rows) context.transform(1, 0, 0, -1, 0, rows);
  context.drawImage(grey, 0, 0);
  const labels = volume.labelsOf(index);
  if (labels) {
    context.strokeStyle = "#ffd02e";
    context.lineWidth = 1.5 / (width * scale);
    context.stroke(traceEdges(labels, rows, columns));
  }
  return el("figure", {}, el("img", { src: canvas.toDataURL("image/png"), alt: `Slice ${index + 1}` }),
    el("figcaption", {}, `Slice ${index + 1} of ${volume.count}`));
}
